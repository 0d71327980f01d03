//! What conditions mean for whoever has to do something: which of them are wrong, and what to look at. Pure.
//!
//! The operator's messages have their remedies; here is only what it takes a look at other objects, or a command, to do.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Serialize;
use serde_json::Value;

use super::Kind;

/// Something to know about an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whose it is.
    pub about: String,
    /// Type of the condition, or what else it is about.
    pub condition: String,
    /// Its status.
    pub status: String,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
    /// Since when.
    pub since: Option<String>,
    /// What to do: commands, mostly.
    pub advice: Vec<String>,
    /// Whether something is wrong; otherwise it is only good to know.
    #[serde(skip)]
    pub is_wrong: bool,
}

/// Conditions that are wrong when they hold.
const NEGATIVE: [&str; 3] = ["Degraded", "DiskPressure", "VersionSkew"];

/// What there is to know about an object of a kind, by its own words.
pub fn of(kind: Kind, object: &Value) -> Vec<Finding> {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let name = text("/metadata/name");
    let about = format!("{} {name}", kind.name());
    let finding = |condition: &str, reason: &str, message: String, advice: Vec<String>| Finding {
        about: about.clone(),
        condition: condition.to_owned(),
        status: "Unknown".to_owned(),
        reason: reason.to_owned(),
        message,
        since: None,
        advice,
        is_wrong: true,
    };
    let mut findings = Vec::new();
    if let Some(since) = object
        .pointer("/metadata/deletionTimestamp")
        .and_then(Value::as_str)
    {
        findings.push(deleting(kind, object, &about, since));
    }
    let is_looked_after = vec![
        "kubectl get pods -A -l app.kubernetes.io/name=cairn,app.kubernetes.io/component=operator".to_owned(),
        "kubectl logs -n cairn-system deployment/cairn-operator".to_owned(),
    ];
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
    let observed = object
        .pointer("/status/observedGeneration")
        .and_then(Value::as_i64);
    match (generation, observed) {
        (_, None) => findings.push(finding(
            "Observed",
            "NotSeen",
            match kind {
                Kind::DittoServer => {
                    "no operator has looked at it yet: none runs, or it looks after no DittoServers (--ditto-image)".to_owned()
                }
                _ => "no operator has looked at it yet: does it run?".to_owned(),
            },
            is_looked_after,
        )),
        (Some(generation), Some(observed)) if observed < generation => findings.push(finding(
            "Observed",
            "Behind",
            format!("the operator has seen generation {observed}, and this is {generation}: does it run?"),
            is_looked_after,
        )),
        _ => {}
    }
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    for condition in conditions.into_iter().flatten() {
        if let Some(finding) = condition_finding(kind, object, condition, &about) {
            findings.push(finding);
        }
    }
    // Ready repeats what another one says.
    let said: Vec<(String, String)> = findings
        .iter()
        .filter(|finding| !matches!(finding.condition.as_str(), "Ready" | "Degraded"))
        .map(|finding| (finding.reason.clone(), finding.message.clone()))
        .collect();
    let is_repeated = |finding: &Finding| {
        matches!(finding.condition.as_str(), "Ready" | "Degraded")
            && said.contains(&(finding.reason.clone(), finding.message.clone()))
    };
    findings.retain(|finding| !is_repeated(finding));
    let ready: Vec<(String, String)> = findings
        .iter()
        .filter(|finding| finding.condition == "Ready")
        .map(|finding| (finding.reason.clone(), finding.message.clone()))
        .collect();
    findings.retain(|finding| {
        finding.condition != "Degraded" || !ready.contains(&(finding.reason.clone(), finding.message.clone()))
    });
    findings
}

fn condition_finding(kind: Kind, object: &Value, condition: &Value, about: &str) -> Option<Finding> {
    let text = |key: &str| condition[key].as_str().unwrap_or_default();
    let (type_, status, reason) = (text("type"), text("status"), text("reason"));
    let is_negative = NEGATIVE.contains(&type_);
    let is_well = match is_negative {
        true => status == "False",
        false => status == "True",
    };
    let is_wrong = match (type_, reason) {
        // That something is going on, or over, is not wrong.
        ("Progressing", _) => match status {
            "True" => false,
            _ => return None,
        },
        ("Verified", "NotVerified" | "Verifying" | "FeatureUnsupported")
        | ("Planned", "FeatureUnsupported")
        | ("DataProtected", _) => false,
        _ => true,
    };
    let is_news = !is_well || type_ == "Progressing";
    is_news.then(|| Finding {
        about: about.to_owned(),
        condition: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: text("message").to_owned(),
        since: condition["lastTransitionTime"].as_str().map(str::to_owned),
        advice: advice(kind, object, reason),
        is_wrong,
    })
}

