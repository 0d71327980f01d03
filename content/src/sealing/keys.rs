//! The object `keys` of an encrypted store: the data key, wrapped with each of the key-encryption keys that open the store.
//!
//! Invariants:
//! - The data key in it never changes. It is made once, where no `keys` and no content is.
//! - Every change is one conditional replacement of what was read, so that two who change it at once do not undo each other, and
//!   whoever is killed has made the whole change or none. At no time is there a `keys` that nobody can open: a wrap is opened
//!   again before it is written, and nobody removes a wrap without having opened another.
//! - A store with a `keys` is never taken for a plain one.
//!
//! A removed wrap is gone from the store, not from the world: whoever has the old key and an old copy of `keys` has the data key.
//! What a leaked key could read stays readable to who has both; only a new store helps against that.
//!
//! It does not look at the fence: changing wraps harms no owner.

mod record;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use cairn_types::Randomness;
use futures_util::TryStreamExt;
use zeroize::Zeroizing;

use super::envelope::EnvelopeKey;
use super::key::KEY_BYTES;
use super::{DataKey, ENVELOPE_BYTES, Failed, KeyEncryptionKey, KeyId, KeysError, SALT_BYTES, Sealing};
use crate::objects::{ObjectError, ObjectName, Objects, StoreId};
use record::{DecodeError, Record, Wrap};

/// Name of the object.
pub const KEYS_NAME: &str = "keys";
/// The format version that is written, and the newest that is read.
pub const KEYS_VERSION: u32 = 1;
/// Most key-encryption keys of a store.
pub const WRAPS_MAX: usize = 16;

/// Bytes of a wrapped data key.
const WRAPPED_BYTES: usize = KEY_BYTES + ENVELOPE_BYTES;
/// How often a change is made anew because somebody else made one meanwhile.
const ROUNDS_MAX: u32 = 8;
/// Where content lies in a store.
const CONTENT: [&str; 2] = ["archives", "packs"];
const LABEL: &[u8; 16] = b"cairn store keys";

/// Makes a store that nothing is in an encrypted one: draws a data key and stores it wrapped with `holder`. If that has been done,
/// with a key that `holder` opens, it is as [`open`]. On return `keys` is durable. The caller owns the store (its fence), as two
/// who fill an empty store at once, one of them plainly, would not see each other.
///
/// # Errors
/// `Exists` if the store is encrypted and `holder` does not open it; `NotEmpty` if packs or archives are in it and no keys; and
/// what [`open`] can fail with.
pub async fn create(
    objects: &Objects,
    store: StoreId,
    holder: &KeyEncryptionKey,
    randomness: Arc<dyn Randomness>,
) -> Result<Sealing, KeysError> {
    let slot = Object::new(objects)?;
    if slot.read().await?.is_none() {
        for prefix in CONTENT {
            let mut names = objects.list(Some(prefix)).map_err(ObjectError::from)?;
            if let Some(found) = names.try_next().await? {
                return Err(KeysError::NotEmpty {
                    store: slot.url(),
                    found: found.name.to_string(),
                });
            }
        }
    }
    let key = create_in(&slot, store, holder, randomness.as_ref()).await?;
    Ok(Sealing::keyed(&key, randomness))
}

/// What a store is encrypted with: plain if it has no `keys`. `store` is the identity that its fence has. `randomness` is for
/// what will be written.
///
/// # Errors
/// `Missing` if the store is encrypted and there is no `holder`; `Wrong` if `holder` is none of its keys; `NotEncrypted` if there
/// is a `holder` and the store is plain; `OtherStore`, `Newer`, `Damaged`, `Wrap` if `keys` is not what it must be; `Store`.
pub async fn open(
    objects: &Objects,
    store: StoreId,
    holder: Option<&KeyEncryptionKey>,
    randomness: Arc<dyn Randomness>,
) -> Result<Sealing, KeysError> {
    let key = open_in(&Object::new(objects)?, store, holder).await?;
    Ok(key.map_or_else(Sealing::plain, |key| Sealing::keyed(&key, randomness)))
}

