//! What a StorageNode's status says of a daemon.

use cairn_api::proto;
use cairn_crds::conditions as types;
use cairn_crds::storage_node::{NodeCapacity, StorageNodeStatus};
use cairn_types::Timestamp;

use super::{signed, size};
use crate::daemons::{Address, CallError};
use crate::runtime::clock::{time, timestamp};
use crate::runtime::conditions::Conditions;

/// The version of the contract that this operator speaks.
pub const API_VERSION: &str = "cairn.v1";
/// How old a heartbeat in the status may become before it is written again, in seconds: every write wakes whoever watches.
pub const HEARTBEAT_SECONDS: i64 = 300;
/// Below this share of the total, free space is told as pressure: one in so many.
const PRESSURE_SHARE: u64 = 20;
/// Free space is written again when it differs by more than this share of the total: one in so many.
const FREE_SHARE: u64 = 50;

/// What is known of a node.
#[derive(Debug, Clone)]
pub struct Observed<'a> {
    /// The name of the node.
    pub node: &'a str,
    /// The status that it has.
    pub old: Option<&'a StorageNodeStatus>,
    /// The generation of its specification.
    pub generation: i64,
    /// Where its daemon answers.
    pub address: Option<&'a Address>,
    /// What it said; or why it said nothing.
    pub answer: Result<&'a proto::GetInfoResponse, &'a CallError>,
    /// The time.
    pub now: Timestamp,
}

/// The status. Numbers that only drift are kept until they have drifted far enough.
pub fn status(observed: &Observed<'_>) -> StorageNodeStatus {
    let mut status = observed.old.cloned().unwrap_or_default();
    let mut conditions = Conditions::new(&status.conditions, observed.generation, observed.now);
    status.observed_generation = Some(observed.generation);
    status.node_name = Some(observed.node.to_owned());
    status.address = observed
        .address
        .map(|address| std::net::SocketAddr::new(address.ip, address.port).to_string());
    match observed.answer {
        Err(error) => {
            let reason = match error.reason.as_str() {
                "NODE_AWAY" | "BREAKER_OPEN" => "DaemonAway".to_owned(),
                _ => error.condition_reason(),
            };
            conditions.set(types::READY, false, &reason, error.explain());
        }
        Ok(info) => answered(&mut status, &mut conditions, info, observed.now),
    }
    status.conditions = conditions.finish();
    status
}

fn answered(
    status: &mut StorageNodeStatus,
    conditions: &mut Conditions,
    info: &proto::GetInfoResponse,
    now: Timestamp,
) {
    let minute = Timestamp::new(now.seconds().div_euclid(60) * 60, 0);
    let is_old = status
        .last_heartbeat
        .as_ref()
        .is_none_or(|last| now.seconds() - timestamp(last).seconds() >= HEARTBEAT_SECONDS);
    let is_new_process = status.instance_uuid.as_deref() != Some(&info.instance);
    if is_old || is_new_process {
        status.last_heartbeat = Some(time(minute));
    }
    let known_free = status
        .capacity
        .as_ref()
        .and_then(|capacity| cairn_crds::validation::quantity_bytes(&capacity.free));
    let has_drifted =
        known_free.is_none_or(|known| known.abs_diff(info.free_bytes) > info.capacity_bytes / FREE_SHARE);
    if is_old || is_new_process || has_drifted {
        status.capacity = Some(NodeCapacity {
            total: size(info.capacity_bytes),
            free: size(info.free_bytes),
            inodes_free: (info.inodes > 0).then(|| signed(info.inodes_free)),
        });
    }
    status.instance_uuid = Some(info.instance.clone());
    status.node_id = Some(info.identity.clone());
    status.version = Some(info.version.clone());
    status.api_versions = info.api_versions.iter().take(16).cloned().collect();
    status.features = info.features.iter().take(64).cloned().collect();
    status.engines = info.engines.iter().take(16).cloned().collect();
    status.workspaces = Some(i32::try_from(info.workspaces).unwrap_or(i32::MAX));

    let speaks = info.api_versions.iter().any(|version| version == API_VERSION);
    match speaks {
        true => conditions.set(
            types::VERSION_SKEW,
            false,
            "Compatible",
            format!("the daemon speaks {API_VERSION}"),
        ),
        false => conditions.set(
            types::VERSION_SKEW,
            true,
            "Incompatible",
            format!(
                "the daemon (version {}) speaks {}, this operator speaks {API_VERSION}: bring both to the same version",
                info.version,
                info.api_versions.join(", ")
            ),
        ),
    }
    let is_low = info.free_bytes < info.capacity_bytes / PRESSURE_SHARE;
    match is_low {
        true => conditions.set(
            types::DISK_PRESSURE,
            true,
            "LittleFree",
            format!(
                "{} of {} are free: delete snapshots or workspaces, or give the node more room",
                size(info.free_bytes),
                size(info.capacity_bytes)
            ),
        ),
        false => conditions.set(types::DISK_PRESSURE, false, "Enough", "there is room"),
    }
    let missing: Vec<String> = info
        .conditions
        .iter()
        .filter(|condition| !condition.holds)
        .map(|condition| format!("{}: {}", condition.name, condition.message))
        .collect();
    match (speaks, info.draining, missing.is_empty()) {
        (false, _, _) => conditions.set(types::READY, false, "VersionSkew", "see VersionSkew"),
        (true, true, _) => conditions.set(
            types::READY,
            false,
            "Draining",
            "the daemon is drained, or being drained: it takes nothing new",
        ),
        (true, false, false) => conditions.set(
            types::READY,
            false,
            "DaemonNotReady",
            format!("the daemon says: {}", missing.join("; ")),
        ),
        (true, false, true) => conditions.set(types::READY, true, "Ready", "the daemon answers"),
    }
}

