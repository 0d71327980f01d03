//! What the daemon remembers of plain directories, as files in its data directory ([format](../../../docs/formats/directories.md)):
//! which are registered, which work was accepted and has not ended, and what schedules were carried out for last.
//!
//! Every file is a document with a checksum, in the form of those in repositories. It is replaced as a whole, and durable on return. One
//! that is damaged is told, set aside and passed over: it does not keep the others from being used.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cairn_snapshot::repository::document::{self, Document};
use cairn_snapshot::repository::{RepositoryId, text};
use cairn_types::{SnapshotId, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::DirectoriesError;
use super::requests::Job;
use crate::operations::OperationId;

/// Longest file, in bytes.
const RECORD_BYTES_MAX: u64 = 4 << 20;
/// Most files in a directory that are looked at.
const RECORDS_MAX: usize = 10_000;
/// Longest failure that is remembered, in bytes.
pub const FAILURE_BYTES_MAX: usize = 1024;

/// A kind of record: what it is, and the directory of its files.
pub trait Record: Document {
    /// The directory.
    const DIRECTORY: &'static str;
    /// The name of its file, without the ending.
    fn name(&self) -> String;
}

/// `registered/REPOSITORY.json`: a repository that the daemon looks after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The repository.
    #[serde(with = "text")]
    pub repository: RepositoryId,
    /// Its workspace, absolute, without symbolic links.
    #[serde(with = "text")]
    pub workspace: Vec<u8>,
    /// Its control directory, the same way.
    #[serde(with = "text")]
    pub control: Vec<u8>,
    /// Since when.
    #[serde(with = "text")]
    pub registered: Timestamp,
}

/// `jobs/OPERATION.json`: work that was accepted and has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRecord {
    /// The operation, 32 digits.
    pub operation: String,
    /// The repository.
    #[serde(with = "text")]
    pub repository: RepositoryId,
    /// When it was accepted.
    #[serde(with = "text")]
    pub accepted: Timestamp,
    /// What is to be done.
    pub job: Job,
}

/// `schedules/REPOSITORY.json`: what the schedules of a repository were carried out for last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleRecord {
    /// The repository.
    #[serde(with = "text")]
    pub repository: RepositoryId,
    /// By name.
    pub schedules: BTreeMap<String, ScheduleState>,
}

/// What is known of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleState {
    /// The next time is looked for after this: when it was carried out last, or seen first.
    #[serde(with = "text")]
    pub since: Timestamp,
    /// The time that it was carried out for last.
    #[serde(with = "text::option")]
    pub last_due: Option<Timestamp>,
    /// When that was begun.
    #[serde(with = "text::option")]
    pub last_started: Option<Timestamp>,
    /// The snapshot that it made last.
    #[serde(with = "text::option")]
    pub last_snapshot: Option<SnapshotId>,
    /// Saves that it has begun.
    pub runs: u64,
    /// Of these, failed.
    pub failures: u64,
    /// Times that passed without a save.
    pub missed: u64,
    /// Why the last one failed; empty if it did not.
    pub last_failure: String,
}

impl ScheduleState {
    /// One that is seen first now.
    pub fn begun(now: Timestamp) -> Self {
        ScheduleState {
            since: now,
            last_due: None,
            last_started: None,
            last_snapshot: None,
            runs: 0,
            failures: 0,
            missed: 0,
            last_failure: String::new(),
        }
    }
}

impl Document for Registration {
    const KIND: &'static str = "daemon-registration";

    fn check(&self) -> Result<(), String> {
        match self.workspace.starts_with(b"/") && self.control.starts_with(b"/") {
            true => Ok(()),
            false => Err("a path is not absolute".to_owned()),
        }
    }
}

impl Document for JobRecord {
    const KIND: &'static str = "daemon-job";

    fn check(&self) -> Result<(), String> {
        match OperationId::parse(&self.operation) {
            Some(_) => Ok(()),
            None => Err("operation is no identity".to_owned()),
        }
    }
}

impl Document for ScheduleRecord {
    const KIND: &'static str = "daemon-schedules";

    fn check(&self) -> Result<(), String> {
        let limit = cairn_snapshot::repository::config::ITEMS_MAX;
        match self.schedules.len() <= limit {
            true => Ok(()),
            false => Err(format!("more than {limit} schedules")),
        }
    }
}