/// The keys that open a store; none if it is plain. Needs no key.
///
/// # Errors
/// `OtherStore`, `Newer`, `Damaged`, `Store`.
pub async fn holders(objects: &Objects, store: StoreId) -> Result<Vec<KeyId>, KeysError> {
    let slot = Object::new(objects)?;
    let found = read(&slot, store).await?;
    Ok(found.map_or_else(Vec::new, |(record, _)| record.holders()))
}

/// Lets `new` open a store that `holder` opens. If it does already, nothing is changed. Durable on return.
///
/// # Errors
/// `Wrong` if `holder` does not open the store; `NotEncrypted`; `TooMany`; `OtherStore`, `Newer`, `Damaged`, `Wrap`; `Store`.
pub async fn add(
    objects: &Objects,
    store: StoreId,
    holder: &KeyEncryptionKey,
    new: &KeyEncryptionKey,
    randomness: &dyn Randomness,
) -> Result<(), KeysError> {
    add_in(&Object::new(objects)?, store, holder, new, randomness).await
}

/// Removes the wrap for the key `gone` from a store that `holder` opens, which must be another key. Durable on return.
///
/// # Errors
/// `Remaining` if both are the same; `NoSuchKey`; `Wrong`, `NotEncrypted`, `OtherStore`, `Newer`, `Damaged`, `Wrap`; `Store`.
pub async fn remove(
    objects: &Objects,
    store: StoreId,
    holder: &KeyEncryptionKey,
    gone: KeyId,
) -> Result<(), KeysError> {
    remove_in(&Object::new(objects)?, store, holder, gone).await
}

/// Puts `new` in the place of `old`, in one step: before it the one opens the store, afterwards the other. If that has been done,
/// nothing is changed. Who needs a time in which both do calls [`add`], and later [`remove`]. Durable on return.
///
/// # Errors
/// `Wrong` if neither opens the store; `NotEncrypted`, `OtherStore`, `Newer`, `Damaged`, `Wrap`; `Store`.
pub async fn rewrap(
    objects: &Objects,
    store: StoreId,
    old: &KeyEncryptionKey,
    new: &KeyEncryptionKey,
    randomness: &dyn Randomness,
) -> Result<(), KeysError> {
    rewrap_in(&Object::new(objects)?, store, old, new, randomness).await
}

/// The object `keys`, as whoever reads and changes it sees it.
trait Slot {
    /// What it was when it was read.
    type Version;
    fn url(&self) -> String;
    async fn read(&self) -> Result<Option<(Bytes, Self::Version)>, ObjectError>;
    async fn create(&self, bytes: Bytes) -> Result<(), ObjectError>;
    async fn replace(&self, bytes: Bytes, version: &Self::Version) -> Result<(), ObjectError>;
}

/// The object in a store.
struct Object<'a> {
    objects: &'a Objects,
    name: ObjectName,
}

impl<'a> Object<'a> {
    fn new(objects: &'a Objects) -> Result<Self, KeysError> {
        let name = ObjectName::new(KEYS_NAME).map_err(ObjectError::from)?;
        Ok(Object { objects, name })
    }
}

impl Slot for Object<'_> {
    type Version = crate::objects::Version;

    fn url(&self) -> String {
        self.objects.url().to_string()
    }

    async fn read(&self) -> Result<Option<(Bytes, Self::Version)>, ObjectError> {
        match self.objects.get_versioned(&self.name).await {
            Err(error) if error.is_not_found() => Ok(None),
            read => read.map(Some),
        }
    }

    async fn create(&self, bytes: Bytes) -> Result<(), ObjectError> {
        self.objects.put_new(&self.name, bytes).await
    }

    async fn replace(&self, bytes: Bytes, version: &Self::Version) -> Result<(), ObjectError> {
        self.objects.replace(&self.name, bytes, version).await
    }
}

