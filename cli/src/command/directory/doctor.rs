//! `cairn doctor`: is the repository of a directory in order.

use cairn_snapshot::operations::doctor::{Examination, Finding, Severity, examine};
use serde::Serialize;

use super::{open, recovered_json, recovered_text, tools};
use crate::arguments::DoctorArguments;
use crate::command::Session;
use crate::failure::Failure;
use crate::json::directory::{Recovered, path};
use crate::target::Target;
use crate::text;
use crate::watch::Watch;

#[derive(Serialize)]
struct Told {
    healthy: bool,
    snapshots: u64,
    findings: Vec<ToldFinding>,
    repaired: Vec<Recovered>,
}

#[derive(Serialize)]
struct ToldFinding {
    severity: &'static str,
    path: String,
    what: String,
}

fn severity(finding: &Finding) -> &'static str {
    match finding.severity {
        Severity::Note => "note",
        Severity::Unfinished => "unfinished",
        Severity::Damage => "damage",
    }
}

pub(super) fn run(session: &mut Session, arguments: DoctorArguments) -> Result<(), Failure> {
    let opened = open(session, Target::directory(arguments.target)?)?;
    let watch = Watch::start(Some("examining"))?;
    let found = examine(&opened.repository, &tools(), arguments.repair, watch.progress())?;
    drop(watch);
    let told = Told {
        healthy: found.is_healthy(),
        snapshots: found.snapshots,
        findings: found
            .findings
            .iter()
            .map(|finding| ToldFinding {
                severity: severity(finding),
                path: path(&finding.path),
                what: finding.what.clone(),
            })
            .collect(),
        repaired: recovered_json(&found.repaired),
    };
    session
        .output
        .put(&told, || recovered_text(&found.repaired) + &findings_text(&found))?;
    let damages = found
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Damage)
        .count() as u64;
    match damages {
        0 => Ok(()),
        damages => Err(Failure::DamageFound {
            damages,
            remedy: "each finding says what can be done",
        }),
    }
}

fn findings_text(found: &Examination) -> String {
    let mut told = String::new();
    for finding in &found.findings {
        told.push_str(&format!(
            "{:<10}  {}: {}\n",
            severity(finding),
            text::path(std::os::unix::ffi::OsStrExt::as_bytes(finding.path.as_os_str())),
            text::line(&finding.what)
        ));
    }
    let health = match found.is_healthy() {
        true => "in order",
        false => "not in order",
    };
    told.push_str(&format!(
        "{} snapshots looked at; the repository is {health}\n",
        found.snapshots
    ));
    told
}
