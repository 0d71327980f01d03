//! `cairn history` of a directory.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use cairn_api::convert;
use cairn_snapshot::directory::RelativePath;
use cairn_snapshot::operations::OperationError;
use cairn_snapshot::repository::{Descriptor, Listing, Origin, Snapshot};
use cairn_types::{SnapshotId, Tag};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::diff::{Side, differs};
use super::graph::{Row, draw};
use super::{Opened, open};
use crate::arguments::HistoryArguments;
use crate::command::Session;
use crate::command::snapshot::shortened;
use crate::failure::Failure;
use crate::json::directory::{DamagedSnapshot, DirectorySnapshot, damaged, origin};
use crate::text;
use crate::watch::Watch;

#[derive(Serialize)]
struct History {
    head: Option<String>,
    snapshots: Vec<DirectorySnapshot>,
    damaged: Vec<DamagedSnapshot>,
}

pub(in crate::command) fn run(
    session: &mut Session,
    directory: Option<PathBuf>,
    arguments: HistoryArguments,
) -> Result<(), Failure> {
    let wanted = Wanted {
        grep: arguments.grep.map(|text| text.to_lowercase()),
        tags: convert::tags(&arguments.tags)?,
        all: arguments.all,
    };
    let opened = open(session, directory)?;
    let path = arguments.path.map(|path| opened.path(&path)).transpose()?;
    // Everything can be listed without a state, but for where the content comes from.
    let head = opened.repository.state().ok().and_then(|state| state.head);
    let listing = opened.repository.list()?;
    let limit = arguments.limit.unwrap_or(usize::MAX);
    let mut chosen: Vec<&Snapshot> = listing
        .snapshots
        .iter()
        .rev()
        .filter(|snapshot| wanted.fits(snapshot))
        .collect();
    if let Some(path) = &path {
        chosen = changing(&opened, &listing, chosen, path, limit)?;
    }
    chosen.truncate(limit);
    let told = History {
        head: head.map(|id| id.to_string()),
        snapshots: chosen
            .iter()
            .map(|snapshot| DirectorySnapshot::from(*snapshot))
            .collect(),
        damaged: damaged(&listing),
    };
    let hidden = match wanted.all {
        true => 0,
        false => listing
            .snapshots
            .iter()
            .filter(|snapshot| is_safety(snapshot))
            .count(),
    };
    session.output.put(&told, || {
        let graph = arguments.graph.then(|| lineage(&listing, &chosen));
        let mut shown = table(&chosen, graph, head, &TimeZone::system());
        if listing.snapshots.is_empty() && listing.damaged.is_empty() {
            shown = format!("no snapshots; to take one: cairn snapshot {}\n", opened.named);
        }
        for (id, error) in &listing.damaged {
            shown.push_str(&format!(
                "{}  {}\n",
                text::short_id(*id),
                crate::failure::chain(error)
            ));
        }
        if hidden > 0 {
            shown.push_str(&format!("safety snapshots that only --all shows: {hidden}\n"));
        }
        shown
    })?;
    Ok(())
}

/// What is listed.
struct Wanted {
    grep: Option<String>,
    tags: Vec<Tag>,
    all: bool,
}

impl Wanted {
    fn fits(&self, snapshot: &Snapshot) -> bool {
        let labels = &snapshot.labels;
        (self.all || !is_safety(snapshot))
            && self.tags.iter().all(|tag| labels.tags.contains(tag))
            && self
                .grep
                .as_ref()
                .is_none_or(|text| labels.note.to_lowercase().contains(text))
    }
}

fn is_safety(snapshot: &Snapshot) -> bool {
    matches!(snapshot.descriptor.origin, Origin::Safety { .. })
}

