//! Commands on plain directories: find the repository, check the arguments, let the library do it, print what came of it. With `--daemon`,
//! the daemon does it, and the same is printed.
//!
//! Everything here runs on the thread of the command; [`crate::watch::Watch`] looks after progress and signals meanwhile.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use cairn_snapshot::directory::{PathError, RelativePath};
use cairn_snapshot::engine::{EngineKind, Tools};
use cairn_snapshot::operations::recover::Recovered;
use cairn_snapshot::repository::{Descriptor, Labels, Repository};
use cairn_types::SnapshotId;

use super::Session;
use crate::arguments::{CollectCommand, DirectoryCommand};
use crate::failure::{DirectoryFailure, DirectoryReason, Failure};
use crate::json::directory::DirectorySnapshot;
use crate::json::shell_word;
use crate::target::Target;
use crate::{json, system, text};

mod collect;
mod daemon;
mod diff;
mod doctor;
mod fork;
mod graph;
mod history;
mod import;
mod init;
pub(super) mod labels;
mod preview;
mod registered;
mod restore;
mod save;
mod status;
mod verify;
mod view;

pub(super) use diff::{Asked, by_daemon as diff_by_daemon, run as diff};
pub(super) use fork::{by_daemon as fork_by_daemon, run as fork};
pub(super) use history::{by_daemon as history_by_daemon, run as history};
pub(super) use registered::run as registered;
pub(super) use restore::{by_daemon as restore_by_daemon, run as restore};
pub(super) use save::{by_daemon as save_by_daemon, run as save};
pub(super) use status::{by_daemon as status_by_daemon, run as status};

/// The variable that names the engine of saves that name none.
const ENGINE_VARIABLE: &str = "JVS_SNAPSHOT_ENGINE";
/// Seconds that are waited for others, unless an option says something else.
const WAIT_SECONDS: u64 = 60;

/// Whether a command is for the daemon.
pub(super) fn is_for_daemon(command: &DirectoryCommand) -> bool {
    match command {
        DirectoryCommand::Verify(arguments) => arguments.daemon,
        DirectoryCommand::Delete(arguments) => arguments.of.daemon,
        DirectoryCommand::Tag(arguments) => arguments.of.daemon,
        DirectoryCommand::Note(arguments) => arguments.of.daemon,
        DirectoryCommand::Pin(arguments) => arguments.of.daemon,
        DirectoryCommand::Unpin(arguments) => arguments.of.daemon,
        DirectoryCommand::Gc(CollectCommand::Plan { daemon, .. } | CollectCommand::Run { daemon, .. }) => {
            *daemon
        }
        DirectoryCommand::Init(_)
        | DirectoryCommand::ImportJvs(_)
        | DirectoryCommand::View(_)
        | DirectoryCommand::Preview { .. }
        | DirectoryCommand::Doctor(_) => false,
    }
}

/// The same by the daemon. Those that are not for it are done here.
pub(super) async fn run_by_daemon(session: &mut Session, command: DirectoryCommand) -> Result<(), Failure> {
    use labels::by_daemon as label;
    match command {
        DirectoryCommand::Verify(arguments) => verify::by_daemon(session, arguments).await,
        DirectoryCommand::Delete(arguments) => collect::delete_by_daemon(session, arguments).await,
        DirectoryCommand::Gc(command) => collect::by_daemon(session, command).await,
        DirectoryCommand::Tag(arguments) => label::tag(session, arguments).await,
        DirectoryCommand::Note(arguments) => label::note(session, arguments).await,
        DirectoryCommand::Pin(arguments) => label::pin(session, arguments).await,
        DirectoryCommand::Unpin(arguments) => label::unpin(session, arguments).await,
        command => super::apart(|| run(session, command)),
    }
}

/// Commands on directories.
pub(super) fn run(session: &mut Session, command: DirectoryCommand) -> Result<(), Failure> {
    match command {
        DirectoryCommand::Init(arguments) => init::run(session, arguments),
        DirectoryCommand::ImportJvs(arguments) => import::run(session, arguments),
        DirectoryCommand::Preview { target } => {
            let directory = Target::directory(target)?;
            preview::run(session, directory)
        }
        DirectoryCommand::Verify(arguments) => verify::run(session, arguments),
        DirectoryCommand::View(arguments) => view::run(session, arguments),
        DirectoryCommand::Tag(arguments) => labels::tag(session, arguments),
        DirectoryCommand::Note(arguments) => labels::note(session, arguments),
        DirectoryCommand::Pin(arguments) => labels::pin(session, arguments),
        DirectoryCommand::Unpin(arguments) => labels::unpin(session, arguments),
        DirectoryCommand::Delete(arguments) => collect::delete(session, arguments),
        DirectoryCommand::Gc(command) => collect::run(session, command),
        DirectoryCommand::Doctor(arguments) => doctor::run(session, arguments),
    }
}

