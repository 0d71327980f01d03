//! Dashboards and alerts name only metrics that the programs have.
//!
//! A program has a metric if the source of its metrics has the name, without the program's prefix and without what the text format adds to
//! it. So a metric that is renamed or removed is found here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

/// Prefixes of metrics, the longest first, and the sources that register them: files, or directories of files.
const SOURCES: [(&str, &[&str]); 2] = [
    (
        "cairn_operator_",
        &["operator/src/runtime/metrics.rs", "operator/src/statistics.rs"],
    ),
    ("cairn_", &["daemon/src/metrics.rs", "daemon/src/metrics"]),
];
/// What the text format adds to names (OpenMetrics 1.0, "Suffixes").
const SUFFIXES: [&str; 5] = ["_total", "_bucket", "_sum", "_count", "_info"];

/// What is wrong with dashboards and alerts.
pub fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut findings = Vec::new();
    let chart = root.join("deploy/helm/cairn");
    let mut files: Vec<PathBuf> = std::fs::read_dir(chart.join("dashboards"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    files.push(chart.join("alerts.yaml"));
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.ends_with(".json") {
            findings.extend(dashboard(&name, &text));
        }
        for metric in names(&text) {
            if !is_known(root, &metric)? {
                findings.push(format!("{name}: no program has the metric {metric}"));
            }
        }
    }
    Ok(findings)
}

/// What is wrong with a dashboard as such.
pub fn dashboard(name: &str, text: &str) -> Vec<String> {
    let board: Value = match serde_json::from_str(text) {
        Ok(board) => board,
        Err(error) => return vec![format!("{name}: {error}")],
    };
    let mut findings = Vec::new();
    for key in ["uid", "title", "schemaVersion", "panels"] {
        if board.get(key).is_none() {
            findings.push(format!("{name}: a dashboard without {key}"));
        }
    }
    let mut ids = BTreeSet::new();
    for panel in board["panels"].as_array().into_iter().flatten() {
        if !ids.insert(panel["id"].as_u64()) {
            findings.push(format!("{name}: two panels have the id {}", panel["id"]));
        }
        let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        if targets.is_empty()
            || targets
                .iter()
                .any(|target| target["expr"].as_str().is_none_or(str::is_empty))
        {
            findings.push(format!("{name}: the panel {} asks for nothing", panel["title"]));
        }
    }
    findings
}

/// The names of Cairn's metrics in a text.
pub fn names(text: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.split(|character| !is_part(character))
        .filter(|word| word.starts_with("cairn_"))
        .map(str::to_owned)
        .collect()
}

fn is_known(root: &Path, metric: &str) -> anyhow::Result<bool> {
    let Some((short, sources)) = SOURCES
        .iter()
        .find_map(|(prefix, sources)| Some((metric.strip_prefix(prefix)?, sources)))
    else {
        return Ok(false);
    };
    let bare = SUFFIXES
        .iter()
        .find_map(|suffix| short.strip_suffix(suffix))
        .unwrap_or(short);
    let program = sources[0].split('/').next().unwrap_or_default();
    if !root.join(program).join("src").exists() {
        eprintln!("deploy: SKIPPED: {metric}: the program {program} is not in this tree");
        return Ok(true);
    }
    let mut texts = String::new();
    for source in *sources {
        let path = root.join(source);
        let mut files = vec![path.clone()];
        if path.is_dir() {
            files = std::fs::read_dir(&path)?
                .map(|entry| Ok(entry?.path()))
                .collect::<std::io::Result<_>>()?;
        }
        for file in files {
            texts += &std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        }
    }
    Ok([bare, short]
        .iter()
        .any(|name| texts.contains(&format!("\"{name}\""))))
}
