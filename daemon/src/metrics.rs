//! Metrics for Prometheus, in the OpenMetrics text format.
//!
//! Nothing is counted here: at every scrape the numbers are read from whoever has them. The table of all metrics is in
//! docs/operations/configuration.md; a test compares it with the page.

use std::fmt;
use std::sync::Arc;

use cairn_types::Timestamp;
use cairn_vfs::control::Usage;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::directories::Counts;
use crate::node::{Condition, Node};
use crate::rpc::tcp::TcpMetrics;

mod directories;
mod nfs;
mod rpc_tcp;

/// The content type of the page.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What one page is made of.
struct Sample {
    started: Timestamp,
    conditions: Vec<Condition>,
    usage: Option<Usage>,
    /// The numbers of the NFS server, once there is one.
    nfs: Option<Arc<cairn_nfs::Metrics>>,
    rpc_tcp: Arc<TcpMetrics>,
    /// The numbers of plain directories, once they can be asked for.
    directories: Option<Counts>,
}

impl fmt::Debug for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sample")
            .field("conditions", &self.conditions)
            .finish_non_exhaustive()
    }
}

/// The page. May read from disk.
pub fn render(node: &Arc<Node>) -> Result<String, fmt::Error> {
    let (conditions, usage) = node.conditions();
    let nfs = node.stores().map(|stores| Arc::clone(stores.nfs_metrics()));
    page(Sample {
        started: node.started,
        conditions,
        usage,
        nfs,
        rpc_tcp: Arc::clone(&node.rpc_tcp),
        directories: node.directories().map(|directories| directories.counts()),
    })
}

fn page(sample: Sample) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("cairn");
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "Version of cairnd; the value is always 1", build);
    registry.register_collector(Box::new(sample));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Sample {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        gauge(
            &mut encoder,
            "start_time_seconds",
            "When cairnd started, in seconds since 1970",
            self.started.seconds(),
        )?;
        self.encode_conditions(&mut encoder)?;
        if let Some(usage) = &self.usage {
            encode_usage(&mut encoder, usage)?;
        }
        if let Some(metrics) = &self.nfs {
            nfs::encode(&mut encoder, metrics)?;
        }
        rpc_tcp::encode(&mut encoder, &self.rpc_tcp)?;
        match &self.directories {
            Some(counts) => directories::encode(&mut encoder, counts),
            None => Ok(()),
        }
    }
}

impl Sample {
    fn encode_conditions(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let ready = self.conditions.iter().all(|condition| condition.holds);
        gauge(
            encoder,
            "ready",
            "1 if every condition holds, else 0",
            i64::from(ready),
        )?;
        let gauge = ConstGauge::new(0i64);
        let help = "1 if the condition of this name holds, else 0; /readyz says more";
        let mut metric = encoder.encode_descriptor("condition", help, None, gauge.metric_type())?;
        for condition in &self.conditions {
            let labels = [("name", condition.name)];
            ConstGauge::new(i64::from(condition.holds)).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn encode_usage(encoder: &mut DescriptorEncoder<'_>, usage: &Usage) -> Result<(), fmt::Error> {
    let gauges = [
        ("workspaces", "Workspaces", usage.workspaces),
        ("snapshots", "Snapshots of all workspaces", usage.snapshots),
        (
            "metadata_bytes",
            "Bytes of the metadata store on disk",
            usage.metadata_bytes,
        ),
        (
            "log_bytes",
            "Bytes of the content log's segments on disk",
            usage.log_bytes,
        ),
        (
            "unstable_bytes",
            "Bytes of acknowledged unstable writes that no commit has asked for yet",
            usage.unstable_bytes,
        ),
        (
            "disk_free_bytes",
            "Bytes free on the data directory's file system",
            usage.disk_free_bytes,
        ),
        (
            "disk_reserve_bytes",
            "Below this many free bytes, changes that need room are refused",
            usage.disk_reserve_bytes,
        ),
        (
            "sweep_branches_left",
            "Branches that the sweep under way has still to look at",
            usage.swept.branches_left,
        ),
    ];
    gauges
        .into_iter()
        .try_for_each(|(name, help, value)| gauge(encoder, name, help, value.cast_signed()))?;
    let counters = [
        (
            "sweep_versions_scanned",
            "Versions of metadata that the sweep has looked at",
            usage.swept.versions_scanned,
        ),
        (
            "sweep_versions_removed",
            "Versions of metadata that the sweep has removed, since nobody could see them any more",
            usage.swept.versions_removed,
        ),
        (
            "sweep_metadata_bytes",
            "Bytes of the keys and values that the sweep has removed",
            usage.swept.metadata_bytes,
        ),
        (
            "sweep_segments",
            "Segments of the content log that the sweep has freed",
            usage.swept.segments,
        ),
        (
            "sweep_log_bytes",
            "Bytes of the segments that the sweep has freed",
            usage.swept.log_bytes,
        ),
    ];
    counters.into_iter().try_for_each(|(name, help, value)| {
        let counter = ConstCounter::new(value);
        counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
    })
}

/// Beyond 2^63 a value would turn negative; no count of bytes or files gets there.
fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

#[cfg(test)]
mod tests {
    use cairn_types::Timestamp;
    use cairn_vfs::control::Usage;

    use super::{Sample, page};
    use crate::directories::Counts;
    use crate::node::Condition;

    fn sample() -> Sample {
        let condition = |name, holds| Condition {
            name,
            holds,
            message: String::new(),
        };
        Sample {
            started: Timestamp::new(1_700_000_000, 5),
            conditions: vec![condition("serving", true), condition("disk_space", false)],
            usage: Some(Usage {
                workspaces: 2,
                log_bytes: 7,
                ..Usage::default()
            }),
            nfs: Some(std::sync::Arc::default()),
            rpc_tcp: std::sync::Arc::default(),
            directories: Some(Counts::default()),
        }
    }

    #[test]
    fn the_page_has_the_numbers() {
        let text = page(sample()).unwrap();
        for line in [
            "cairn_build_info{version=\"0.1.0\"} 1",
            "cairn_start_time_seconds 1700000000",
            "cairn_ready 0",
            "cairn_condition{name=\"serving\"} 1",
            "cairn_condition{name=\"disk_space\"} 0",
            "cairn_workspaces 2",
            "cairn_log_bytes 7",
            "# EOF",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is missing in:\n{text}"
            );
        }
    }

    /// `| name | type | meaning |` for every metric of the page.
    fn rows(text: &str) -> Vec<String> {
        let types: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .collect();
        let helps: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# HELP "))
            .collect();
        assert_eq!(types.len(), helps.len());
        let row = |(described, helped): (&&str, &&str)| {
            let (name, kind) = described.split_once(' ').unwrap();
            let (_, help) = helped.split_once(' ').unwrap();
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            format!("| `{name}{suffix}` | {kind} | {} |", help.trim_end_matches('.'))
        };
        types.iter().zip(&helps).map(row).collect()
    }

    #[test]
    fn the_documentation_has_the_table() {
        let page_rows = rows(&page(sample()).unwrap());
        let documented: Vec<&str> = include_str!("../../docs/operations/configuration.md")
            .lines()
            .filter(|line| line.starts_with("| `cairn_"))
            .collect();
        assert_eq!(
            documented,
            page_rows,
            "the table must be:\n{}",
            page_rows.join("\n")
        );
    }
}
