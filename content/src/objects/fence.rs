//! The fence: the object by which one owner holds a store, so that two daemons never write to, or reclaim from, the
//! same store by accident. Drawn in `docs/formats/object-store.md`.
//!
//! It is created only if it does not exist, and changed only if nobody else has changed it; the store decides who wins.
//! A take-over raises the epoch, and the former owner learns of it by [`Fence::check`]. A check is a look, not a lock: a
//! write that was under way when the epoch moved still lands. Whoever removes objects checks first, and removes only
//! what has been dead for longer than a write may be under way.

use std::fmt;

use bytes::Bytes;
use cairn_types::{Clock, ErrorKind, Randomness, Timestamp};
use serde::{Deserialize, Serialize};

use super::write::Version;
use super::{ObjectError, ObjectName, Objects};
use crate::checksum::crc32c;

/// Name of the object.
pub const FENCE_NAME: &str = "fence";

/// The format version that is written, and the newest that is read.
pub const FENCE_VERSION: u32 = 1;

/// Longest readable name of an owner, in bytes.
pub const OWNER_NAME_BYTES_MAX: usize = 255;

/// Largest fence that is looked at, in bytes.
const FENCE_BYTES_MAX: usize = 4096;

const KIND: &str = "cairn object store";

/// How often acquiring starts again because a fence came or went meanwhile.
const ROUNDS_MAX: u32 = 4;

macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The id with these bytes.
            pub fn new(bytes: [u8; 16]) -> Self {
                $name(bytes)
            }

            /// A new id.
            pub fn random(randomness: &dyn Randomness) -> Self {
                let mut bytes = [0; 16];
                randomness.fill(&mut bytes);
                $name(bytes)
            }

            /// The bytes of the id.
            pub fn bytes(self) -> [u8; 16] {
                self.0
            }

            fn parse(text: &str) -> Option<Self> {
                let lower = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
                match text.len() == 32 && text.as_bytes().iter().all(lower) {
                    true => u128::from_str_radix(text, 16).ok().map(|id| $name(id.to_be_bytes())),
                    false => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id! {
    /// Tells one store from every other; drawn when the store gets its first owner.
    StoreId
}

id! {
    /// Tells one owner from every other: that of a data directory, for as long as it exists.
    OwnerId
}

/// Who wants to own a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Decides whether a fence is ours.
    pub id: OwnerId,
    /// For people: the host and the directory, for example. At most [`OWNER_NAME_BYTES_MAX`] bytes, no control
    /// characters.
    pub name: String,
}

/// What to do with a store that somebody else owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeOver {
    /// Leave it.
    No,
    /// Take it. The former owner must not run any more.
    Yes,
}

/// What a fence says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceRecord {
    /// The store.
    pub store: StoreId,
    /// Its owner.
    pub owner: Owner,
    /// 1 for the first owner, one more for each that took over.
    pub epoch: u64,
    /// Since when.
    pub since: Timestamp,
    /// Drawn for each fence that is written, so that whoever wrote it recognises it.
    nonce: [u8; 16],
}

/// The store is ours, as of the last check.
#[derive(Debug, Clone)]
pub struct Fence {
    objects: Objects,
    name: ObjectName,
    record: FenceRecord,
}

