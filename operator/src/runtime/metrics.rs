//! Metrics for Prometheus, in the OpenMetrics text format. The table of all metrics is in docs/operations/operator.md; a test compares it with the page.
//!
//! Numbers of what happened are counted here; numbers of what is (objects by condition, queue depths, ages) are read at every scrape from who has
//! them ([`Metrics::collect`]).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::error::ReconcileError;

/// The content type of the page.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconciled {
    kind: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileKind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiRequest {
    verb: &'static str,
    kind: String,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DaemonCall {
    call: &'static str,
    node: String,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfNode {
    node: String,
}

/// The operator's metrics. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Metrics {
    families: Arc<Families>,
}

struct Families {
    registry: parking_lot::Mutex<Registry>,
    reconciles: Family<Reconciled, Counter>,
    durations: Family<ReconcileKind, Histogram>,
    api_requests: Family<ApiRequest, Counter>,
    watch_failures: Family<OfKind, Counter>,
    calls: Family<DaemonCall, Counter>,
    call_durations: Family<OfNode, Histogram>,
    in_flight: Family<OfNode, Gauge>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn seconds() -> Histogram {
    // 1 ms to 65 s.
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("cairn_operator");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the operator; the value is always 1", build);
        let reconciles = Family::default();
        registry.register(
            "reconciles",
            "Reconciliations by kind and result",
            reconciles.clone(),
        );
        let durations = Family::new_with_constructor(seconds as fn() -> Histogram);
        registry.register(
            "reconcile_duration_seconds",
            "How long reconciliations take",
            durations.clone(),
        );
        let api_requests = Family::default();
        registry.register(
            "api_requests",
            "Requests to the API server by verb, kind and code; watches are not counted",
            api_requests.clone(),
        );
        let watch_failures = Family::default();
        registry.register(
            "watch_failures",
            "Watches that failed and were begun again",
            watch_failures.clone(),
        );
        let calls = Family::default();
        registry.register(
            "daemon_calls",
            "Calls to daemons by method, node and code",
            calls.clone(),
        );
        let call_durations = Family::new_with_constructor(seconds as fn() -> Histogram);
        registry.register(
            "daemon_call_duration_seconds",
            "How long calls to daemons take",
            call_durations.clone(),
        );
        let in_flight = Family::default();
        registry.register(
            "daemon_calls_in_flight",
            "Calls to daemons that run now",
            in_flight.clone(),
        );
        Metrics {
            families: Arc::new(Families {
                registry: parking_lot::Mutex::new(registry),
                reconciles,
                durations,
                api_requests,
                watch_failures,
                calls,
                call_durations,
                in_flight,
            }),
        }
    }
}

impl Metrics {
    /// Asks `collector` for numbers at every scrape.
    pub fn collect(&self, collector: impl Collector) {
        self.families
            .registry
            .lock()
            .register_collector(Box::new(collector));
    }

    /// The page. Errors: a collector fails.
    pub fn page(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.families.registry.lock())?;
        Ok(text)
    }

    pub(crate) fn reconciled(&self, kind: &'static str, took: Duration, error: Option<&ReconcileError>) {
        let result = error.map(ReconcileError::reason).unwrap_or("done");
        self.families
            .reconciles
            .get_or_create(&Reconciled { kind, result })
            .inc();
        self.families
            .durations
            .get_or_create(&ReconcileKind { kind })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn api_request(&self, verb: &'static str, kind: &str, failed: Option<u16>) {
        let code = match failed {
            None => "ok".to_owned(),
            Some(0) => "unreachable".to_owned(),
            Some(code) => code.to_string(),
        };
        let request = ApiRequest {
            verb,
            kind: kind.to_owned(),
            code,
        };
        self.families.api_requests.get_or_create(&request).inc();
    }

    pub(crate) fn watch_failed(&self, kind: &str) {
        let kind = kind.to_owned();
        self.families.watch_failures.get_or_create(&OfKind { kind }).inc();
    }

    pub(crate) fn call_began(&self, node: &str) {
        let node = node.to_owned();
        self.families.in_flight.get_or_create(&OfNode { node }).inc();
    }

    pub(crate) fn call_ended(&self, call: &'static str, node: &str, code: &str, took: Duration) {
        let of = OfNode {
            node: node.to_owned(),
        };
        self.families.in_flight.get_or_create(&of).dec();
        self.families
            .call_durations
            .get_or_create(&of)
            .observe(took.as_secs_f64());
        let call = DaemonCall {
            call,
            node: node.to_owned(),
            code: code.to_owned(),
        };
        self.families.calls.get_or_create(&call).inc();
    }
}
