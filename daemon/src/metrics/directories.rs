//! The numbers of plain directories. Labels are paths of registered directories and names of their schedules, both bounded.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::gauge;
use crate::directories::{Condition, Counts, DirectoryCounts, ScheduleView};

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, counts: &Counts) -> Result<(), fmt::Error> {
    let gauges = [
        (
            "directories",
            "Plain directories that are looked after",
            counts.directories.len(),
        ),
        (
            "directory_operations_waiting",
            "Operations on plain directories that wait for their turn",
            counts.waiting,
        ),
        (
            "directory_operations_running",
            "Operations on plain directories that run",
            counts.running,
        ),
    ];
    for (name, help, value) in gauges {
        gauge(encoder, name, help, i64::try_from(value).unwrap_or(i64::MAX))?;
    }
    let help = "Operations on plain directories that have ended, by kind and by the reason of their failure, empty if there was none";
    let mut family =
        encoder.encode_descriptor("directory_operations_ended", help, None, MetricType::Counter)?;
    for ((kind, reason), count) in &counts.ended {
        let labels = [("kind", *kind), ("reason", *reason)];
        ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
    }
    let help = "Bytes that the verification in the background has read";
    let counter = ConstCounter::new(counts.verified_bytes);
    counter.encode(encoder.encode_descriptor(
        "directory_verified_bytes",
        help,
        None,
        MetricType::Counter,
    )?)?;
    let help = "1 if the directory and its repository could be used when they were looked at last, else 0";
    let mut family = encoder.encode_descriptor("directory_usable", help, None, MetricType::Gauge)?;
    for of in &counts.directories {
        let labels = [("directory", path(of))];
        let usable = i64::from(of.directory.condition() == Condition::Ready);
        ConstGauge::new(usable).encode(family.encode_family(&labels)?)?;
    }
    let help = "Snapshots of plain directories, by how much of them is to be believed";
    let mut family = encoder.encode_descriptor("directory_snapshots", help, None, MetricType::Gauge)?;
    for of in &counts.directories {
        let Some(health) = &of.health else {
            continue;
        };
        for (state, value) in [
            ("unverified", health.unverified),
            ("verified", health.verified),
            ("damaged", health.damaged.len() as u64),
        ] {
            let labels = [("directory", path(of)), ("state", state.to_owned())];
            ConstGauge::new(value.cast_signed()).encode(family.encode_family(&labels)?)?;
        }
    }
    encode_schedules(encoder, counts)
}

fn path(counts: &DirectoryCounts) -> String {
    counts.directory.workspace.to_string_lossy().into_owned()
}

/// The numbers of schedules: name, help, and the value; nothing if there is none yet.
type ScheduleGauge = (&'static str, &'static str, fn(&ScheduleView) -> Option<i64>);
type ScheduleCounter = (&'static str, &'static str, fn(&ScheduleView) -> u64);

const GAUGES: [ScheduleGauge; 2] = [
    (
        "directory_schedule_last_run_seconds",
        "When the schedule was carried out last, in seconds since 1970",
        |view| view.state.last_started.map(|time| time.seconds()),
    ),
    (
        "directory_schedule_lag_seconds",
        "By how many seconds the schedule was carried out later than it was due, the last time",
        |view| {
            let (due, started) = view.state.last_due.zip(view.state.last_started)?;
            Some(started.seconds().saturating_sub(due.seconds()))
        },
    ),
];

const COUNTERS: [ScheduleCounter; 3] = [
    (
        "directory_schedule_runs",
        "Saves that the schedule has begun",
        |view| view.state.runs,
    ),
    (
        "directory_schedule_failures",
        "Saves of the schedule that failed",
        |view| view.state.failures,
    ),
    (
        "directory_schedule_missed",
        "Times of the schedule that passed without a save",
        |view| view.state.missed,
    ),
];

fn encode_schedules(encoder: &mut DescriptorEncoder<'_>, counts: &Counts) -> Result<(), fmt::Error> {
    let labels = |of: &DirectoryCounts, view: &ScheduleView| {
        [("directory", path(of)), ("schedule", view.name.clone())]
    };
    for (name, help, value) in GAUGES {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for of in &counts.directories {
            for view in &of.schedules {
                if let Some(value) = value(view) {
                    ConstGauge::new(value).encode(family.encode_family(&labels(of, view))?)?;
                }
            }
        }
    }
    for (name, help, value) in COUNTERS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for of in &counts.directories {
            for view in &of.schedules {
                ConstCounter::new(value(view)).encode(family.encode_family(&labels(of, view))?)?;
            }
        }
    }
    Ok(())
}
