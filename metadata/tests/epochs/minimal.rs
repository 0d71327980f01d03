//! What a sweep must leave and what it must not: exactly the versions that answer somebody. Told by reading every object in every
//! state that is seen, in the plainest way, from a dump of the store.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cairn_metadata::Store;
use cairn_types::{BranchId, Epoch};

use crate::world::World;

type Dump = BTreeMap<Bytes, Bytes>;

/// Bytes of a key before the body, and of an epoch behind it.
const PREFIX: usize = 9;
const EPOCH: usize = 8;

fn dump(store: &Store) -> Dump {
    let mut all = Dump::new();
    let mut from = vec![0];
    loop {
        let pairs = store.engine().scan(&from, &[0xff], 10_000).unwrap();
        let Some((last, _)) = pairs.last() else {
            return all;
        };
        from = [last, [0].as_slice()].concat();
        all.extend(pairs);
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}

/// The epoch of birth, and whether the object is there.
fn version(value: &[u8]) -> (u64, bool) {
    (u64::from_le_bytes(value[1..9].try_into().unwrap()), value[0] == 1)
}

/// The key that answers for a body in one branch, if any does.
fn answer(all: &Dump, branch: BranchId, epoch: Option<Epoch>, body: &[u8]) -> Option<Bytes> {
    let head = [b"H", &branch.0.to_be_bytes()[..], body].concat();
    let newest = all.get_key_value(head.as_slice());
    let Some(epoch) = epoch else {
        return newest.map(|(key, _)| key.clone());
    };
    if let Some((key, value)) = newest
        && version(value).0 <= epoch.0
    {
        return Some(key.clone());
    }
    let prefix = [b"h", &branch.0.to_be_bytes()[..], body].concat();
    let older = all.range(Bytes::from(prefix.clone())..);
    let of_body = older.take_while(|(key, _)| key.starts_with(&prefix));
    let (key, value) = of_body
        .filter(|(key, _)| key.len() == prefix.len() + EPOCH && word(&key[prefix.len()..]) >= epoch.0)
        .min_by_key(|(key, _)| word(&key[prefix.len()..]))?;
    (version(value).0 <= epoch.0).then(|| key.clone())
}

/// The keys whose versions answer for a body, from the state up: one, or none if it is not there; with versions that hide something.
fn answers(all: &Dump, state: (BranchId, Option<Epoch>), body: &[u8]) -> Vec<Bytes> {
    let mut at = Some(state);
    let mut hiding = Vec::new();
    while let Some((branch, epoch)) = at {
        if let Some(key) = answer(all, branch, epoch, body) {
            if version(&all[&key]).1 {
                return match hiding.is_empty() {
                    true => vec![key],
                    // It cannot be seen from here, but what hides it is needed as long as it is there.
                    false => hiding,
                };
            }
            if hiding.is_empty() {
                hiding.push(key);
            }
        }
        let record = &all[[b"B", &branch.0.to_be_bytes()[..]].concat().as_slice()];
        at = (record[21] == 1).then(|| {
            let number = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
            (BranchId(number(22)), Some(Epoch(number(30))))
        });
    }
    Vec::new()
}

/// Checks that the versions in the store are those that answer in these states, all of them and no other.
pub fn check(store: &Store, states: &[(BranchId, Option<Epoch>)]) {
    let all = dump(store);
    let versions: BTreeSet<&Bytes> = all.keys().filter(|key| matches!(key[0], b'H' | b'h')).collect();
    let bodies: BTreeSet<&[u8]> = versions
        .iter()
        .map(|key| match key[0] {
            b'H' => &key[PREFIX..],
            _ => &key[PREFIX..key.len() - EPOCH],
        })
        .collect();
    let mut needed = BTreeSet::new();
    for state in states {
        for body in &bodies {
            needed.extend(answers(&all, *state, body));
        }
    }
    let left: Vec<&&Bytes> = versions.iter().filter(|key| !needed.contains(**key)).collect();
    assert!(left.is_empty(), "nobody sees {left:?}");
}

/// When all snapshots are gone and swept, a volume has as many objects as one that never had any, and nothing of its past. Where it
/// went back to a snapshot, the branches that it descends from stay, with what of its objects is theirs.
pub fn check_bare(world: World) {
    let (store, open) = world.strip();
    let open = open.unwrap();
    let all = dump(&store);
    let branches = open.branch.depth as usize + 1;
    let versions = all.iter().filter(|(key, _)| matches!(key[0], b'H' | b'h'));
    let body = |(key, value): (&'_ Bytes, &Bytes)| {
        assert!(version(value).1, "{key:?} hides nothing");
        assert!(key[0] == b'H' || branches > 1, "{key:?} is of the past");
        let end = key.len() - if key[0] == b'h' { EPOCH } else { 0 };
        key[PREFIX..end].to_vec()
    };
    let bodies: BTreeSet<Vec<u8>> = versions.clone().map(body).collect();
    assert_eq!(versions.count(), bodies.len(), "an object has two versions");
    let family = |family: u8| all.keys().filter(|key| key[0] == family).count();
    assert_eq!([family(b'S'), family(b'I'), family(b'K')], [0, 0, 0]);
    assert_eq!(
        [family(b'V'), family(b'N'), family(b'B'), family(b'U')],
        [1, 1, branches, branches]
    );
    if branches == 1 {
        assert_eq!(family(b'D'), 0, "there is nothing to compare with");
    }
}
