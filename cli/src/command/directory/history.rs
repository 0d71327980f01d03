//! `cairn history` of a directory.

use std::path::PathBuf;

use cairn_api::{ApiError, convert, proto};
use cairn_snapshot::operations::history::{HistoryRequest, history};
use cairn_snapshot::repository::Snapshot;
use cairn_types::{SnapshotId, Tag, Timestamp};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::daemon::Asked;
use super::graph::{Row, draw};
use super::open;
use crate::arguments::HistoryArguments;
use crate::command::Session;
use crate::command::snapshot::shortened;
use crate::failure::Failure;
use crate::json::directory::{DamagedSnapshot, DirectorySnapshot, damaged, origin, origin_word};
use crate::progress::while_waiting;
use crate::text;
use crate::watch::Watch;

/// Snapshots that one answer of the daemon holds, at most.
const PAGE_MAX: usize = 1000;
/// The same where it matters which of them come from which.
const GRAPH_MAX: usize = 10_000;

#[derive(Default, Serialize)]
struct History {
    head: Option<String>,
    snapshots: Vec<DirectorySnapshot>,
    damaged: Vec<DamagedSnapshot>,
}

/// What people see of a history, whoever has looked for it.
#[derive(Default)]
struct Shown {
    lines: Vec<Line>,
    /// Of each line, the nearest of the others that it comes from.
    from: Vec<Option<SnapshotId>>,
    head: Option<SnapshotId>,
    damaged: Vec<String>,
    /// Snapshots that there are.
    total: u64,
    /// Safety snapshots that are left out.
    hidden: u64,
    /// Older ones are left out.
    more: bool,
}

/// What people see of a snapshot.
struct Line {
    id: SnapshotId,
    created: Timestamp,
    origin: &'static str,
    files: u64,
    bytes: u64,
    tags: String,
    note: String,
}

impl From<&Snapshot> for Line {
    fn from(snapshot: &Snapshot) -> Self {
        let (descriptor, labels) = (&snapshot.descriptor, &snapshot.labels);
        let tags: Vec<&str> = labels.tags.iter().map(Tag::as_str).collect();
        Line {
            id: descriptor.id,
            created: descriptor.created,
            origin: origin(&descriptor.origin),
            files: descriptor.counts.files,
            bytes: descriptor.counts.bytes,
            tags: tags.join(","),
            note: labels.note.clone(),
        }
    }
}

impl TryFrom<&proto::DirectorySnapshot> for Line {
    type Error = ApiError;

    fn try_from(message: &proto::DirectorySnapshot) -> Result<Self, ApiError> {
        let id = SnapshotId::parse(&message.id);
        let counts = message.counts.unwrap_or_default();
        Ok(Line {
            id: id.ok_or_else(|| ApiError::missing_field("the identity of a snapshot"))?,
            created: convert::timestamp(message.created.as_ref())?,
            origin: origin_word(message.origin()),
            files: counts.files,
            bytes: counts.bytes,
            tags: message.tags.join(","),
            note: message.note.clone(),
        })
    }
}

pub(in crate::command) fn run(
    session: &mut Session,
    directory: Option<PathBuf>,
    arguments: HistoryArguments,
) -> Result<(), Failure> {
    let tags = convert::tags(&arguments.tags)?;
    let opened = open(session, directory)?;
    let request = HistoryRequest {
        grep: arguments.grep,
        tags,
        all: arguments.all,
        path: arguments.path.map(|path| opened.path(&path)).transpose()?,
        before: None,
        limit: arguments.limit,
    };
    let watch = Watch::start(request.path.is_some().then_some("comparing"))?;
    let found = history(&opened.repository, &request, watch.progress())?;
    drop(watch);
    let told = History {
        head: found.head.map(|id| id.to_string()),
        snapshots: found.snapshots.iter().map(DirectorySnapshot::from).collect(),
        damaged: damaged(&found.damaged),
    };
    let shown = Shown {
        lines: found.snapshots.iter().map(Line::from).collect(),
        from: found.from,
        head: found.head,
        damaged: told.damaged.iter().map(DamagedSnapshot::short).collect(),
        total: found.total as u64,
        hidden: found.hidden as u64,
        // The limit was asked for.
        more: false,
    };
    session
        .output
        .put(&told, || shown.text(&opened.named, arguments.graph))?;
    Ok(())
}

