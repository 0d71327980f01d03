//! Drawing which snapshot comes from which: one column for each line of snapshots, the newest on top. Where two lines have come from
//! one snapshot, they meet above it.

use cairn_types::SnapshotId;

/// Most lines beside each other; further ones are not drawn.
const LANES_MAX: usize = 64;

/// A line of the drawing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Row {
    /// Beside a snapshot: the one at this place of the list.
    Snapshot(String, usize),
    /// Between two snapshots.
    Between(String),
}

/// Draws snapshots, given newest first, each with the one that it comes from, if that is in the list.
pub(super) fn draw(snapshots: &[(SnapshotId, Option<SnapshotId>)]) -> Vec<Row> {
    let mut rows = Vec::new();
    // What each column waits for.
    let mut lanes: Vec<Option<SnapshotId>> = Vec::new();
    for (place, (id, parent)) in snapshots.iter().enumerate() {
        let mut waiting = (0..lanes.len()).filter(|lane| lanes[*lane] == Some(*id));
        let own = waiting.next();
        let others: Vec<usize> = waiting.collect();
        if let (Some(own), Some(last)) = (own, others.last()) {
            rows.push(Row::Between(meeting(&lanes, own, &others, *last)));
        }
        for other in &others {
            lanes[*other] = None;
        }
        let own = own
            .or_else(|| lanes.iter().position(Option::is_none))
            .unwrap_or_else(|| {
                lanes.push(None);
                lanes.len() - 1
            });
        lanes[own] = None;
        let cells = (0..lanes.len()).map(|lane| match lanes[lane] {
            _ if lane == own => '*',
            Some(_) => '│',
            None => ' ',
        });
        rows.push(Row::Snapshot(spaced(cells.take(LANES_MAX)), place));
        lanes[own] = *parent;
        while lanes.last() == Some(&None) {
            lanes.pop();
        }
    }
    rows
}

/// The columns that wait for one snapshot, meeting in the first of them.
fn meeting(lanes: &[Option<SnapshotId>], own: usize, others: &[usize], last: usize) -> String {
    let mut text = String::new();
    for (lane, waits) in lanes.iter().enumerate().take(LANES_MAX) {
        let joins = others.contains(&lane);
        text.push(match (lane == own, joins, waits) {
            (true, _, _) => '├',
            (_, true, _) if lane == last => '┘',
            (_, true, _) => '┴',
            (_, _, Some(_)) if lane > own && lane < last => '┼',
            (_, _, Some(_)) => '│',
            (_, _, None) if lane > own && lane < last => '─',
            (_, _, None) => ' ',
        });
        text.push(match lane >= own && lane < last {
            true => '─',
            false => ' ',
        });
    }
    text.trim_end().to_owned()
}

fn spaced(cells: impl Iterator<Item = char>) -> String {
    let mut text = String::new();
    for cell in cells {
        text.push(cell);
        text.push(' ');
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use cairn_types::SnapshotId;

    use super::{Row, draw};

    fn drawn(snapshots: &[(u8, u8)]) -> Vec<String> {
        let id = |number: u8| SnapshotId([number; 16]);
        let snapshots: Vec<_> = snapshots
            .iter()
            .map(|(number, parent)| (id(*number), (*parent > 0).then(|| id(*parent))))
            .collect();
        let row = |row| match row {
            Row::Snapshot(text, place) => format!("{text} {}", snapshots[place].0.0[0]),
            Row::Between(text) => text,
        };
        draw(&snapshots).into_iter().map(row).collect()
    }

    #[test]
    fn a_line_is_a_line() {
        assert_eq!(drawn(&[(3, 2), (2, 1), (1, 0)]), ["* 3", "* 2", "* 1"]);
    }

    #[test]
    fn lines_meet_where_they_come_from() {
        // 4 and 5 were saved after restores of 1.
        assert_eq!(
            drawn(&[(5, 1), (4, 1), (3, 2), (2, 1), (1, 0)]),
            ["* 5", "│ * 4", "│ │ * 3", "│ │ * 2", "├─┴─┘", "* 1"]
        );
        assert_eq!(
            drawn(&[(4, 1), (3, 2), (2, 0), (1, 0)]),
            ["* 4", "│ * 3", "│ * 2", "* 1"]
        );
    }

    #[test]
    fn lines_cross_what_is_between_them() {
        assert_eq!(
            drawn(&[(6, 2), (5, 1), (4, 2), (2, 1), (1, 0)]),
            ["* 6", "│ * 5", "│ │ * 4", "├─┼─┘", "* │ 2", "├─┘", "* 1"]
        );
    }
}