/// Why a store is not ours.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// Somebody else owns it.
    #[error(
        "object store {store} is owned by {} ({}), epoch {}, since {} seconds after 1970: use another URL, or, if that \
         owner is gone for good, take the store over explicitly",
        found.owner.name, found.owner.id, found.epoch, found.since.seconds()
    )]
    Owned {
        /// URL of the store.
        store: String,
        /// What the fence says.
        found: Box<FenceRecord>,
    },
    /// It was ours, and somebody has taken it over or removed the fence. Nothing may be written or removed any more.
    #[error(
        "object store {store} is not ours any more (our epoch was {epoch}): {}; nothing is written to it any more",
        taken(found)
    )]
    Fenced {
        /// URL of the store.
        store: String,
        /// Our epoch.
        epoch: u64,
        /// What the fence says; nothing if there is none.
        found: Option<Box<FenceRecord>>,
    },
    /// A newer Cairn has written the store.
    #[error(
        "object store {store} has format version {found}, this Cairn knows up to {FENCE_VERSION}: use a newer Cairn"
    )]
    Newer {
        /// URL of the store.
        store: String,
        /// The version.
        found: u32,
    },
    /// The fence cannot be read.
    #[error(
        "the object fence of the object store {store} is damaged ({reason}), or it is no store of Cairn's: use another \
         URL, or, if nobody uses the store, remove the object and try again"
    )]
    Damaged {
        /// URL of the store.
        store: String,
        /// What is wrong.
        reason: String,
    },
    /// The owner's name is too long or has control characters.
    #[error(
        "the owner name {name:?} is not possible: at most {OWNER_NAME_BYTES_MAX} bytes, no control characters"
    )]
    OwnerName {
        /// The name.
        name: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] ObjectError),
}

fn taken(found: &Option<Box<FenceRecord>>) -> String {
    match found {
        Some(found) => format!(
            "{} ({}) took it over, epoch {}",
            found.owner.name, found.owner.id, found.epoch
        ),
        None => "its fence is gone".to_owned(),
    }
}

impl FenceError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            FenceError::Owned { .. } | FenceError::Fenced { .. } => ErrorKind::Conflict,
            FenceError::Newer { .. } | FenceError::OwnerName { .. } => ErrorKind::Invalid,
            FenceError::Damaged { .. } => ErrorKind::Corrupt,
            FenceError::Store(error) => error.kind(),
        }
    }
}

