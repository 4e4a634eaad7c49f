//! The points of a batch on their way through the chain, each with the message it came from.

use tidegate_model::{NO_ROW, Points};

/// Points and the row of the batch's messages that each came from: ascending, [`NO_ROW`] for none.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub points: Points,
    pub from_row: Vec<u32>,
}

/// Points to be put into a flow, each with the row *of the flow* it came from: ascending, [`NO_ROW`] for none.
#[derive(Debug, Default)]
pub(crate) struct Insert {
    pub points: Points,
    pub from_row: Vec<u32>,
}

impl Insert {
    /// Appends `other`.
    pub fn append(&mut self, other: Insert) {
        if self.points.is_empty() {
            *self = other;
        } else {
            self.points.append(&other.points);
            self.from_row.extend(other.from_row);
        }
    }
}

impl Flow {
    /// Takes the rows out that are marked, and puts `insert` in: each row after the one it came from, so that
    /// the order of messages is kept.
    pub fn change(&mut self, gone: &[bool], insert: Insert) {
        let stay: Vec<u32> = (0..self.points.len() as u32).filter(|&row| !gone[row as usize]).collect();
        if insert.points.is_empty() {
            if stay.len() < self.points.len() {
                self.points = self.points.gather(&stay);
                self.from_row = stay.iter().map(|&row| self.from_row[row as usize]).collect();
            }
            return;
        }
        // Where each row of the flow and of the insert goes: by the flow's row, what was there before what came of it.
        let origin = |row: u32| if row == NO_ROW { NO_ROW } else { self.from_row[row as usize] };
        let before = self.points.len() as u32;
        let kept = stay.iter().map(|&row| (row, 0, row, self.from_row[row as usize]));
        let added = insert.from_row.iter().enumerate().map(|(i, &row)| (row, 1, before + i as u32, origin(row)));
        let mut order: Vec<(u32, u8, u32, u32)> = kept.chain(added).collect();
        order.sort_by_key(|&(row, after, at, _)| (row, after, at));
        let mut all = std::mem::take(&mut self.points);
        all.append(&insert.points);
        let rows: Vec<u32> = order.iter().map(|&(_, _, at, _)| at).collect();
        self.points = all.gather(&rows);
        self.from_row = order.iter().map(|&(_, _, _, from)| from).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_model::SeriesId;

    fn points(values: &[f64]) -> Points {
        let mut points = Points::default();
        for &value in values {
            points.push(SeriesId(0), 0, value, 192);
        }
        points
    }

    /// Guarantees: what replaces a row stands in its place, and leads back to the row's message.
    #[test]
    fn inserted_rows_stand_after_their_origin() {
        let mut flow = Flow { points: points(&[1.0, 2.0, 3.0]), from_row: vec![4, 5, 9] };
        let insert = Insert { points: points(&[20.0, 21.0, 99.0]), from_row: vec![1, 1, NO_ROW] };
        flow.change(&[false, true, false], insert);
        assert_eq!(flow.points.value, [1.0, 20.0, 21.0, 3.0, 99.0]);
        assert_eq!(flow.from_row, [4, 5, 5, 9, NO_ROW]);
    }

    /// Guarantees: texts go with their rows.
    #[test]
    fn texts_move_with_rows() {
        let mut flow = Flow { points: points(&[1.0, 2.0, 3.0]), from_row: vec![0, 1, 2] };
        flow.points.texts.push(1, b"two");
        flow.change(&[true, false, false], Insert::default());
        assert_eq!(flow.points.texts.get(0), Some(&b"two"[..]));
        assert_eq!(flow.from_row, [1, 2]);
    }
}
