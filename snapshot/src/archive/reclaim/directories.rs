//! Marking what the archive of a plain directory needs.

use std::cell::RefCell;

use cairn_content::pipeline::Run;
use cairn_content::store::{ChunkStoreError, Marked};
use cairn_types::{ChunkId, ErrorKind};

use super::Marks;
use crate::archive::directory::{DirectoryReadError, DirectoryRoot, IndexPart, groups, read_group};
use crate::archive::error::ArchiveError;
use crate::archive::report::Progress;
use crate::archive::repository::{Nodes, Repository};
use crate::directory::Body;

impl Marks {
    /// Marks a part of a manifest; says whether what it names is still to be marked.
    fn enter(&self, chunk: &ChunkId) -> Result<bool, ChunkStoreError> {
        self.live.insert(chunk)?;
        let entered = self.entered.insert(chunk)?;
        Ok(matches!(entered, Marked::New | Marked::Unknown))
    }
}

impl Repository {
    /// Marks everything that the archive of a directory needs, as [`Repository::mark_archive`] says.
    pub(super) fn mark_directory(
        &self,
        marks: &Marks,
        root: &DirectoryRoot,
        progress: &Progress,
    ) -> Result<Option<ArchiveError>, ArchiveError> {
        let nodes = Nodes(&self.store);
        let plain = self.store.sealing().is_plain();
        let failed = RefCell::new(None);
        let enter = |part: &IndexPart| {
            if let Err(error) = marks.enter(&part.chunk) {
                failed.borrow_mut().get_or_insert(error);
            }
        };
        let mut missing = None;
        let mut note = |error: DirectoryReadError<_>| {
            let error = self.directory_error(error);
            match error.kind() {
                ErrorKind::NotFound => {
                    missing.get_or_insert(error);
                    Ok(())
                }
                _ => Err(error),
            }
        };
        for group in groups(&nodes, root, enter) {
            if progress.is_cancelled() {
                return Err(ArchiveError::Cancelled);
            }
            let group = match group {
                Ok(group) => group,
                Err(error) => {
                    note(error)?;
                    continue;
                }
            };
            // A block that is marked as a part of a manifest is marked with all chunks that it names, whatever it goes on with.
            let mut fresh = false;
            for block in &group {
                fresh |= marks.enter(&block.chunk)?;
            }
            if !fresh {
                continue;
            }
            match read_group(&nodes, &group, plain) {
                Ok(records) => {
                    for record in &records {
                        let Body::File(file) = &record.entry.body else {
                            continue;
                        };
                        for run in &file.runs {
                            if let Run::Chunk(id, _) = run {
                                marks.live.insert(id)?;
                            }
                        }
                    }
                }
                Err(error) => note(error)?,
            }
        }
        match failed.into_inner() {
            Some(error) => Err(error.into()),
            None => Ok(missing),
        }
    }
}