fn deleting(kind: Kind, object: &Value, about: &str, since: &str) -> Finding {
    let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    let finalizers: Vec<&str> = finalizers
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    Finding {
        about: about.to_owned(),
        condition: "Deletion".to_owned(),
        status: "Unknown".to_owned(),
        reason: "Deleting".to_owned(),
        message: match finalizers.is_empty() {
            true => "it is being deleted".to_owned(),
            false => format!(
                "it is being deleted, and waits for {}: its node confirms first what becomes of the data",
                finalizers.join(", ")
            ),
        },
        since: Some(since.to_owned()),
        advice: abandon(kind, object),
        is_wrong: false,
    }
}

/// How to give up what lies on a node that never comes back.
fn abandon(kind: Kind, object: &Value) -> Vec<String> {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str);
    let word = match kind {
        Kind::Workspace => "workspace",
        Kind::Snapshot => "snapshots.jvs.io",
        Kind::Restore | Kind::StorageNode | Kind::DittoServer => return Vec::new(),
    };
    match (text("/metadata/name"), text("/status/nodeName")) {
        (Some(name), Some(node)) => vec![format!(
            "only if node {node} never comes back, and what is there may be lost: kubectl annotate {word} {name} jvs.io/abandon={node}"
        )],
        _ => Vec::new(),
    }
}

