//! What the server counts: plain atomic numbers that the daemon renders. Nothing here knows a metrics library.
//!
//! Every value only grows but those whose documentation says "now". Reading is not atomic over several values.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::nfs3::types::Procedure;

/// Upper bounds of the latency buckets: 2^n microseconds for n = 0 to 23 (8.4 s); the last bucket has no bound.
pub const LATENCY_BUCKETS: usize = 25;

/// A number that many threads change.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }
}

/// Calls of one procedure.
#[derive(Debug, Default)]
pub struct ProcedureMetrics {
    /// Calls whose answer was not success.
    pub failures: Counter,
    /// Sum of the times from decoded request to complete reply, in nanoseconds.
    pub latency_nanoseconds: Counter,
    latency: [Counter; LATENCY_BUCKETS],
}

impl ProcedureMetrics {
    /// Calls answered, replays of the duplicate request cache not counted.
    pub fn calls(&self) -> u64 {
        self.latency().iter().sum()
    }

    /// Calls by latency, not cumulative: `[n]` took at most 2^n microseconds and more than bucket n-1 allows.
    pub fn latency(&self) -> [u64; LATENCY_BUCKETS] {
        std::array::from_fn(|bucket| self.latency[bucket].get())
    }

    /// Counts `calls` of which each took `elapsed`.
    pub(crate) fn record_many(&self, calls: u32, failures: u32, elapsed: Duration) {
        if failures > 0 {
            self.failures.add(u64::from(failures));
        }
        self.latency_nanoseconds
            .add(u64::from(calls) * elapsed.as_nanos() as u64);
        self.latency[bucket(elapsed)].add(u64::from(calls));
    }

    pub(crate) fn record(&self, elapsed: Duration, failed: bool) {
        self.record_many(1, u32::from(failed), elapsed);
    }
}

fn bucket(elapsed: Duration) -> usize {
    let microseconds = elapsed.as_nanos().div_ceil(1000) as u64;
    let power = microseconds.max(1).next_power_of_two().trailing_zeros() as usize;
    power.min(LATENCY_BUCKETS - 1)
}

/// The counters of one server.
#[derive(Debug, Default)]
pub struct Metrics {
    procedures: [ProcedureMetrics; Procedure::COUNT],
    /// Calls of the MOUNT program.
    pub mount_calls: Counter,
    /// Calls of the port mapper programs.
    pub portmap_calls: Counter,
    /// Connections now.
    pub connections: Counter,
    /// Connections accepted.
    pub connections_accepted: Counter,
    /// Connections ended for a fault of the client or the stream, timeouts among them.
    pub connections_failed: Counter,
    /// Bytes received.
    pub bytes_received: Counter,
    /// Bytes sent.
    pub bytes_sent: Counter,
    /// Calls refused on the RPC level: unknown program, version, procedure or credential, undecodable arguments.
    pub refusals: Counter,
    /// Requests by clients that the export does not admit.
    pub not_admitted: Counter,
    /// Retransmitted requests answered from the duplicate request cache.
    pub replays: Counter,
    /// Retransmitted requests attached to the running execution.
    pub replays_attached: Counter,
    /// Handlers that panicked; each is a defect.
    pub panics: Counter,
    /// Times that a connection was not read because a bound was reached.
    pub stalls: Counter,
}

impl Metrics {
    /// The names of the procedures (RFC 1813 section 3.3) with their numbers.
    pub fn procedures(&self) -> impl Iterator<Item = (&'static str, &ProcedureMetrics)> {
        Procedure::ALL
            .iter()
            .map(|procedure| (procedure.name(), self.procedure(*procedure)))
    }

    pub(crate) fn procedure(&self, procedure: Procedure) -> &ProcedureMetrics {
        &self.procedures[procedure as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LATENCY_BUCKETS, Metrics, bucket};
    use crate::nfs3::types::Procedure;

    #[test]
    fn buckets_are_powers_of_two_microseconds() {
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::from_nanos(1000)), 0);
        assert_eq!(bucket(Duration::from_nanos(1001)), 1);
        assert_eq!(bucket(Duration::from_micros(1024)), 10);
        assert_eq!(bucket(Duration::from_micros(1025)), 11);
        assert_eq!(bucket(Duration::from_secs(3600)), LATENCY_BUCKETS - 1);
    }

    #[test]
    fn calls_are_counted_by_procedure() {
        let metrics = Metrics::default();
        metrics
            .procedure(Procedure::Commit)
            .record(Duration::from_micros(3), true);
        let commit = metrics
            .procedures()
            .find(|(name, _)| *name == "COMMIT")
            .unwrap()
            .1;
        assert_eq!(
            (commit.calls(), commit.failures.get(), commit.latency()[2]),
            (1, 1, 1)
        );
    }
}
