//! The list of entries that an archive has in its store, beside that of the repository: both are read side by side, and every part of the archive's
//! that cannot be read, or says something else, is damage. Who has nothing but the store has nothing but that list.
//!
//! Where a part cannot be read, the entries of that part are passed over: they are one damage.

use cairn_types::{ErrorKind, with_causes};

use super::Verification;
use crate::directory::{Body, Entry, Record, RelativePath};
use crate::engine::chunks::{ChunksError, PayloadRecords};
use crate::operations::OperationError;

/// The list, as far as it is compared.
pub(super) struct OwnList<'a> {
    records: PayloadRecords<'a>,
    /// The next record, if it was read already.
    next: Option<Record>,
    /// Entries may be missing: the part that they are in cannot be read, which is told.
    gap: bool,
}

impl<'a> OwnList<'a> {
    pub fn new(records: PayloadRecords<'a>) -> Self {
        OwnList {
            records,
            next: None,
            gap: false,
        }
    }

    /// Reads on to the next record; damage on the way is told of `at`. Errors: the store fails.
    fn read(&mut self, at: &RelativePath, found: &mut Verification) -> Result<(), OperationError> {
        while self.next.is_none() {
            match self.records.next() {
                None => return Ok(()),
                Some(Ok(record)) => self.next = Some(record),
                Some(Err(error)) if is_damage(&error) => {
                    self.gap = true;
                    let what = format!(
                        "from here on the archive's own list of entries cannot be read: {}",
                        with_causes(&error)
                    );
                    found.tell(at.clone(), what);
                }
                Some(Err(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Compares with the next entry of the repository's list. Errors: the store fails.
    pub fn meet(&mut self, entry: &Entry, found: &mut Verification) -> Result<(), OperationError> {
        loop {
            self.read(&entry.path, found)?;
            let Some(record) = self.next.take_if(|record| record.entry.path <= entry.path) else {
                if !self.gap {
                    let what = "it is missing in the archive's own list of entries".to_owned();
                    found.tell(entry.path.clone(), what);
                }
                return Ok(());
            };
            self.gap = false;
            if record.entry.path < entry.path {
                surplus(record, found);
                continue;
            }
            if !is_same(&record.entry, entry) {
                let what = "the archive's own list of entries says something else of it".to_owned();
                found.tell(entry.path.clone(), what);
            }
            return Ok(());
        }
    }

    /// Looks at what is behind the last entry of the repository's list. Errors: the store fails.
    pub fn end(mut self, found: &mut Verification) -> Result<(), OperationError> {
        loop {
            self.read(&RelativePath::root(), found)?;
            match self.next.take() {
                Some(record) => surplus(record, found),
                None => return Ok(()),
            }
        }
    }
}

fn surplus(record: Record, found: &mut Verification) {
    let what = "the archive's own list of entries has it, and the snapshot has not".to_owned();
    found.tell(record.entry.path, what);
}

/// Whether it is what is stored that is at fault, and not the way there.
fn is_damage(error: &ChunksError) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound)
}

/// Whether an archive's list says of an entry what the repository's does, which may know digests that were found out later.
fn is_same(own: &Entry, entry: &Entry) -> bool {
    if (&own.path, &own.attributes) != (&entry.path, &entry.attributes) {
        return false;
    }
    match (&own.body, &entry.body) {
        (Body::File(own), Body::File(file)) => {
            (&own.holes, &own.runs) == (&file.holes, &file.runs)
                && (own.digest.is_none() || own.digest == file.digest)
        }
        (own, body) => own == body,
    }
}
