//! OPC quality and the two bits the contract puts above it.

/// A point's quality: the low byte is OPC's (192 good, 64 uncertain, 0 bad), bit 8 historical,
/// bit 9 not to be stored. Source: OPC DA 3.0, section 6.8, and `wit/rule.wit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality(u16);

const MAJOR: u16 = 0xC0;
const HISTORICAL: u16 = 1 << 8;
const UNSTORED: u16 = 1 << 9;

impl Quality {
    pub const GOOD: Self = Self(192);
    pub const UNCERTAIN: Self = Self(64);
    pub const BAD: Self = Self(0);

    /// From the contract's bits.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// From an OPC quality, its low byte.
    pub const fn from_opc(opc: u8) -> Self {
        Self(opc as u16)
    }

    /// The contract's bits.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The major quality is good.
    pub const fn is_good(self) -> bool {
        self.0 & MAJOR == MAJOR
    }

    /// The major quality is bad.
    pub const fn is_bad(self) -> bool {
        self.0 & MAJOR == 0
    }

    /// The major quality: 0 bad, 64 uncertain, 192 good; the more the better.
    pub const fn major(self) -> u8 {
        (self.0 & MAJOR) as u8
    }

    /// Not historical, and of this major quality at least.
    pub const fn is_live(self, least: Self) -> bool {
        // One comparison for both, as it is asked of every reading: the historical bit lies above those of the major quality.
        let (live, least) = (self.0 & (MAJOR | HISTORICAL), least.0 & MAJOR);
        live.wrapping_sub(least) <= MAJOR - least
    }

    /// Stored, but no cause for a live alert.
    pub const fn is_historical(self) -> bool {
        self.0 & HISTORICAL != 0
    }

    /// Marked as historical.
    #[must_use]
    pub const fn historical(self) -> Self {
        Self(self.0 | HISTORICAL)
    }

    /// Marked as not to be stored.
    #[must_use]
    pub const fn unstored(self) -> Self {
        Self(self.0 | UNSTORED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: one comparison says what the two questions say, for all bits and all qualities that can be asked for.
    #[test]
    fn live_is_both_questions() {
        for least in [Quality::BAD, Quality::UNCERTAIN, Quality::GOOD] {
            for quality in (0..1 << 10).map(Quality::from_bits) {
                let both = !quality.is_historical() && quality.major() >= least.major();
                assert_eq!(quality.is_live(least), both, "{quality:?}, at least {least:?}");
            }
        }
    }
}