#[cfg(test)]
mod tests {
    use cairn_api::proto;
    use cairn_types::Timestamp;

    use super::{Observed, status};
    use crate::daemons::CallError;
    use crate::plan::is_true;

    fn info() -> proto::GetInfoResponse {
        proto::GetInfoResponse {
            node: "a".to_owned(),
            instance: "i1".to_owned(),
            version: "0.1.0".to_owned(),
            api_versions: vec!["cairn.v1".to_owned()],
            capacity_bytes: 100 << 30,
            free_bytes: 50 << 30,
            ..proto::GetInfoResponse::default()
        }
    }

    fn observe<'a>(
        old: Option<&'a super::StorageNodeStatus>,
        answer: Result<&'a proto::GetInfoResponse, &'a CallError>,
        seconds: i64,
    ) -> super::StorageNodeStatus {
        status(&Observed {
            node: "a",
            old,
            generation: 1,
            address: None,
            answer,
            now: Timestamp::new(1_795_219_200 + seconds, 0),
        })
    }

    #[test]
    fn a_node_that_only_drifts_is_not_written() {
        let mut info = info();
        let first = observe(None, Ok(&info), 0);
        assert!(is_true(&first.conditions, "Ready"));
        info.free_bytes -= 1 << 30;
        assert_eq!(observe(Some(&first), Ok(&info), 200), first);
        info.free_bytes -= 9 << 30;
        let second = observe(Some(&first), Ok(&info), 200);
        assert_eq!(second.capacity.as_ref().unwrap().free, "40Gi");
        assert_ne!(
            observe(Some(&first), Ok(&info), 301).last_heartbeat,
            first.last_heartbeat
        );
    }

    #[test]
    fn what_is_amiss_is_told() {
        let mut info = info();
        info.free_bytes = 1 << 30;
        assert!(is_true(&observe(None, Ok(&info), 0).conditions, "DiskPressure"));
        info.api_versions = vec!["cairn.v2".to_owned()];
        let skewed = observe(None, Ok(&info), 0);
        assert!(is_true(&skewed.conditions, "VersionSkew") && !is_true(&skewed.conditions, "Ready"));
        let away = CallError::away("a", "GetInfo", "connection refused");
        let status = observe(Some(&skewed), Err(&away), 9);
        let ready = &status.conditions[0];
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_str()),
            ("False", "DaemonAway")
        );
        assert!(ready.message.contains("kubectl get node a"));
        assert_eq!(status.version.as_deref(), Some("0.1.0"));
    }
}
