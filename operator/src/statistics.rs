//! Numbers of what is, read at every scrape: objects, queues, the lease, ages of snapshots.

use std::fmt;
use std::sync::Arc;

use cairn_crds::conditions::{READY, find};
use cairn_types::Clock;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::assembly::Queues;
use crate::reconcile::Caches;
use crate::runtime::api::Kind;
use crate::runtime::cache::Cache;
use crate::runtime::clock::timestamp;
use crate::runtime::lease::Leadership;

/// Most Workspaces whose snapshots' age is told one by one.
pub const WORKSPACES_TOLD_MAX: usize = 2000;

/// Where the numbers come from.
pub struct Statistics {
    /// Objects.
    pub caches: Arc<Caches>,
    /// Queues.
    pub queues: Arc<Queues>,
    /// The lease.
    pub leadership: Leadership,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statistics").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Objects {
    kind: &'static str,
    ready: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InQueue {
    kind: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfWorkspace {
    namespace: String,
    workspace: String,
}

impl Collector for Statistics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.objects(&mut encoder)?;
        self.queues(&mut encoder)?;
        let leader =
            encoder.encode_descriptor("leader", "1 if this process leads", None, MetricType::Gauge)?;
        ConstGauge::new(i64::from(self.leadership.is_held())).encode(leader)?;
        let generation = encoder.encode_descriptor(
            "lease_generation",
            "The generation of this process's leadership; 0 if it does not lead",
            None,
            MetricType::Gauge,
        )?;
        let number = i64::try_from(self.leadership.generation()).unwrap_or(i64::MAX);
        ConstGauge::new(number).encode(generation)?;
        self.ages(&mut encoder)
    }
}

impl Statistics {
    fn objects(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let caches = &self.caches;
        let kinds = [
            (
                "Workspace",
                count(&caches.workspaces, |it| Some(&it.status.as_ref()?.conditions)),
            ),
            (
                "Snapshot",
                count(&caches.snapshots, |it| Some(&it.status.as_ref()?.conditions)),
            ),
            (
                "Restore",
                count(&caches.restores, |it| Some(&it.status.as_ref()?.conditions)),
            ),
            (
                "StorageNode",
                count(&caches.nodes, |it| Some(&it.status.as_ref()?.conditions)),
            ),
            (
                "DittoServer",
                count(&caches.dittos, |it| Some(&it.status.as_ref()?.conditions)),
            ),
        ];
        let mut family = encoder.encode_descriptor(
            "objects",
            "Objects by kind and by what their condition Ready says",
            None,
            MetricType::Gauge,
        )?;
        for (kind, counts) in kinds {
            for (ready, count) in ["True", "False", "Unknown"].into_iter().zip(counts) {
                let labels = Objects { kind, ready };
                let metric = family.encode_family(&labels)?;
                ConstGauge::new(count).encode(metric)?;
            }
        }
        let invalid = [
            ("Workspace", caches.workspaces.invalid().len()),
            ("Snapshot", caches.snapshots.invalid().len()),
            ("Restore", caches.restores.invalid().len()),
            ("StorageNode", caches.nodes.invalid().len()),
            ("DittoServer", caches.dittos.invalid().len()),
        ];
        let mut family = encoder.encode_descriptor(
            "objects_invalid",
            "Objects that cannot be read as their kind and are left alone",
            None,
            MetricType::Gauge,
        )?;
        for (kind, count) in invalid {
            let labels = OfKind { kind };
            let metric = family.encode_family(&labels)?;
            ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX)).encode(metric)?;
        }
        Ok(())
    }

    fn queues(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut family = encoder.encode_descriptor(
            "queue_depth",
            "Keys in the queue of a kind: ready for a worker, with a worker, or waiting for their time",
            None,
            MetricType::Gauge,
        )?;
        for (kind, queue) in self.queues.all() {
            let depth = queue.depth();
            for (state, count) in [
                ("ready", depth.ready),
                ("running", depth.running),
                ("delayed", depth.delayed),
            ] {
                let labels = InQueue { kind, state };
                let metric = family.encode_family(&labels)?;
                ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX)).encode(metric)?;
            }
        }
        Ok(())
    }

    fn ages(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let now = self.clock.now().seconds();
        let mut workspaces = self.caches.workspaces.all();
        workspaces.sort_by_key(|workspace| (workspace.namespace(), workspace.name_any()));
        workspaces.truncate(WORKSPACES_TOLD_MAX);
        let of = |workspace: &cairn_crds::Workspace| OfWorkspace {
            namespace: workspace.namespace().unwrap_or_default(),
            workspace: workspace.name_any(),
        };
        let mut family = encoder.encode_descriptor(
            "snapshot_age_seconds",
            "Age of the newest snapshot of a Workspace that has one",
            None,
            MetricType::Gauge,
        )?;
        for workspace in &workspaces {
            let status = workspace.status.as_ref();
            let Some(last) = status.and_then(|status| status.last_snapshot_time.as_ref()) else {
                continue;
            };
            let labels = of(workspace);
            let metric = family.encode_family(&labels)?;
            ConstGauge::new(now - timestamp(last).seconds()).encode(metric)?;
        }
        let mut family = encoder.encode_descriptor(
            "schedule_lag_seconds",
            "How long the snapshot is overdue that the schedule of a Workspace asks for next; 0 if it is not",
            None,
            MetricType::Gauge,
        )?;
        for workspace in &workspaces {
            let status = workspace.status.as_ref();
            let Some(due) = status.and_then(|status| status.next_snapshot_time.as_ref()) else {
                continue;
            };
            let labels = of(workspace);
            let metric = family.encode_family(&labels)?;
            ConstGauge::new((now - timestamp(due).seconds()).max(0)).encode(metric)?;
        }
        Ok(())
    }
}

/// How many of a kind are ready, are not, and are not known to be.
fn count<K: Kind>(cache: &Cache<K>, conditions: impl Fn(&K) -> Option<&Vec<Condition>>) -> [i64; 3] {
    let mut counts = [0; 3];
    for object in cache.all() {
        let ready = conditions(&object).and_then(|conditions| find(conditions, READY));
        let place = match ready.map(|condition| condition.status.as_str()) {
            Some("True") => 0,
            Some("False") => 1,
            _ => 2,
        };
        counts[place] += 1;
    }
    counts
}
