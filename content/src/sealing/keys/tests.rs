//! `keys` under faults, kills and races: nobody is ever locked out, and nobody gets in with a key that is none.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_types::{ErrorKind, Randomness};
use futures_util::FutureExt;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::record::{DecodeError, Record};
use super::{
    KeysError, Slot, WRAPS_MAX, add, add_in, create, create_in, holders, open, open_in, remove, remove_in,
    rewrap, rewrap_in,
};
use crate::objects::{
    Context, ObjectError, ObjectName, ObjectOptions, ObjectStoreUrl, Objects, Operation, StoreId,
};
use crate::sealing::tests::{Stuck, System};
use crate::sealing::{KeyEncryptionKey, KeyId};

const GOLDEN: &str = r#"{
  "kind": "cairn store keys",
  "version": 1,
  "store": "000102030405060708090a0b0c0d0e0f",
  "data_key": "4f8f1da91f9417de94d6485fabf384fb",
  "wraps": [
    {
      "key": "17578ef70d8be3c0711d43a21c84c4bc",
      "wrapped": "4a41c80d21233c83e682bb3ef9fbcfec5175daec5c986e4c7d8e6ef2976cc60de38806018415ccd4f0b2ccd5c9d27cc091b192f0d2e617e6ff7c457a36a3620cffbac91bdf356e91"
    }
  ],
  "checksum": "07223ab7"
}
"#;

fn key(from: u8) -> KeyEncryptionKey {
    KeyEncryptionKey::new(Zeroizing::new(std::array::from_fn(|at| from + at as u8)))
}

fn store() -> StoreId {
    StoreId::new(std::array::from_fn(|at| at as u8))
}

/// When an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    After,
}

type Meanwhile = Box<dyn FnOnce(&Fake) + Send>;

/// An object in memory. Fails at one operation, counted from 1; lets something happen before the next replacement.
#[derive(Default)]
struct Fake {
    object: Mutex<Option<(Bytes, u64)>>,
    operations: Mutex<u64>,
    fails: Mutex<Option<(u64, When)>>,
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl Fake {
    fn script(&self, fails: Option<(u64, When)>) {
        *self.operations.lock() = 0;
        *self.fails.lock() = fails;
    }

    fn meanwhile(&self, happens: impl FnOnce(&Fake) + Send + 'static) {
        *self.meanwhile.lock() = Some(Box::new(happens));
    }

    fn run<T>(&self, operation: impl FnOnce() -> Result<T, ObjectError>) -> Result<T, ObjectError> {
        let number = {
            let mut operations = self.operations.lock();
            *operations += 1;
            *operations
        };
        let fails = self.fails.lock().filter(|(at, _)| *at == number);
        let lost = || ObjectError::Timeout {
            at: at(),
            attempts: 4,
            timeout: Duration::from_secs(1),
        };
        match fails {
            None => operation(),
            Some((_, When::Before)) => Err(lost()),
            Some((_, When::After)) => operation().and_then(|_| Err(lost())),
        }
    }

    fn bytes(&self) -> Bytes {
        self.object.lock().clone().unwrap().0
    }
}

fn at() -> Box<Context> {
    Box::new(Context {
        store: "memory://".to_owned(),
        object: "keys".to_owned(),
        operation: Operation::Replace,
    })
}

impl Slot for Fake {
    type Version = u64;

    fn url(&self) -> String {
        "memory://".to_owned()
    }

    async fn read(&self) -> Result<Option<(Bytes, u64)>, ObjectError> {
        self.run(|| Ok(self.object.lock().clone()))
    }

    async fn create(&self, bytes: Bytes) -> Result<(), ObjectError> {
        self.run(|| {
            let mut object = self.object.lock();
            if object.is_some() {
                return Err(ObjectError::AlreadyExists {
                    at: at(),
                    source: "it is there".into(),
                });
            }
            *object = Some((bytes, 1));
            Ok(())
        })
    }

