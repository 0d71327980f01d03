//! `cairn init`.

use std::path::{Path, PathBuf};

use cairn_snapshot::engine::Choice;
use cairn_snapshot::operations::status::probe;
use cairn_snapshot::repository::Repository;
use serde::Serialize;
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
    let choice = probe(&repository, &tools(), None);
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

/// An engine, and why it is no better one, as people read it.
pub(super) fn engine_text(choice: &Choice) -> String {
    Engine::of_choice(choice).text()
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
