//! The objects that `--json` prints. Stable: fields are added, never renamed or removed, and never change their meaning.
//! Sizes are bytes; times are RFC 3339, UTC. Every command's `--help` shows an example; the tests pin them.

use cairn_api::{ApiError, convert, proto};
use serde::Serialize;

use crate::text;

mod archives;
pub mod directory;

pub use archives::{Archive, ArchiveSizes, Operation, StoreSizes, action, finding, kind, state};

/// A workspace.
#[derive(Debug, Serialize)]
pub struct Workspace {
    name: String,
    volume: u64,
    created: String,
    policy: Policy,
    forked_from: Option<String>,
    snapshots: u64,
    inodes: u64,
    bytes: u64,
    limits: Limits,
}

/// What a workspace may hold; null: any amount.
#[derive(Debug, Default, Serialize)]
pub struct Limits {
    bytes: Option<u64>,
    inodes: Option<u64>,
}

/// Who may mount a workspace, and as whom.
#[derive(Debug, Serialize)]
pub struct Policy {
    squash: &'static str,
    anonymous_uid: u32,
    anonymous_gid: u32,
    allow: Vec<String>,
    read_only: bool,
    privileged_port: bool,
}

/// A snapshot.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    /// 32 hexadecimal digits.
    pub id: String,
    origin: &'static str,
    created: String,
    note: String,
    tags: Vec<String>,
    inodes: u64,
    bytes: u64,
    parent: Option<String>,
    pins: Vec<Pin>,
}

/// Somebody's word that a snapshot is to be kept.
#[derive(Debug, Serialize)]
pub struct Pin {
    number: u64,
    created: String,
    /// null: until somebody removes it.
    expires: Option<String>,
    reason: String,
}

/// One entry that differs.
#[derive(Debug, Serialize)]
pub struct Difference {
    kind: &'static str,
    /// As text; bytes that are no UTF-8 are replaced.
    path: String,
    /// The bytes of such a path, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    directory: bool,
    bytes_before: Option<u64>,
    bytes_after: Option<u64>,
}

/// How much differs.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct DiffSummary {
    /// Entries only in the second state.
    pub added: u64,
    /// Entries only in the first.
    pub removed: u64,
    /// Entries with other data.
    pub modified: u64,
    /// Entries of another type.
    pub retyped: u64,
    /// Entries with other attributes only.
    pub attributes: u64,
    /// Bytes of the regular files that differ, in the first state.
    pub bytes_before: u64,
    /// The same in the second state.
    pub bytes_after: u64,
}

/// The parts of a mount command.
#[derive(Debug, Serialize)]
pub struct MountCommand {
    /// The whole command.
    pub command: String,
    file_system: String,
    server: String,
    port: u32,
    export: String,
    options: Vec<String>,
    mount_point: String,
}

/// How the daemon is.
#[derive(Debug, Serialize)]
pub struct Status {
    version: String,
    process_id: u32,
    started: String,
    uptime_seconds: u64,
    data_directory: String,
    ready: bool,
    listeners: Vec<Listener>,
    usage: Option<Usage>,
    conditions: Vec<Condition>,
}

/// Where the daemon listens.
#[derive(Debug, Serialize)]
pub struct Listener {
    service: String,
    address: String,
}

/// What the node holds.
#[derive(Debug, Serialize)]
pub struct Usage {
    workspaces: u64,
    snapshots: u64,
    metadata_bytes: u64,
    log_bytes: u64,
    unstable_bytes: u64,
    disk_free_bytes: u64,
    disk_reserve_bytes: u64,
    swept: Swept,
}

/// What the sweep has freed since the daemon was started.
#[derive(Debug, Default, Serialize)]
pub struct Swept {
    branches_left: u64,
    versions_scanned: u64,
    versions_removed: u64,
    metadata_bytes: u64,
    segments: u64,
    log_bytes: u64,
}

/// What must hold for the daemon to be ready.
#[derive(Debug, Serialize)]
pub struct Condition {
    name: String,
    holds: bool,
    message: String,
}

/// A time of an answer. Fails if it is missing or beyond the year 9999.
fn time(message: Option<&cairn_api::ProtoTimestamp>) -> Result<String, ApiError> {
    let time = convert::timestamp(message)?;
    text::utc_time(time).ok_or_else(|| ApiError::missing_field("a time before the year 10000"))
}

/// The bytes of a path that is no UTF-8, in hexadecimal.
fn path_hex(path: &[u8]) -> Option<String> {
    let hexadecimal = || path.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    std::str::from_utf8(path).is_err().then(hexadecimal)
}

/// The word for an origin.
pub fn origin(snapshot: &proto::Snapshot) -> &'static str {
    match snapshot.origin() {
        proto::SnapshotOrigin::Requested => "requested",
        proto::SnapshotOrigin::Safety => "safety",
        proto::SnapshotOrigin::Unspecified => "unknown",
    }
}

/// The word for a squash mode.
pub fn squash(policy: &proto::ExportPolicy) -> &'static str {
    match policy.squash() {
        proto::Squash::None => "none",
        proto::Squash::Root => "root",
        proto::Squash::All => "all",
        proto::Squash::Unspecified => "unknown",
    }
}

impl TryFrom<proto::Workspace> for Workspace {
    type Error = ApiError;

