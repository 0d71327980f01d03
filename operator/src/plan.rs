//! Decisions: what is wanted and what there is goes in, the next step and the status come out. No I/O, no clock, no randomness: the same in, the same out.
//!
//! Each kind has a function that says *one* step at a time. Whoever executes it tells what came of it and asks again, until there is none. So every step is
//! decided from what is known to be done, and a process that dies between two steps begins again with the same function.

pub mod ditto_server;
pub mod placement;
pub mod restore;
pub mod retention;
pub mod schedule;
pub mod snapshot;
pub mod snapshot_worktree;
pub mod storage_node;
pub mod templates;
pub mod workspace;

use std::collections::BTreeSet;

use cairn_types::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::daemons::{CallError, Outcome};
use crate::runtime::error::ReconcileError;

/// How long what a daemon refused, or the world forbids, is left alone without a change.
pub const REFUSED_SECONDS: u64 = 300;
/// How often a running operation is asked how far it is.
pub const POLL_SECONDS: u64 = 2;

/// What the decisions of all kinds take from the operator's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanSettings {
    /// Networks that may mount workspaces whose `export` names none.
    pub export_clients: Vec<String>,
    /// The kubelet's directory on nodes (`--root-dir`), below which pods' volumes are mounted.
    pub kubelet_directory: String,
}

impl Default for PlanSettings {
    /// Private networks (RFC 1918, RFC 4193), `/var/lib/kubelet`.
    fn default() -> Self {
        let networks = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"];
        PlanSettings {
            export_clients: networks.map(str::to_owned).into(),
            kubelet_directory: "/var/lib/kubelet".to_owned(),
        }
    }
}

/// When to decide again, if nothing changes until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Not at all.
    OnChange,
    /// After so many seconds.
    Seconds(u64),
    /// With back-off: something failed that may heal by itself.
    BackOff,
}

impl Again {
    /// The earlier of two.
    #[must_use]
    pub fn or(self, other: Again) -> Again {
        match (self, other) {
            (Again::BackOff, _) | (_, Again::BackOff) => Again::BackOff,
            (Again::OnChange, again) | (again, Again::OnChange) => again,
            (Again::Seconds(a), Again::Seconds(b)) => Again::Seconds(a.min(b)),
        }
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<Status, Step> {
    /// The status as it is now to be.
    pub status: Status,
    /// What to do next; nothing: this is all for now.
    pub step: Option<Step>,
    /// The status must be written before the step.
    pub record_first: bool,
    /// When to decide again. Counts if there is no step.
    pub again: Again,
}

/// A step that did not work, as far as decisions need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// CamelCase, for the condition.
    pub reason: String,
    /// What happened and what to do.
    pub message: String,
    /// What it means.
    pub kind: FailureKind,
}

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The daemon cannot be reached.
    Away,
    /// It may work later.
    Again,
    /// It is refused until something changes.
    Refused,
}

impl Failure {
    /// What a failed call means.
    pub fn of_call(error: &CallError) -> Self {
        let kind = match error.outcome {
            Outcome::Away => FailureKind::Away,
            Outcome::Again | Outcome::OtherInstance | Outcome::Fenced => FailureKind::Again,
            Outcome::Refused => FailureKind::Refused,
        };
        Failure {
            reason: error.condition_reason(),
            message: error.explain(),
            kind,
        }
    }

    /// What a refusal of the API server means; nothing if it is no refusal but a failure, which is nobody's condition.
    pub fn of_api(error: &ReconcileError) -> Option<Self> {
        match error {
            ReconcileError::NameTaken { kind, name } => Some(Failure {
                reason: "NameTaken".to_owned(),
                message: format!(
                    "the {kind} {name} exists and is not the operator's: remove it, or give the resource another name"
                ),
                kind: FailureKind::Refused,
            }),
            error if error.is_refusal() => Some(Failure {
                reason: "Refused".to_owned(),
                message: format!("the API server refuses: {}", error.chain()),
                kind: FailureKind::Refused,
            }),
            _ => None,
        }
    }

    /// When to try again.
    pub fn again(&self) -> Again {
        match self.kind {
            FailureKind::Away => Again::Seconds(60),
            FailureKind::Again => Again::BackOff,
            FailureKind::Refused => Again::Seconds(REFUSED_SECONDS),
        }
    }
}

/// A node that has the data, as a decision sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Why its daemon does not answer; nothing: it does.
    pub away: Option<String>,
    /// The address by which NFS clients of the cluster reach it.
    pub service_ip: Option<String>,
    /// What its daemon can do.
    pub features: BTreeSet<String>,
}

/// Whether an object of a wanted name is there.
#[derive(Debug, Clone)]
pub enum Child<K> {
    /// No.
    Absent,
    /// Yes, and it is the resource's.
    Ours(std::sync::Arc<K>),
}

impl<K> Child<K> {
    /// The object, if it is there.
    pub fn get(&self) -> Option<&K> {
        match self {
            Child::Absent => None,
            Child::Ours(object) => Some(object),
        }
    }
}

/// The name that a Workspace has at its daemon: names of different namespaces do not meet.
pub fn daemon_name(namespace: &str, name: &str) -> String {
    format!("{namespace}.{name}")
}

/// The key under which a Snapshot's data is asked for.
pub fn snapshot_key(uid: &str) -> String {
    format!("snapshot/{uid}")
}

/// The key under which a Restore is asked for.
pub fn restore_key(uid: &str) -> String {
    format!("restore/{uid}")
}

/// A time of a daemon's answer.
pub fn proto_time(time: &cairn_api::ProtoTimestamp) -> Timestamp {
    Timestamp::new(time.seconds, u32::try_from(time.nanos).unwrap_or(0))
}

/// A number that a schema bounds to what a signed one holds.
pub fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The condition of a type, and whether it is True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    cairn_crds::conditions::find(conditions, type_).is_some_and(|condition| condition.status == "True")
}

/// A size for people, as Kubernetes writes it: `512Mi`, `9.3Gi`, `10Gi`.
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 5] = [("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
    for (unit, shift) in UNITS {
        let one = 1u64 << shift;
        if bytes >= one {
            let (whole, tenths) = (bytes >> shift, (bytes % one) / (one / 10).max(1));
            return match tenths.min(9) {
                0 => format!("{whole}{unit}"),
                tenths => format!("{whole}.{tenths}{unit}"),
            };
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::{Again, size};

    #[test]
    fn the_earlier_wins() {
        assert_eq!(Again::OnChange.or(Again::Seconds(5)), Again::Seconds(5));
        assert_eq!(Again::Seconds(9).or(Again::Seconds(5)), Again::Seconds(5));
        assert_eq!(Again::Seconds(9).or(Again::BackOff), Again::BackOff);
        assert_eq!(Again::OnChange.or(Again::OnChange), Again::OnChange);
    }

    #[test]
    fn sizes_are_written_as_kubernetes_does() {
        let shown: Vec<String> = [0, 1023, 1024, 10 << 30, (10 << 30) + (300 << 20), u64::MAX]
            .into_iter()
            .map(size)
            .collect();
        assert_eq!(shown, ["0", "1023", "1Ki", "10Gi", "10.2Gi", "16383.9Pi"]);
    }
}
