//! Leases of readers: who views, verifies or copies a snapshot, so that collecting garbage leaves it alone.
//!
//! Any number of readers at a time, none of them excludes a save. A reader first writes its lease, then reads the descriptor; who removes a
//! snapshot first removes the descriptor, then looks at the readers once more, and only then removes data. So one of them sees the other.
//!
//! A reader of this machine that has ended counts no more. Of one elsewhere only the age of its file tells, by the clock of the file system
//! itself: the age is the difference to a file that is made there and then. That clock may be one machine's or several machines', so the age must
//! be large.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use cairn_types::{ErrorKind, SnapshotId, Timestamp, hexadecimal};
use serde::{Deserialize, Serialize};

use super::control::{ControlDirectory, Survival};
use super::document::{self, Document};
use super::error::RepositoryError;
use super::host::Host;
use super::layout::{Area, document_name};
use super::lease::{Lease, LeaseError};
use super::{Repository, text};

/// A reader whose lease was not renewed for this many times of expiry of the [lease](super::LeaseTimes) has ended.
pub const EXPIRY_FACTOR: u32 = 10;
/// Most snapshots of one reader.
pub const SNAPSHOTS_MAX: usize = 100_000;

/// `readers/NONCE.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReaderRecord {
    /// Who reads.
    pub reader: Host,
    /// What for: a word, for people.
    pub operation: String,
    /// What is read; at most [`SNAPSHOTS_MAX`].
    #[serde(with = "text::list")]
    pub snapshots: BTreeSet<SnapshotId>,
    /// Since when.
    #[serde(with = "text")]
    pub begun: Timestamp,
}

impl Document for ReaderRecord {
    const KIND: &'static str = "reader";

    fn check(&self) -> Result<(), String> {
        if self.operation.len() > Host::TEXT_BYTES_MAX || self.snapshots.len() > SNAPSHOTS_MAX {
            return Err("its operation is too long, or it has too many snapshots".to_owned());
        }
        self.reader.check()
    }
}

/// The lease of a reader. It is renewed in the background and given back when it is dropped.
///
/// Where nothing can be written (a read-only file system, another user's repository, a full disk) there is none, and [`Reader::unguarded`] says
/// why: who removes a snapshot meanwhile does not see this reader, whose reads fail then.
pub struct Reader {
    control: Arc<ControlDirectory>,
    /// Its file.
    name: Option<String>,
    unguarded: Option<RepositoryError>,
    stop: Option<SyncSender<()>>,
    renewer: Option<std::thread::JoinHandle<()>>,
}

/// Who reads now.
#[derive(Debug, Default)]
pub struct Readers {
    /// Snapshots that are read.
    pub snapshots: BTreeSet<SnapshotId>,
    /// Their readers, by name of the file.
    pub records: Vec<(String, ReaderRecord)>,
    /// Files of readers that cannot be read, and are not old enough to be passed over: nobody knows which snapshots they read, so nothing must be
    /// removed.
    pub unknown: Vec<(String, RepositoryError)>,
    /// Files of readers that have ended: to be removed.
    pub ended: Vec<String>,
}

