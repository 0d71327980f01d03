//! Runs one operation of a sequence on one file system: the same code for the model and for the subject.

use std::cell::RefCell;
use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use bytes::Bytes;
use cairn_types::{DeviceNumber, Timestamp};
use cairn_vfs::filesystem::{
    Attributes, Caller, Change, CreateMode, Created, Found, Linked, ObjectId, Record, Renamed, ReplyRecord,
    SetAttributes, SetTime, SpecialFile, Written,
};
use cairn_vfs::{Error, FileSystem, Pending};

use crate::operations::{CallerIndex, How, Name, Operation, Special, Time};

/// What a successful operation on files said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Attributes(Attributes),
    Found(Found),
    Change(Change),
    Created(Created),
    Renamed(Renamed),
    Linked(Linked),
    Written(Written),
    Read {
        bytes: Vec<u8>,
        end_of_file: bool,
        attributes: Attributes,
    },
    Target(Vec<u8>, Attributes),
}

/// The outcome of an operation, or what is wrong with how it came about.
pub type Executed = Result<Result<Outcome, Error>, String>;

/// The callers of a sequence: uid 0, and two users who share a group.
pub fn caller(index: CallerIndex) -> Caller {
    let groups = |groups: &[u32]| Arc::from(groups);
    match index {
        0 => Caller {
            uid: 0,
            gid: 0,
            groups: groups(&[]),
        },
        1 => Caller {
            uid: 1001,
            gid: 100,
            groups: groups(&[100, 200]),
        },
        _ => Caller {
            uid: 1002,
            gid: 101,
            groups: groups(&[200]),
        },
    }
}

/// Bytes without a zero, that differ by place and by `seed`.
pub fn pattern(offset: u64, length: u32, seed: u8) -> Vec<u8> {
    let byte = |at: u64| {
        (at.wrapping_mul(7) as u8 ^ (at >> 8) as u8 ^ (at >> 16) as u8).wrapping_add(seed.wrapping_mul(31))
            | 1
    };
    (0..u64::from(length))
        .map(|index| byte(offset.wrapping_add(index)))
        .collect()
}

/// Waits for a future on this thread.
pub fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn time(time: Time) -> Option<SetTime> {
    time.map(|time| time.map_or(SetTime::Now, |seconds| SetTime::To(Timestamp::new(seconds, 123))))
}

/// What a record can be made of.
pub trait Recorded: Clone + PartialEq + Debug {
    /// Whether nothing has changed, so that the same request again does no harm.
    fn is_no_change(&self) -> bool;
}

impl Recorded for Change {
    fn is_no_change(&self) -> bool {
        self.before.changed == self.after.changed
    }
}

impl Recorded for Written {
    fn is_no_change(&self) -> bool {
        self.change.is_no_change()
    }
}

impl Recorded for Created {
    fn is_no_change(&self) -> bool {
        self.directory.is_no_change()
    }
}

impl Recorded for Renamed {
    fn is_no_change(&self) -> bool {
        self.from.is_no_change() && self.to.is_no_change()
    }
}

impl Recorded for Linked {
    fn is_no_change(&self) -> bool {
        self.directory.is_no_change()
    }
}

/// What an operation needs besides itself.
pub struct Environment<'a> {
    pub files: &'a dyn FileSystem,
    /// What the targets of the operation are, in their order.
    pub objects: &'a [ObjectId],
    /// The `changed` time of the first of them.
    pub changed: Option<Timestamp>,
    /// Number of the operation in its sequence.
    pub step: u64,
}