/// The same by the daemon.
pub(in crate::command) async fn by_daemon(
    session: &mut Session,
    directory: Option<PathBuf>,
    arguments: HistoryArguments,
) -> Result<(), Failure> {
    convert::tags(&arguments.tags)?;
    let mut asked = Asked::connect(session, directory).await?;
    let path = match &arguments.path {
        // The workspace itself is everything.
        Some(path) => asked
            .paths(std::slice::from_ref(path))?
            .pop()
            .or(Some(Vec::new())),
        None => None,
    };
    let page = if arguments.graph { GRAPH_MAX } else { PAGE_MAX };
    let wanted = arguments.limit.unwrap_or(usize::MAX);
    let (mut told, mut shown) = (History::default(), Shown::default());
    let mut before_sequence = None;
    loop {
        let left = wanted - told.snapshots.len();
        let request = proto::DirectoryHistoryRequest {
            repository: Some(asked.reference()),
            // Both are small.
            limit: Some(left.min(page) as u32),
            before_sequence,
            all: arguments.all,
            grep: arguments.grep.clone(),
            tags: arguments.tags.clone(),
            path: path.clone(),
        };
        let asking = asked.client.directories.history(request);
        let answer = while_waiting("asking for the snapshots", asking)
            .await?
            .into_inner();
        shown.head = answer.head.as_deref().and_then(SnapshotId::parse);
        told.head = answer.head;
        (shown.total, shown.hidden) = (answer.total, answer.hidden);
        // Every answer has all of them.
        told.damaged = answer.damaged.into_iter().map(DamagedSnapshot::from).collect();
        shown
            .from
            .extend(answer.from.iter().map(|id| SnapshotId::parse(id)));
        before_sequence = answer.snapshots.last().map(|snapshot| snapshot.sequence);
        for snapshot in answer.snapshots {
            shown.lines.push(Line::try_from(&snapshot)?);
            told.snapshots.push(DirectorySnapshot::try_from(snapshot)?);
        }
        let done = told.snapshots.len() >= wanted || arguments.graph;
        if !answer.more || done || before_sequence.is_none() {
            shown.more = answer.more && told.snapshots.len() < wanted;
            break;
        }
    }
    shown.damaged = told.damaged.iter().map(DamagedSnapshot::short).collect();
    session
        .output
        .put(&told, || shown.text(&asked.named, arguments.graph))?;
    Ok(())
}

impl Shown {
    fn text(&self, named: &str, graph: bool) -> String {
        let mut shown = match self.total == 0 && self.damaged.is_empty() {
            true => format!("no snapshots; to take one: cairn snapshot {named}\n"),
            false => self.table(graph, &TimeZone::system()),
        };
        for damaged in &self.damaged {
            shown.push_str(damaged);
            shown.push('\n');
        }
        if self.hidden > 0 {
            shown.push_str(&format!(
                "safety snapshots that only --all shows: {}\n",
                self.hidden
            ));
        }
        if self.more {
            shown.push_str("older ones are not drawn\n");
        }
        shown
    }

    fn table(&self, graph: bool, zone: &TimeZone) -> String {
        if self.lines.is_empty() {
            return "no snapshot fits\n".to_owned();
        }
        let headers = ["ID", "TAKEN", "ORIGIN", ">FILES", ">SIZE", "TAGS", "NOTE"];
        let row = |line: &Line| {
            let head = if self.head == Some(line.id) {
                " <- head"
            } else {
                ""
            };
            vec![
                text::short_id(line.id),
                text::local_time(line.created, zone),
                format!("{}{head}", line.origin),
                line.files.to_string(),
                text::size(line.bytes),
                line.tags.clone(),
                shortened(&text::line(&line.note)),
            ]
        };
        if !graph {
            let rows: Vec<_> = self.lines.iter().map(row).collect();
            return text::table(&headers, &rows);
        }
        let froms = self.from.iter().copied().chain(std::iter::repeat(None));
        let pairs: Vec<_> = self.lines.iter().map(|line| line.id).zip(froms).collect();
        let rows: Vec<_> = draw(&pairs)
            .into_iter()
            .map(|drawn| match drawn {
                Row::Between(drawing) => vec![drawing],
                Row::Snapshot(drawing, place) => {
                    let mut cells = vec![drawing];
                    cells.extend(self.lines.get(place).map(row).unwrap_or_default());
                    cells
                }
            })
            .collect();
        text::table(&[&[""], &headers[..]].concat(), &rows)
    }
}
