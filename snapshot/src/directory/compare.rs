//! What differs between two trees, given as streams of entries in path order: the one comparer.
//!
//! Holds one entry of each stream. Never reads a file: data is compared by hashes, or by stamps.

use std::cmp::Ordering;
use std::fmt;

use cairn_types::FileKind;

use super::entry::{Body, Entry, Record, Stamp};
use super::path::RelativePath;

/// Something that can differ between two entries of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Aspect {
    /// The type. Nothing else is compared then.
    Kind,
    /// The mode.
    Mode,
    /// Owner or group.
    Owner,
    /// The time of modification.
    Times,
    /// Bytes of a regular file.
    Size,
    /// The data of a regular file: its hash.
    Data,
    /// It is not known whether the data differs: one of the two has no hash.
    Unread,
    /// Extended attributes, access control lists among them.
    Xattrs,
    /// Of which files it is another name.
    Links,
    /// Where a file has holes.
    Holes,
    /// The target of a symbolic link.
    Target,
    /// The device of a special file.
    Device,
}

const ASPECTS: [(Aspect, &str); 12] = [
    (Aspect::Kind, "kind"),
    (Aspect::Mode, "mode"),
    (Aspect::Owner, "owner"),
    (Aspect::Times, "times"),
    (Aspect::Size, "size"),
    (Aspect::Data, "data"),
    (Aspect::Unread, "unread"),
    (Aspect::Xattrs, "xattrs"),
    (Aspect::Links, "links"),
    (Aspect::Holes, "holes"),
    (Aspect::Target, "target"),
    (Aspect::Device, "device"),
];

/// Several of them.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Aspects(u16);

impl Aspects {
    /// Adds one.
    pub fn insert(&mut self, aspect: Aspect) {
        self.0 |= 1 << aspect as u8;
    }

    /// Takes one away.
    pub fn remove(&mut self, aspect: Aspect) {
        self.0 &= !(1 << aspect as u8);
    }

    /// Whether it is among them.
    pub fn contains(self, aspect: Aspect) -> bool {
        self.0 & 1 << aspect as u8 != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = Aspect> {
        ASPECTS
            .into_iter()
            .map(|(aspect, _)| aspect)
            .filter(move |aspect| self.contains(*aspect))
    }
}

impl FromIterator<Aspect> for Aspects {
    fn from_iter<I: IntoIterator<Item = Aspect>>(aspects: I) -> Self {
        let mut all = Aspects::default();
        aspects.into_iter().for_each(|aspect| all.insert(aspect));
        all
    }
}

impl fmt::Display for Aspects {
    /// Their names with commas between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (_, name) in ASPECTS.iter().filter(|(aspect, _)| self.contains(*aspect)) {
            write!(f, "{separator}{name}")?;
            separator = ", ";
        }
        Ok(())
    }
}

impl fmt::Debug for Aspects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aspects({self})")
    }
}

/// Something that describes an entry.
pub trait Described {
    /// The entry.
    fn entry(&self) -> &Entry;

    /// What a file system knew it by, if that proves something.
    fn stamp(&self) -> Option<Stamp> {
        None
    }
}

impl Described for Entry {
    fn entry(&self) -> &Entry {
        self
    }
}

impl Described for Record {
    fn entry(&self) -> &Entry {
        &self.entry
    }

    fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }
}

/// What differs at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference<B, A = B> {
    /// Only the later tree has it.
    Added(A),
    /// Only the earlier tree has it.
    Removed(B),
    /// Both have it, but not alike.
    Changed {
        /// As it was.
        before: B,
        /// As it is.
        after: A,
        /// In what they differ.
        aspects: Aspects,
    },
}

impl<B: Described, A: Described> Difference<B, A> {
    /// Where it is.
    pub fn path(&self) -> &RelativePath {
        match self {
            Difference::Removed(before) => &before.entry().path,
            Difference::Added(after) | Difference::Changed { after, .. } => &after.entry().path,
        }
    }
}