impl Fence {
    /// Makes the store ours: writes the fence if there is none, and takes one that is ours already as it is. A fence of
    /// somebody else is replaced, with a raised epoch, only if `take_over` says so. On return the fence is durable, and
    /// of all who tried at the same time one has succeeded.
    ///
    /// # Errors
    /// `Owned` if it is somebody else's, or was taken by somebody else at this moment; `Newer`, `Damaged`,
    /// `OwnerName`, `Store`.
    pub async fn acquire(
        objects: &Objects,
        owner: Owner,
        take_over: TakeOver,
        clock: &dyn Clock,
    ) -> Result<Fence, FenceError> {
        if owner.name.len() > OWNER_NAME_BYTES_MAX || owner.name.chars().any(char::is_control) {
            return Err(FenceError::OwnerName { name: owner.name });
        }
        let name = fence_name()?;
        let random = &objects.inner.randomness;
        let mut round = 0;
        loop {
            round += 1;
            let draft = |store, epoch| FenceRecord {
                store,
                owner: owner.clone(),
                epoch,
                since: clock.now(),
                nonce: OwnerId::random(random.as_ref()).bytes(),
            };
            let (written, record) = match read(objects, &name).await? {
                Some((found, _)) if found.owner.id == owner.id => {
                    return Ok(Fence {
                        objects: objects.clone(),
                        name,
                        record: found,
                    });
                }
                Some((found, version)) if take_over == TakeOver::Yes => {
                    let record = draft(found.store, found.epoch.saturating_add(1));
                    let bytes = encode(&record);
                    (objects.replace(&name, bytes, &version).await, record)
                }
                Some((found, _)) => return Err(owned(objects, found)),
                None => {
                    let record = draft(StoreId::random(random.as_ref()), 1);
                    (objects.put_new(&name, encode(&record)).await, record)
                }
            };
            match written {
                Ok(()) => {
                    return Ok(Fence {
                        objects: objects.clone(),
                        name,
                        record,
                    });
                }
                // Somebody was faster. Who took over a moment ago is alive, so that this take-over was not meant.
                Err(error @ (ObjectError::Changed { .. } | ObjectError::AlreadyExists { .. })) => {
                    match read(objects, &name).await? {
                        Some((found, _)) if found.owner.id != owner.id => return Err(owned(objects, found)),
                        _ if round == ROUNDS_MAX => return Err(error.into()),
                        _ => {}
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What the fence of a store says; nothing if the store has none.
    ///
    /// # Errors
    /// `Newer`, `Damaged`, `Store`.
    pub async fn read(objects: &Objects) -> Result<Option<FenceRecord>, FenceError> {
        Ok(read(objects, &fence_name()?).await?.map(|(record, _)| record))
    }

    /// Looks whether the store still is ours.
    ///
    /// # Errors
    /// `Fenced` if not; `Newer`, `Damaged`, `Store` if that cannot be told, and then nothing may be removed either.
    pub async fn check(&self) -> Result<(), FenceError> {
        let found = read(&self.objects, &self.name).await?.map(|(record, _)| record);
        let ours = &self.record;
        match found {
            Some(found)
                if (found.store, found.owner.id, found.epoch) == (ours.store, ours.owner.id, ours.epoch) =>
            {
                Ok(())
            }
            found => Err(FenceError::Fenced {
                store: self.objects.url().to_string(),
                epoch: ours.epoch,
                found: found.map(Box::new),
            }),
        }
    }

    /// What our fence says.
    pub fn record(&self) -> &FenceRecord {
        &self.record
    }
}

fn fence_name() -> Result<ObjectName, FenceError> {
    Ok(ObjectName::new(FENCE_NAME).map_err(ObjectError::from)?)
}

fn owned(objects: &Objects, found: FenceRecord) -> FenceError {
    FenceError::Owned {
        store: objects.url().to_string(),
        found: Box::new(found),
    }
}

async fn read(objects: &Objects, name: &ObjectName) -> Result<Option<(FenceRecord, Version)>, FenceError> {
    let (bytes, version) = match objects.get_versioned(name).await {
        Err(error) if error.is_not_found() => return Ok(None),
        read => read?,
    };
    let store = || objects.url().to_string();
    match decode(&bytes) {
        Ok(record) => Ok(Some((record, version))),
        Err(DecodeError::Newer(found)) => Err(FenceError::Newer {
            store: store(),
            found,
        }),
        Err(DecodeError::Damaged(reason)) => Err(FenceError::Damaged {
            store: store(),
            reason: reason.to_owned(),
        }),
    }
}

/// What outlives every change of the format.
#[derive(Deserialize)]
struct Head {
    kind: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    kind: String,
    version: u32,
    store: String,
    owner: String,
    owner_name: String,
    epoch: u64,
    since_seconds: i64,
    since_nanoseconds: u32,
    nonce: String,
    checksum: String,
}

#[derive(Debug, PartialEq, Eq)]
enum DecodeError {
    Newer(u32),
    Damaged(&'static str),
}

impl Text {
    /// CRC-32C of the values in their order, each followed by a line feed.
    fn summed(&self) -> String {
        let values = format!(
            "{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n",
            self.kind,
            self.version,
            self.store,
            self.owner,
            self.owner_name,
            self.epoch,
            self.since_seconds,
            self.since_nanoseconds,
            self.nonce
        );
        format!("{:08x}", crc32c(values.as_bytes()))
    }
}

fn encode(record: &FenceRecord) -> Bytes {
    let mut text = Text {
        kind: KIND.to_owned(),
        version: FENCE_VERSION,
        store: record.store.to_string(),
        owner: record.owner.id.to_string(),
        owner_name: record.owner.name.clone(),
        epoch: record.epoch,
        since_seconds: record.since.seconds(),
        since_nanoseconds: record.since.nanoseconds(),
        nonce: OwnerId::new(record.nonce).to_string(),
        checksum: String::new(),
    };
    text.checksum = text.summed();
    // Strings and integers are always representable; were they not, an empty fence would be refused as damaged.
    let mut bytes = serde_json::to_vec_pretty(&text).unwrap_or_default();
    bytes.push(b'\n');
    bytes.into()
}

fn decode(bytes: &[u8]) -> Result<FenceRecord, DecodeError> {
    if bytes.len() > FENCE_BYTES_MAX {
        return Err(DecodeError::Damaged("it is too large"));
    }
    let head: Head =
        serde_json::from_slice(bytes).map_err(|_| DecodeError::Damaged("it has no kind and version"))?;
    if head.kind != KIND {
        return Err(DecodeError::Damaged("it is of another kind"));
    }
    match head.version {
        FENCE_VERSION => {}
        0 => return Err(DecodeError::Damaged("it has version 0")),
        newer => return Err(DecodeError::Newer(newer)),
    }
    let text: Text = serde_json::from_slice(bytes)
        .map_err(|_| DecodeError::Damaged("it has not the keys of its version"))?;
    if text.checksum != text.summed() {
        return Err(DecodeError::Damaged("its checksum is wrong"));
    }
    let wrong = DecodeError::Damaged("a value in it is impossible");
    match (
        StoreId::parse(&text.store),
        OwnerId::parse(&text.owner),
        OwnerId::parse(&text.nonce),
    ) {
        (Some(store), Some(id), Some(nonce)) if text.epoch > 0 => Ok(FenceRecord {
            store,
            owner: Owner {
                id,
                name: text.owner_name,
            },
            epoch: text.epoch,
            since: Timestamp::new(text.since_seconds, text.since_nanoseconds),
            nonce: nonce.bytes(),
        }),
        _ => Err(wrong),
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::Timestamp;

    use super::{DecodeError, FenceRecord, Owner, OwnerId, StoreId, decode, encode};

    const GOLDEN: &str = r#"{
  "kind": "cairn object store",
  "version": 1,
  "store": "000102030405060708090a0b0c0d0e0f",
  "owner": "ffffffffffffffffffffffffffffff01",
  "owner_name": "node-7:/var/lib/cairn",
  "epoch": 3,
  "since_seconds": 1795000000,
  "since_nanoseconds": 5,
  "nonce": "07070707070707070707070707070707",
  "checksum": "af57f0e1"
}
"#;

    fn record() -> FenceRecord {
        let mut owner = [255; 16];
        owner[15] = 1;
        FenceRecord {
            store: StoreId::new(std::array::from_fn(|index| index as u8)),
            owner: Owner {
                id: OwnerId::new(owner),
                name: "node-7:/var/lib/cairn".to_owned(),
            },
            epoch: 3,
            since: Timestamp::new(1_795_000_000, 5),
            nonce: [7; 16],
        }
    }

    #[test]
    fn golden_bytes() {
        let bytes = encode(&record());
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), GOLDEN);
        assert_eq!(decode(&bytes).unwrap(), record());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let good = encode(&record()).to_vec();
        for length in 0..good.len() - 2 {
            assert!(
                matches!(decode(&good[..length]), Err(DecodeError::Damaged(_))),
                "cut at {length}"
            );
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // Space between the values may change without changing them; nothing else may.
            match decode(&bad) {
                Ok(found) => assert_eq!(found, record(), "bit {bit}"),
                Err(DecodeError::Newer(found)) => assert!(found > 1, "bit {bit}"),
                Err(DecodeError::Damaged(_)) => {}
            }
        }
    }

    #[test]
    fn newer_versions_are_named_whatever_else_they_have() {
        let newer = br#"{"kind":"cairn object store","version":7,"new":[1,2]}"#;
        assert_eq!(decode(newer), Err(DecodeError::Newer(7)));
        let other = br#"{"kind":"restic","version":7}"#;
        assert!(matches!(decode(other), Err(DecodeError::Damaged(_))));
        assert!(decode(&[b' '; 5000]).is_err());
    }
}
