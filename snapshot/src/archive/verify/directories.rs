//! Verifying the archive of a plain directory: its records say the paths themselves.

use std::collections::HashMap;

use cairn_content::pipeline::Run;
use cairn_content::store::{ChunkReadError, Mark};
use cairn_types::{ChunkId, SnapshotId, with_causes};

use super::{FILES_TOLD_MAX, Wrong, place_of};
use crate::archive::directory::{DirectoryReadError, DirectoryRoot, groups, read_group};
use crate::archive::error::ArchiveError;
use crate::archive::report::{Damage, Progress};
use crate::archive::repository::{Nodes, Repository};
use crate::directory::{Body, FileBody};

impl Repository {
    /// Tells what of the archive of a directory cannot be restored. Blocks in `sound` are not looked at.
    pub(super) fn verify_directory(
        &self,
        snapshot: SnapshotId,
        root: &DirectoryRoot,
        sound: &Mark,
        wrong: &HashMap<ChunkId, Wrong>,
        progress: &Progress,
        tell: &mut dyn FnMut(Damage),
    ) -> Result<(), ArchiveError> {
        let nodes = Nodes(&self.store);
        let plain = self.store.sealing().is_plain();
        let mut told = 0;
        for group in groups(&nodes, root, |_| {}) {
            if progress.is_cancelled() {
                return Err(ArchiveError::Cancelled);
            }
            let group = match group {
                Ok(group) => group,
                Err(error) => {
                    tell(self.manifest_damage(snapshot, error)?);
                    continue;
                }
            };
            let mut known = true;
            for block in &group {
                known &= sound.is_marked(&block.chunk)?;
            }
            if known {
                continue;
            }
            let records = match read_group(&nodes, &group, plain) {
                Ok(records) => records,
                Err(error) => {
                    tell(self.manifest_damage(snapshot, error)?);
                    continue;
                }
            };
            let mut clean = true;
            for record in &records {
                let Body::File(file) = &record.entry.body else {
                    continue;
                };
                for (at, id, length) in chunks_of(file) {
                    let Some(damage) = self.chunk_damage(snapshot, at, &id, length, wrong)? else {
                        continue;
                    };
                    clean = false;
                    told += 1;
                    if told <= FILES_TOLD_MAX {
                        let path = Some(record.entry.path.as_bytes().to_vec());
                        tell(Damage { path, ..damage });
                    }
                }
            }
            for block in group.iter().filter(|_| clean) {
                sound.insert(&block.chunk)?;
            }
        }
        Ok(())
    }

    fn manifest_damage(
        &self,
        snapshot: SnapshotId,
        error: DirectoryReadError<ChunkReadError>,
    ) -> Result<Damage, ArchiveError> {
        let place = match &error {
            DirectoryReadError::Fetch(cause) => place_of(cause)?,
            _ => Some(Default::default()),
        };
        let Some((object, offset)) = place else {
            return Err(self.directory_error(error));
        };
        Ok(Damage {
            archive: Some(snapshot),
            path: None,
            range: None,
            object,
            offset,
            what: with_causes(&error),
        })
    }
}

/// The chunks of a file, each with its offset.
fn chunks_of(file: &FileBody) -> impl Iterator<Item = (u64, ChunkId, u32)> {
    crate::archive::directory::layout(file).filter_map(|(at, run)| match run {
        Run::Chunk(id, length) => Some((at, id, length)),
        Run::Zeros(_) => None,
    })
}
