//! Numbers, texts and columns as bytes: little-endian, every list with its length before it.

use tidegate_model::Ragged;

/// The bytes are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it ends too early, or a length in it is wrong")]
pub(crate) struct Malformed;

/// Writes.
#[derive(Default)]
pub(crate) struct Writer {
    pub bytes: Vec<u8>,
}

macro_rules! number {
    ($write:ident, $read:ident, $write_all:ident, $read_all:ident, $type:ty) => {
        impl Writer {
            pub fn $write(&mut self, number: $type) {
                self.bytes.extend_from_slice(&number.to_le_bytes());
            }

            pub fn $write_all(&mut self, column: &[$type]) {
                self.length(column.len());
                self.bytes.reserve(size_of_val(column));
                for number in column {
                    self.bytes.extend_from_slice(&number.to_le_bytes());
                }
            }
        }

        impl Reader<'_> {
            pub fn $read(&mut self) -> Result<$type, Malformed> {
                let (number, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
                self.rest = rest;
                Ok(<$type>::from_le_bytes(*number))
            }

            pub fn $read_all(&mut self) -> Result<Vec<$type>, Malformed> {
                let length = self.length()?;
                let bytes = self.take(length.checked_mul(size_of::<$type>()).ok_or(Malformed)?)?;
                let (numbers, _) = bytes.as_chunks();
                Ok(numbers.iter().map(|number| <$type>::from_le_bytes(*number)).collect())
            }
        }
    };
}

number!(u8, u8, u8s, u8s, u8);
number!(u16, u16, u16s, u16s, u16);
number!(u32, u32, u32s, u32s, u32);
number!(i64, i64, i64s, i64s, i64);
number!(f64, f64, f64s, f64s, f64);

impl Writer {
    /// The length of a list: records stay far below 4 Gi of anything, see [`crate::record::MAX_BODY_BYTES`].
    pub fn length(&mut self, length: usize) {
        self.u32(length as u32);
    }

    pub fn text(&mut self, text: &str) {
        self.u8s(text.as_bytes());
    }

    pub fn maybe_text(&mut self, text: Option<&str>) {
        self.u8(u8::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
    }

    pub fn ragged(&mut self, column: &Ragged) {
        self.u32s(&column.ends);
        self.u8s(&column.bytes);
    }
}

/// Reads what a [`Writer`] wrote, and believes nothing.
pub(crate) struct Reader<'a> {
    pub rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn length(&mut self) -> Result<usize, Malformed> {
        self.u32().map(|length| length as usize)
    }

    /// A list, read entry by entry; each takes a byte or more, so that a wrong length cannot ask for much memory.
    pub fn list<T>(&mut self, mut entry: impl FnMut(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        let length = self.length()?;
        if length > self.rest.len() {
            return Err(Malformed);
        }
        (0..length).map(|_| entry(self)).collect()
    }

    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| Malformed)
    }

    pub fn maybe_text(&mut self) -> Result<Option<&'a str>, Malformed> {
        match self.u8()? {
            0 => Ok(None),
            1 => self.text().map(Some),
            _ => Err(Malformed),
        }
    }

    pub fn ragged(&mut self) -> Result<Ragged, Malformed> {
        let column = Ragged { ends: self.u32s()?, bytes: self.u8s()? };
        if column.is_well_formed() { Ok(column) } else { Err(Malformed) }
    }

    /// Nothing must be left.
    pub fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}
