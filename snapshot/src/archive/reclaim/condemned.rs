//! The object `reclaim`: which packs are condemned, and since when. It is a note of the owner for itself: if it is damaged or gone,
//! packs are found dead again, and wait again.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_content::objects::{ObjectError, ObjectName};
use cairn_content::pack::PackId;
use cairn_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::error::ArchiveError;
use crate::archive::repository::Repository;

/// The name of the object that says what is condemned.
pub const RECLAIM_NAME: &str = "reclaim";
const RECLAIM_VERSION: u32 = 1;
/// Most packs that are condemned at once. Further dead packs wait until some of these are gone.
pub(super) const CONDEMNED_MAX: usize = 1 << 20;
/// Largest object that is looked at, in bytes: so many packs take less.
const RECLAIM_BYTES_MAX: usize = 128 << 20;

/// What is condemned.
#[derive(Debug, Clone, Default)]
pub(in crate::archive) struct Condemned {
    pub(super) packs: BTreeMap<PackId, Sentence>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Sentence {
    pub since: Timestamp,
    /// Pushes with lower numbers may refer to the pack. 0: it was condemned by an earlier process.
    pub after: u64,
}

/// What outlives every change of the format.
#[derive(Deserialize)]
struct Head {
    kind: String,
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    kind: String,
    version: u32,
    packs: BTreeMap<String, (i64, u32)>,
    checksum: String,
}

const KIND: &str = "cairn condemned packs";

fn checksum(packs: &BTreeMap<String, (i64, u32)>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (pack, (seconds, nanoseconds)) in packs {
        hasher.update(pack.as_bytes());
        hasher
            .update(&seconds.to_le_bytes())
            .update(&nanoseconds.to_le_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

impl Condemned {
    pub fn packs(&self) -> Vec<PackId> {
        self.packs.keys().copied().collect()
    }

    fn name() -> Result<ObjectName, ArchiveError> {
        Ok(ObjectName::new(RECLAIM_NAME).map_err(ObjectError::from)?)
    }

    /// What the store says. Errors: `Objects`, `Damaged`, `NewerVersion`.
    pub fn load(repository: &Repository) -> Result<Self, ArchiveError> {
        let name = Self::name()?;
        let bytes = match repository.runtime.block_on(repository.objects().get(&name)) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(Condemned::default()),
            Err(error) => return Err(error.into()),
        };
        let store = repository.url();
        match Self::decode(&bytes) {
            Ok(found) => Ok(found),
            Err(Some(found)) => Err(ArchiveError::NewerVersion {
                store,
                object: name.to_string(),
                found,
                supported: RECLAIM_VERSION,
            }),
            Err(None) => {
                // It only says since when packs have been dead. Without it they are found dead again, and wait again.
                tracing::warn!(%store, object = %name, "the object that says what is condemned is damaged: it is made again");
                Ok(Condemned::default())
            }
        }
    }

    /// Takes memory in proportion to the bytes. An error is the version, if that is newer.
    fn decode(bytes: &[u8]) -> Result<Self, Option<u32>> {
        if bytes.len() > RECLAIM_BYTES_MAX {
            return Err(None);
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|_| None)?;
        if head.kind != KIND {
            return Err(None);
        }
        if head.version > u64::from(RECLAIM_VERSION) {
            return Err(Some(u32::try_from(head.version).unwrap_or(u32::MAX)));
        }
        let stored: Stored = serde_json::from_slice(bytes).map_err(|_| None)?;
        if stored.version != RECLAIM_VERSION || stored.checksum != checksum(&stored.packs) {
            return Err(None);
        }
        let mut packs = BTreeMap::new();
        for (pack, (seconds, nanoseconds)) in stored.packs {
            let since = Timestamp::new(seconds, nanoseconds);
            packs.insert(PackId::parse(&pack).ok_or(None)?, Sentence { since, after: 0 });
        }
        Ok(Condemned { packs })
    }

    fn encode(&self) -> Result<Bytes, serde_json::Error> {
        let pair = |time: Timestamp| (time.seconds(), time.nanoseconds());
        let packs = self.packs.iter();
        let packs: BTreeMap<_, _> = packs
            .map(|(pack, sentence)| (pack.to_string(), pair(sentence.since)))
            .collect();
        let stored = Stored {
            kind: KIND.to_owned(),
            version: RECLAIM_VERSION,
            checksum: checksum(&packs),
            packs,
        };
        Ok(Bytes::from(serde_json::to_vec_pretty(&stored)?))
    }

    /// Writes it down; without packs there is no object. Durable on return.
    pub fn save(&self, repository: &Repository) -> Result<(), ArchiveError> {
        let (name, objects) = (Self::name()?, repository.objects());
        let outcome = match self.packs.is_empty() {
            true => repository.runtime.block_on(objects.delete(&name)),
            false => {
                let bytes = self.encode().map_err(|error| ArchiveError::Order {
                    what: error.to_string(),
                })?;
                repository.runtime.block_on(objects.put(&name, bytes))
            }
        };
        match outcome {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_content::pack::PackId;
    use cairn_types::Timestamp;

    use super::{CONDEMNED_MAX, Condemned, RECLAIM_BYTES_MAX, Sentence};

    const GOLDEN: &str = r#"{
  "kind": "cairn condemned packs",
  "version": 1,
  "packs": {
    "0707070707070707070707070707070707070707070707070707070707070707": [
      1795000000,
      5
    ]
  },
  "checksum": "4a1da2c929602802159db76b76104cd2dbdc8e355e250fc79bc06431c800051b"
}"#;

    fn condemned(count: u8) -> Condemned {
        let sentence = |number: u8| Sentence {
            since: Timestamp::new(1_795_000_000 + i64::from(number), 5),
            after: 0,
        };
        Condemned {
            packs: (0..count)
                .map(|number| (PackId([number + 7; 32]), sentence(number)))
                .collect(),
        }
    }

    fn same(found: &Condemned, expected: &Condemned) -> bool {
        let plain = |condemned: &Condemned| -> Vec<(PackId, Timestamp)> {
            let packs = condemned.packs.iter();
            packs.map(|(pack, sentence)| (*pack, sentence.since)).collect()
        };
        plain(found) == plain(expected)
    }

    #[test]
    fn golden_bytes() {
        let bytes = condemned(1).encode().unwrap();
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), GOLDEN);
        assert!(same(&Condemned::decode(&bytes).unwrap(), &condemned(1)));
    }

    #[test]
    fn the_largest_is_read() {
        let one = condemned(1).encode().unwrap().len();
        let two = condemned(2).encode().unwrap().len();
        // Times may have ten digits more, and nine of nanoseconds.
        assert!((two - one + 19) * CONDEMNED_MAX + one < RECLAIM_BYTES_MAX);
    }

    #[test]
    fn versions_and_kinds_are_told_apart() {
        let newer = br#"{"kind":"cairn condemned packs","version":9,"new":[1,2]}"#;
        assert_eq!(Condemned::decode(newer).unwrap_err(), Some(9));
        let far = br#"{"kind":"cairn condemned packs","version":99999999999}"#;
        assert_eq!(Condemned::decode(far).unwrap_err(), Some(u32::MAX));
        for other in [
            &br#"{"kind":"other","version":9}"#[..],
            br#"{"kind":"cairn condemned packs","version":0,"packs":{},"checksum":""}"#,
            b"",
            b"[[[[",
        ] {
            assert_eq!(Condemned::decode(other).unwrap_err(), None);
        }
        let deep = [b"{\"kind\":".to_vec(), vec![b'['; 1 << 20]].concat();
        assert_eq!(Condemned::decode(&deep).unwrap_err(), None);
    }

    #[test]
    fn whatever_is_changed_is_noticed_or_changes_nothing() {
        let expected = condemned(5);
        let good = expected.encode().unwrap().to_vec();
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut below = |limit: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % limit.max(1) as u64) as usize
        };
        for round in 0..20_000 {
            let mut bad = good.clone();
            for _ in 0..=below(3) {
                let at = below(bad.len());
                let (from, length) = (below(good.len()), below(200));
                let piece = good[from..good.len().min(from + length)].to_vec();
                match below(6) {
                    0 if !bad.is_empty() => bad[at] ^= 1 << below(8),
                    1 => bad.truncate(at),
                    2 => drop(bad.splice(at..at, piece)),
                    3 => {
                        let end = bad.len().min(at + piece.len());
                        bad.splice(at..end, piece);
                    }
                    4 => bad.insert(at, b'0' + below(10) as u8),
                    _ => drop(bad.drain(at..bad.len().min(at + length))),
                }
            }
            match Condemned::decode(&bad) {
                Ok(found) => assert!(same(&found, &expected), "round {round}"),
                Err(Some(version)) => assert!(version > 1, "round {round}"),
                Err(None) => {}
            }
        }
    }
}
