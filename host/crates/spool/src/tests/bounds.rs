//! Full spools, full disks, files that cannot be made.

use tidegate_model::SpoolError;

use super::*;
use crate::{export, inspect, list, verify};

fn standing(file: &SpoolFile) -> (u64, u64) {
    let totals = file.account.totals(0);
    (totals.records, totals.bytes)
}

/// Guarantees: a spool that is full takes nothing more, and has changed nothing; when there is room again it does.
#[test]
fn full_holds_back() {
    let (place, books) = (Place::new(), books());
    let mut file = place.open_with(&books, 10_000, WhenFull::HoldBack);
    let mut appended = 0;
    let full = loop {
        match file.append(&[delivery(&books, appended + 1, 2_000)]) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(appended, 4);
    assert!(matches!(full, SpoolError::Full { max_bytes: 10_000, bytes } if bytes == standing(&file).1), "{full}");
    assert!(file.account.totals(0).unusable.is_none(), "full is not broken");
    file.remove(RecordId(2)).unwrap();
    file.append(&[delivery(&books, 5, 2_000)]).unwrap();
    assert_eq!(drain(&mut file), [3, 4, 5]);
}

/// Guarantees: where it is configured, the oldest rows make room, are counted, and leave no hole that looks like damage; an append is all or
/// nothing, and one that can never fit drops nothing.
#[test]
fn full_drops_the_oldest() {
    let (place, books) = (Place::new(), books());
    let mut file = place.open_with(&books, 10_000, WhenFull::DropOldest);
    for number in 1..=20 {
        file.append(&[delivery(&books, number, 2_000)]).unwrap();
        assert!(standing(&file).1 <= 10_000);
    }
    assert_eq!((standing(&file).0, file.account.totals(0).dropped), (4, 16));
    assert!(matches!(file.append(&[delivery(&books, 21, 20_000)]), Err(SpoolError::Full { .. })));
    assert_eq!(file.account.totals(0).dropped, 16);
    drop(file);
    let mut file = place.open(&books);
    assert_eq!(drain(&mut file), [17, 18, 19, 20]);
    let totals = file.account.totals(0);
    assert_eq!((totals.damaged_records, totals.damaged_files), (0, 0));
}

/// Guarantees: what is dropped to make room while the sink has it in hand is no loss: it counts as drained when the sink has confirmed it, and as
/// dropped only where it is asked for anew.
#[test]
fn dropped_while_in_hand() {
    let (place, books) = (Place::new(), books());
    let mut file = place.open_with(&books, 10_000, WhenFull::DropOldest);
    let append = |file: &mut SpoolFile, numbers: std::ops::RangeInclusive<u64>| {
        for number in numbers {
            file.append(&[delivery(&books, number, 2_000)]).unwrap();
        }
    };
    let account = |file: &SpoolFile| {
        let totals = file.account.totals(0);
        (totals.dropped, totals.drained, totals.records)
    };
    append(&mut file, 1..=4);
    let given = file.oldest(2).unwrap();
    assert_eq!(given.len(), 2);
    append(&mut file, 5..=7);
    assert_eq!(account(&file), (1, 0, 4), "three are gone, two of which the sink has");
    file.remove(given[1].id).unwrap();
    assert_eq!(account(&file), (1, 2, 4));

    assert_eq!(file.oldest(1).unwrap().len(), 1);
    append(&mut file, 8..=8);
    assert_eq!(account(&file), (1, 2, 4));
    assert_eq!(file.oldest(1).unwrap().len(), 1);
    assert_eq!(account(&file), (2, 2, 4), "it was not confirmed");
}

/// Guarantees: a disk without room refuses what comes, and says so; what stands in the spool can still be drained, and then it goes on.
#[test]
fn disk_full() {
    let place = Place::new();
    let books = place.filled(30, 3_000);
    let mut file = place.open(&books);
    assert_eq!(file.oldest(1).unwrap().len(), 1);
    let limit = |file: &SpoolFile, pages: u32| {
        let connection = &file.open.as_ref().unwrap().connection;
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    };
    // SQLite never goes below what the file has.
    limit(&file, 1);
    let error = file.append(&[delivery(&books, 31, 50_000)]).unwrap_err();
    assert!(matches!(&error, SpoolError::Unavailable(why) if why.contains("the disk is full")), "{error}");
    assert_eq!(file.account.totals(0).unusable, Some(error.to_string()));
    assert_eq!(file.oldest(5).unwrap().len(), 5);
    file.remove(RecordId(25)).unwrap();
    file.append(&[delivery(&books, 31, 50_000)]).unwrap();
    assert_eq!(file.account.totals(0).unusable, None);
    assert_eq!(drain(&mut file), [26, 27, 28, 29, 30, 31]);
}

/// Guarantees: an empty spool does not keep the room that an outage took.
#[test]
fn an_empty_spool_is_small() {
    let place = Place::new();
    let books = place.filled(12, 2 << 20);
    let size = || std::fs::metadata(place.path()).unwrap().len();
    assert!(size() > 24 << 20);
    let mut file = place.open(&books);
    assert_eq!(drain(&mut file).len(), 12);
    assert!(size() < 1 << 20, "{} bytes", size());
}

/// Guarantees: a file that cannot be made says so, takes nothing, and does not stand in the way of a sink that works.
#[test]
fn a_file_that_cannot_be_made() {
    let (place, books) = (Place::new(), books());
    std::fs::write(place.directory.path().join("spool"), "no directory").unwrap();
    let mut file = place.open(&books);
    assert!(file.oldest(1).unwrap_err().to_string().contains("spool"), "what stands in it cannot be known");
    std::fs::remove_file(place.directory.path().join("spool")).unwrap();
    std::os::unix::fs::symlink("/dev/null/nowhere", place.directory.path().join("spool")).unwrap();
    let error = file.append(&[delivery(&books, 1, 10)]).unwrap_err();
    assert!(error.to_string().contains("cannot be made"), "{error}");
    assert_eq!(file.account.totals(0).unusable, Some(error.to_string()));
}

/// Guarantees: the CLI's readers see what stands there while the spool is in use, and change nothing.
#[test]
fn read_from_outside() {
    let place = Place::new();
    let books = place.filled(5, 6_000);
    let mut file = place.open(&books);
    file.remove(RecordId(2)).unwrap();
    let data_dir = place.directory.path();
    assert_eq!(list(data_dir).unwrap(), [("db".to_owned(), place.path())]);
    assert_eq!(list(&data_dir.join("none")).unwrap(), []);
    let seen = inspect(&place.path()).unwrap();
    assert_eq!((seen.records, seen.rows, seen.first, seen.last), (3, 3, Some(3), Some(5)));
    assert_eq!((seen.oldest_us, seen.quarantined, seen.damaged_files.len()), (Some(NOW_US), 0, 0));
    let verified = verify(&place.path()).unwrap();
    assert_eq!((verified.sound, verified.missing, verified.findings.len()), (3, 0, 0));
    let other = Books::new(usize::MAX);
    let mut values = Vec::new();
    let findings = export(&place.path(), &other, 3, |record| {
        values.push((record.id, record.delivery.points.value[0] as u64));
        true
    });
    assert_eq!((findings.unwrap().len(), values), (0, vec![(4, 4), (5, 5)]));
    assert_eq!(drain(&mut file), [3, 4, 5]);
    assert!(inspect(&data_dir.join("none.db")).is_err());
}
