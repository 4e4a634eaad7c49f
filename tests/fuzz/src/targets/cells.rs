//! Saved state as rules read it: the input is a part of it, how many cells it has, their ids and ends, and their bytes. The SDK takes it or refuses
//! it, and gives what it took again when it saves. Linked natively, without a guest around it: so many more inputs are tried than of `state`.

use tidegate_rule::columns::Cells;
use tidegate_rule::{BySeries, Tabled};

/// What is kept of a series, with a number, what may be absent, and what claims a length of its own.
type Kept = (u32, Option<f64>, Vec<String>);

const LAYOUT: u8 = 1;
/// An id, and where its cell ends.
const HEAD_BYTES: usize = 3;

pub(super) fn run(data: &[u8]) {
    let Some((&cells, rest)) = data.split_first() else { return };
    let Some((heads, bytes)) = rest.split_at_checked(usize::from(cells) * HEAD_BYTES) else { return };
    let mut part = Cells { bytes: bytes.to_vec(), ..Cells::default() };
    for head in heads.chunks_exact(HEAD_BYTES) {
        part.id.push(head[0].into());
        part.ends.push(u16::from_le_bytes([head[1], head[2]]).into());
    }
    let mut table = BySeries::<Kept>::default();
    if table.restore(LAYOUT, &part, &[]).is_err() {
        return;
    }
    let saved = save(&mut table, true);
    let mut again = BySeries::<Kept>::default();
    again.restore(LAYOUT, &saved, &[]).unwrap();
    assert_eq!(save(&mut again, false), Cells::default(), "what was restored has not changed");
    assert_eq!(save(&mut again, true), saved);
}

fn save(table: &mut BySeries<Kept>, everything: bool) -> Cells {
    let (mut saved, mut removed, mut room) = (Cells::default(), Vec::new(), usize::MAX);
    let more = table.save(everything, LAYOUT, &mut room, &mut saved, &mut removed);
    assert!(!more && removed.is_empty());
    saved
}

/// Whole parts, of several sizes.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    [1, 3, 40].map(part).to_vec()
}

fn part(cells: u8) -> Vec<u8> {
    let mut table = BySeries::<Kept>::default();
    for id in 0..cells {
        let kept =
            (u32::from(id) << (id % 30), (id % 2 == 0).then_some(f64::from(id)), vec!["name".to_owned(); id.into()]);
        **table.of(id.into()) = kept;
    }
    let saved = save(&mut table, true);
    let mut data = vec![cells];
    for (id, end) in saved.id.iter().zip(&saved.ends) {
        data.push(*id as u8);
        data.extend_from_slice(&(*end as u16).to_le_bytes());
    }
    data.extend_from_slice(&saved.bytes);
    data
}