/// Whether the directory that the command was called in is in a repository; one that cannot be used is one.
pub(super) fn is_repository_here(session: &Session) -> Result<bool, Failure> {
    match open(session, None) {
        Ok(_) => Ok(true),
        Err(Failure::Directory(failure)) if failure.reason == DirectoryReason::NotARepository => Ok(false),
        Err(error) => Err(error),
    }
}

/// An open repository, and how it was named.
struct Opened {
    repository: Repository,
    /// The directory that paths are relative to.
    base: PathBuf,
    /// How a person would name it: a word for a shell, with the option for the control directory if there is one.
    named: String,
}

/// Opens the repository of a directory; nothing: of the one that the command was called in. With a control directory, the workspace is that of the
/// repository, and a directory that is named must be in it.
fn open(session: &Session, directory: Option<PathBuf>) -> Result<Opened, Failure> {
    let parts = system::parts().map_err(|error| {
        DirectoryFailure::new(
            DirectoryReason::FileSystem,
            format!("this process cannot be looked at in /proc: {error}"),
        )
    })?;
    let mut named = match &directory {
        Some(directory) => shell_word(&directory.to_string_lossy()),
        None => ".".to_owned(),
    };
    let given = directory.unwrap_or_else(|| PathBuf::from("."));
    let Some(control) = &session.control_directory else {
        let repository = Repository::discover(&given, parts)?;
        let base = canonical(&given)?;
        return Ok(Opened {
            repository,
            base,
            named,
        });
    };
    let repository = Repository::open(control, parts)?;
    let workspace = repository.workspace_path();
    let base = match canonical(&given)? {
        inside if inside.starts_with(workspace) => inside,
        // Nothing was named: then it is the workspace.
        _ if given == Path::new(".") => {
            named = shell_word(&workspace.to_string_lossy());
            workspace.to_owned()
        }
        outside => return Err(outside_of(&outside, workspace)),
    };
    named.push_str(&format!(
        " --control-dir {}",
        shell_word(&control.to_string_lossy())
    ));
    Ok(Opened {
        repository,
        base,
        named,
    })
}

fn canonical(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => DirectoryReason::NotFound,
            std::io::ErrorKind::PermissionDenied => DirectoryReason::AccessDenied,
            _ => DirectoryReason::FileSystem,
        };
        let shown = text::path(path.as_os_str().as_bytes());
        DirectoryFailure::new(reason, format!("{shown} cannot be found: {error}")).into()
    })
}

fn outside_of(path: &Path, workspace: &Path) -> Failure {
    let shown = |path: &Path| text::path(path.as_os_str().as_bytes());
    let message = format!("{} is not in the workspace {}", shown(path), shown(workspace));
    DirectoryFailure::new(DirectoryReason::PathOutside, message).into()
}

impl Opened {
    /// The workspace as people see it.
    fn shown(&self) -> String {
        text::path(self.repository.workspace_path().as_os_str().as_bytes())
    }

    /// The paths that a person typed, below the root of the workspace. Nothing if one of them is the workspace: then it is everything.
    fn paths(&self, given: &[OsString]) -> Result<Vec<RelativePath>, Failure> {
        let paths: Vec<RelativePath> = given
            .iter()
            .map(|path| self.path(path))
            .collect::<Result<_, _>>()?;
        Ok(match paths.iter().any(RelativePath::is_root) {
            true => Vec::new(),
            false => paths,
        })
    }

    /// A path that a person typed, below the root of the workspace.
    fn path(&self, given: &OsStr) -> Result<RelativePath, Failure> {
        below(self.repository.workspace_path(), &self.base, given)
    }

    /// The snapshot that a person named; without a name the latest.
    fn resolve(&self, reference: Option<&str>) -> Result<SnapshotId, Failure> {
        Ok(self.repository.resolve(reference.unwrap_or("latest"))?)
    }

    /// A snapshot as programs see it. Labels that cannot be read are those that it was made with.
    fn snapshot(&self, id: SnapshotId) -> Result<DirectorySnapshot, Failure> {
        let descriptor = self.repository.descriptor(id)?;
        let labels = self.labels(&descriptor);
        Ok(DirectorySnapshot::new(&descriptor, &labels))
    }

    fn labels(&self, descriptor: &Descriptor) -> Labels {
        let labels = self.repository.labels(descriptor);
        labels.unwrap_or_else(|_| Labels::first(descriptor))
    }
}

