//! `cairn init`.

use std::path::{Path, PathBuf};

use cairn_snapshot::engine::{Choice, EngineError, EngineKind, Site, choose};
use cairn_snapshot::repository::{Area, Repository};
use serde::Serialize;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use super::tools;
use crate::arguments::InitArguments;
use crate::command::Session;
use crate::failure::{DirectoryFailure, DirectoryReason, Failure, chain};
use crate::json::directory::{Engine, path};
use crate::json::shell_word;
use crate::{system, text};

#[derive(Serialize)]
struct Made {
    repository: String,
    workspace: String,
    control_directory: String,
    engine: Engine,
}

pub(super) fn run(session: &mut Session, arguments: InitArguments) -> Result<(), Failure> {
    let given = arguments.directory.unwrap_or_else(|| PathBuf::from("."));
    let parts = system::parts().map_err(|error| {
        DirectoryFailure::new(
            DirectoryReason::FileSystem,
            format!("this process cannot be looked at in /proc: {error}"),
        )
    })?;
    let control = session.control_directory.as_deref();
    let repository = Repository::init(&given, control, parts)?;
    let choice = probe(&repository, None);
    let made = Made {
        repository: repository.identity().id.to_string(),
        workspace: path(repository.workspace_path()),
        control_directory: path(repository.control().path()),
        engine: match &choice {
            Ok(choice) => Engine::of_choice(choice),
            Err(error) => Engine::unknown(chain(error)),
        },
    };
    let shown = |path: &Path| text::path(path.as_os_str().as_bytes());
    session.output.put(&made, || {
        let engine = match &choice {
            Ok(choice) => engine_text(choice),
            Err(error) => format!("unknown: {}", chain(error)),
        };
        let option = control.map_or_else(String::new, |control| {
            format!(" --control-dir {}", shell_word(&control.to_string_lossy()))
        });
        format!(
            "{} is under version control; control directory {}\nengine {engine}\nto take a snapshot: cairn snapshot {}{option}\n",
            shown(repository.workspace_path()),
            shown(repository.control().path()),
            shell_word(&as_directory(&given)),
        )
    })?;
    Ok(())
}

/// A directory as other commands want it written.
fn as_directory(given: &Path) -> String {
    let written = given.to_string_lossy();
    match written.contains('/') || written == "." || written == ".." {
        true => written.into_owned(),
        false => format!("./{written}"),
    }
}

/// The engine that a save would use now, if this one is wished for.
pub(super) fn probe(repository: &Repository, wished: Option<EngineKind>) -> Result<Choice, EngineError> {
    let control = repository.control();
    let staging_path = control.path_of(Area::Staging, "");
    let staging = control.area(Area::Staging).map_err(|error| EngineError::Io {
        what: "open",
        path: staging_path.clone(),
        source: std::io::Error::other(error),
    })?;
    let site = Site {
        workspace: repository.workspace(),
        workspace_path: repository.workspace_path(),
        staging: staging.as_fd(),
        staging_path: &staging_path,
    };
    choose(&site, wished, &tools())
}

/// An engine, and why it is no better one, in one line.
pub(super) fn engine_text(choice: &Choice) -> String {
    let mut told = choice.used.text().to_owned();
    for degraded in &choice.degraded {
        told.push_str(&format!(
            "\n  not {}: {}",
            degraded.from,
            text::line(&degraded.reason)
        ));
    }
    told
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::as_directory;

    #[test]
    fn a_name_alone_gets_a_slash() {
        for (given, written) in [("a", "./a"), (".", "."), ("a/b", "a/b"), ("..", "..")] {
            assert_eq!(as_directory(Path::new(given)), written);
        }
    }
}
