//! The figures, as tables for people (Markdown) and as JSON.

use std::fmt::Write;

use anyhow::Context;
use cairn_e2e::tree::Totals;
use serde::Serialize;
use serde_json::json;

use super::measure::Cost;
use super::source::Plan;

const MIB: f64 = 1048576.0;

/// What is measured, in the order in which it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The first archive, into an empty store.
    First,
    /// Another one of the same tree.
    Unchanged,
    /// None, because nothing has changed.
    Skipped,
    /// Another one after the tree's change.
    Changed,
    /// A check of the store's structure.
    Verify,
    /// A check of all data.
    VerifyData,
    /// The newest archive into an empty place.
    Restore,
    /// Freeing what no archive needs, after all but the newest were deleted.
    Reclaim,
}

impl Work {
    const ALL: [Work; 8] = [
        Work::First,
        Work::Unchanged,
        Work::Skipped,
        Work::Changed,
        Work::Verify,
        Work::VerifyData,
        Work::Restore,
        Work::Reclaim,
    ];

    /// What it is called in the tables.
    pub fn name(self, plan: Plan) -> &'static str {
        match self {
            Work::First => "first",
            Work::Unchanged => "unchanged",
            Work::Skipped => "unchanged, and none made",
            Work::Changed => plan.change(),
            Work::Verify => "verify",
            Work::VerifyData => "verify all data",
            Work::Restore => "restore",
            Work::Reclaim => "reclaim",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Work::First => "first",
            Work::Unchanged => "unchanged",
            Work::Skipped => "skipped",
            Work::Changed => "changed",
            Work::Verify => "verify",
            Work::VerifyData => "verify_data",
            Work::Restore => "restore",
            Work::Reclaim => "reclaim",
        }
    }
}

/// Where a figure belongs: the tree, where it goes, and what was done.
pub type At = (Plan, &'static str, Work);

/// One figure of one round, or the median of several.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    at: At,
    subject: String,
    round: u16,
    figures: Figures,
}

/// What is told of each.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Figures {
    /// Seconds from start to end.
    wall_seconds: f64,
    /// Seconds of processor time.
    cpu_seconds: f64,
    /// Most memory resident at a time.
    peak_bytes: f64,
    /// Bytes in the store afterwards.
    stored_bytes: f64,
}

impl Figures {
    /// The medians, each figure for itself.
    fn median(all: &[Figures]) -> Option<Figures> {
        let median = |figure: fn(&Figures) -> f64| {
            let mut sorted: Vec<f64> = all.iter().map(figure).collect();
            sorted.sort_by(f64::total_cmp);
            let upper = *sorted.get(sorted.len() / 2)?;
            let lower = *sorted.get((sorted.len() - 1) / 2)?;
            Some((lower + upper) / 2.0)
        };
        Some(Figures {
            wall_seconds: median(|figures| figures.wall_seconds)?,
            cpu_seconds: median(|figures| figures.cpu_seconds)?,
            peak_bytes: median(|figures| figures.peak_bytes)?,
            stored_bytes: median(|figures| figures.stored_bytes)?,
        })
    }

    fn shown(&self) -> String {
        format!(
            "{:.2} s ({:.2}), {:.0} MiB, {:.0} MiB",
            self.wall_seconds,
            self.cpu_seconds,
            self.peak_bytes / MIB,
            self.stored_bytes / MIB
        )
    }
}

impl Cell {
    /// What `work` cost a subject in a round, and what was in the store afterwards.
    pub fn new(at: At, subject: &str, round: u16, cost: Cost, stored_bytes: u64) -> Self {
        Cell {
            at,
            subject: subject.to_owned(),
            round,
            figures: Figures {
                wall_seconds: cost.wall.as_secs_f64(),
                cpu_seconds: cost.cpu.as_secs_f64(),
                peak_bytes: cost.peak_bytes as f64,
                stored_bytes: stored_bytes as f64,
            },
        }
    }

    /// As it stands in a table.
    pub fn shown(&self) -> String {
        self.figures.shown()
    }
}

/// A ratio that is shown: ours over the fastest of some others.
#[derive(Debug, Clone)]
pub struct Ratio {
    /// Its heading.
    pub heading: String,
    /// Ours.
    pub ours: String,
    /// The others.
    pub others: Vec<String>,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Table {
    /// What a reader must know of the figures.
    pub note: String,
    /// Where things go, in the order in which they are shown.
    pub places: Vec<&'static str>,
    /// What is compared with what.
    pub ratios: Vec<Ratio>,
    /// Who was compared, and in which version.
    pub versions: Vec<(String, String)>,
    /// The trees.
    pub trees: Vec<(Plan, Totals)>,
    /// Their size, as a share of the full size.
    pub scale: f64,
    /// The figures.
    pub cells: Vec<Cell>,
    /// What went wrong.
    pub failures: Vec<String>,
}

impl Table {
    fn median(&self, at: At, subject: &str) -> Option<Figures> {
        let all: Vec<Figures> = self
            .cells
            .iter()
            .filter(|cell| cell.at == at && cell.subject == subject)
            .map(|cell| cell.figures)
            .collect();
        Figures::median(&all)
    }

