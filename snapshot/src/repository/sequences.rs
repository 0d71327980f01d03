//! What is known of descriptors without reading them: the number of each snapshot, in `cache/sequences`. Descriptors never change, so what
//! stands there stays true; what is missing is read again.
//!
//! ```text
//! record   id 16 bytes, sequence u64, check u64: the first bytes of BLAKE3 of the other 24; numbers little-endian
//! ```
//! Records are appended, and not synced. A file that is torn or damaged is written anew by who finds it so.

use std::collections::HashMap;
use std::io::Write;

use cairn_types::SnapshotId;
use rustix::fs::{Mode, OFlags, openat};

use super::layout::{Area, SEQUENCES_FILE};
use super::{Repository, RepositoryError, Survival};

const RECORD_BYTES: usize = 32;
const CHECKED_BYTES: usize = 24;
/// Records of what is gone that are put up with, beside as many as there are snapshots.
const GONE_MAX: usize = 1024;
/// Largest file that is read.
const FILE_BYTES_MAX: usize = 256 << 20;

/// The numbers of snapshots that are known.
#[derive(Debug, Default)]
pub struct Sequences {
    known: HashMap<SnapshotId, u64>,
    /// Records of the file.
    records: usize,
    /// The file has something else in it than whole records.
    spoiled: bool,
}

fn record(id: SnapshotId, sequence: u64) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..16].copy_from_slice(&id.0);
    bytes[16..CHECKED_BYTES].copy_from_slice(&sequence.to_le_bytes());
    let check = blake3::hash(&bytes[..CHECKED_BYTES]);
    bytes[CHECKED_BYTES..].copy_from_slice(&check.as_bytes()[..8]);
    bytes
}

fn parse(bytes: &[u8; RECORD_BYTES]) -> Option<(SnapshotId, u64)> {
    let id = SnapshotId(bytes.first_chunk().copied()?);
    let sequence = u64::from_le_bytes(bytes[16..].first_chunk().copied()?);
    (record(id, sequence) == *bytes).then_some((id, sequence))
}

impl Sequences {
    fn of(bytes: &[u8]) -> Self {
        let (records, rest) = bytes.as_chunks::<RECORD_BYTES>();
        let known: HashMap<SnapshotId, u64> = records.iter().filter_map(parse).collect();
        Sequences {
            spoiled: !rest.is_empty() || known.len() < records.len(),
            records: records.len(),
            known,
        }
    }

    /// The number of a snapshot, if it is known.
    pub fn get(&self, id: SnapshotId) -> Option<u64> {
        self.known.get(&id).copied()
    }
}

impl Repository {
    /// What is known. What cannot be read is not.
    pub fn sequences(&self) -> Sequences {
        match self.control().read(Area::Cache, SEQUENCES_FILE, FILE_BYTES_MAX) {
            Ok(bytes) => Sequences::of(&bytes.unwrap_or_default()),
            Err(error) => {
                tracing::debug!(%error, "the numbers of snapshots are read from their descriptors");
                Sequences {
                    spoiled: true,
                    ..Sequences::default()
                }
            }
        }
    }

    /// Notes the numbers of snapshots that exist. That this fails only costs time later.
    pub fn remember_sequences(&self, found: &[(SnapshotId, u64)]) {
        if found.is_empty() {
            return;
        }
        let bytes: Vec<u8> = found
            .iter()
            .flat_map(|(id, sequence)| record(*id, *sequence))
            .collect();
        if let Err(error) = self.append_sequences(&bytes) {
            tracing::debug!(%error, "the numbers of snapshots cannot be noted");
        }
    }

    fn append_sequences(&self, bytes: &[u8]) -> Result<(), RepositoryError> {
        let directory = self.control().area(Area::Cache)?;
        let failed = |error| {
            RepositoryError::io(
                "appending to",
                &self.control().path_of(Area::Cache, SEQUENCES_FILE),
                error,
            )
        };
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&directory, SEQUENCES_FILE, flags, Mode::RUSR | Mode::WUSR);
        let mut file = std::fs::File::from(file.map_err(|error| failed(error.into()))?);
        file.write_all(bytes).map_err(failed)
    }

    /// Writes the file anew with what is known of the snapshots `ids`, if much of it is of others or cannot be used.
    pub fn tidy_sequences(&self, sequences: &Sequences, ids: &[SnapshotId]) {
        if !sequences.spoiled && sequences.records <= 2 * ids.len() + GONE_MAX {
            return;
        }
        let bytes: Vec<u8> = ids
            .iter()
            .filter_map(|id| Some(record(*id, sequences.get(*id)?)))
            .flatten()
            .collect();
        let written = self
            .control()
            .replace(Area::Cache, SEQUENCES_FILE, &bytes, Survival::Volatile);
        if let Err(error) = written {
            tracing::debug!(%error, "the numbers of snapshots cannot be noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::SnapshotId;

    use super::{RECORD_BYTES, Sequences, record};

    #[test]
    fn the_bytes_are_pinned_and_damage_is_not_believed() {
        let one = record(SnapshotId([7; 16]), 0x0102);
        assert_eq!(one[..24], [&[7; 16][..], &[2, 1, 0, 0, 0, 0, 0, 0]].concat());
        assert_eq!(
            cairn_types::hexadecimal::text(&one[24..].first_chunk::<8>().copied().unwrap()),
            "2a6c7e2a0d2057b6"
        );
        let two = record(SnapshotId([8; 16]), 3);
        let bytes = [one, two].concat();
        let known = Sequences::of(&bytes);
        assert!(!known.spoiled);
        assert_eq!(known.get(SnapshotId([8; 16])), Some(3));
        for at in 0..RECORD_BYTES {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            let known = Sequences::of(&wrong);
            assert!(
                known.spoiled && known.get(SnapshotId([7; 16])).is_none(),
                "byte {at}"
            );
            assert_eq!(known.get(SnapshotId([8; 16])), Some(3));
        }
        let torn = Sequences::of(&bytes[..40]);
        assert!(torn.spoiled && torn.known.len() == 1);
    }
}