impl Repository {
    /// Says that snapshots are read, until the value is dropped. Whether they exist is to be looked at after this. Where nothing may be written, or
    /// there is no room, nobody is told: [`Reader::unguarded`]. Errors: too many snapshots, I/O, no thread.
    pub fn read_lease(
        &self,
        operation: &str,
        snapshots: BTreeSet<SnapshotId>,
    ) -> Result<Reader, RepositoryError> {
        let record = ReaderRecord {
            reader: self.parts().host.clone(),
            operation: operation.to_owned(),
            snapshots,
            begun: self.parts().clock.now(),
        };
        let bytes = document::encode(&record)?;
        let name = document_name(&hexadecimal::text(&self.control().random::<16>()));
        let mut reader = Reader {
            control: self.control().clone(),
            name: None,
            unguarded: None,
            stop: None,
            renewer: None,
        };
        match self
            .control()
            .replace(Area::Readers, &name, &bytes, Survival::Volatile)
        {
            Ok(()) => reader.name = Some(name.clone()),
            Err(error) if matches!(error.kind(), ErrorKind::Denied | ErrorKind::NoSpace) => {
                tracing::warn!(%error, operation, "snapshots are read without a lease");
                reader.unguarded = Some(error);
                return Ok(reader);
            }
            Err(error) => return Err(error),
        }
        let (stop, stopped) = sync_channel::<()>(1);
        reader.stop = Some(stop);
        let (control, every) = (self.control().clone(), self.parts().lease_times.renew_every);
        let renewer = std::thread::Builder::new()
            .name("reader".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                    // Writing it anew sets its time, and brings it back if somebody thought that this reader had ended.
                    let renewed = match control.replace(Area::Readers, &name, &bytes, Survival::Volatile) {
                        Err(error) if error.kind() == ErrorKind::NoSpace => {
                            control.overwrite(Area::Readers, &name, &bytes)
                        }
                        renewed => renewed,
                    };
                    if let Err(error) = renewed {
                        tracing::warn!(%error, "the lease of a reader cannot be renewed now");
                    }
                }
            });
        // Without its thread the reader is dropped here, and its file removed by that.
        reader.renewer = Some(renewer.map_err(LeaseError::Thread)?);
        Ok(reader)
    }

    /// Who reads now. Errors: the directory cannot be listed or written, I/O.
    pub fn readers(&self) -> Result<Readers, RepositoryError> {
        let control = self.control();
        let names = control.list(Area::Readers)?;
        let mut readers = Readers::default();
        if names.is_empty() {
            return Ok(readers);
        }
        let now = file_system_now(control)?;
        let expire_after = self
            .parts()
            .lease_times
            .expire_after
            .saturating_mul(EXPIRY_FACTOR);
        for name in names {
            let Some(changed) = control.modified(Area::Readers, &name)? else {
                continue;
            };
            if now.saturating_sub(changed) > expire_after {
                readers.ended.push(name);
                continue;
            }
            match control.load::<ReaderRecord>(Area::Readers, &name) {
                Ok(Some(record)) if self.parts().host.knows_ended(&record.reader) => readers.ended.push(name),
                Ok(Some(record)) => {
                    readers.snapshots.extend(&record.snapshots);
                    readers.records.push((name, record));
                }
                Ok(None) => {}
                Err(error) => readers.unknown.push((name, error)),
            }
        }
        Ok(readers)
    }

    /// Removes the files of readers that have ended. Errors: the lease is lost, I/O.
    pub fn remove_ended_readers(&self, lease: &Lease, readers: &Readers) -> Result<(), RepositoryError> {
        for name in &readers.ended {
            lease.check()?;
            self.control().remove(Area::Readers, name)?;
        }
        Ok(())
    }
}

impl Reader {
    /// Why nobody sees this reader; nothing if everybody does.
    pub fn unguarded(&self) -> Option<&RepositoryError> {
        self.unguarded.as_ref()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(renewer) = self.renewer.take()
            && renewer.join().is_err()
        {
            tracing::error!("the thread that renewed the lease of a reader failed");
        }
        if let Some(name) = &self.name
            && let Err(error) = self.control.unlink(Area::Readers, name, Survival::Volatile)
        {
            tracing::warn!(%error, "the lease of a reader could not be given back");
        }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({:?})", self.name)
    }
}

/// What the file system says the time is: the time of a file that is made now.
pub(super) fn file_system_now(control: &ControlDirectory) -> Result<Duration, RepositoryError> {
    // A name as of a file that is being written: what a kill leaves goes with those.
    let name = format!(".now-{}.tmp", hexadecimal::text(&control.random::<8>()));
    control.replace(Area::Cache, &name, b"", Survival::Volatile)?;
    let now = control.modified(Area::Cache, &name)?;
    control.unlink(Area::Cache, &name, Survival::Volatile)?;
    Ok(now.unwrap_or_default())
}
