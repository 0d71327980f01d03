//! `cairn diff` of a directory: a snapshot beside the directory as it is, or beside another snapshot.

use std::ffi::OsString;
use std::path::PathBuf;

use cairn_api::proto;
use cairn_snapshot::operations::differences::{DifferenceKind, EntryDifference, Told, between, live};
use serde::Serialize;

use super::daemon::Asked as AskedDirectory;
use super::open;
use crate::command::Session;
use crate::command::diff::{line, stat_text};
use crate::failure::Failure;
use crate::json::{self, DiffSummary};
use crate::output::Output;
use crate::progress::{Count, while_waiting};
use crate::watch::Watch;

#[derive(Serialize)]
struct Summary<'a> {
    summary: &'a DiffSummary,
}

/// What is asked for.
pub(in crate::command) struct Asked {
    pub from: Option<String>,
    pub to: Option<String>,
    pub stat: bool,
    pub paths: Vec<OsString>,
}

/// What is printed as it comes.
struct Telling<'a> {
    output: &'a mut Output,
    stat: bool,
    summary: DiffSummary,
}

impl Telling<'_> {
    fn tell(&mut self, difference: proto::Difference) -> Result<(), Failure> {
        self.summary.count(&difference);
        if self.stat {
            return Ok(());
        }
        match self.output.is_json() {
            true => self.output.object(&json::Difference::of_directory(difference))?,
            false => self.output.text(&line(&difference))?,
        }
        Ok(())
    }

    fn end(self) -> Result<(), Failure> {
        let summary = &self.summary;
        match (self.output.is_json(), self.stat) {
            (true, _) => self.output.object(&Summary { summary })?,
            (false, true) => self.output.text(&stat_text(summary))?,
            (false, false) => {}
        }
        Ok(())
    }
}

pub(in crate::command) fn run(
    session: &mut Session,
    directory: Option<PathBuf>,
    asked: Asked,
) -> Result<(), Failure> {
    let opened = open(session, directory)?;
    let repository = &opened.repository;
    let from = opened.resolve(asked.from.as_deref())?;
    let to = asked.to.map(|to| opened.resolve(Some(&to))).transpose()?;
    let paths = opened.paths(&asked.paths)?;
    // What is printed shows that something happens; a line is needed only where nothing is.
    let watch = Watch::start((asked.stat || session.output.is_json()).then_some("comparing"))?;
    let mut telling = Telling {
        output: &mut session.output,
        stat: asked.stat,
        summary: DiffSummary::default(),
    };
    let visit = |told: Told| match told {
        Told::Difference(difference) => telling.tell(message(&difference)),
        Told::DirectoryTime(_) => Ok(()),
    };
    match to {
        Some(to) => between(repository, (from, to), &paths, watch.progress(), visit)?,
        None => live(repository, from, &paths, watch.progress(), visit)?,
    }
    drop(watch);
    telling.end()
}

/// The same by the daemon.
pub(in crate::command) async fn by_daemon(
    session: &mut Session,
    directory: Option<PathBuf>,
    asked: Asked,
) -> Result<(), Failure> {
    let mut directory = AskedDirectory::connect(session, directory).await?;
    let request = proto::DiffDirectoryRequest {
        repository: Some(directory.reference()),
        from: asked.from,
        to: asked.to,
        paths: directory.paths(&asked.paths)?,
    };
    let asking = directory.client.directories.diff(request);
    let mut stream = while_waiting("comparing", asking).await?.into_inner();
    let mut telling = Telling {
        output: &mut session.output,
        stat: asked.stat,
        summary: DiffSummary::default(),
    };
    let mut progress = asked.stat.then(|| Count::start("differences so far"));
    while let Some(message) = while_waiting("comparing", stream.message()).await? {
        for difference in message.differences {
            telling.tell(difference)?;
        }
        if let Some(progress) = &mut progress {
            progress.set(telling.summary.total());
        }
    }
    drop(progress);
    telling.end()
}

/// A difference as the daemon tells it.
pub(super) fn message(difference: &EntryDifference) -> proto::Difference {
    let kind = match difference.kind {
        DifferenceKind::Added => proto::DifferenceKind::Added,
        DifferenceKind::Removed => proto::DifferenceKind::Removed,
        DifferenceKind::Modified => proto::DifferenceKind::Modified,
        DifferenceKind::Retyped => proto::DifferenceKind::Retyped,
        DifferenceKind::Attributes => proto::DifferenceKind::Attributes,
    };
    let path = match difference.path.is_root() {
        true => b".",
        false => difference.path.as_bytes(),
    };
    proto::Difference {
        kind: kind.into(),
        path: path.to_vec(),
        directory: difference.directory,
        bytes_before: difference.bytes_before,
        bytes_after: difference.bytes_after,
    }
}
