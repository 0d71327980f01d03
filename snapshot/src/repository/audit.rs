//! The audit log: who did what, as lines that are chained by their hashes. It tells; it decides nothing, and no damage of it stops
//! anything.
//!
//! ```text
//! {"hash":"64 hexadecimal digits","record":{...}}LF
//! ```
//!
//! `hash` is the BLAKE3 hash of the record as it stands in the line; the record says the hash of the one before it. An append reads the
//! end of the log only. What it finds there that is no whole record (a torn tail, a flipped bit) stays as it is, is closed by a line feed,
//! and is followed by a record of the event `repaired` with the hash of the bytes that were passed over. At [`ROTATE_BYTES`] the log is
//! renamed to `log-SEQUENCE` (of its last record) and goes on in a new file; the chain goes over all of them.

mod scan;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use cairn_types::{SnapshotId, Timestamp};
use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::control::ControlDirectory;
use super::error::RepositoryError;
use super::layout::Area;
use super::lease::Lease;
use super::state::AuditAnchor;
use super::{Repository, text};
use crate::directory::Digest;

pub use scan::{AuditDamage, AuditReport};

/// Bytes of the log at which an append begins a new file.
pub const ROTATE_BYTES: u64 = 16 << 20;
/// Longest line, in bytes. Entries are cut so that they fit.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// Most details of an entry; further ones are left out.
pub const DETAILS_MAX: usize = 32;
/// Longest detail, in bytes; longer ones are cut, and end with `...` then.
pub const DETAIL_BYTES_MAX: usize = 4096;
/// Most bytes of the end of a damaged log that an append looks through for the last whole record.
const SEARCH_BYTES_MAX: u64 = 2 * ROTATE_BYTES;
/// Bytes of the end of the log that an append reads first.
const TAIL_BYTES: u64 = 16 << 10;

const LOG: &str = "log";
const CLOSED_PREFIX: &str = "log-";

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditEvent {
    /// The repository was made.
    Init,
    /// A snapshot was published.
    Save,
    /// The workspace, or a part of it, was made equal to a snapshot.
    Restore,
    /// A snapshot became a workspace of its own.
    Fork,
    /// A snapshot was removed.
    Remove,
    /// Tags or note of a snapshot were changed.
    Label,
    /// A pin was set.
    Pin,
    /// A pin was removed.
    Unpin,
    /// Data that no snapshot needs was removed.
    Collect,
    /// A snapshot was verified.
    Verify,
    /// Snapshots were taken over from a repository of the Go tools.
    Import,
    /// An operation that had been interrupted was finished or undone.
    Recover,
    /// Something was put right by the doctor.
    Doctor,
    /// The configuration was changed.
    Configure,
    /// Bytes of the log that are no record were passed over. Written by the log itself.
    Repaired,
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// What was done.
    pub event: AuditEvent,
    /// With which snapshot.
    pub snapshot: Option<SnapshotId>,
    /// More, for people: at most [`DETAILS_MAX`], each of at most [`DETAIL_BYTES_MAX`] bytes.
    pub details: BTreeMap<String, String>,
}

/// A record of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// Its number, from 1 on. Lines that were damaged have numbers too.
    pub sequence: u64,
    /// The hash of the last whole record before it; zeros: there is none.
    #[serde(with = "text")]
    pub previous: Digest,
    /// When, by the wall clock.
    #[serde(with = "text")]
    pub time: Timestamp,
    /// The token of the lease under which it was written.
    pub fence: u64,
    /// On whose behalf.
    pub actor: String,
    /// By which process on which machine.
    pub host: String,
    /// What was done.
    pub event: AuditEvent,
    /// With which snapshot.
    #[serde(with = "text::option")]
    pub snapshot: Option<SnapshotId>,
    /// More.
    pub details: BTreeMap<String, String>,
}

/// What the end of the log tells an append.
struct End {
    /// The last whole record; nothing if there is none.
    last: Option<AuditAnchor>,
    /// Bytes after it.
    passed_over: Vec<u8>,
    /// Lines that these are.
    lines: u64,
    /// The last whole record lacks its line feed: all else of it was written.
    lacks_feed: bool,
}