/// Why two streams were not compared to their ends.
#[derive(Debug, thiserror::Error)]
pub enum CompareError<B, A> {
    /// The earlier tree could not be read.
    #[error("the earlier state cannot be read")]
    Before(#[source] B),
    /// The later tree could not be read.
    #[error("the later state cannot be read")]
    After(#[source] A),
    /// An entry does not come after the one before it. The comparison ends.
    #[error("{path} does not come in path order")]
    Order {
        /// The entry.
        path: RelativePath,
    },
}

/// In what two entries differ, whatever their paths are.
pub fn aspects(before: &impl Described, after: &impl Described) -> Aspects {
    let same_stamp = before.stamp().is_some() && before.stamp() == after.stamp();
    let (before, after) = (before.entry(), after.entry());
    let (old, new) = (&before.attributes, &after.attributes);
    let mut found = Aspects::default();
    let mut note = |differs: bool, aspect| {
        if differs {
            found.insert(aspect);
        }
    };
    if old.kind != new.kind {
        note(true, Aspect::Kind);
        return found;
    }
    note(old.mode != new.mode, Aspect::Mode);
    note((old.uid, old.gid) != (new.uid, new.gid), Aspect::Owner);
    note(old.modified != new.modified, Aspect::Times);
    note(
        old.kind == FileKind::Regular && old.size != new.size,
        Aspect::Size,
    );
    note(old.xattrs != new.xattrs, Aspect::Xattrs);
    note(old.device != new.device, Aspect::Device);
    match (&before.body, &after.body) {
        (Body::File(old_body), Body::File(new_body)) => {
            note(old_body.holes != new_body.holes, Aspect::Holes);
            match (old_body.digest, new_body.digest) {
                (Some(old), Some(new)) => note(old != new, Aspect::Data),
                _ => {
                    let same = same_stamp && old.size == new.size && old.modified == new.modified;
                    note(!same && old.size == new.size, Aspect::Unread);
                }
            }
        }
        (old, new) => match (old, new) {
            (Body::Symlink(old), Body::Symlink(new)) => note(old != new, Aspect::Target),
            (old, new) => note(old != new, Aspect::Links),
        },
    }
    found
}

/// Compares two trees. Yields their differences in path order. Errors: [`CompareError`]; an error of a stream takes the place of the entry that it did not
/// give, and the comparison goes on as if neither had it.
pub fn compare<B, A, X, Y>(
    before: impl IntoIterator<Item = Result<B, X>>,
    after: impl IntoIterator<Item = Result<A, Y>>,
) -> impl Iterator<Item = Result<Difference<B, A>, CompareError<X, Y>>>
where
    B: Described,
    A: Described,
{
    let mut old = Side {
        entries: before.into_iter().fuse(),
        next: None,
        last: None,
    };
    let mut new = Side {
        entries: after.into_iter().fuse(),
        next: None,
        last: None,
    };
    let mut ended = false;
    std::iter::from_fn(move || {
        while !ended {
            for failed in [old.fill().map_err(Fault::Old), new.fill().map_err(Fault::New)] {
                if let Err(fault) = failed {
                    let (error, ends) = fault.into_error();
                    ended = ends;
                    return Some(Err(error));
                }
            }
            let order = match (&old.next, &new.next) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.entry().path.cmp(&new.entry().path),
            };
            match order {
                Ordering::Less => return old.next.take().map(|old| Ok(Difference::Removed(old))),
                Ordering::Greater => return new.next.take().map(|new| Ok(Difference::Added(new))),
                Ordering::Equal => {
                    let (before, after) = (old.next.take()?, new.next.take()?);
                    let aspects = aspects(&before, &after);
                    if !aspects.is_empty() {
                        return Some(Ok(Difference::Changed {
                            before,
                            after,
                            aspects,
                        }));
                    }
                }
            }
        }
        None
    })
}

/// One of the two streams.
struct Side<I, T> {
    entries: I,
    next: Option<T>,
    last: Option<RelativePath>,
}

enum SideFault<E> {
    Failed(E),
    Order(RelativePath),
}

enum Fault<X, Y> {
    Old(SideFault<X>),
    New(SideFault<Y>),
}

impl<X, Y> Fault<X, Y> {
    /// The error, and whether nothing can follow it.
    fn into_error(self) -> (CompareError<X, Y>, bool) {
        match self {
            Fault::Old(SideFault::Failed(error)) => (CompareError::Before(error), false),
            Fault::New(SideFault::Failed(error)) => (CompareError::After(error), false),
            Fault::Old(SideFault::Order(path)) | Fault::New(SideFault::Order(path)) => {
                (CompareError::Order { path }, true)
            }
        }
    }
}

impl<I: Iterator<Item = Result<T, E>>, T: Described, E> Side<I, T> {
    fn fill(&mut self) -> Result<(), SideFault<E>> {
        if self.next.is_some() {
            return Ok(());
        }
        let Some(next) = self.entries.next() else {
            return Ok(());
        };
        let next = next.map_err(SideFault::Failed)?;
        let path = &next.entry().path;
        if self.last.as_ref().is_some_and(|last| last >= path) {
            return Err(SideFault::Order(path.clone()));
        }
        self.last = Some(path.clone());
        self.next = Some(next);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
