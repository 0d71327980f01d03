//! The status of a DittoServer: what its StatefulSet, pod, claim and Service say, and what follows for Ready.

use cairn_crds::conditions as types;
use cairn_crds::ditto_server::DittoPhase;
use kube::ResourceExt;

use super::{DATA_PROTECTED, Done, Draft, LOOK_SECONDS, VOLUMES_NOT_MOUNTED, holds};
use crate::children::ditto::{certificate, claim_name, config, mounted, services};
use crate::plan::Again;
use crate::runtime::cache;
use crate::runtime::conditions::Holds;

/// What is there, before anything is done.
pub(super) fn observe(draft: &mut Draft<'_>) {
    let observed = draft.observed;
    let status = observed.set.get().and_then(|set| set.status.as_ref());
    draft.status.replicas = Some(status.map(|status| status.replicas).unwrap_or(0));
    draft.status.ready_replicas = Some(status.and_then(|status| status.ready_replicas).unwrap_or(0));
    draft.status.available_replicas = Some(status.and_then(|status| status.available_replicas).unwrap_or(0));
    draft.status.nfs_endpoint = observed.service.get().and_then(services::endpoint);
    if let Some(info) = &observed.info {
        draft.status.version = Some(info.version.chars().take(64).collect());
    }
    claim(draft);
    match config::stores(&observed.server).0.is_empty() {
        true => draft.conditions.set(
            DATA_PROTECTED,
            false,
            "NoObjectStore",
            "everything is in the claim only: take snapshots of its volume, or push to a bucket with `cairn push`",
        ),
        false => draft.conditions.set(
            DATA_PROTECTED,
            Holds::Unknown,
            "NotTold",
            "the daemon does not tell how much of it was pushed: `cairn archive` in the pod does",
        ),
    }
}

fn claim(draft: &mut Draft<'_>) {
    let observed = draft.observed;
    let server = &observed.server;
    let name = claim_name(&server.name_any());
    let phase = observed
        .claim
        .get()
        .and_then(|claim| claim.status.as_ref()?.phase.clone());
    match (observed.class_is_missing, phase.as_deref()) {
        (_, Some("Bound")) => draft.conditions.set(
            types::CLAIM_BOUND,
            true,
            "Bound",
            format!("the claim {name} is bound"),
        ),
        (_, Some("Lost")) => draft.conditions.set(
            types::CLAIM_BOUND,
            false,
            "Lost",
            format!(
                "the volume of the claim {name} is gone: restore it, or remove the claim and begin empty"
            ),
        ),
        (true, _) => {
            let class = server.spec.storage.storage_class_name.clone().unwrap_or_default();
            draft.conditions.set(
                types::CLAIM_BOUND,
                false,
                "StorageClassMissing",
                format!(
                    "there is no storage class {class}, which the claim {name} waits for: make it, or remove claim and DittoServer and name another \
                     (kubectl get storageclass)"
                ),
            );
        }
        (false, Some(_)) => draft.conditions.set(
            types::CLAIM_BOUND,
            false,
            "Pending",
            format!("the claim {name} is not bound yet: kubectl describe pvc {name} tells why"),
        ),
        (false, None) => {
            draft.conditions.set(
                types::CLAIM_BOUND,
                false,
                "NotMade",
                format!("the claim {name} is not there yet"),
            );
        }
    }
}

/// Reasons of the kubelet for a container that cannot start until somebody changes something.
fn explain(pod: &str, reason: &str, message: &str, mounted: &[String]) -> Option<(bool, String)> {
    let advice = match reason {
        VOLUMES_NOT_MOUNTED => {
            return Some((
                true,
                format!(
                    "the pod {pod} waits for what is mounted into it: {} must be there; kubectl describe pod {pod} tells which is not. {message}",
                    mounted.join(", ")
                ),
            ));
        }
        "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull" => {
            "see whether spec.image is right and spec.imagePullSecrets fit"
        }
        "CrashLoopBackOff" => {
            return Some((
                false,
                format!(
                    "the daemon ends again and again: kubectl logs {pod} --previous tells why. {message}"
                ),
            ));
        }
        "CreateContainerConfigError" => {
            "see whether the Secrets that config.backends[].secretRefs name are there, with their keys"
        }
        "Unschedulable" => "see whether nodes fit nodeSelector, tolerations, resources and the claim",
        "CreateContainerError" | "RunContainerError" => "kubectl describe pod tells more",
        _ => return None,
    };
    Some((
        reason == "CreateContainerConfigError",
        format!("the pod {pod} cannot start ({reason}): {advice}. {message}"),
    ))
}