    /// One table for each tree and store: medians, and how ours compares with the fastest of the others.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a string takes everything");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        for (subject, version) in &self.versions {
            writeln!(text, "- {subject}: {version}")?;
        }
        writeln!(
            text,
            "\nMedians: seconds from start to end (processor time), most memory resident, bytes in the store afterwards. {}",
            self.note
        )?;
        for (plan, totals) in &self.trees {
            for place in &self.places {
                self.write_one(text, (*plan, totals, place))?;
            }
        }
        if !self.failures.is_empty() {
            writeln!(text, "\nFailed:\n")?;
        }
        for failure in &self.failures {
            writeln!(text, "- {}", failure.replace('\n', "\n  "))?;
        }
        Ok(())
    }

    fn write_one(
        &self,
        text: &mut String,
        (plan, totals, place): (Plan, &Totals, &'static str),
    ) -> std::fmt::Result {
        let present = |subject: &str| {
            self.cells
                .iter()
                .any(|cell| cell.at.0 == plan && cell.at.1 == place && cell.subject == subject)
        };
        let names = self.versions.iter().map(|(subject, _)| subject.as_str());
        let subjects: Vec<&str> = names.filter(|subject| present(subject)).collect();
        if subjects.is_empty() {
            return Ok(());
        }
        let (files, size) = (totals.files, totals.bytes as f64 / MIB);
        writeln!(
            text,
            "\n### Tree {} ({files} files, {size:.0} MiB), {place}\n",
            plan.name(),
        )?;
        let ratios: Vec<&Ratio> = self
            .ratios
            .iter()
            .filter(|ratio| present(&ratio.ours) && ratio.others.iter().any(|other| present(other)))
            .collect();
        let headings: Vec<&str> = ratios.iter().map(|ratio| ratio.heading.as_str()).collect();
        writeln!(
            text,
            "| | {} |",
            [&subjects[..], &headings[..]].concat().join(" | ")
        )?;
        writeln!(
            text,
            "| --- |{}",
            " --- |".repeat(subjects.len() + headings.len())
        )?;
        for work in Work::ALL {
            let median = |subject: &str| self.median((plan, place, work), subject);
            if subjects.iter().all(|subject| median(subject).is_none()) {
                continue;
            }
            write!(text, "| {} |", work.name(plan))?;
            for subject in &subjects {
                let shown = median(subject).map_or("-".to_owned(), |figures| figures.shown());
                write!(text, " {shown} |")?;
            }
            for ratio in &ratios {
                let fastest = ratio
                    .others
                    .iter()
                    .filter_map(|subject| Some(median(subject)?.wall_seconds))
                    .min_by(f64::total_cmp);
                let ratio = median(&ratio.ours)
                    .zip(fastest)
                    .map(|(ours, other)| ours.wall_seconds / other);
                write!(
                    text,
                    " {} |",
                    ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
                )?;
            }
            writeln!(text)?;
        }
        Ok(())
    }

    /// Every figure of every round.
    pub fn json(&self) -> anyhow::Result<String> {
        let trees = self
            .trees
            .iter()
            .map(|(plan, totals)| json!({"tree": plan.name(), "files": totals.files, "bytes": totals.bytes}));
        let cells = self.cells.iter().map(|cell| {
            let (plan, place, work) = cell.at;
            json!({
                "tree": plan.name(), "place": place, "work": work.key(), "subject": cell.subject,
                "round": cell.round, "figures": cell.figures,
            })
        });
        let versions = self.versions.iter();
        let versions = versions.map(|(subject, version)| (subject.clone(), version.clone().into()));
        let all = json!({
            "versions": serde_json::Map::from_iter(versions),
            "processors": std::thread::available_parallelism().map_or(0, usize::from),
            "scale": self.scale,
            "trees": trees.collect::<Vec<_>>(),
            "cells": cells.collect::<Vec<_>>(),
            "failures": self.failures,
        });
        serde_json::to_string_pretty(&all).context("writing JSON")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cairn_e2e::tree::Totals;

    use super::super::measure::Cost;
    use super::super::source::Plan;
    use super::{Cell, Ratio, Table, Work};

    fn table() -> Table {
        let mut table = Table {
            versions: ["cairn", "other"]
                .map(|name| (name.to_owned(), "1".to_owned()))
                .to_vec(),
            trees: vec![(
                Plan::Small,
                Totals {
                    entries: 3,
                    files: 2,
                    bytes: 3 << 20,
                },
            )],
            scale: 0.5,
            places: vec!["disk", "tape"],
            ratios: vec![Ratio {
                heading: "cairn / fastest other".to_owned(),
                ours: "cairn".to_owned(),
                others: vec!["other".to_owned()],
            }],
            ..Table::default()
        };
        let at = (Plan::Small, "disk", Work::Changed);
        for (round, subject, seconds) in [(1, "cairn", 9), (2, "cairn", 1), (3, "cairn", 2), (1, "other", 4)]
        {
            let cost = Cost {
                wall: Duration::from_secs(seconds),
                cpu: Duration::from_millis(500),
                peak_bytes: 7 << 20,
            };
            table.cells.push(Cell::new(at, subject, round, cost, 5 << 20));
        }
        table
    }

    #[test]
    fn tables_show_medians_and_what_is_missing() {
        let mut table = table();
        let text = table.markdown();
        assert!(text.contains("### Tree small (2 files, 3 MiB), disk"), "{text}");
        assert!(!text.contains("tape"), "{text}");
        let row = "| 1 % changed | 2.00 s (0.50), 7 MiB, 5 MiB | 4.00 s (0.50), 7 MiB, 5 MiB | 0.50 |";
        assert!(text.contains(row), "{text}");
        assert!(!text.contains("| restore |"), "{text}");
        assert!(!text.contains("Failed"));
        table.failures.push("it\nbroke".to_owned());
        assert!(table.markdown().ends_with("Failed:\n\n- it\n  broke\n"));
    }

    #[test]
    fn json_has_every_round() -> anyhow::Result<()> {
        let json: serde_json::Value = serde_json::from_str(&table().json()?)?;
        let cells = json["cells"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert_eq!(cells.len(), 4);
        assert_eq!(cells[0]["work"], "changed");
        assert_eq!(cells[0]["figures"]["wall_seconds"], 9.0);
        assert_eq!(json["versions"]["other"], "1");
        Ok(())
    }
}