impl Repository {
    /// Appends to the audit log, durably, and gives the new record's place in the chain. Reads the end of the log only. Errors: the lease is lost, I/O.
    /// A damaged log is no error.
    pub fn audit(&self, lease: &Lease, entry: AuditEntry) -> Result<AuditAnchor, RepositoryError> {
        lease.check()?;
        let control = self.control();
        let path = control.path_of(Area::Audit, LOG);
        let failed = |error: std::io::Error| RepositoryError::io("appending to", &path, error);
        let mut file = open_log(control).map_err(|error| failed(error.into()))?;
        let mut length = file.metadata().map_err(failed)?.len();
        let mut end = match length {
            0 => End {
                last: last_of_closed(control)?,
                passed_over: Vec::new(),
                lines: 0,
                lacks_feed: false,
            },
            _ => end_of(&file, length).map_err(failed)?,
        };
        if end.last.is_none() && length > 0 {
            // Nothing in this file is a record: the chain goes on from the file before.
            end.last = last_of_closed(control)?;
        }
        if length >= ROTATE_BYTES && end.passed_over.is_empty() && !end.lacks_feed {
            close_log(control, end.last.map_or(0, |last| last.sequence))?;
            file = open_log(control).map_err(|error| failed(error.into()))?;
            length = 0;
        }
        let mut bytes = Vec::new();
        if end.lacks_feed && length > 0 {
            bytes.push(b'\n');
        }
        let mut last = end.last;
        if !end.passed_over.is_empty() {
            if !end.passed_over.ends_with(b"\n") {
                bytes.push(b'\n');
                end.passed_over.push(b'\n');
            }
            let hash = blake3::hash(&end.passed_over);
            let details = [
                ("bytes".to_owned(), end.passed_over.len().to_string()),
                ("lines".to_owned(), end.lines.to_string()),
                ("hash".to_owned(), hash.to_hex().to_string()),
            ];
            let repaired = AuditEntry {
                event: AuditEvent::Repaired,
                snapshot: None,
                details: details.into(),
            };
            let sequence = last.map_or(0, |last| last.sequence).saturating_add(end.lines);
            last = Some(self.line(lease, repaired, sequence, last, &mut bytes)?);
        }
        let sequence = last.map_or(0, |last| last.sequence);
        let written = self.line(lease, entry, sequence, last, &mut bytes)?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_data())
            .map_err(failed)?;
        if length == 0 {
            control.sync(Area::Audit)?;
        }
        Ok(written)
    }

    /// Adds a line to `bytes`, with the number after `sequence`, and gives its place in the chain.
    fn line(
        &self,
        lease: &Lease,
        entry: AuditEntry,
        sequence: u64,
        last: Option<AuditAnchor>,
        bytes: &mut Vec<u8>,
    ) -> Result<AuditAnchor, RepositoryError> {
        let details = entry.details.into_iter().take(DETAILS_MAX);
        let record = AuditRecord {
            sequence: sequence.saturating_add(1),
            previous: last.map_or(Digest([0; 32]), |last| last.hash),
            time: self.parts().clock.now(),
            fence: lease.token(),
            actor: cut(self.parts().actor.clone()),
            host: cut(self.parts().host.to_string()),
            event: entry.event,
            snapshot: entry.snapshot,
            details: details.map(|(key, value)| (cut(key), cut(value))).collect(),
        };
        let wrong = |error: serde_json::Error| super::document::EncodeError::Value {
            kind: "audit record",
            what: error.to_string(),
        };
        let record_bytes = serde_json::to_vec(&record).map_err(wrong)?;
        let hash = blake3::hash(&record_bytes);
        bytes.extend_from_slice(format!("{{\"hash\":\"{}\",\"record\":", hash.to_hex()).as_bytes());
        bytes.extend_from_slice(&record_bytes);
        bytes.extend_from_slice(b"}\n");
        Ok(AuditAnchor {
            sequence: record.sequence,
            hash: Digest(*hash.as_bytes()),
        })
    }

    /// The last whole record of the log; nothing if there is none. Reads the end of the log only. Errors: I/O.
    pub(super) fn last_audited(&self) -> Result<Option<AuditAnchor>, RepositoryError> {
        let control = self.control();
        let failed = |error| RepositoryError::io("reading", &control.path_of(Area::Audit, LOG), error);
        if let Some(file) = scan::open(control, LOG)? {
            let length = file.metadata().map_err(failed)?.len();
            if length > 0
                && let Some(last) = end_of(&file, length).map_err(failed)?.last
            {
                return Ok(Some(last));
            }
        }
        last_of_closed(control)
    }

    /// Reads the whole log, oldest first, shows every whole record to `visit`, and tells what is damaged. `anchor` is what the
    /// [state](super::State) knows of the log's end. Needs no lease. Errors: I/O; damage is part of the report.
    pub fn read_audit(
        &self,
        anchor: Option<AuditAnchor>,
        visit: impl FnMut(&AuditRecord),
    ) -> Result<AuditReport, RepositoryError> {
        scan::read(self.control(), &parts_of(self.control())?, anchor, visit)
    }
}

/// A text of at most [`DETAIL_BYTES_MAX`] bytes.
fn cut(mut text: String) -> String {
    if text.len() > DETAIL_BYTES_MAX {
        text.truncate(text.floor_char_boundary(DETAIL_BYTES_MAX - 3));
        text.push_str("...");
    }
    text
}