impl Environment<'_> {
    /// Calls a change with a record, checks that the record was made once if anything changed, and of what was returned,
    /// and waits for the change's durability.
    fn record<T: Recorded>(
        &self,
        wrap: impl FnOnce(T) -> Outcome,
        call: impl FnOnce(Record<'_, T>) -> Result<Pending<T>, Error>,
    ) -> Executed {
        let seen: RefCell<Vec<T>> = RefCell::default();
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.step.to_be_bytes());
        let outcome = call(&|value: &T| {
            seen.borrow_mut().push(value.clone());
            Some(ReplyRecord {
                key,
                body: Bytes::copy_from_slice(&self.step.to_le_bytes()),
            })
        });
        let outcome = outcome.and_then(|pending| wait(pending.durable()));
        match (&outcome, &seen.into_inner()[..]) {
            (Ok(value), [recorded]) if value == recorded => {}
            (Ok(value), []) if value.is_no_change() => {}
            (Err(_), []) => {}
            (outcome, recorded) => {
                return Err(format!(
                    "the change said {outcome:?} and the record was made of {recorded:?}"
                ));
            }
        }
        Ok(outcome.map(wrap))
    }

    /// Runs an operation on files; the others are the harness's.
    pub fn execute(&self, operation: &Operation) -> Executed {
        let files = self.files;
        let first = self.objects.first().copied();
        let object = first.ok_or_else(|| format!("{operation:?} has no object"))?;
        let set = |caller: &Caller, set: SetAttributes, guard: Option<Timestamp>| {
            self.record(Outcome::Change, |record| {
                files.setattr(caller, object, set, guard, record)
            })
        };
        let none = SetAttributes::default();
        Ok(match *operation {
            Operation::Lookup { caller: by, name, .. } => files
                .lookup(&caller(by), object, &name.bytes())
                .map(Outcome::Found),
            Operation::Getattr { .. } => files.getattr(object).map(Outcome::Attributes),
            Operation::SetMode {
                caller: by,
                mode,
                guard,
                ..
            } => {
                let changed = self.changed.unwrap_or_default();
                let guard = guard.map(|holds| if holds { changed } else { changed.successor() });
                return set(
                    &caller(by),
                    SetAttributes {
                        mode: Some(mode),
                        ..none
                    },
                    guard,
                );
            }
            Operation::SetOwner {
                caller: by, uid, gid, ..
            } => {
                return set(&caller(by), SetAttributes { uid, gid, ..none }, None);
            }
            Operation::SetSize { caller: by, size, .. } => {
                return set(
                    &caller(by),
                    SetAttributes {
                        size: Some(size),
                        ..none
                    },
                    None,
                );
            }
            Operation::SetTimes {
                caller: by,
                accessed,
                modified,
                ..
            } => {
                let times = SetAttributes {
                    accessed: time(accessed),
                    modified: time(modified),
                    ..none
                };
                return set(&caller(by), times, None);
            }
            Operation::Read {
                caller: by,
                offset,
                count,
                ..
            } => {
                return read(files, &caller(by), object, offset, count);
            }
            Operation::Readlink { caller: by, .. } => files
                .readlink(&caller(by), object)
                .map(|(target, attributes)| Outcome::Target(target.to_vec(), attributes)),
            Operation::Write {
                caller: by,
                offset,
                length,
                seed,
                stability,
                ..
            } => {
                let data = pattern(offset, length, seed).into();
                let pending = files.write(&caller(by), object, offset, data, stability);
                pending
                    .and_then(|pending| wait(pending.durable()))
                    .map(Outcome::Written)
            }
            Operation::Commit { .. } => {
                let pending = files.commit(&caller(0), object, 0, 0);
                pending
                    .and_then(|pending| wait(pending.durable()))
                    .map(Outcome::Change)
            }
            Operation::Create {
                caller: by,
                name,
                how,
                mode,
                ..
            } => {
                let attributes = |size| SetAttributes {
                    mode: Some(mode),
                    size,
                    ..none
                };
                let mode = match how {
                    How::Unchecked { size } => CreateMode::Unchecked(attributes(size)),
                    How::Guarded { size } => CreateMode::Guarded(attributes(size)),
                    How::Exclusive => CreateMode::Exclusive(self.step.to_be_bytes()),
                };
                return self.create(by, name, mode);
            }
            Operation::Mkdir {
                caller: by,
                name,
                mode,
                ..
            } => {
                let set = SetAttributes {
                    mode: Some(mode),
                    ..none
                };
                return self.record(Outcome::Created, |record| {
                    files.mkdir(&caller(by), object, &name.bytes(), set, record)
                });
            }
            Operation::Symlink {
                caller: by,
                name,
                length,
                ..
            } => {
                let set = SetAttributes {
                    mode: Some(0o777),
                    ..none
                };
                let target = vec![b't'; usize::from(length)];
                return self.record(Outcome::Created, |record| {
                    files.symlink(&caller(by), object, &name.bytes(), &target, set, record)
                });
            }
            Operation::Mknod {
                caller: by,
                name,
                special,
                ..
            } => {
                let device = DeviceNumber {
                    major: 8,
                    minor: u32::from(by) + 1,
                };
                let special = match special {
                    Special::Fifo => SpecialFile::Fifo,
                    Special::Socket => SpecialFile::Socket,
                    Special::Block => SpecialFile::BlockDevice(device),
                    Special::Character => SpecialFile::CharacterDevice(device),
                };
                let set = SetAttributes {
                    mode: Some(0o644),
                    ..none
                };
                return self.record(Outcome::Created, |record| {
                    files.mknod(&caller(by), object, &name.bytes(), special, set, record)
                });
            }
            Operation::Remove { caller: by, name, .. } => {
                return self.record(Outcome::Change, |record| {
                    files.remove(&caller(by), object, &name.bytes(), record)
                });
            }
            Operation::Rmdir { caller: by, name, .. } => {
                return self.record(Outcome::Change, |record| {
                    files.rmdir(&caller(by), object, &name.bytes(), record)
                });
            }
            Operation::Rename { caller: by, from, to } => {
                let (from, to) = (
                    (object, &from.1.bytes()[..]),
                    (self.objects[1], &to.1.bytes()[..]),
                );
                return self.record(Outcome::Renamed, |record| {
                    files.rename(&caller(by), from, to, record)
                });
            }
            Operation::Link { caller: by, name, .. } => {
                return self.record(Outcome::Linked, |record| {
                    files.link(&caller(by), object, self.objects[1], &name.bytes(), record)
                });
            }
            _ => return Err(format!("{operation:?} is no operation on files")),
        })
    }

    /// Makes a regular file in the first object.
    pub fn create(&self, by: CallerIndex, name: Name, mode: CreateMode) -> Executed {
        self.record(Outcome::Created, |record| {
            self.files
                .create(&caller(by), self.objects[0], &name.bytes(), mode, record)
        })
    }
}