    fn try_from(workspace: proto::Workspace) -> Result<Self, ApiError> {
        let policy = workspace
            .policy
            .ok_or_else(|| ApiError::missing_field("the export policy"))?;
        Ok(Workspace {
            created: time(workspace.created.as_ref())?,
            name: workspace.name,
            volume: workspace.volume,
            policy: Policy {
                squash: squash(&policy),
                anonymous_uid: policy.anonymous_uid,
                anonymous_gid: policy.anonymous_gid,
                allow: policy.allow,
                read_only: policy.read_only,
                privileged_port: policy.privileged_port,
            },
            forked_from: workspace.forked_from,
            snapshots: workspace.snapshots,
            inodes: workspace.inodes,
            bytes: workspace.bytes,
            limits: workspace.limits.map_or(Limits::default(), |limits| Limits {
                bytes: limits.bytes,
                inodes: limits.inodes,
            }),
        })
    }
}

impl TryFrom<proto::Snapshot> for Snapshot {
    type Error = ApiError;

    fn try_from(snapshot: proto::Snapshot) -> Result<Self, ApiError> {
        Ok(Snapshot {
            origin: origin(&snapshot),
            created: time(snapshot.created.as_ref())?,
            id: snapshot.id,
            note: snapshot.note,
            tags: snapshot.tags,
            inodes: snapshot.inodes,
            bytes: snapshot.bytes,
            parent: snapshot.parent,
            pins: snapshot.pins.into_iter().map(pin).collect::<Result<_, _>>()?,
        })
    }
}

fn pin(pin: proto::Pin) -> Result<Pin, ApiError> {
    Ok(Pin {
        number: pin.number,
        created: time(pin.created.as_ref())?,
        expires: pin
            .expires
            .as_ref()
            .map(|expires| time(Some(expires)))
            .transpose()?,
        reason: pin.reason,
    })
}

impl From<proto::Difference> for Difference {
    fn from(difference: proto::Difference) -> Self {
        let kind = match difference.kind() {
            proto::DifferenceKind::Added => "added",
            proto::DifferenceKind::Removed => "removed",
            proto::DifferenceKind::Modified => "modified",
            proto::DifferenceKind::Retyped => "retyped",
            proto::DifferenceKind::Attributes => "attributes",
            proto::DifferenceKind::Unspecified => "unknown",
        };
        Difference {
            kind,
            path_hex: path_hex(&difference.path),
            path: String::from_utf8_lossy(&difference.path).into_owned(),
            directory: difference.directory,
            bytes_before: difference.bytes_before,
            bytes_after: difference.bytes_after,
        }
    }
}

impl Difference {
    /// The same of a plain directory: the path is written as everywhere in its objects.
    pub fn of_directory(difference: proto::Difference) -> Self {
        Difference {
            path: cairn_snapshot::repository::text::escape(&difference.path),
            path_hex: None,
            ..Difference::from(difference)
        }
    }
}

impl DiffSummary {
    /// Counts one more.
    pub fn count(&mut self, difference: &proto::Difference) {
        match difference.kind() {
            proto::DifferenceKind::Added => self.added += 1,
            proto::DifferenceKind::Removed => self.removed += 1,
            proto::DifferenceKind::Modified => self.modified += 1,
            proto::DifferenceKind::Retyped => self.retyped += 1,
            proto::DifferenceKind::Attributes => self.attributes += 1,
            proto::DifferenceKind::Unspecified => {}
        }
        self.bytes_before = self
            .bytes_before
            .saturating_add(difference.bytes_before.unwrap_or(0));
        self.bytes_after = self
            .bytes_after
            .saturating_add(difference.bytes_after.unwrap_or(0));
    }

    /// Entries that differ.
    pub fn total(&self) -> u64 {
        self.added + self.removed + self.modified + self.retyped + self.attributes
    }
}

impl MountCommand {
    /// The command that mounts what `info` describes on `mount_point`.
    pub fn new(info: proto::MountInfoResponse, mount_point: String) -> Self {
        let command = format!(
            "mount -t {} -o {} {}:{} {}",
            info.file_system,
            info.options.join(","),
            info.server,
            info.export,
            shell_word(&mount_point)
        );
        MountCommand {
            command,
            file_system: info.file_system,
            server: info.server,
            port: info.port,
            export: info.export,
            options: info.options,
            mount_point,
        }
    }
}

/// A word that a POSIX shell reads as this very text.
pub fn shell_word(word: &str) -> String {
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ',' | ':' | '@');
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

impl TryFrom<proto::StatusResponse> for Status {
    type Error = ApiError;

    fn try_from(status: proto::StatusResponse) -> Result<Self, ApiError> {
        let conditions: Vec<Condition> = status
            .conditions
            .into_iter()
            .map(|condition| Condition {
                name: condition.name,
                holds: condition.holds,
                message: condition.message,
            })
            .collect();
        Ok(Status {
            started: time(status.started.as_ref())?,
            version: status.version,
            process_id: status.process_id,
            uptime_seconds: status.uptime_seconds,
            data_directory: String::from_utf8_lossy(&status.data_directory).into_owned(),
            ready: conditions.iter().all(|condition| condition.holds),
            listeners: status
                .listeners
                .into_iter()
                .map(|listener| Listener {
                    service: listener.service,
                    address: listener.address,
                })
                .collect(),
            usage: status.usage.map(|usage| Usage {
                workspaces: usage.workspaces,
                snapshots: usage.snapshots,
                metadata_bytes: usage.metadata_bytes,
                log_bytes: usage.log_bytes,
                unstable_bytes: usage.unstable_bytes,
                disk_free_bytes: usage.disk_free_bytes,
                disk_reserve_bytes: usage.disk_reserve_bytes,
                swept: usage.swept.map_or(Swept::default(), |swept| Swept {
                    branches_left: swept.branches_left,
                    versions_scanned: swept.versions_scanned,
                    versions_removed: swept.versions_removed,
                    metadata_bytes: swept.metadata_bytes,
                    segments: swept.segments,
                    log_bytes: swept.log_bytes,
                }),
            }),
            conditions,
        })
    }
}

#[cfg(test)]
mod tests;
