//! `cairn snapshot` of a directory.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use cairn_api::convert;
use cairn_snapshot::operations::save::{SaveRequest, Saved, save};
use cairn_snapshot::repository::config::Config;
use cairn_snapshot::repository::templates::{Filled, Moment};
use cairn_snapshot::repository::text::escape;
use cairn_snapshot::repository::{Descriptor, RequestKey};
use cairn_types::Tag;
use serde::Serialize;

use super::{Opened, WAIT_SECONDS, engine, open, recovered_json, recovered_text, tools};
use crate::arguments::SnapshotArguments;
use crate::command::Session;
use crate::failure::{DirectoryFailure, DirectoryReason, Failure};
use crate::json::directory::{DirectorySnapshot, Losses, Recovered};
use crate::text;
use crate::watch::Watch;

#[derive(Serialize)]
struct Told {
    outcome: &'static str,
    snapshot: DirectorySnapshot,
    recovered: Vec<Recovered>,
}

pub(in crate::command) fn run(
    session: &mut Session,
    directory: Option<PathBuf>,
    arguments: SnapshotArguments,
) -> Result<(), Failure> {
    let SnapshotArguments {
        target: _,
        note,
        tags,
        directory: options,
    } = arguments;
    let tags: BTreeSet<_> = convert::tags(&tags)?.into_iter().collect();
    let opened = open(session, directory)?;
    let config = opened.repository.config()?;
    let filled = options
        .template
        .as_deref()
        .map(|name| fill(&opened, &config, name))
        .transpose()?;
    let mut request = SaveRequest::new(note);
    request.tags = tags;
    request.paths = opened.paths(&options.paths)?;
    request.template.clone_from(&options.template);
    if let Some(key) = &options.key {
        request.key = Some(RequestKey::new(key, &description(&request)?)?);
    }
    if let Some(filled) = &filled {
        if request.note.is_empty() {
            request.note.clone_from(&filled.note);
        }
        request.tags.extend(filled.tags.iter().cloned());
        if options.paths.is_empty() {
            request.paths.clone_from(&filled.paths);
        }
    }
    let wished = filled.as_ref().and_then(|filled| filled.engine.as_deref());
    // An engine that is only configured gives way to one that compresses.
    let configured = config.engine().filter(|_| options.compression.is_none());
    request.engine = engine(options.engine.as_deref(), wished, configured)?;
    request.compression = options.compression;
    request.skip_unchanged = options.skip_unchanged;
    request.wait = Duration::from_secs(options.wait.unwrap_or(WAIT_SECONDS));
    let watch = Watch::start(Some("saving"))?;
    let (saved, recovered) = save(&opened.repository, &tools(), &request, watch.progress())?;
    drop(watch);
    let (outcome, id) = match &saved {
        Saved::New(descriptor) => ("new", descriptor.id),
        Saved::Existing(descriptor) => ("existing", descriptor.id),
        Saved::Unchanged(id) => ("unchanged", *id),
    };
    let told = Told {
        outcome,
        snapshot: opened.snapshot(id)?,
        recovered: recovered_json(&recovered),
    };
    session.output.put(&told, || {
        recovered_text(&recovered) + &saved_text(&opened, &saved)
    })?;
    Ok(())
}

/// What is asked for with a key, before a template fills it with times: the same key with another request is noticed.
#[derive(Serialize)]
struct Asked<'a> {
    note: &'a str,
    tags: Vec<&'a str>,
    template: Option<&'a str>,
    paths: Vec<String>,
}

/// The same as bytes, which must be the same in all versions.
fn description(request: &SaveRequest) -> Result<Vec<u8>, Failure> {
    let asked = Asked {
        note: &request.note,
        tags: request.tags.iter().map(Tag::as_str).collect(),
        template: request.template.as_deref(),
        paths: request.paths.iter().map(|path| escape(path.as_bytes())).collect(),
    };
    Ok(serde_json::to_vec(&asked).map_err(std::io::Error::from)?)
}

/// A template with its placeholders filled.
fn fill(opened: &Opened, config: &Config, name: &str) -> Result<Filled, Failure> {
    let template = config.template(name).ok_or_else(|| {
        let message = format!(
            "there is no template {name:?}: choose one of {}",
            config.template_names().join(", ")
        );
        DirectoryFailure::new(DirectoryReason::Invalid, message)
    })?;
    let parts = opened.repository.parts();
    let moment = Moment {
        now: parts.clock.now(),
        zone: config.retention.time_zone.0.clone(),
        user: parts.actor.clone(),
        hostname: parts.host.name.clone(),
        arch: std::env::consts::ARCH,
    };
    let filled = template.fill(&moment);
    filled.map_err(|what| {
        DirectoryFailure::new(DirectoryReason::Invalid, format!("template {name}: {what}")).into()
    })
}

fn saved_text(opened: &Opened, saved: &Saved) -> String {
    match saved {
        Saved::New(descriptor) => {
            format!(
                "took snapshot {} of {}\n{}",
                descriptor.id,
                opened.shown(),
                details(descriptor)
            )
        }
        Saved::Existing(descriptor) => {
            format!(
                "snapshot {} of {} was taken with this key before\n",
                descriptor.id,
                opened.shown()
            )
        }
        Saved::Unchanged(id) => format!("nothing has changed since snapshot {id} of {}\n", opened.shown()),
    }
}

/// What a new snapshot consists of, and what a person should know of it.
fn details(descriptor: &Descriptor) -> String {
    let counts = &descriptor.counts;
    let mut told = format!(
        "  {} files and {} directories, {}; engine {}\n",
        counts.files,
        counts.directories,
        text::size(counts.bytes),
        descriptor.engine.used
    );
    for degraded in &descriptor.engine.degraded {
        told.push_str(&format!(
            "  not {}: {}\n",
            degraded.from,
            text::line(&degraded.reason)
        ));
    }
    for line in Losses::from(&descriptor.losses).lines() {
        told.push_str(&format!("  {line}\n"));
    }
    let torn = &descriptor.torn;
    if torn.count > 0 {
        let first = torn
            .paths
            .first()
            .map_or_else(String::new, |path| text::path(path.as_bytes()));
        let more = if torn.count > 1 { " and others" } else { "" };
        told.push_str(&format!(
            "  {} files changed while they were read, and may be neither old nor new: {first}{more}\n",
            torn.count
        ));
    }
    if descriptor.vanished > 0 {
        told.push_str(&format!(
            "  {} entries vanished while the directory was read\n",
            descriptor.vanished
        ));
    }
    told
}