/// The whole record of a line, which is given without its line feed, with its hash. Nothing if it is damaged.
fn parse(line: &[u8]) -> Option<(AuditRecord, Digest)> {
    let rest = line.strip_prefix(b"{\"hash\":\"")?;
    let (hash, rest) = rest.split_at_checked(64)?;
    let record = rest.strip_prefix(b"\",\"record\":")?.strip_suffix(b"}")?;
    let expected = cairn_types::hexadecimal::parse::<32>(std::str::from_utf8(hash).ok()?)?;
    if *blake3::hash(record).as_bytes() != expected {
        return None;
    }
    Some((serde_json::from_slice(record).ok()?, Digest(expected)))
}

fn open_log(control: &ControlDirectory) -> Result<std::fs::File, Errno> {
    let directory = rustix::fs::openat(
        control.as_fd(),
        Area::Audit.name(),
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file: OwnedFd = rustix::fs::openat(&directory, LOG, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(file.into())
}

/// Looks at the end of a file of `length` bytes: first at a little of it, and only if that is not whole at much of it.
fn end_of(file: &std::fs::File, length: u64) -> std::io::Result<End> {
    for window in [TAIL_BYTES, LINE_BYTES_MAX as u64 * 2, SEARCH_BYTES_MAX] {
        let window = window.min(length);
        let mut bytes = vec![0; usize::try_from(window).map_err(std::io::Error::other)?];
        file.read_exact_at(&mut bytes, length - window)?;
        let is_whole_file = window == length;
        if let Some(end) = end_of_bytes(&bytes, is_whole_file) {
            return Ok(end);
        }
        if is_whole_file || window == SEARCH_BYTES_MAX {
            let lines = line_count(&bytes);
            return Ok(End {
                last: None,
                passed_over: bytes,
                lines,
                lacks_feed: false,
            });
        }
    }
    Err(std::io::Error::other("the log has no end"))
}

/// The last whole record of `bytes`, which begin in the middle of a line unless they are the whole file. Nothing if there is none.
fn end_of_bytes(bytes: &[u8], is_whole_file: bool) -> Option<End> {
    let mut end = bytes.len();
    let last_start = bytes.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
    if let Some(start) = last_start.or(is_whole_file.then_some(0))
        && let Some((record, hash)) = parse(&bytes[start..])
    {
        return Some(End {
            last: Some(AuditAnchor {
                sequence: record.sequence,
                hash,
            }),
            passed_over: Vec::new(),
            lines: 0,
            lacks_feed: true,
        });
    }
    while let Some(feed) = bytes[..end].iter().rposition(|byte| *byte == b'\n') {
        let start = bytes[..feed]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map(|at| at + 1);
        let start = start.or(is_whole_file.then_some(0))?;
        if let Some((record, hash)) = parse(&bytes[start..feed]) {
            let passed_over = bytes[feed + 1..].to_vec();
            return Some(End {
                last: Some(AuditAnchor {
                    sequence: record.sequence,
                    hash,
                }),
                lines: line_count(&passed_over),
                passed_over,
                lacks_feed: false,
            });
        }
        end = start;
    }
    None
}

/// Lines, an unfinished last one too.
fn line_count(bytes: &[u8]) -> u64 {
    let feeds = bytes.iter().filter(|byte| **byte == b'\n').count();
    (feeds + usize::from(!bytes.is_empty() && !bytes.ends_with(b"\n"))) as u64
}

/// The files of the log, oldest first.
fn parts_of(control: &ControlDirectory) -> Result<Vec<String>, RepositoryError> {
    let names = control.list(Area::Audit)?;
    let mut parts: Vec<String> = names
        .iter()
        .filter(|name| name.starts_with(CLOSED_PREFIX))
        .cloned()
        .collect();
    parts.extend(names.into_iter().filter(|name| name == LOG));
    Ok(parts)
}

/// The last whole record of the newest closed file that has one.
fn last_of_closed(control: &ControlDirectory) -> Result<Option<AuditAnchor>, RepositoryError> {
    let parts = parts_of(control)?;
    for name in parts.iter().rev().filter(|name| *name != LOG) {
        let failed = |error| RepositoryError::io("reading", &control.path_of(Area::Audit, name), error);
        let Some(file) = scan::open(control, name)? else {
            continue;
        };
        let length = file.metadata().map_err(failed)?.len();
        if length > 0
            && let Some(last) = end_of(&file, length).map_err(failed)?.last
        {
            return Ok(Some(last));
        }
    }
    Ok(None)
}

/// Renames the log, durably. A file of that name stays: then the log goes on growing.
fn close_log(control: &ControlDirectory, sequence: u64) -> Result<(), RepositoryError> {
    let directory = control.area(Area::Audit)?;
    let name = format!("{CLOSED_PREFIX}{sequence:020}");
    match rustix::fs::renameat_with(&directory, LOG, &directory, &name, RenameFlags::NOREPLACE) {
        Ok(()) => control.sync(Area::Audit),
        Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS) => Ok(()),
        Err(error) => Err(RepositoryError::io(
            "renaming",
            &control.path_of(Area::Audit, LOG),
            error.into(),
        )),
    }
}