/// Reads as a client does: on after a short answer. What memory gives, before and after, must be a part of it.
fn read(files: &dyn FileSystem, caller: &Caller, object: ObjectId, offset: u64, count: u32) -> Executed {
    let before = files.read_cached(caller, object, offset, count);
    let outcome = read_fully(files, caller, object, offset, count)?;
    let after = files.read_cached(caller, object, offset, count);
    for cached in [before, after].into_iter().flatten() {
        let (same, shown) = match (&cached, &outcome) {
            (
                Ok(data),
                Ok(Outcome::Read {
                    bytes,
                    end_of_file,
                    attributes,
                }),
            ) => {
                let found = data.pieces.concat();
                let whole = found.len() == bytes.len() && data.end_of_file == *end_of_file;
                let part = found.len() < bytes.len() && !data.end_of_file;
                // The flush beside may correct meanwhile how much storage is used.
                let used = attributes.used;
                let same = bytes.starts_with(&found)
                    && Attributes {
                        used,
                        ..data.attributes
                    } == *attributes;
                (same && (whole || part), format!("{} bytes", found.len()))
            }
            (Err(found), Err(error)) => (format!("{found:?}") == format!("{error:?}"), format!("{found:?}")),
            (other, _) => (false, format!("{other:?}")),
        };
        if !same {
            return Err(format!(
                "read_cached of {count} bytes at {offset} gave {shown}, read {outcome:?}"
            ));
        }
    }
    Ok(outcome)
}

fn read_fully(
    files: &dyn FileSystem,
    caller: &Caller,
    object: ObjectId,
    offset: u64,
    count: u32,
) -> Executed {
    let mut bytes = Vec::new();
    loop {
        let wanted = count - bytes.len() as u32;
        let data = match files.read(caller, object, offset.saturating_add(bytes.len() as u64), wanted) {
            Ok(data) => data,
            Err(error) => return Ok(Err(error)),
        };
        let got: usize = data.pieces.iter().map(Bytes::len).sum();
        if got > wanted as usize {
            return Err(format!("a read of {wanted} bytes gave {got}"));
        }
        data.pieces
            .iter()
            .for_each(|piece| bytes.extend_from_slice(piece));
        let (end_of_file, attributes) = (data.end_of_file, data.attributes);
        if bytes.len() == count as usize || end_of_file {
            return Ok(Ok(Outcome::Read {
                bytes,
                end_of_file,
                attributes,
            }));
        }
        if got == 0 {
            return Err(format!(
                "a read at {offset} gave nothing before the end of the file"
            ));
        }
    }
}

/// The bytes of a range of a file, read as uid 0.
pub fn bytes(files: &dyn FileSystem, object: ObjectId, offset: u64, count: u32) -> Result<Vec<u8>, String> {
    match read(files, &caller(0), object, offset, count)? {
        Ok(Outcome::Read { bytes, .. }) => Ok(bytes),
        other => Err(format!(
            "reading {count} bytes at {offset} of {object:?} gave {other:?}"
        )),
    }
}