/// Of `chosen`, newest first, the first `limit` in which something at `path` is not as in the snapshot that they come from.
fn changing<'a>(
    opened: &Opened,
    listing: &'a Listing,
    chosen: Vec<&'a Snapshot>,
    path: &RelativePath,
    limit: usize,
) -> Result<Vec<&'a Snapshot>, Failure> {
    let watch = Watch::start(Some("comparing"))?;
    let ancestors = Ancestors::new(listing);
    let holds = |descriptor: &Descriptor| {
        let paths = descriptor.paths.as_ref();
        paths.is_none_or(|paths| paths.paths.iter().any(|held| path.is_within(held)))
    };
    let mut found = Vec::new();
    for snapshot in chosen {
        if watch.progress().is_cancelled() {
            return Err(OperationError::Cancelled.into());
        }
        if found.len() >= limit {
            break;
        }
        if !holds(&snapshot.descriptor) {
            continue;
        }
        let after = Side::open(opened, snapshot.descriptor.clone())?;
        let before = ancestors.nearest(&snapshot.descriptor, |ancestor| holds(ancestor));
        let changed = match before {
            Some(before) => differs(&Side::open(opened, before.clone())?, &after, path)?,
            None => after.manifest.find(path)?.is_some(),
        };
        if changed {
            found.push(snapshot);
        }
    }
    Ok(found)
}

/// Which snapshot comes from which.
struct Ancestors<'a> {
    descriptors: HashMap<SnapshotId, &'a Descriptor>,
}

impl<'a> Ancestors<'a> {
    fn new(listing: &'a Listing) -> Self {
        let descriptors = listing.snapshots.iter().map(|snapshot| &snapshot.descriptor);
        Ancestors {
            descriptors: descriptors
                .map(|descriptor| (descriptor.id, descriptor))
                .collect(),
        }
    }

    /// The nearest snapshot that the content of `of` comes from and that fits.
    fn nearest(&self, of: &Descriptor, fits: impl Fn(&Descriptor) -> bool) -> Option<&'a Descriptor> {
        let mut at = of;
        loop {
            let next = *self.descriptors.get(&at.restored_from.or(at.parent)?)?;
            // What comes from itself is a forged file.
            if next.sequence >= at.sequence {
                return None;
            }
            if fits(next) {
                return Some(next);
            }
            at = next;
        }
    }
}

/// The drawing beside a list.
fn lineage(listing: &Listing, chosen: &[&Snapshot]) -> Vec<Row> {
    let ancestors = Ancestors::new(listing);
    let listed: HashSet<SnapshotId> = chosen.iter().map(|snapshot| snapshot.descriptor.id).collect();
    let pairs: Vec<_> = chosen
        .iter()
        .map(|snapshot| {
            let from = ancestors.nearest(&snapshot.descriptor, |ancestor| listed.contains(&ancestor.id));
            (snapshot.descriptor.id, from.map(|descriptor| descriptor.id))
        })
        .collect();
    draw(&pairs)
}

fn table(chosen: &[&Snapshot], graph: Option<Vec<Row>>, head: Option<SnapshotId>, zone: &TimeZone) -> String {
    if chosen.is_empty() {
        return "no snapshot fits\n".to_owned();
    }
    let headers = ["ID", "TAKEN", "ORIGIN", ">FILES", ">SIZE", "TAGS", "NOTE"];
    let row = |snapshot: &Snapshot| {
        let descriptor = &snapshot.descriptor;
        let head = if head == Some(descriptor.id) {
            " <- head"
        } else {
            ""
        };
        vec![
            text::short_id(descriptor.id),
            text::local_time(descriptor.created, zone),
            format!("{}{head}", origin(&descriptor.origin)),
            descriptor.counts.files.to_string(),
            text::size(descriptor.counts.bytes),
            snapshot
                .labels
                .tags
                .iter()
                .map(Tag::as_str)
                .collect::<Vec<_>>()
                .join(","),
            shortened(&text::line(&snapshot.labels.note)),
        ]
    };
    let Some(graph) = graph else {
        let rows: Vec<_> = chosen.iter().map(|snapshot| row(snapshot)).collect();
        return text::table(&headers, &rows);
    };
    let rows: Vec<_> = graph
        .into_iter()
        .map(|drawn| match drawn {
            Row::Between(drawing) => vec![drawing],
            Row::Snapshot(drawing, place) => {
                let mut cells = vec![drawing];
                cells.extend(
                    chosen
                        .get(place)
                        .map(|snapshot| row(snapshot))
                        .unwrap_or_default(),
                );
                cells
            }
        })
        .collect();
    text::table(&[&[""], &headers[..]].concat(), &rows)
}
