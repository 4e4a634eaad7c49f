//! Finds records in the pages of a SQLite file, without asking SQLite.
//!
//! As in <https://www.sqlite.org/fileformat2.html>: a row of a table is a cell on a leaf page; what does not fit goes to a chain of
//! overflow pages, each with the number of the next in its first four bytes (1.6). A record stands last in its row, so where the
//! cell's part of it ends follows from its length and from how many bytes of the row stand before it, and those are few: all are
//! tried, and the checksum decides.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::database::beside;
use crate::record::{self, HEAD_BYTES, Head, MAGIC};

/// What SQLite makes of a new file, where the file no longer tells.
const USUAL_PAGE_BYTES: usize = 4096;
/// The most bytes of a row before its record: SQLite's own head of at most 10, and two integers.
const MOST_BEFORE: usize = 26;
const WAL_HEAD_BYTES: u64 = 32;
const FRAME_HEAD_BYTES: u64 = 24;

/// Gives every whole record to `take`, some more than once, until it says that it cannot go on. Gives the highest id that any head bears,
/// of records that are not whole too: it may be damaged itself.
pub(crate) fn search(path: &Path, take: &mut dyn FnMut(Head, &[u8]) -> bool) -> io::Result<u64> {
    let database = File::open(path)?;
    let wal = File::open(beside(path, "-wal")).ok();
    let page_bytes = page_bytes(&database)?;
    let mut pages = Pages { database, wal, page_bytes, newer: HashMap::new(), highest: 0 };
    if !pages.search(take)? {
        return Ok(pages.highest);
    }
    // A page in the WAL may be damaged, or the one in the database that it replaces: both are looked at.
    pages.newer = pages.frames()?;
    if !pages.newer.is_empty() {
        pages.search(take)?;
    }
    Ok(pages.highest)
}

struct Pages {
    database: File,
    wal: Option<File>,
    page_bytes: usize,
    /// Where in the WAL the newest form of a page stands.
    newer: HashMap<u32, u64>,
    highest: u64,
}

impl Pages {
    fn search(&mut self, take: &mut dyn FnMut(Head, &[u8]) -> bool) -> io::Result<bool> {
        let count = self.count()?;
        let mut page = vec![0; self.page_bytes];
        for number in 1..=count {
            if self.read(number, &mut page)? == 0 {
                continue;
            }
            for at in magics(&page) {
                if let Ok(head) = record::head(page.get(at..).unwrap_or_default()) {
                    self.highest = self.highest.max(head.id);
                }
                if let Some(record) = self.record(&page, at, count)
                    && let Ok((head, _)) = record::open(&record)
                    && !take(head, &record)
                {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The whole record that begins at `at` of a page.
    fn record(&self, page: &[u8], at: usize, pages: u32) -> Option<Vec<u8>> {
        let head = record::head(page.get(at..)?).ok()?;
        let length = HEAD_BYTES.checked_add(head.body_bytes as usize)?;
        (4..=MOST_BEFORE).find_map(|before| {
            let local = local_bytes(before + length, self.page_bytes).checked_sub(before)?;
            if local >= length {
                return page.get(at..at + length).map(<[u8]>::to_vec);
            }
            let mut record = page.get(at..at + local)?.to_vec();
            let next = page.get(at + local..)?.first_chunk()?;
            self.follow(u32::from_be_bytes(*next), length, pages, &mut record)?;
            record::open(&record).is_ok().then_some(record)
        })
    }

    /// Appends what stands in the chain of overflow pages from `next` on, until there are `length` bytes: where the chain ends.
    fn follow(&self, mut next: u32, length: usize, pages: u32, record: &mut Vec<u8>) -> Option<()> {
        let mut page = vec![0; self.page_bytes];
        while record.len() < length {
            if next == 0 || next > pages {
                return None;
            }
            self.read(next, &mut page).ok()?;
            next = u32::from_be_bytes(*page.first_chunk()?);
            let more = page.get(4..)?;
            record.extend_from_slice(more.get(..more.len().min(length - record.len()))?);
        }
        (next == 0).then_some(())
    }

    fn count(&self) -> io::Result<u32> {
        let in_file = self.database.metadata()?.len().div_ceil(self.page_bytes as u64);
        let in_wal = self.newer.keys().max().copied().unwrap_or(0);
        Ok(u32::try_from(in_file).unwrap_or(u32::MAX).max(in_wal))
    }

    /// Fills `page` with page `number`; gives how many of its bytes there are, the rest is 0.
    fn read(&self, number: u32, page: &mut [u8]) -> io::Result<usize> {
        let (file, offset) = match (self.newer.get(&number), &self.wal) {
            (Some(&offset), Some(wal)) => (wal, offset),
            _ => (&self.database, u64::from(number - 1) * self.page_bytes as u64),
        };
        read_at(file, offset, page)
    }

    /// The newest frame of each page in the WAL, its checksums disregarded.
    fn frames(&self) -> io::Result<HashMap<u32, u64>> {
        let mut newest = HashMap::new();
        let Some(wal) = &self.wal else { return Ok(newest) };
        let mut head = [0; WAL_HEAD_BYTES as usize];
        if read_at(wal, 0, &mut head)? < head.len() {
            return Ok(newest);
        }
        let end = wal.metadata()?.len();
        let step = FRAME_HEAD_BYTES + self.page_bytes as u64;
        let mut at = WAL_HEAD_BYTES;
        while at + step <= end {
            let mut frame = [0; FRAME_HEAD_BYTES as usize];
            read_at(wal, at, &mut frame)?;
            // Frames of an earlier turn of the WAL have other salts.
            if frame.get(8..16) == head.get(16..24)
                && let Some(number) = frame.first_chunk()
            {
                newest.insert(u32::from_be_bytes(*number), at + FRAME_HEAD_BYTES);
            }
            at += step;
        }
        newest.remove(&0);
        Ok(newest)
    }
}

/// The offsets at which records may begin.
fn magics(page: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let first = page.iter().enumerate().filter(|(_, byte)| **byte == MAGIC[0]);
    first.map(|(at, _)| at).filter(|&at| page.get(at..).is_some_and(|rest| rest.starts_with(&MAGIC)))
}

/// How many of `row` bytes stand in the cell of a table's leaf page (file format, 1.6: P, U, X, M and K).
fn local_bytes(row: usize, usable: usize) -> usize {
    let most = usable - 35;
    if row <= most {
        return row;
    }
    let least = (usable - 12) * 32 / 255 - 23;
    let fitting = least + (row - least) % (usable - 4);
    if fitting <= most { fitting } else { least }
}

fn page_bytes(database: &File) -> io::Result<usize> {
    let mut head = [0; 18];
    read_at(database, 0, &mut head)?;
    let told = match u16::from_be_bytes([head[16], head[17]]) {
        1 => 65_536,
        bytes => usize::from(bytes),
    };
    Ok(if told.is_power_of_two() && told >= 512 { told } else { USUAL_PAGE_BYTES })
}

/// Reads what there is at `offset`; the rest of `bytes` becomes 0.
fn read_at(file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if let Some(rest) = bytes.get_mut(filled..) {
        rest.fill(0);
    }
    Ok(filled)
}
