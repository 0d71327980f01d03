//! `cairn snapshot` of a directory.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use cairn_api::{ApiError, convert, proto};
use cairn_snapshot::operations::recover::Recovered as WasRecovered;
use cairn_snapshot::operations::save::{SaveRequest, Saved, save};
use cairn_snapshot::repository::RequestKey;
use cairn_snapshot::repository::config::{Compression, Config};
use cairn_snapshot::repository::idempotency::save_description;
use cairn_snapshot::repository::templates::{Filled, Moment};
use cairn_snapshot::repository::text::unescape;
use serde::Serialize;

use super::daemon::{Asked, seconds};
use super::{Opened, WAIT_SECONDS, engine, engine_variable, open, recovered_json, recovered_text, tools};
use crate::arguments::SnapshotArguments;
use crate::command::Session;
use crate::failure::{DirectoryFailure, DirectoryReason, Failure};
use crate::json::directory::{DirectorySnapshot, Recovered, recovered_of, save_outcome};
use crate::watch::Watch;
use crate::{system, text};

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
        let template = request.template.as_deref();
        let description = save_description(&request.note, &request.tags, template, &request.paths);
        request.key = Some(RequestKey::new(key, &description)?);
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
    let snapshot = opened.snapshot(id)?;
    tell(session, &opened.shown(), outcome, snapshot, &recovered)
}

/// The same by the daemon.
pub(in crate::command) async fn by_daemon(
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
    convert::tags(&tags)?;
    let mut asked = Asked::connect(session, directory).await?;
    let request = proto::SaveDirectoryRequest {
        repository: Some(asked.reference()),
        note,
        tags,
        template: options.template,
        engine: options.engine,
        engine_default: engine_variable(),
        paths: asked.paths(&options.paths)?,
        key: options.key,
        skip_unchanged: options.skip_unchanged,
        wait_seconds: Some(seconds(options.wait.unwrap_or(WAIT_SECONDS))),
        actor: Some(system::actor()),
        collect: false,
        compression: options.compression.map(words),
    };
    let begun = asked.client.directories.save(request).await?.into_inner();
    let ended = asked.follow(session, begun.operation).await?;
    let Some(proto::operation::Result::DirectorySaved(result)) = ended.result else {
        return Err(ApiError::missing_field("the result").into());
    };
    let outcome = save_outcome(result.outcome()).ok_or_else(|| ApiError::missing_field("the outcome"))?;
    let recovered = recovered_of(&result.recovered)?;
    let snapshot = result
        .snapshot
        .ok_or_else(|| ApiError::missing_field("the snapshot"))?;
    let snapshot = DirectorySnapshot::try_from(snapshot)?;
    tell(session, &asked.shown(), outcome, snapshot, &recovered)
}

/// A compression as the daemon takes it.
fn words(compression: Compression) -> String {
    match compression {
        Compression::None => "none".to_owned(),
        Compression::Zstd(level) => format!("zstd:{level}"),
        Compression::Gzip(level) => format!("gzip:{level}"),
    }
}

/// Prints what came of a save of the directory `shown`.
fn tell(
    session: &mut Session,
    shown: &str,
    outcome: &'static str,
    snapshot: DirectorySnapshot,
    recovered: &[WasRecovered],
) -> Result<(), Failure> {
    let told = Told {
        outcome,
        snapshot,
        recovered: recovered_json(recovered),
    };
    session.output.put(&told, || {
        recovered_text(recovered) + &saved_text(shown, outcome, &told.snapshot)
    })?;
    Ok(())
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

fn saved_text(shown: &str, outcome: &str, snapshot: &DirectorySnapshot) -> String {
    let id = &snapshot.id;
    match outcome {
        "new" => format!("took snapshot {id} of {shown}\n{}", details(snapshot)),
        "existing" => format!("snapshot {id} of {shown} was taken with this key before\n"),
        _ => format!("nothing has changed since snapshot {id} of {shown}\n"),
    }
}

/// What a new snapshot consists of, and what a person should know of it.
fn details(snapshot: &DirectorySnapshot) -> String {
    let counts = &snapshot.counts;
    let mut told = format!(
        "  {} files and {} directories, {}; engine {}\n",
        counts.files,
        counts.directories,
        text::size(counts.bytes),
        snapshot.engine.used.as_deref().unwrap_or_default()
    );
    for degraded in &snapshot.engine.degraded {
        told.push_str(&format!(
            "  not {}: {}\n",
            degraded.from,
            text::line(&degraded.reason)
        ));
    }
    for line in snapshot.losses.lines() {
        told.push_str(&format!("  {line}\n"));
    }
    let torn = &snapshot.torn;
    if torn.count > 0 {
        let first = torn.paths.first().and_then(|path| unescape(path));
        let first = first.map_or_else(String::new, |path| text::path(&path));
        let more = if torn.count > 1 { " and others" } else { "" };
        told.push_str(&format!(
            "  {} files changed while they were read, and may be neither old nor new: {first}{more}\n",
            torn.count
        ));
    }
    if snapshot.vanished > 0 {
        told.push_str(&format!(
            "  {} entries vanished while the directory was read\n",
            snapshot.vanished
        ));
    }
    told
}
