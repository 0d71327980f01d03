//! The order in which snapshots are read: parents before children.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use super::Finding;
use super::descriptor::{JvsSnapshot, JvsSnapshotId};

/// Orders snapshots so that each comes behind its parent, and otherwise by identity, which begins with the time. Parents that are not there, and
/// circles, are told; a circle is broken at its oldest snapshot.
pub(super) fn parents_first(snapshots: &mut Vec<JvsSnapshot>, findings: &mut Vec<Finding>) {
    snapshots.sort_by(|a, b| a.id.cmp(&b.id));
    let places: HashMap<&JvsSnapshotId, usize> = snapshots
        .iter()
        .enumerate()
        .map(|(place, snapshot)| (&snapshot.id, place))
        .collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); snapshots.len()];
    let mut ready = BinaryHeap::new();
    let mut waiting = BTreeSet::new();
    for (place, snapshot) in snapshots.iter().enumerate() {
        let parent = snapshot
            .parent
            .as_ref()
            .map(|parent| (parent, places.get(parent)));
        match parent {
            Some((_, Some(parent))) => {
                children[*parent].push(place);
                waiting.insert(place);
                continue;
            }
            Some((parent, None)) => findings.push(Finding::ParentMissing {
                snapshot: snapshot.id.clone(),
                parent: parent.clone(),
            }),
            None => {}
        }
        ready.push(Reverse(place));
    }
    let mut order = Vec::with_capacity(snapshots.len());
    while order.len() < snapshots.len() {
        let next = match ready.pop() {
            Some(Reverse(place)) => place,
            None => match waiting.pop_first() {
                Some(place) => {
                    findings.push(Finding::Circle(snapshots[place].id.clone()));
                    place
                }
                None => break,
            },
        };
        order.push(next);
        for child in &children[next] {
            if waiting.remove(child) {
                ready.push(Reverse(*child));
            }
        }
    }
    let mut taken: Vec<Option<JvsSnapshot>> = std::mem::take(snapshots).into_iter().map(Some).collect();
    snapshots.extend(order.into_iter().filter_map(|place| taken[place].take()));
}