/// A path that a person typed in the directory `base`, below the root of `workspace`.
fn below(workspace: &Path, base: &Path, given: &OsStr) -> Result<RelativePath, Failure> {
    let whole = without_dots(&base.join(given));
    let below = match whole.strip_prefix(workspace) {
        Ok(below) => below.to_owned(),
        // It may lead there by a link above the workspace.
        Err(_) => match resolved(&whole).strip_prefix(workspace) {
            Ok(below) => below.to_owned(),
            Err(_) => return Err(outside_of(&whole, workspace)),
        },
    };
    RelativePath::new(below.as_os_str().as_bytes()).map_err(|error| {
        let reason = match error {
            PathError::Outside { .. } => DirectoryReason::PathOutside,
            PathError::Name { .. } => DirectoryReason::Invalid,
        };
        DirectoryFailure::new(reason, text::line(&error.to_string())).into()
    })
}

/// A path without `.` and `..`, by its names alone: what is not there any more has no links to follow.
fn without_dots(path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                whole.pop();
            }
            Component::RootDir | Component::Prefix(_) | Component::Normal(_) => whole.push(component),
        }
    }
    whole
}

/// The same path with the links of the nearest directory above that exists followed.
fn resolved(path: &Path) -> PathBuf {
    for above in path.ancestors().skip(1) {
        if let (Ok(real), Ok(rest)) = (above.canonicalize(), path.strip_prefix(above)) {
            return real.join(rest);
        }
    }
    path.to_owned()
}

/// The engine that the first of these words asks for: of an option, a template, the variable, the configuration.
fn engine(
    option: Option<&str>,
    template: Option<&str>,
    configured: Option<&str>,
) -> Result<Option<EngineKind>, Failure> {
    let variable = engine_variable();
    let word = option
        .or(template)
        .or(variable.as_deref())
        .or(configured)
        .unwrap_or_default();
    EngineKind::requested(word)
        .map_err(|error| DirectoryFailure::new(DirectoryReason::EngineUnknown, error.to_string()).into())
}

/// The engine that the variable asks for.
fn engine_variable() -> Option<String> {
    let variable = std::env::var_os(ENGINE_VARIABLE).map(|word| word.to_string_lossy().into_owned());
    variable.filter(|word| !word.is_empty())
}

/// The programs that engines run.
fn tools() -> Tools {
    Tools::find(&std::env::var_os("PATH").unwrap_or_default(), None)
}

/// What was put right before, as people read it.
fn recovered_text(recovered: &[Recovered]) -> String {
    let kept = |safety: &Option<SnapshotId>| match safety {
        Some(id) => format!("; what was there in between is snapshot {}", text::short_id(*id)),
        None => String::new(),
    };
    let line = |recovered: &Recovered| match recovered {
        Recovered::RestoreUndone(id) => {
            format!(
                "a restore of {} was interrupted before it changed anything",
                text::short_id(*id)
            )
        }
        Recovered::RestoreFinished(id, safety) => {
            format!(
                "a restore of {} that was interrupted was finished{}",
                text::short_id(*id),
                kept(safety)
            )
        }
        Recovered::RestoreLost(id, safety) => format!(
            "a restore of {} was interrupted and cannot be finished: restore again{}",
            text::short_id(*id),
            kept(safety)
        ),
        Recovered::RestoreWaits(id) => format!(
            "a restore of {} that was interrupted waits: there is no room to finish it",
            text::short_id(*id)
        ),
        Recovered::StateCompleted => "the state lacked snapshots that exist".to_owned(),
        Recovered::ResidueRemoved(removed) => {
            format!("what interrupted commands had left was removed, in {removed} places")
        }
    };
    let told = |recovered| match recovered {
        &Recovered::RestoreWaits(_) => format!("not put right yet: {}\n", line(recovered)),
        _ => format!("put right first: {}\n", line(recovered)),
    };
    recovered.iter().map(told).collect()
}

/// The same for programs.
fn recovered_json(recovered: &[Recovered]) -> Vec<json::directory::Recovered> {
    recovered.iter().map(json::directory::Recovered::from).collect()
}

/// Warnings, as people read them.
fn warnings_text(warnings: &[String]) -> String {
    warnings
        .iter()
        .map(|warning| format!("warning: {}\n", text::line(warning)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{resolved, without_dots};

    #[test]
    fn dots_are_names_and_nothing_else() {
        for (path, whole) in [
            ("/a/./b/../c", "/a/c"),
            ("/a/../../b", "/b"),
            ("/a//b/", "/a/b"),
            ("/..", "/"),
        ] {
            assert_eq!(without_dots(Path::new(path)), Path::new(whole));
        }
    }

    #[test]
    fn links_above_what_is_missing_are_followed() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(resolved(&link.join("gone/a")), real.join("gone/a"));
    }
}
