//! Which operation a worker does next. All are valid in the worker's state, so that each must succeed.

use std::sync::Arc;

use super::model::{Body, Id, Inode, State};
use super::operation::{Object, Operation, Place};
use crate::client::SetAttributes;
use crate::client::attributes::Time;
use crate::client::procedures::{CreateMode, Stability};
use crate::random::Random;

/// Objects of a worker's directory; with more, removals take the place of creations.
const OBJECTS_MAX: usize = 28;
/// Sizes of writes around the bounds where storage changes its ways, in bytes.
const WRITE_LENGTHS: [u64; 9] = [1, 100, 1000, 4095, 4096, 4097, 16 << 10, 64 << 10, 100_000];
/// A write that fills the largest request. Rare, for it costs as much as all others.
const WRITE_LENGTH_LARGE: u64 = 1 << 20;
/// One write in so many is large.
const LARGE_ONE_IN: u64 = 80;
/// Files do not grow beyond this but by a large write, in bytes.
const FILE_BYTES_MAX: u64 = 200 << 10;
/// Names, few of them, so that the same are used again and again.
const NAMES: [&[u8]; 12] = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"e",
    b"f",
    b"\xff\xfe",
    b"n n",
    b"x.tmp",
    b"x",
    b"\xc3\xa4",
    b"-",
];
/// Most names of one file.
const LINKS_MAX: usize = 4;
/// Deepest directory below the worker's.
const DEPTH_MAX: usize = 3;

/// The next operation in `state`.
pub fn next(state: &State, random: &mut Random) -> Operation {
    loop {
        if let Some(operation) = attempt(state, random) {
            return operation;
        }
    }
}

fn attempt(state: &State, random: &mut Random) -> Option<Operation> {
    let crowded = state.inodes().count() > OBJECTS_MAX;
    match random.below(100) {
        0..25 if crowded => removal(state, random),
        0..14 => make(state, random),
        14..18 => link(state, random),
        18..26 => removal(state, random),
        26..36 => rename(state, random),
        36..46 => set(state, random),
        46..58 => {
            let (file, _) = pick(state, random, |inode| matches!(inode.body, Body::File(_)))?;
            Some(Operation::Commit { file })
        }
        _ => write(state, random),
    }
}

/// A random object whose handle is known.
fn pick<'a>(state: &'a State, random: &mut Random, fits: impl Fn(&Inode) -> bool) -> Option<(Id, &'a Inode)> {
    let fitting: Vec<_> = state
        .inodes()
        .filter(|(_, inode)| inode.handle.is_some() && fits(inode))
        .collect();
    random.pick(&fitting).copied()
}

fn directory(state: &State, random: &mut Random) -> Option<Id> {
    let (id, _) = pick(state, random, |inode| matches!(inode.body, Body::Directory(_)))?;
    Some(id)
}

/// A name in a directory that nothing has.
fn free_place(state: &State, random: &mut Random) -> Option<Place> {
    let (directory, name) = (directory(state, random)?, *random.pick(&NAMES)?);
    state
        .lookup(directory, name)
        .is_none()
        .then(|| (directory, name.to_vec()))
}

/// A name in a directory that something has whose handle is known.
fn taken_place(state: &State, random: &mut Random) -> Option<(Place, Id)> {
    let directory = directory(state, random)?;
    let Body::Directory(entries) = &state.inode(directory)?.body else {
        return None;
    };
    let entries: Vec<_> = entries.iter().collect();
    let (name, id) = random.pick(&entries)?;
    state.inode(**id)?.handle.as_ref()?;
    Some(((directory, (*name).clone()), **id))
}

fn depth(state: &State, id: Id) -> usize {
    let paths = state.paths();
    let path = paths
        .iter()
        .find(|(_, at)| **at == id)
        .map(|(path, _)| path.as_slice());
    path.map_or(0, |path| {
        path.split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty())
            .count()
    })
}

fn make(state: &State, random: &mut Random) -> Option<Operation> {
    let (directory, name) = free_place(state, random)?;
    let mode = random.below(0o1000) as u32;
    let set = SetAttributes {
        mode: Some(mode),
        ..SetAttributes::default()
    };
    let what = match random.below(12) {
        0..2 => Object::File(CreateMode::Unchecked(set)),
        2..5 => Object::File(CreateMode::Guarded(set)),
        5..8 => Object::File(CreateMode::Exclusive(random.next().to_le_bytes())),
        8 | 9 if depth(state, directory) < DEPTH_MAX => Object::Directory(mode),
        10 => Object::Symlink(vec![b'/'; 1 + random.below(200) as usize].into()),
        11 => Object::Fifo(mode),
        _ => return None,
    };
    Some(Operation::Make {
        directory,
        name,
        what,
    })
}

