//! Reading the whole audit log, and telling where it is damaged. Memory is bounded by the longest line.

use std::io::{BufRead, BufReader, Read};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::super::control::ControlDirectory;
use super::super::error::RepositoryError;
use super::super::layout::Area;
use super::super::state::AuditAnchor;
use super::{AuditEvent, AuditRecord, LINE_BYTES_MAX, parse};
use crate::directory::Digest;

/// Most places of damage that are told; further ones are counted.
pub const DAMAGE_SHOWN_MAX: usize = 100;

const TORN: &str = "it is torn or too long";

/// What the audit log is like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Whole records.
    pub records: u64,
    /// Files that the log consists of.
    pub files: u64,
    /// The last whole record.
    pub last: Option<AuditAnchor>,
    /// Places of damage; at most [`DAMAGE_SHOWN_MAX`] are told.
    pub damage_count: u64,
    /// The first of them.
    pub damage: Vec<AuditDamage>,
}

impl AuditReport {
    /// Whether nothing is wrong but what an append has passed over and written down.
    pub fn is_sound(&self) -> bool {
        self.damage_count == self.damage.iter().filter(|damage| damage.is_known).count() as u64
    }
}

/// A place where the audit log is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditDamage {
    /// The file, below `audit/`.
    pub file: String,
    /// The line, from 1 on; 0: the file as a whole.
    pub line: u64,
    /// Offset of its first byte.
    pub offset: u64,
    /// What is wrong.
    pub what: &'static str,
    /// The last bytes of a file, without a line feed: of an append that was interrupted, most likely. The next one passes them over.
    pub is_torn: bool,
    /// A later record says that these bytes were passed over: the end of an append that was interrupted, most likely.
    pub is_known: bool,
}

/// Opens a file of the log for reading. Nothing if it is gone.
pub(super) fn open(control: &ControlDirectory, name: &str) -> Result<Option<std::fs::File>, RepositoryError> {
    let directory = control.area(Area::Audit)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(RepositoryError::io(
            "opening",
            &control.path_of(Area::Audit, name),
            error.into(),
        )),
    }
}

/// How far the chain was followed.
struct Chain<'a> {
    report: AuditReport,
    anchor: Option<AuditAnchor>,
    is_anchor_seen: bool,
    /// Everything since the last whole record.
    since: blake3::Hasher,
    /// Where the damage since the last whole record begins in the report.
    open_from: usize,
    file: &'a str,
}

/// Reads the files `parts`, oldest first.
pub(super) fn read(
    control: &ControlDirectory,
    parts: &[String],
    anchor: Option<AuditAnchor>,
    mut visit: impl FnMut(&AuditRecord),
) -> Result<AuditReport, RepositoryError> {
    let mut chain = Chain {
        report: AuditReport::default(),
        anchor,
        is_anchor_seen: false,
        since: blake3::Hasher::new(),
        open_from: 0,
        file: "log",
    };
    for name in parts {
        let Some(file) = open(control, name)? else {
            continue;
        };
        let failed = |error| RepositoryError::io("reading", &control.path_of(Area::Audit, name), error);
        chain.file = name;
        chain.report.files += 1;
        chain.begin();
        let mut reader = BufReader::new(file);
        let (mut line, mut offset) = (0, 0);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let limit = LINE_BYTES_MAX as u64 + 1;
            let length = reader
                .by_ref()
                .take(limit)
                .read_until(b'\n', &mut bytes)
                .map_err(failed)?;
            if length == 0 {
                break;
            }
            line += 1;
            chain.line(&bytes, line, offset, &mut visit);
            offset += length as u64;
        }
    }
    chain.file = "log";
    if chain.anchor.is_some() && !chain.is_anchor_seen {
        chain.damage(
            0,
            0,
            "its end is missing: a record that the state knows of is not in it",
        );
    }
    Ok(chain.report)
}

impl Chain<'_> {
    fn begin(&mut self) {
        self.since = blake3::Hasher::new();
        self.open_from = self.report.damage.len();
    }

    fn line(&mut self, bytes: &[u8], line: u64, offset: u64, visit: &mut impl FnMut(&AuditRecord)) {
        // A record that lacks nothing but its line feed gets it from the next append.
        let Some((record, hash)) = parse(bytes.strip_suffix(b"\n").unwrap_or(bytes)) else {
            self.since.update(bytes);
            let what = match bytes.ends_with(b"\n") {
                true => "it is no whole record",
                false => TORN,
            };
            self.damage(line, offset, what);
            return;
        };
        if record.event == AuditEvent::Repaired
            && record.details.get("hash").map(String::as_str) == Some(self.since.finalize().to_hex().as_str())
        {
            for damage in &mut self.report.damage[self.open_from..] {
                damage.is_known = true;
            }
        }
        self.begin();
        let expected = self.report.last.map_or(Digest([0; 32]), |last| last.hash);
        if record.previous != expected {
            self.damage(
                line,
                offset,
                "it does not follow the record before it: one is missing, or was replaced",
            );
        }
        let place = AuditAnchor {
            sequence: record.sequence,
            hash,
        };
        self.is_anchor_seen |= self.anchor == Some(place);
        self.report.last = Some(place);
        self.report.records += 1;
        // Damage of this very line is not passed over by a later record.
        self.open_from = self.report.damage.len();
        visit(&record);
    }

    fn damage(&mut self, line: u64, offset: u64, what: &'static str) {
        self.report.damage_count += 1;
        if self.report.damage.len() < DAMAGE_SHOWN_MAX {
            self.report.damage.push(AuditDamage {
                file: self.file.to_owned(),
                line,
                offset,
                what,
                is_torn: what == TORN,
                is_known: false,
            });
        }
    }
}
