//! Bits that flip and tails that are torn.

use std::fs;
use std::path::Path;

use super::*;
use crate::{inspect, record, verify};

/// More than fits into a page, so that records have chains of pages.
const LARGE: usize = 9_000;

fn flip(path: &Path, at: usize, bit: u8) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1 << bit;
    fs::write(path, bytes).unwrap();
}

/// Where the record of this number begins in the file.
fn beginning(path: &Path, number: u64) -> usize {
    let bytes = fs::read(path).unwrap();
    let mut starts = (0..bytes.len()).rev().filter(|&at| bytes[at..].starts_with(&record::MAGIC));
    starts.find(|&at| record::head(&bytes[at..]).unwrap().id == number).unwrap()
}

/// Guarantees: a flipped bit in a record costs that record: counted, a copy kept aside, found by `verify`; and only once.
#[test]
fn a_flipped_bit_in_a_record() {
    let place = Place::new();
    let books = place.filled(6, 300);
    flip(&place.path(), beginning(&place.path(), 3) + 200, 4);
    let verified = verify(&place.path()).unwrap();
    assert_eq!((verified.sound, verified.findings.len()), (5, 1), "{verified:?}");
    let mut file = place.open(&books);
    assert_eq!(drain(&mut file), [1, 2, 4, 5, 6]);
    let totals = file.account.totals(0);
    assert_eq!((totals.records, totals.rows, totals.drained), (0, 0, 5));
    assert_eq!((totals.damaged_records, totals.damaged_files), (1, 0));
    assert_eq!(inspect(&place.path()).unwrap().quarantined, 1);
    drop(file);
    let mut file = place.open(&books);
    file.append(&[delivery(&books, 7, 300)]).unwrap();
    assert_eq!(drain(&mut file), [7]);
    assert_eq!(file.account.totals(0).damaged_records, 0, "what is accounted for is not found again");
}

/// Guarantees: wherever in the file a bit flips, at most the one record it is in is lost, the others come in order and once, and the
/// spool goes on working.
#[test]
fn a_flipped_bit_anywhere() {
    let place = Place::new();
    // Small ones that share pages, and large ones with chains.
    let books = books();
    let mut file = place.open(&books);
    for number in 1..=24 {
        file.append(&[delivery(&books, number, if number % 3 == 0 { LARGE } else { 200 })]).unwrap();
    }
    file.remove(RecordId(2)).unwrap();
    drop(file);
    let sound = fs::read(place.path()).unwrap();
    let (mut lost, mut moved) = (0, 0);
    // The whole of the first page and of some tree pages' heads, and a sample of the rest.
    let places =
        (0..200).chain((0..sound.len() / 4096).map(|page| page * 4096 + 3)).chain((200..sound.len()).step_by(1_999));
    for at in places {
        let place = Place::new();
        fs::create_dir(place.directory.path().join("spool")).unwrap();
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(place.path(), bytes).unwrap();
        let mut file = place.open(&books);
        let mut values = drain(&mut file);
        file.append(&[delivery(&books, 25, 200)]).unwrap();
        values.extend(drain(&mut file));
        let totals = file.account.totals(0);
        let expected: Vec<u64> = (3..=25).collect();
        let missing: Vec<_> = expected.iter().filter(|value| !values.contains(value)).collect();
        // What had been drained may come again, and what is there comes in order.
        let news: Vec<_> = values.iter().copied().filter(|value| *value > 2).collect();
        assert!(missing.len() <= 1 && news.is_sorted_by(|a, b| a < b), "byte {at}: {values:?} {totals:?}");
        assert!(totals.damaged_records >= missing.len() as u64, "byte {at}: {missing:?} {totals:?}");
        assert_eq!(totals.unusable, None, "byte {at}");
        lost += missing.len();
        moved += totals.damaged_files;
    }
    assert!(lost > 10 && moved > 10, "the test itself: {lost} lost, {moved} files moved aside");
}

/// Guarantees: of a file that was cut off, what is whole comes, and what is not is counted, as far as anything is left of it; the old
/// file is kept beside it.
#[test]
fn a_torn_tail() {
    let place = Place::new();
    let books = place.filled(20, LARGE);
    let bytes = fs::read(place.path()).unwrap();
    for keep in [bytes.len() - 1, bytes.len() - 5_000, bytes.len() / 2 + 77, 3 * 4096] {
        let place = Place::new();
        fs::create_dir(place.directory.path().join("spool")).unwrap();
        fs::write(place.path(), &bytes[..keep]).unwrap();
        let mut file = place.open(&books);
        let values = drain(&mut file);
        assert_eq!(values, (1..=values.len() as u64).collect::<Vec<_>>(), "{keep} bytes kept");
        assert!(values.len() as u64 * LARGE as u64 + 3 * LARGE as u64 + 20_000 > keep as u64, "{keep}: {values:?}");
        let totals = file.account.totals(0);
        let aside = inspect(&place.path()).unwrap();
        // Of records that are gone altogether, nothing may tell any more.
        let lost = 20 - values.len() as u64;
        assert!((lost.min(1)..=lost).contains(&totals.damaged_records), "{keep}: {totals:?}");
        assert!(totals.damaged_files == 0 || !aside.damaged_files.is_empty());
        file.append(&[delivery(&books, 21, 10)]).unwrap();
        assert_eq!(drain(&mut file), [21]);
    }
}

/// Guarantees: what is no database is moved aside, and the spool works at once; only the newest of such files are kept.
#[test]
fn no_database() {
    let (place, books) = (Place::new(), books());
    fs::create_dir(place.directory.path().join("spool")).unwrap();
    let mut file = place.open(&books);
    for turn in 0..5_i64 {
        drop(file.open.take());
        fs::write(place.path(), "this is no database, whatever its name says ".repeat(200)).unwrap();
        file.clock = Arc::new(ManualClock::new(NOW_US + turn));
        file.append(&[delivery(&books, 1, 10)]).unwrap();
        assert_eq!(drain(&mut file), [1]);
    }
    assert_eq!(file.account.totals(0).damaged_files, 5);
    assert_eq!(inspect(&place.path()).unwrap().damaged_files.len(), 3);
}

/// Guarantees: a salvage that was cut off between its two renames is finished by the next opening.
#[test]
fn a_salvage_cut_off() {
    let place = Place::new();
    let books = place.filled(3, 100);
    fs::rename(place.path(), place.directory.path().join("spool/db.db.salvage")).unwrap();
    assert_eq!(drain(&mut place.open(&books)), [1, 2, 3]);
}

/// Guarantees: a record that a newer Tidegate wrote is left alone, and the reason told.
#[test]
fn a_newer_format() {
    let place = Place::new();
    let books = place.filled(1, 100);
    let mut file = place.open(&books);
    assert_eq!(file.oldest(1).unwrap().len(), 1);
    let connection = &file.open.as_ref().unwrap().connection;
    let mut bytes: Vec<u8> = connection.query_row("SELECT record FROM records", [], |row| row.get(0)).unwrap();
    bytes[8] = record::VERSION as u8 + 1;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..44]);
    hasher.update(&bytes[48..]);
    bytes[44..48].copy_from_slice(&hasher.finalize().to_le_bytes());
    connection.execute("UPDATE records SET record = ?1", [&bytes]).unwrap();
    let error = file.oldest(1).unwrap_err().to_string();
    assert!(error.contains("format 3") && error.contains("newer"), "{error}");
    assert_eq!(file.account.totals(0).records, 1);
}
