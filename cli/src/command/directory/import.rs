//! `cairn import-jvs`: the snapshots of a repository of the Go tools become snapshots of a new one, beside it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use cairn_snapshot::operations::OperationError;
use cairn_snapshot::operations::import::{ImportRequest, Imported, import, prepare};
use cairn_snapshot::repository::Repository;
use cairn_snapshot::repository::import_jvs::{Finding, JvsLine, JvsRepository};
use serde::Serialize;

use super::{engine, recovered_json, recovered_text, tools};
use crate::arguments::ImportJvsArguments;
use crate::command::Session;
use crate::failure::{DirectoryFailure, DirectoryReason, Failure};
use crate::json::directory::{Recovered, path};
use crate::json::shell_word;
use crate::watch::Watch;
use crate::{system, text};

#[derive(Serialize)]
struct Told {
    repository: String,
    workspace: String,
    control_directory: String,
    line: &'static str,
    taken: Vec<Taken>,
    present: u64,
    left: Vec<Left>,
    pins: u64,
    head: Option<String>,
    findings: Vec<String>,
    recovered: Vec<Recovered>,
}

#[derive(Serialize)]
struct Taken {
    from: String,
    snapshot: String,
    warnings: Vec<String>,
    files_of: Option<String>,
}

#[derive(Serialize)]
struct Left {
    from: String,
    why: String,
}

pub(super) fn run(session: &mut Session, arguments: ImportJvsArguments) -> Result<(), Failure> {
    let from = JvsRepository::open(&arguments.directory).map_err(OperationError::from)?;
    let Some(control) = session.control_directory.clone() else {
        let message = format!(
            "{} is of the Go tools and stays as it is: say with --control-dir where the new control directory shall be",
            shown(from.control_path())
        );
        return Err(DirectoryFailure::new(DirectoryReason::DirectoryOccupied, message).into());
    };
    let parts = system::parts().map_err(|error| {
        DirectoryFailure::new(
            DirectoryReason::FileSystem,
            format!("this process cannot be looked at in /proc: {error}"),
        )
    })?;
    let into = prepare(&from, arguments.workspace.as_deref(), &control, parts)?;
    let request = ImportRequest {
        workspace: arguments.workspace,
        engine: engine(None, None, into.config()?.engine())?,
        wait: Duration::from_secs(arguments.wait),
    };
    let watch = Watch::start(Some("importing"))?;
    let done = import(&from, &into, &tools(), &request, watch.progress())?;
    drop(watch);
    let told = told(&from, &into, &done);
    session.output.put(&told, || {
        recovered_text(&done.recovered) + &report(&told, &into, &control)
    })?;
    match done.left.len() {
        0 => Ok(()),
        left => Err(Failure::DamageFound {
            damages: left as u64,
            remedy: "the snapshots that did not come over are still in the old repository, as far as they are there",
        }),
    }
}

fn shown(path: &Path) -> String {
    text::path(path.as_os_str().as_bytes())
}

fn told(from: &JvsRepository, into: &Repository, done: &Imported) -> Told {
    let taken = done.taken.iter().map(|taken| Taken {
        from: taken.from.to_string(),
        snapshot: taken.id.to_string(),
        warnings: taken.warnings.clone(),
        files_of: taken.files_of.as_ref().map(ToString::to_string),
    });
    let left = done.left.iter().map(|left| Left {
        from: left.from.to_string(),
        why: text::line(&left.why),
    });
    Told {
        repository: into.identity().id.to_string(),
        workspace: path(into.workspace_path()),
        control_directory: path(into.control().path()),
        line: match from.line() {
            JvsLine::Old => "old",
            JvsLine::New => "new",
        },
        taken: taken.collect(),
        present: done.present,
        left: left.collect(),
        pins: done.pins,
        head: done.head.map(|id| id.to_string()),
        findings: from.findings().iter().map(finding).collect(),
        recovered: recovered_json(&done.recovered),
    }
}

/// What is wrong with the old repository, in one line.
fn finding(finding: &Finding) -> String {
    let told = match finding {
        Finding::Damaged { file, what } => format!("{file} cannot be understood: {what}"),
        Finding::TreeMissing(id) => format!("the files of {id} are missing"),
        Finding::DescriptorMissing(id) => format!("files of {id} are there, and its descriptor is not"),
        Finding::Unfinished(id) => format!("a save of {id} was begun and never ended"),
        Finding::ParentMissing { snapshot, parent } => {
            format!("{snapshot} comes after {parent}, which is not there")
        }
        Finding::Circle(id) => format!("{id} comes after itself"),
    };
    text::line(&told)
}

fn report(told: &Told, into: &Repository, control: &Path) -> String {
    let mut lines = format!(
        "took over {} snapshots into {}",
        told.taken.len(),
        shown(into.control().path())
    );
    if told.present > 0 {
        lines.push_str(&format!("; {} had been taken over before", told.present));
    }
    if told.pins > 0 {
        lines.push_str(&format!("; {} pins", told.pins));
    }
    lines.push('\n');
    for taken in &told.taken {
        let id = taken.snapshot.get(..12).unwrap_or(&taken.snapshot);
        lines.push_str(&format!("  {} is {id}\n", taken.from));
        for warning in &taken.warnings {
            lines.push_str(&format!("    {}\n", text::line(warning)));
        }
        if let Some(of) = &taken.files_of {
            lines.push_str(&format!(
                "    with the files of {of}, which are the same and were not compressed\n"
            ));
        }
    }
    for left in &told.left {
        lines.push_str(&format!("  {} did not come over: {}\n", left.from, left.why));
    }
    for finding in &told.findings {
        lines.push_str(&format!("  in the old repository: {finding}\n"));
    }
    lines.push_str(&format!(
        "to see them: cairn history {} --control-dir {}\n",
        shell_word(&into.workspace_path().to_string_lossy()),
        shell_word(&control.to_string_lossy())
    ));
    lines
}