fn link(state: &State, random: &mut Random) -> Option<Operation> {
    let (object, _) = pick(state, random, |inode| {
        matches!(inode.body, Body::File(_) | Body::Fifo)
    })?;
    let (directory, name) = free_place(state, random)?;
    (state.names_of(object) < LINKS_MAX).then_some(Operation::Link {
        object,
        directory,
        name,
    })
}

fn removal(state: &State, random: &mut Random) -> Option<Operation> {
    let ((directory, name), id) = taken_place(state, random)?;
    match &state.inode(id)?.body {
        Body::Directory(entries) if entries.is_empty() => Some(Operation::Rmdir { directory, name }),
        Body::Directory(_) => None,
        Body::File(_) | Body::Symlink(_) | Body::Fifo => Some(Operation::Remove { directory, name }),
    }
}

fn rename(state: &State, random: &mut Random) -> Option<Operation> {
    let (from, moved) = taken_place(state, random)?;
    let is_directory = |id| matches!(state.inode(id).map(|inode| &inode.body), Some(Body::Directory(_)));
    let to = match random.one_in(3) {
        true => {
            let (to, replaced) = taken_place(state, random)?;
            let empty = match &state.inode(replaced)?.body {
                Body::Directory(entries) => entries.is_empty(),
                _ => true,
            };
            // Two names of one object: RENAME then does nothing, which the model says too, but not which name stays.
            if !empty || is_directory(replaced) != is_directory(moved) || replaced == moved {
                return None;
            }
            to
        }
        false => free_place(state, random)?,
    };
    // A directory may not be moved below itself, and one with entries not too deep.
    if is_directory(moved) {
        let paths = state.paths();
        let path_of = |id: Id| {
            paths
                .iter()
                .find(|(_, at)| **at == id)
                .map(|(path, _)| path.clone())
        };
        let (moved, target) = (path_of(moved)?, path_of(to.0)?);
        if target == moved || target.starts_with(&[&moved[..], b"/"].concat()) || depth(state, to.0) + 1 > 1 {
            return None;
        }
    }
    Some(Operation::Rename { from, to })
}

fn set(state: &State, random: &mut Random) -> Option<Operation> {
    let (object, inode) = pick(state, random, |inode| !matches!(inode.body, Body::Symlink(_)))?;
    let mut set = SetAttributes::default();
    match (&inode.body, random.below(5)) {
        (Body::File(file), 0 | 1) => set.size = Some(random.below(file.size() * 2 + 2).min(FILE_BYTES_MAX)),
        (_, 0 | 2) => set.mode = Some(random.below(0o1000) as u32),
        (_, 1 | 3) => {
            set.uid = Some(random.below(3) as u32 * 1000);
            set.gid = Some(random.below(3) as u32 * 1000);
        }
        _ => {
            let (seconds, nanoseconds) = (random.next() as u32, random.below(1_000_000_000) as u32);
            set.modified = Some(Time { seconds, nanoseconds });
        }
    }
    Some(Operation::Set { object, set })
}

fn write(state: &State, random: &mut Random) -> Option<Operation> {
    let (file, inode) = pick(state, random, |inode| matches!(inode.body, Body::File(_)))?;
    let Body::File(model) = &inode.body else {
        return None;
    };
    let length = match random.one_in(LARGE_ONE_IN) {
        true => WRITE_LENGTH_LARGE,
        false => {
            let length = *random.pick(&WRITE_LENGTHS)?;
            if random.one_in(4) {
                1 + random.below(length)
            } else {
                length
            }
        }
    };
    let offset = match random.below(6) {
        0 => 0,
        1 => model.size(),
        2 => (model.size() / 4096) * 4096,
        3 => random.below(FILE_BYTES_MAX),
        _ => random.below(model.size() + 1),
    };
    let stability = match random.below(5) {
        0 => Stability::FILE_SYNC,
        1 => Stability::DATA_SYNC,
        _ => Stability::UNSTABLE,
    };
    if offset + length > FILE_BYTES_MAX + WRITE_LENGTH_LARGE {
        return None;
    }
    let data: Arc<[u8]> = random.bytes(length as usize).into();
    Some(Operation::Write {
        file,
        offset,
        data,
        stability,
    })
}

#[cfg(test)]
mod tests {
    use super::{OBJECTS_MAX, next};
    use crate::client::Handle;
    use crate::crash::model::State;
    use crate::crash::operation::Outcome;
    use crate::random::Random;

    #[test]
    fn workloads_stay_small_and_use_every_operation() {
        let mut random = Random::new(1);
        let mut state = State::default();
        state.give_handles(&Handle::default());
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..5000 {
            let operation = next(&state, &mut random);
            let text = operation.show();
            seen.insert(text.split_whitespace().next().unwrap_or_default().to_owned());
            state = state.after(&operation);
            state.acknowledged(&operation, &Outcome::default());
            state.give_handles(&Handle::default());
            assert!(state.inodes().count() <= OBJECTS_MAX + 2);
        }
        assert_eq!(seen.len(), 8, "{seen:?}");
    }
}
