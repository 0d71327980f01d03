//! The PodDisruptionBudget of a DittoServer.
//!
//! It lets the one pod be evicted: a budget that forbids it would keep nodes from being drained for ever, and NFS clients wait while the pod moves. It says
//! that a pod which does not work is never in the way.

use cairn_crds::DittoServer;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::{child, match_labels};

/// The budget.
pub fn budget(server: &DittoServer) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: child(server, server.name_any()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(match_labels(&server.name_any())),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