    async fn replace(&self, bytes: Bytes, version: &u64) -> Result<(), ObjectError> {
        let meanwhile = self.meanwhile.lock().take();
        if let Some(happens) = meanwhile {
            happens(self);
        }
        self.run(|| {
            let mut object = self.object.lock();
            match &*object {
                Some((_, found)) if found == version => *object = Some((bytes, version + 1)),
                _ => {
                    return Err(ObjectError::Changed {
                        at: at(),
                        source: "it is another".into(),
                    });
                }
            }
            Ok(())
        })
    }
}

/// The fake never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().unwrap()
}

fn made(holder: u8) -> (Fake, KeyId) {
    let fake = Fake::default();
    let data = now(create_in(&fake, store(), &key(holder), &System)).unwrap();
    (fake, data.id())
}

/// The data key that a key opens; nothing if it is none of the store's.
fn opened(fake: &Fake, holder: u8) -> Option<KeyId> {
    match now(open_in(fake, store(), Some(&key(holder)))) {
        Ok(data) => Some(data.unwrap().id()),
        Err(KeysError::Wrong { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_bytes_are_pinned() {
    // Computed by the format page with other implementations of BLAKE3 and AES-GCM. Randomness is stuck, so that the data key
    // is 32 times the byte 7.
    let fake = Fake::default();
    now(create_in(&fake, store(), &key(0), &Stuck)).unwrap();
    assert_eq!(std::str::from_utf8(&fake.bytes()).unwrap(), GOLDEN);
    let data = now(open_in(&fake, store(), Some(&key(0)))).unwrap().unwrap();
    assert_eq!(*data.secret().bytes(), [7; 32]);
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let (fake, _) = made(0);
    now(add_in(&fake, store(), &key(0), &key(1), &System)).unwrap();
    let good = fake.bytes().to_vec();
    let record = Record::decode(&good, store()).unwrap();
    assert_eq!(record.encode(), good);
    for length in 0..good.len() - 2 {
        assert!(
            Record::decode(&good[..length], store()).is_err(),
            "cut at {length}"
        );
    }
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        // Space between the values may change without changing them; nothing else may.
        match Record::decode(&bad, store()) {
            Ok(found) => assert_eq!(found, record, "bit {bit}"),
            Err(DecodeError::Newer(found)) => assert!(found > 1, "bit {bit}"),
            Err(DecodeError::Damaged(_)) => {}
            Err(DecodeError::OtherStore(found)) => panic!("bit {bit}: {found}"),
        }
    }
    let newer = br#"{"kind":"cairn store keys","version":7,"new":[1,2]}"#;
    assert_eq!(Record::decode(newer, store()), Err(DecodeError::Newer(7)));
    let other = StoreId::new([9; 16]);
    let told = Record::decode(&good, other).unwrap_err();
    assert_eq!(told, DecodeError::OtherStore(store().to_string()));
    assert!(Record::decode(&[b' '; 20_000], store()).is_err());
    let none = Record {
        wraps: Vec::new(),
        ..record.clone()
    };
    assert!(Record::decode(&none.encode(), store()).is_err());
    let twice = Record {
        wraps: vec![record.wraps[0].clone(), record.wraps[0].clone()],
        ..record
    };
    assert!(Record::decode(&twice.encode(), store()).is_err());
}

#[test]
fn pieces_moved_and_repeated_are_noticed_or_change_nothing() {
    let (fake, _) = made(0);
    now(add_in(&fake, store(), &key(0), &key(1), &System)).unwrap();
    let good = fake.bytes().to_vec();
    let record = Record::decode(&good, store()).unwrap();
    let random = crate::testing::random(7, 20_000 * 6);
    for round in random.chunks_exact(6) {
        let number = |at: usize| usize::from(u16::from_le_bytes([round[at], round[at + 1]]));
        let (from, at) = (number(0) % good.len(), number(2) % good.len());
        let piece = good[from..good.len().min(from + usize::from(round[4]))].to_vec();
        let mut bad = good.clone();
        match round[5] % 3 {
            0 => drop(bad.splice(at..at, piece)),
            1 => drop(bad.splice(at..good.len().min(at + piece.len()), piece)),
            _ => drop(bad.drain(at..good.len().min(at + piece.len()))),
        }
        match Record::decode(&bad, store()) {
            Ok(found) => assert_eq!(found, record, "{round:?}"),
            Err(DecodeError::Newer(found)) => assert!(found > 1, "{round:?}"),
            Err(DecodeError::Damaged(_) | DecodeError::OtherStore(_)) => {}
        }
    }
}

#[test]
fn whoever_makes_the_checksum_right_still_has_no_key() {
    let (fake, _) = made(0);
    let record = Record::decode(&fake.bytes(), store()).unwrap();
    let put = |record: &Record| {
        *fake.object.lock() = Some((record.encode(), 1));
        now(open_in(&fake, record.store, Some(&key(0)))).err()
    };
    for at in 0..record.wraps[0].wrapped.len() {
        let mut forged = record.clone();
        forged.wraps[0].wrapped[at] ^= 1;
        assert!(matches!(put(&forged), Some(KeysError::Wrap { .. })), "{at}");
    }
    // In another store, and with another data key's name.
    let mut forged = record.clone();
    forged.store = StoreId::new([9; 16]);
    assert!(matches!(put(&forged), Some(KeysError::Wrap { .. })));
    let mut forged = record.clone();
    forged.data_key = KeyId([9; 16]);
    assert!(matches!(put(&forged), Some(KeysError::Wrap { .. })));
    assert!(put(&record).is_none());
}

#[test]
fn a_key_that_is_missing_wrong_or_too_many_is_told() {
    let (fake, _) = made(0);
    now(add_in(&fake, store(), &key(0), &key(1), &System)).unwrap();
    let told = now(open_in(&fake, store(), None)).unwrap_err();
    assert!(matches!(&told, KeysError::Missing { wanted, .. } if *wanted == [key(0).id(), key(1).id()]));
    assert_eq!(told.kind(), ErrorKind::Denied);
    let told = now(open_in(&fake, store(), Some(&key(2)))).unwrap_err();
    assert!(matches!(&told, KeysError::Wrong { given, .. } if *given == key(2).id()));
    let text = told.to_string();
    for named in [
        "memory://",
        &key(0).id().to_string(),
        &key(1).id().to_string(),
        &key(2).id().to_string(),
    ] {
        assert!(text.contains(named), "{text}");
    }
    let told = now(create_in(&fake, store(), &key(2), &System)).unwrap_err();
    assert!(matches!(told, KeysError::Exists { .. }), "{told}");
    let plain = Fake::default();
    assert!(now(open_in(&plain, store(), None)).unwrap().is_none());
    let told = now(open_in(&plain, store(), Some(&key(0)))).unwrap_err();
    assert!(matches!(told, KeysError::NotEncrypted { .. }), "{told}");
    let told = now(rewrap_in(&plain, store(), &key(0), &key(1), &System)).unwrap_err();
    assert!(matches!(told, KeysError::NotEncrypted { .. }), "{told}");
}

#[test]
fn keys_are_added_and_removed_and_one_remains() {
    let (fake, data) = made(0);
    let add = |holder, new| now(add_in(&fake, store(), &key(holder), &key(new), &System));
    let remove = |holder, gone| now(remove_in(&fake, store(), &key(holder), key(gone).id()));
    add(0, 1).unwrap();
    let before = fake.bytes();
    add(0, 1).unwrap();
    assert_eq!(fake.bytes(), before);
    assert_eq!([opened(&fake, 0), opened(&fake, 1)], [Some(data); 2]);
    assert!(matches!(remove(0, 0), Err(KeysError::Remaining { .. })));
    assert!(matches!(remove(0, 5), Err(KeysError::NoSuchKey { .. })));
    assert!(matches!(remove(5, 0), Err(KeysError::Wrong { .. })));
    assert!(matches!(add(5, 6), Err(KeysError::Wrong { .. })));
    remove(1, 0).unwrap();
    assert_eq!([opened(&fake, 0), opened(&fake, 1)], [None, Some(data)]);
    for new in 2..=WRAPS_MAX as u8 {
        add(1, new).unwrap();
    }
    assert!(matches!(add(1, 100), Err(KeysError::TooMany { .. })));
    // The place of the old key is free for the new one.
    now(rewrap_in(&fake, store(), &key(2), &key(100), &System)).unwrap();
    assert_eq!([opened(&fake, 2), opened(&fake, 100)], [None, Some(data)]);
    assert!(now(rewrap_in(&fake, store(), &key(50), &key(50), &System)).is_err());
    now(rewrap_in(&fake, store(), &key(100), &key(100), &System)).unwrap();
    assert_eq!(opened(&fake, 100), Some(data));
    // Old and new are both there already.
    now(rewrap_in(&fake, store(), &key(100), &key(1), &System)).unwrap();
    assert_eq!([opened(&fake, 100), opened(&fake, 1)], [None, Some(data)]);
}

#[test]
fn a_kill_or_a_lost_answer_anywhere_leaves_the_old_key_or_the_new_one() {
    for when in [When::Before, When::After] {
        for number in 1..=2 {
            let (fake, data) = made(0);
            fake.script(Some((number, when)));
            now(rewrap_in(&fake, store(), &key(0), &key(1), &System)).unwrap_err();
            fake.script(None);
            let done = (number, when) == (2, When::After);
            let expected = if done {
                [None, Some(data)]
            } else {
                [Some(data), None]
            };
            assert_eq!(
                [opened(&fake, 0), opened(&fake, 1)],
                expected,
                "{number} {when:?}"
            );
            // Run again.
            now(rewrap_in(&fake, store(), &key(0), &key(1), &System)).unwrap();
            assert_eq!([opened(&fake, 0), opened(&fake, 1)], [None, Some(data)]);

            let fake = Fake::default();
            fake.script(Some((number, when)));
            now(create_in(&fake, store(), &key(0), &System)).unwrap_err();
            fake.script(None);
            let data = now(create_in(&fake, store(), &key(0), &System)).unwrap();
            assert_eq!(opened(&fake, 0), Some(data.id()), "{number} {when:?}");
        }
    }
}

#[test]
fn of_changes_at_once_none_is_lost() {
    // Two rotations from the same key: the faster one wins, the other hears that its key is none any more.
    let (fake, data) = made(0);
    fake.meanwhile(|fake| now(rewrap_in(fake, store(), &key(0), &key(1), &System)).unwrap());
    let told = now(rewrap_in(&fake, store(), &key(0), &key(2), &System)).unwrap_err();
    assert!(matches!(told, KeysError::Wrong { .. }), "{told}");
    assert_eq!(
        [0, 1, 2].map(|holder| opened(&fake, holder)),
        [None, Some(data), None]
    );
    // Two rotations to the same key.
    fake.meanwhile(|fake| now(rewrap_in(fake, store(), &key(1), &key(2), &System)).unwrap());
    now(rewrap_in(&fake, store(), &key(1), &key(2), &System)).unwrap();
    assert_eq!([1, 2].map(|holder| opened(&fake, holder)), [None, Some(data)]);
    // Of different keys: both are done.
    now(add_in(&fake, store(), &key(2), &key(3), &System)).unwrap();
    fake.meanwhile(|fake| now(rewrap_in(fake, store(), &key(2), &key(4), &System)).unwrap());
    now(rewrap_in(&fake, store(), &key(3), &key(5), &System)).unwrap();
    let found = [2, 3, 4, 5].map(|holder| opened(&fake, holder));
    assert_eq!(found, [None, None, Some(data), Some(data)]);
    // Two remove each other's: one of them remains.
    fake.meanwhile(|fake| now(remove_in(fake, store(), &key(4), key(5).id())).unwrap());
    let told = now(remove_in(&fake, store(), &key(5), key(4).id())).unwrap_err();
    assert!(matches!(told, KeysError::Wrong { .. }), "{told}");
    assert_eq!([4, 5].map(|holder| opened(&fake, holder)), [Some(data), None]);
    // Two who make it: the slower one takes what is there, if it can.
    let fake = Arc::new(Fake::default());
    let faster = now(create_in(&*fake, store(), &key(0), &System)).unwrap();
    let slower = now(create_in(&*fake, store(), &key(0), &System)).unwrap();
    assert_eq!(faster.id(), slower.id());
}

fn directory(path: &std::path::Path) -> Objects {
    let url = ObjectStoreUrl::from_directory(path).unwrap();
    Objects::open(&url, ObjectOptions::default(), Arc::new(System)).unwrap()
}

fn system() -> Arc<dyn Randomness> {
    Arc::new(System)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_made_opened_and_its_key_exchanged() {
    let root = tempfile::tempdir().unwrap();
    let objects = directory(root.path());
    assert!(open(&objects, store(), None, system()).await.unwrap().is_plain());
    assert!(holders(&objects, store()).await.unwrap().is_empty());
    let sealing = create(&objects, store(), &key(0), system()).await.unwrap();
    let name = ObjectName::new("archives/a").unwrap();
    let root_object = Bytes::from_static(b"a root");
    let stored = sealing.seal_object(&name, root_object.clone()).unwrap();
    objects.put(&name, stored.clone()).await.unwrap();
    // With content in it, it is still the store that it was.
    let again = create(&objects, store(), &key(0), system()).await.unwrap();
    assert_eq!(again.id(), sealing.id());
    add(&objects, store(), &key(0), &key(1), &System).await.unwrap();
    remove(&objects, store(), &key(1), key(0).id()).await.unwrap();
    rewrap(&objects, store(), &key(1), &key(2), &System)
        .await
        .unwrap();
    assert_eq!(holders(&objects, store()).await.unwrap(), [key(2).id()]);
    let opened = open(&objects, store(), Some(&key(2)), system()).await.unwrap();
    assert_eq!(opened.open_object(&name, stored).unwrap(), root_object);
    for old in [0, 1] {
        let told = open(&objects, store(), Some(&key(old)), system())
            .await
            .unwrap_err();
        assert!(matches!(told, KeysError::Wrong { .. }), "{told}");
    }
    let told = open(&objects, store(), None, system()).await.unwrap_err();
    assert!(matches!(told, KeysError::Missing { .. }), "{told}");
    let other = StoreId::new([9; 16]);
    let told = open(&objects, other, Some(&key(2)), system()).await.unwrap_err();
    assert!(matches!(told, KeysError::OtherStore { .. }), "{told}");
}

#[tokio::test]
async fn a_store_with_content_is_not_made_an_encrypted_one() {
    for content in ["packs/ab/abcd", "archives/0123"] {
        let root = tempfile::tempdir().unwrap();
        let objects = directory(root.path());
        let name = ObjectName::new(content).unwrap();
        objects.put(&name, Bytes::from_static(b"plain")).await.unwrap();
        let told = create(&objects, store(), &key(0), system()).await.unwrap_err();
        assert!(
            matches!(&told, KeysError::NotEmpty { found, .. } if found == content),
            "{told}"
        );
        assert_eq!(told.kind(), ErrorKind::Conflict);
        assert!(open(&objects, store(), None, system()).await.unwrap().is_plain());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rotations_at_once_in_a_directory_leave_exactly_one_key() {
    let root = tempfile::tempdir().unwrap();
    let objects = directory(root.path());
    let sealing = create(&objects, store(), &key(0), system()).await.unwrap();
    let mut current = 0;
    for round in 0..6 {
        let tasks: Vec<_> = (1..=3)
            .map(|number| {
                let (objects, new) = (objects.clone(), round * 3 + number);
                tokio::spawn(async move {
                    let (old, new) = (key(current), key(new));
                    (new.id(), rewrap(&objects, store(), &old, &new, &System).await)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                (new, Ok(())) => winners.push(new),
                (_, Err(KeysError::Wrong { .. })) => {}
                (_, Err(error)) => panic!("{error}"),
            }
        }
        assert_eq!(holders(&objects, store()).await.unwrap(), winners);
        assert_eq!(winners.len(), 1);
        current = (1..=3)
            .map(|number| round * 3 + number)
            .find(|new| key(*new).id() == winners[0])
            .unwrap();
        let opened = open(&objects, store(), Some(&key(current)), system())
            .await
            .unwrap();
        assert_eq!(opened.id(), sealing.id());
    }
}