/// What to look at, by the reason of a condition.
fn advice(kind: Kind, object: &Value, reason: &str) -> Vec<String> {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let name = text("/metadata/name");
    let node = match kind {
        Kind::StorageNode => name,
        _ => text("/status/nodeName"),
    };
    let workspace = text("/spec/workspace");
    let is_deleted = object.pointer("/metadata/deletionTimestamp").is_some();
    let lines = |lines: &[String]| lines.to_vec();
    match reason {
        "NodeAway" | "DaemonAway" | "DaemonNotReady" => {
            let mut all = lines(&[
                format!("kubectl get storagenode {node} -o wide"),
                format!(
                    "kubectl get pods -A -l app.kubernetes.io/name=cairn,app.kubernetes.io/component=daemon -o wide --field-selector spec.nodeName={node}"
                ),
                format!("kubectl describe node {node}"),
            ]);
            if is_deleted {
                all.extend(abandon(kind, object));
            }
            all
        }
        "NoStorageNodes" | "NoNodeFits" | "NodeUnknown" => lines(&[
            "kubectl get storagenodes -o wide".to_owned(),
            "kubectl get nodes --show-labels".to_owned(),
        ]),
        "NoSpace" | "LittleFree" | "OverCapacity" => lines(&[
            "kubectl get storagenodes".to_owned(),
            "delete what is not needed: kubectl cairn list -A tells of whom there are most snapshots"
                .to_owned(),
        ]),
        "WorkspaceNotFound" => lines(&["kubectl cairn list".to_owned()]),
        "SnapshotNotFound" | "SnapshotForeign" | "SnapshotNotReady" | "InitialSnapshotNotFound" => {
            match workspace.is_empty() {
                true => lines(&["kubectl get snapshots.jvs.io".to_owned()]),
                false => lines(&[format!("kubectl cairn list {workspace}")]),
            }
        }
        "Damaged" => lines(&[format!(
            "kubectl cairn list {workspace}: another snapshot may be sound; kubectl cairn restore NAME --in-place goes back to it"
        )]),
        "Lost" | "Pending" | "Binding" | "ClaimElsewhere" | "NotMade" => {
            let claim = match kind {
                Kind::DittoServer => format!("data-{name}-0"),
                _ => text("/status/claimName").to_owned(),
            };
            match claim.is_empty() {
                true => Vec::new(),
                false => lines(&[format!("kubectl describe pvc {claim}")]),
            }
        }
        "StorageClassMissing" => lines(&["kubectl get storageclass".to_owned()]),
        "CrashLoopBackOff" => lines(&[
            format!("kubectl logs {name}-0 --previous"),
            format!("kubectl describe pod {name}-0"),
        ]),
        "ImagePullBackOff"
        | "ErrImagePull"
        | "InvalidImageName"
        | "CreateContainerConfigError"
        | "SecretMissing"
        | "VolumesNotMounted"
        | "Unschedulable"
        | "RollingOut"
        | "Starting" => match kind {
            Kind::DittoServer => lines(&[format!("kubectl describe pod {name}-0")]),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// What a DittoServer's pod says, beyond what the operator repeats.
pub fn of_pod(pod: &Pod) -> Vec<Finding> {
    let name = pod.name_any();
    let status = pod.status.clone().unwrap_or_default();
    let restarts: i32 = status
        .container_statuses
        .iter()
        .flatten()
        .map(|container| container.restart_count)
        .sum();
    if restarts == 0 {
        return Vec::new();
    }
    let last = status.container_statuses.iter().flatten().find_map(|container| {
        let ended = container.last_state.as_ref()?.terminated.as_ref()?;
        Some(format!(
            "; the last time with code {} ({})",
            ended.exit_code,
            ended.reason.clone().unwrap_or_default()
        ))
    });
    vec![Finding {
        about: format!("Pod {name}"),
        condition: "Restarts".to_owned(),
        status: restarts.to_string(),
        reason: "Restarted".to_owned(),
        message: format!(
            "its daemon has ended {restarts} times{}",
            last.unwrap_or_default()
        ),
        since: None,
        advice: vec![format!("kubectl logs {name} --previous")],
        is_wrong: false,
    }]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Finding, of};
    use crate::command::explain::Kind;

    fn workspace(generation: i64, conditions: Value) -> Value {
        json!({"metadata": {"name": "w", "generation": generation},
            "status": {"observedGeneration": 1, "nodeName": "n", "conditions": conditions}})
    }

    fn reasons(findings: &[Finding]) -> Vec<(&str, &str, bool)> {
        findings
            .iter()
            .map(|it| (it.condition.as_str(), it.reason.as_str(), it.is_wrong))
            .collect()
    }

    #[test]
    fn what_is_well_is_not_told() {
        let well = workspace(
            1,
            json!([{"type": "Ready", "status": "True", "reason": "Ready", "message": "m"},
                {"type": "Degraded", "status": "False", "reason": "AsExpected", "message": "m"},
                {"type": "Progressing", "status": "False", "reason": "Done", "message": "m"}]),
        );
        assert!(of(Kind::Workspace, &well).is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_once_with_what_to_look_at() {
        let away = workspace(
            2,
            json!([{"type": "Ready", "status": "Unknown", "reason": "NodeAway", "message": "m"},
                {"type": "NodeReachable", "status": "False", "reason": "NodeAway", "message": "m"},
                {"type": "Degraded", "status": "True", "reason": "NodeAway", "message": "m"}]),
        );
        let findings = of(Kind::Workspace, &away);
        assert_eq!(
            reasons(&findings),
            [("Observed", "Behind", true), ("NodeReachable", "NodeAway", true)]
        );
        assert!(findings[1].advice[0].ends_with("storagenode n -o wide"));
    }

    #[test]
    fn what_nobody_has_seen_and_what_is_being_deleted_is_told() {
        let new = json!({"metadata": {"name": "w", "generation": 1}});
        assert_eq!(
            reasons(&of(Kind::Workspace, &new)),
            [("Observed", "NotSeen", true)]
        );
        let mut going = workspace(1, json!([]));
        going["metadata"]["deletionTimestamp"] = json!("2026-11-22T00:00:00Z");
        going["metadata"]["finalizers"] = json!(["jvs.io/workspace-finalizer"]);
        let findings = of(Kind::Workspace, &going);
        assert_eq!(reasons(&findings), [("Deletion", "Deleting", false)]);
        assert!(findings[0].advice[0].contains("jvs.io/abandon=n"));
    }

    #[test]
    fn a_snapshot_that_was_not_read_back_is_not_wrong() {
        let unread = workspace(
            1,
            json!([{"type": "Verified", "status": "False", "reason": "NotVerified", "message": "m"}]),
        );
        assert_eq!(
            reasons(&of(Kind::Snapshot, &unread)),
            [("Verified", "NotVerified", false)]
        );
    }
}
