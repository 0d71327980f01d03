//! The ServiceMonitor of a DittoServer. The kind is the Prometheus operator's, which a cluster may not have.

use std::borrow::Cow;

use cairn_crds::DittoServer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{child, selector};

/// Group and version of the kind.
pub const API: &str = "monitoring.coreos.com/v1";

/// As much of the kind as is needed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceMonitor {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What is read, and how.
    pub spec: Value,
}

impl Resource for ServiceMonitor {
    type DynamicType = ();
    type Scope = kube::core::NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        "ServiceMonitor".into()
    }

    fn group(_: &()) -> Cow<'_, str> {
        "monitoring.coreos.com".into()
    }

    fn version(_: &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural(_: &()) -> Cow<'_, str> {
        "servicemonitors".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Whether one is asked for.
pub fn is_wanted(server: &DittoServer) -> bool {
    let metrics = server.spec.metrics.as_ref().filter(|metrics| metrics.enabled);
    metrics
        .and_then(|metrics| metrics.service_monitor.as_ref())
        .is_some_and(|monitor| monitor.enabled)
}

/// The ServiceMonitor; nothing if it is not wanted. It selects the Service of metrics, the only one with a port of that name.
pub fn monitor(server: &DittoServer) -> Option<ServiceMonitor> {
    let options = server.spec.metrics.as_ref()?.service_monitor.as_ref()?;
    if !is_wanted(server) {
        return None;
    }
    let mut metadata = child(server, server.name_any());
    let labels = metadata.labels.get_or_insert_default();
    for (name, value) in &options.labels {
        labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    let mut endpoint = json!({"port": "metrics", "path": "/metrics"});
    if let Some(interval) = &options.interval {
        endpoint["interval"] = json!(interval);
    }
    Some(ServiceMonitor {
        metadata,
        spec: json!({
            "selector": {"matchLabels": selector(&server.name_any())},
            "endpoints": [endpoint],
        }),
    })
}