async fn create_in<S: Slot>(
    slot: &S,
    store: StoreId,
    holder: &KeyEncryptionKey,
    randomness: &dyn Randomness,
) -> Result<DataKey, KeysError> {
    let key = DataKey::random(randomness);
    let mut record = Record {
        store,
        data_key: key.id(),
        wraps: Vec::new(),
    };
    if read(slot, store).await?.is_none() {
        let wrapped = wrap(&record, &key, holder, randomness).map_err(|Failed| cipher(slot))?;
        record.wraps.push(wrapped);
        match slot.create(record.encode()).await {
            Ok(()) => return Ok(key),
            // Somebody was faster, or this is done already.
            Err(ObjectError::AlreadyExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match open_in(slot, store, Some(holder)).await {
        Ok(Some(key)) => Ok(key),
        // It came and went meanwhile: nobody but a person removes it.
        Ok(None) => Err(not_encrypted(slot, holder)),
        Err(KeysError::Wrong { store, wanted, .. }) => Err(KeysError::Exists { store, wanted }),
        Err(error) => Err(error),
    }
}

async fn open_in<S: Slot>(
    slot: &S,
    store: StoreId,
    holder: Option<&KeyEncryptionKey>,
) -> Result<Option<DataKey>, KeysError> {
    match (read(slot, store).await?, holder) {
        (None, None) => Ok(None),
        (None, Some(holder)) => Err(not_encrypted(slot, holder)),
        (Some((record, _)), None) => Err(KeysError::Missing {
            store: slot.url(),
            wanted: record.holders(),
        }),
        (Some((record, _)), Some(holder)) => unwrap(slot, &record, holder).map(Some),
    }
}

async fn add_in<S: Slot>(
    slot: &S,
    store: StoreId,
    holder: &KeyEncryptionKey,
    new: &KeyEncryptionKey,
    randomness: &dyn Randomness,
) -> Result<(), KeysError> {
    change(slot, store, holder, |record| {
        let key = unwrap(slot, record, holder)?;
        if record.wrap_of(new.id()).is_some() {
            // It must be a good one, for whoever removes the other next.
            unwrap(slot, record, new)?;
            return Ok(false);
        }
        if record.wraps.len() == WRAPS_MAX {
            return Err(KeysError::TooMany { store: slot.url() });
        }
        let wrapped = wrap(record, &key, new, randomness).map_err(|Failed| cipher(slot))?;
        record.wraps.push(wrapped);
        Ok(true)
    })
    .await
}

async fn remove_in<S: Slot>(
    slot: &S,
    store: StoreId,
    holder: &KeyEncryptionKey,
    gone: KeyId,
) -> Result<(), KeysError> {
    if holder.id() == gone {
        return Err(KeysError::Remaining {
            store: slot.url(),
            key: gone,
        });
    }
    change(slot, store, holder, |record| {
        unwrap(slot, record, holder)?;
        if record.wrap_of(gone).is_none() {
            return Err(KeysError::NoSuchKey {
                store: slot.url(),
                key: gone,
                found: record.holders(),
            });
        }
        record.wraps.retain(|wrap| wrap.holder != gone);
        Ok(true)
    })
    .await
}

async fn rewrap_in<S: Slot>(
    slot: &S,
    store: StoreId,
    old: &KeyEncryptionKey,
    new: &KeyEncryptionKey,
    randomness: &dyn Randomness,
) -> Result<(), KeysError> {
    change(slot, store, old, |record| {
        let has_new = record.wrap_of(new.id()).is_some();
        if has_new {
            unwrap(slot, record, new)?;
        }
        if old.id() == new.id() || (has_new && record.wrap_of(old.id()).is_none()) {
            return if has_new {
                Ok(false)
            } else {
                Err(wrong(slot, record, old))
            };
        }
        let key = unwrap(slot, record, old)?;
        let wrapped = wrap(record, &key, new, randomness).map_err(|Failed| cipher(slot))?;
        record
            .wraps
            .retain(|wrap| wrap.holder != old.id() && wrap.holder != new.id());
        record.wraps.push(wrapped);
        Ok(true)
    })
    .await
}

/// Reads, changes and replaces, until nobody else has changed it meanwhile. `decide` says whether there is something to change.
async fn change<S: Slot>(
    slot: &S,
    store: StoreId,
    holder: &KeyEncryptionKey,
    mut decide: impl FnMut(&mut Record) -> Result<bool, KeysError>,
) -> Result<(), KeysError> {
    let mut round = 0;
    loop {
        round += 1;
        let Some((mut record, version)) = read(slot, store).await? else {
            return Err(not_encrypted(slot, holder));
        };
        if !decide(&mut record)? {
            return Ok(());
        }
        match slot.replace(record.encode(), &version).await {
            Ok(()) => return Ok(()),
            Err(ObjectError::Changed { .. }) if round < ROUNDS_MAX => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn read<S: Slot>(slot: &S, store: StoreId) -> Result<Option<(Record, S::Version)>, KeysError> {
    let Some((bytes, version)) = slot.read().await? else {
        return Ok(None);
    };
    let url = slot.url();
    match Record::decode(&bytes, store) {
        Ok(record) => Ok(Some((record, version))),
        Err(DecodeError::Newer(found)) => Err(KeysError::Newer { store: url, found }),
        Err(DecodeError::Damaged(reason)) => Err(KeysError::Damaged { store: url, reason }),
        Err(DecodeError::OtherStore(found)) => Err(KeysError::OtherStore {
            store: url,
            expected: store,
            found,
        }),
    }
}

/// The data key, wrapped with `holder`; opened again, as all depends on it.
fn wrap(
    record: &Record,
    key: &DataKey,
    holder: &KeyEncryptionKey,
    randomness: &dyn Randomness,
) -> Result<Wrap, Failed> {
    let mut wrapped = [0; WRAPPED_BYTES];
    wrapped[SALT_BYTES..SALT_BYTES + KEY_BYTES].copy_from_slice(key.secret().bytes());
    let mut digest = [0; 32];
    digest[..16].copy_from_slice(&key.id().0);
    let about = about(record, holder.id());
    wrapping(holder).seal(&mut wrapped, &about, &digest, randomness)?;
    let wrap = Wrap {
        holder: holder.id(),
        wrapped,
    };
    let opened = open_wrap(record, &wrap, holder)?;
    (opened.id() == record.data_key).then_some(wrap).ok_or(Failed)
}

fn unwrap<S: Slot>(slot: &S, record: &Record, holder: &KeyEncryptionKey) -> Result<DataKey, KeysError> {
    let wrap = record
        .wrap_of(holder.id())
        .ok_or_else(|| wrong(slot, record, holder))?;
    let key = open_wrap(record, wrap, holder).map_err(|Failed| KeysError::Wrap {
        store: slot.url(),
        key: holder.id(),
    })?;
    if key.id() == record.data_key {
        Ok(key)
    } else {
        Err(KeysError::Damaged {
            store: slot.url(),
            reason: "it has another data key than it says",
        })
    }
}

fn open_wrap(record: &Record, wrap: &Wrap, holder: &KeyEncryptionKey) -> Result<DataKey, Failed> {
    let mut opened = Zeroizing::new(Vec::with_capacity(KEY_BYTES));
    wrapping(holder).open(&wrap.wrapped, &about(record, holder.id()), &mut opened)?;
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    if opened.len() != KEY_BYTES {
        return Err(Failed);
    }
    bytes.copy_from_slice(&opened);
    Ok(DataKey::new(bytes))
}

fn wrapping(holder: &KeyEncryptionKey) -> EnvelopeKey {
    EnvelopeKey::new(&holder.secret().derive("cairn 2026-11-21 data key wraps"))
}

/// What is authenticated with a wrap: where it belongs, and what is in it.
fn about(record: &Record, holder: KeyId) -> Vec<u8> {
    [
        &LABEL[..],
        &KEYS_VERSION.to_le_bytes(),
        &record.store.bytes(),
        &record.data_key.0,
        &holder.0,
    ]
    .concat()
}

fn wrong<S: Slot>(slot: &S, record: &Record, given: &KeyEncryptionKey) -> KeysError {
    KeysError::Wrong {
        store: slot.url(),
        wanted: record.holders(),
        given: given.id(),
    }
}

fn not_encrypted<S: Slot>(slot: &S, given: &KeyEncryptionKey) -> KeysError {
    KeysError::NotEncrypted {
        store: slot.url(),
        given: given.id(),
    }
}

fn cipher<S: Slot>(slot: &S) -> KeysError {
    KeysError::Cipher { store: slot.url() }
}