/// Available, Progressing, Degraded, Ready and the phase.
pub(super) fn summarize(draft: &mut Draft<'_>) {
    let observed = draft.observed;
    let server = observed.server.as_ref();
    if cache::is_terminating(server) {
        draft.status.message = draft
            .conditions
            .get(types::READY)
            .map(|ready| ready.message.clone());
        return;
    }
    let available = draft.status.available_replicas.unwrap_or(0) > 0;
    let settled = observed.set.get().is_some_and(|set| {
        let status = set.status.as_ref();
        let seen = status.and_then(|status| status.observed_generation) >= set.metadata.generation;
        let updated = status.and_then(|status| status.updated_replicas).unwrap_or(0);
        seen && updated >= server.spec.replicas
    });
    match available {
        true => draft
            .conditions
            .set(types::AVAILABLE, true, "Serving", "the server answers"),
        false if server.spec.replicas == 0 => {
            draft.conditions.set(
                types::AVAILABLE,
                false,
                "Stopped",
                "spec.replicas is 0: give 1 to start it",
            );
        }
        false => draft
            .conditions
            .set(types::AVAILABLE, false, "NoPod", "no pod is ready"),
    }
    let trouble = observed.pod.as_ref().and_then(|pod| {
        let (reason, message) = pod.trouble.as_ref()?;
        let (is_config, text) = explain(&pod.name, reason, message, &mounted(server, &observed.settings))?;
        Some((reason.clone(), is_config, text))
    });
    // What keeps the certificate from being there is the better answer.
    if let Some((reason, true, text)) = &trouble
        && observed.certificate.is_none()
    {
        let reason = match reason == "CreateContainerConfigError" && text.contains("not found") {
            true => "SecretMissing",
            false => reason.as_str(),
        };
        draft
            .conditions
            .set(types::CONFIG_READY, false, reason, text.clone());
    }
    // A failure of a share is that share's, and told there.
    let failure = observed
        .failure
        .clone()
        .filter(|(done, _)| !matches!(done, Done::Share(_) | Done::Grown));
    let unserved: Vec<String> = draft
        .status
        .shares
        .iter()
        .filter(|share| !share.ready)
        .map(|share| format!("{}: {}", share.name, share.message.clone().unwrap_or_default()))
        .collect();
    let unbound = draft
        .conditions
        .get(types::CLAIM_BOUND)
        .filter(|claim| matches!(claim.reason.as_str(), "Lost" | "StorageClassMissing"))
        .cloned();
    let misconfigured = draft
        .conditions
        .get(types::CONFIG_READY)
        .filter(|config| config.status == "False")
        .cloned();
    let degraded = match (&trouble, &unbound, &failure, &misconfigured) {
        (Some((reason, _, text)), ..) => Some((reason.clone(), text.clone())),
        (None, Some(claim), ..) => Some((claim.reason.clone(), claim.message.clone())),
        (None, None, Some((_, failure)), _) => Some((failure.reason.clone(), failure.message.clone())),
        (None, None, None, Some(config)) => Some((config.reason.clone(), config.message.clone())),
        (None, None, None, None) if available && !unserved.is_empty() => {
            Some(("SharesNotServed".to_owned(), unserved.join("; ")))
        }
        _ => None,
    };
    match &degraded {
        Some((reason, text)) => draft.conditions.set(types::DEGRADED, true, reason, text.clone()),
        None => draft
            .conditions
            .set(types::DEGRADED, false, "AsExpected", "nothing is amiss"),
    }
    let stopped = server.spec.replicas == 0 && draft.status.replicas == Some(0);
    let is_done = settled && (available || stopped);
    if !server.spec.paused {
        match (is_done, &degraded) {
            (_, Some((reason, _))) => {
                draft.conditions.set(
                    types::PROGRESSING,
                    false,
                    reason,
                    "waits for a remedy: see Degraded",
                );
            }
            (true, None) => draft
                .conditions
                .set(types::PROGRESSING, false, "Done", "it is as spec asks"),
            (false, None) => draft.conditions.set(
                types::PROGRESSING,
                true,
                "RollingOut",
                format!(
                    "waits for the pod; one that stays in ContainerCreating may wait for the Secret {}",
                    certificate(server, &observed.settings)
                ),
            ),
        }
    }
    if !is_done && !server.spec.paused && server.spec.replicas <= 1 {
        draft.again = draft.again.or(Again::Seconds(LOOK_SECONDS));
    }
    if let Some((_, failure)) = &failure {
        draft.again = draft.again.or(failure.again());
    }
    let (ready, reason, message) = match (&degraded, stopped, available && settled) {
        (Some((reason, text)), ..) => {
            let holds = failure
                .as_ref()
                .map(|(_, failure)| holds(failure))
                .unwrap_or(Holds::False);
            (holds, reason.clone(), text.clone())
        }
        (None, true, _) => (
            Holds::False,
            "Stopped".to_owned(),
            "spec.replicas is 0: give 1 to start it".to_owned(),
        ),
        (None, false, true) => match &draft.status.nfs_endpoint {
            Some(endpoint) => (Holds::True, "Ready".to_owned(), format!("served at {endpoint}")),
            None => (
                Holds::False,
                "NoAddress".to_owned(),
                "the Service has no address yet: a load balancer gives it".to_owned(),
            ),
        },
        (None, false, false) => (
            Holds::False,
            "Starting".to_owned(),
            "waits for the pod to be ready".to_owned(),
        ),
    };
    draft.status.phase = Some(match (&degraded, stopped, available) {
        (_, true, _) => DittoPhase::Stopped,
        (_, false, true) => DittoPhase::Running,
        (Some(_), false, false) => DittoPhase::Failed,
        (None, false, false) => DittoPhase::Pending,
    });
    draft.status.message = Some(message.clone());
    draft.conditions.set(types::READY, ready, &reason, message);
}
