//! The numbers of the NFS server.

use std::fmt;

use cairn_nfs::{LATENCY_BUCKETS, Metrics, ProcedureMetrics};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::gauge;

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> Result<(), fmt::Error> {
    encode_calls(encoder, metrics)?;
    encode_latencies(encoder, metrics)?;
    gauge(
        encoder,
        "nfs_connections",
        "NFS connections now",
        metrics.connections.get().cast_signed(),
    )?;
    let counters = [
        (
            "nfs_connections_accepted",
            "NFS connections accepted",
            metrics.connections_accepted.get(),
        ),
        (
            "nfs_connections_failed",
            "NFS connections that a fault of the client or the stream ended, or a timeout",
            metrics.connections_failed.get(),
        ),
        (
            "nfs_received_bytes",
            "Bytes received from NFS clients",
            metrics.bytes_received.get(),
        ),
        (
            "nfs_sent_bytes",
            "Bytes sent to NFS clients",
            metrics.bytes_sent.get(),
        ),
        (
            "nfs_mount_calls",
            "Calls of the MOUNT program",
            metrics.mount_calls.get(),
        ),
        (
            "nfs_portmap_calls",
            "Calls of the port mapper programs",
            metrics.portmap_calls.get(),
        ),
        (
            "nfs_refusals",
            "Calls refused before they reached a file system: unknown program, procedure or credential, undecodable",
            metrics.refusals.get(),
        ),
        (
            "nfs_not_admitted",
            "Requests by clients that the export does not admit",
            metrics.not_admitted.get(),
        ),
        (
            "nfs_reply_cache_hits",
            "Retransmitted requests answered from the duplicate request cache",
            metrics.replays.get(),
        ),
        (
            "nfs_reply_cache_attached",
            "Retransmitted requests attached to the execution under way",
            metrics.replays_attached.get(),
        ),
        (
            "nfs_stalls",
            "Times that a connection was not read because a bound was reached",
            metrics.stalls.get(),
        ),
        (
            "nfs_panics",
            "Handlers that panicked; each is a defect",
            metrics.panics.get(),
        ),
    ];
    counters.into_iter().try_for_each(|(name, help, value)| {
        let counter = ConstCounter::new(value);
        counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
    })
}

fn calls(procedure: &ProcedureMetrics) -> u64 {
    procedure.latency().iter().sum()
}

fn encode_calls(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> Result<(), fmt::Error> {
    let help = "NFS calls answered, by procedure and by whether the answer was success, without replays";
    let mut family = encoder.encode_descriptor("nfs_calls", help, None, MetricType::Counter)?;
    for (name, procedure) in metrics.procedures() {
        let failures = procedure.failures.get();
        // The two are read one after the other: a call that fails in between must not wrap around.
        let successes = calls(procedure).saturating_sub(failures);
        for (status, value) in [("ok", successes), ("error", failures)] {
            let labels = [("procedure", name), ("status", status)];
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn encode_latencies(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> Result<(), fmt::Error> {
    let help = "Time from the decoded NFS request to the complete reply, in seconds, by procedure";
    let mut family = encoder.encode_descriptor("nfs_call_seconds", help, None, MetricType::Histogram)?;
    for (name, procedure) in metrics.procedures() {
        let latency = procedure.latency();
        let buckets: [(f64, u64); LATENCY_BUCKETS] = std::array::from_fn(|bucket| {
            let bound = match bucket {
                last if last == LATENCY_BUCKETS - 1 => f64::MAX,
                power => (1u64 << power) as f64 / 1e6,
            };
            (bound, latency[bucket])
        });
        let sum = procedure.latency_nanoseconds.get() as f64 / 1e9;
        let labels = [("procedure", name)];
        let mut metric = family.encode_family(&labels)?;
        metric.encode_histogram::<[(&str, &str); 0]>(sum, latency.iter().sum(), &buckets, None)?;
    }
    Ok(())
}