impl Record for Registration {
    const DIRECTORY: &'static str = "registered";
    fn name(&self) -> String {
        self.repository.to_string()
    }
}

impl Record for JobRecord {
    const DIRECTORY: &'static str = "jobs";
    fn name(&self) -> String {
        self.operation.clone()
    }
}

impl Record for ScheduleRecord {
    const DIRECTORY: &'static str = "schedules";
    fn name(&self) -> String {
        self.repository.to_string()
    }
}

/// The files.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    /// Held while a file is written, so that no two write the same temporary file.
    writing: Mutex<()>,
}

impl Records {
    /// Those in the directory `path`, which is made with what belongs in it if it does not exist. Errors: I/O.
    pub fn open(path: &Path) -> Result<Self, DirectoriesError> {
        let records = Records {
            path: path.to_owned(),
            writing: Mutex::new(()),
        };
        let directories = [
            Registration::DIRECTORY,
            JobRecord::DIRECTORY,
            ScheduleRecord::DIRECTORY,
        ];
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        let made = [path.to_owned()]
            .into_iter()
            .chain(directories.map(|name| path.join(name)));
        for directory in made {
            match builder.create(&directory) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(failed(&directory, "made")(source)),
            }
        }
        for directory in [path, path.parent().unwrap_or(path)] {
            sync(directory).map_err(failed(directory, "synced"))?;
        }
        Ok(records)
    }

    fn file<R: Record>(&self, name: &str) -> PathBuf {
        self.path.join(R::DIRECTORY).join(format!("{name}.json"))
    }

    /// Writes a record, in place of the one that there is; durable on return. Errors: I/O; a value out of its bounds.
    pub fn store<R: Record>(&self, record: &R) -> Result<(), DirectoriesError> {
        let path = self.file::<R>(&record.name());
        let bytes = document::encode(record).map_err(|error| DirectoriesError::Invalid {
            what: error.to_string(),
        })?;
        let new = self.path.join(R::DIRECTORY).join(".new");
        let _guard = self.writing.lock();
        let written = || {
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            sync(&self.path.join(R::DIRECTORY))
        };
        written().map_err(failed(&path, "written"))
    }

    /// Removes a record, if there is one; durable on return. Errors: I/O.
    pub fn remove<R: Record>(&self, name: &str) -> Result<(), DirectoriesError> {
        let path = self.file::<R>(name);
        match fs::remove_file(&path) {
            Ok(()) => sync(&self.path.join(R::DIRECTORY)).map_err(failed(&path, "removed")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(&path, "removed")(error)),
        }
    }

    /// A record; nothing if there is none. Errors: I/O; damage.
    pub fn load<R: Record>(&self, name: &str) -> Result<Option<R>, DirectoriesError> {
        let path = self.file::<R>(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, "read")(error)),
        };
        let mut bytes = Vec::new();
        let read = file.take(RECORD_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(failed(&path, "read"))?;
        let record: R = document::decode(&bytes).map_err(|error| DirectoriesError::RecordDamaged {
            path: path.clone(),
            what: error.to_string(),
        })?;
        match record.name() == name {
            true => Ok(Some(record)),
            false => Err(DirectoriesError::RecordDamaged {
                path,
                what: format!("it is of {}", record.name()),
            }),
        }
    }

    /// All records of a kind. Damaged ones are told in the log, and left as they are. Errors: the directory cannot be listed.
    pub fn all<R: Record>(&self) -> Result<Vec<R>, DirectoriesError> {
        let directory = self.path.join(R::DIRECTORY);
        let mut records = Vec::new();
        let listed = fs::read_dir(&directory).map_err(failed(&directory, "listed"))?;
        for entry in listed.take(RECORDS_MAX) {
            let entry = entry.map_err(failed(&directory, "listed"))?;
            let name = entry.file_name();
            let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".json")) else {
                continue;
            };
            match self.load::<R>(name) {
                Ok(record) => records.extend(record),
                Err(error) => {
                    let error = crate::assembly::with_causes(&error);
                    tracing::error!(%error, "what was remembered of plain directories cannot be read, and is passed over: register the directory again");
                }
            }
        }
        Ok(records)
    }
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> DirectoriesError {
    let path = path.to_owned();
    move |source| DirectoriesError::Records { path, action, source }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests;
