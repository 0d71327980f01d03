//! `cairn view`: a snapshot as a read-only file system.
//!
//! The process that mounts serves the file system until it is told to end, or somebody unmounts it; whichever it is, nothing stays mounted, and the
//! lease of the snapshot is given back. In the background that is another process: see [`background`].

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_fuse::{MountOptions, Unmounted};
use cairn_snapshot::archive::Progress;
use cairn_snapshot::operations::OperationError;
use cairn_snapshot::repository::Parts;
use cairn_snapshot::view::{ArchivePlace, View, open_archive, open_snapshot};
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::{open, system};
use crate::arguments::ViewArguments;
use crate::command::Session;
use crate::failure::{DirectoryFailure, DirectoryReason, Failure};
use crate::json::shell_word;
use crate::target::{Target, store_and_snapshot};
use crate::text;
use crate::watch::Watch;

mod background;
mod scratch;

use scratch::Scratch;

#[derive(Serialize)]
struct Told {
    mounted: Mounted,
}

#[derive(Serialize)]
struct Mounted {
    mount_point: String,
    snapshot: String,
    source: String,
    leased: bool,
    process: u32,
}

#[derive(Serialize)]
struct ToldEnd {
    ended: Ended,
}

#[derive(Serialize)]
struct Ended {
    by: &'static str,
    in_use: bool,
}

#[derive(Serialize)]
struct ToldUnmounted {
    unmounted: String,
}

/// What is looked at.
enum Source {
    Directory(PathBuf, Option<String>),
    Store(String, String),
}

pub(super) fn run(session: &mut Session, mut arguments: ViewArguments) -> Result<(), Failure> {
    let mut operands = std::mem::take(&mut arguments.operands);
    let mount_point = operands.pop().map(PathBuf::from).unwrap_or_default();
    if arguments.unmount {
        return match operands.is_empty() {
            true => unmount(session, &mount_point),
            false => Err(usage("--unmount takes one mount point and nothing else")),
        };
    }
    let source = source(operands)?;
    // Before anything is opened, which may take a while.
    cairn_fuse::check(&mount_point)?;
    match arguments.background {
        true => background::start(session),
        false => serve(session, &source, &mount_point, &arguments),
    }
}

fn usage(message: &str) -> Failure {
    Failure::Usage {
        message: message.to_owned(),
        remedy: "for instance: cairn view . latest /mnt/before".to_owned(),
    }
}

/// Tells what is looked at from the arguments without the last.
fn source(mut operands: Vec<OsString>) -> Result<Source, Failure> {
    let reference = match operands.len() {
        0 => return Err(usage("name a directory or an object store, and a mount point")),
        1 => None,
        _ => operands.pop(),
    };
    let what = operands.pop().unwrap_or_default();
    let text_of = |word: &OsString| match word.to_str() {
        Some(word) => Ok(word.to_owned()),
        None => Err(DirectoryFailure::new(
            DirectoryReason::ReferenceInvalid,
            format!("{} is no name of a snapshot", text::path(word.as_bytes())),
        )),
    };
    if what.as_bytes().windows(3).any(|part| part == b"://") {
        if reference.is_some() {
            return Err(usage("an archive is named as URL@SNAPSHOT"));
        }
        let (store, reference) = store_and_snapshot(&text_of(&what)?)?;
        return Ok(Source::Store(store, reference));
    }
    let directory = Target::directory(Some(what))?.unwrap_or_default();
    Ok(Source::Directory(
        directory,
        reference.as_ref().map(text_of).transpose()?,
    ))
}

fn unmount(session: &mut Session, mount_point: &Path) -> Result<(), Failure> {
    let path = cairn_fuse::unmount(mount_point)?;
    let shown = text::path(path.as_os_str().as_bytes());
    let told = ToldUnmounted {
        unmounted: shown.clone(),
    };
    Ok(session
        .output
        .put(&told, || format!("{shown} is not mounted any more\n"))?)
}

/// What asks this process to end.
struct Signals {
    runtime: Runtime,
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From here on they do not end the process by themselves.
    fn listen() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let entered = runtime.enter();
        let (interrupt, terminate, hangup) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        );
        drop(entered);
        Ok(Signals {
            runtime,
            interrupt,
            terminate,
            hangup,
        })
    }

    /// Waits for one of them, or for the end of the mount; says whether it was a signal.
    fn wait(&mut self, ended: oneshot::Receiver<()>) -> bool {
        let (interrupt, terminate, hangup) = (&mut self.interrupt, &mut self.terminate, &mut self.hangup);
        self.runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => true,
                _ = terminate.recv() => true,
                _ = hangup.recv() => true,
                _ = ended => false,
            }
        })
    }
}

fn failed(what: &str, error: &std::io::Error) -> Failure {
    DirectoryFailure::new(DirectoryReason::FileSystem, format!("{what}: {error}")).into()
}

fn serve(
    session: &mut Session,
    source: &Source,
    mount_point: &Path,
    arguments: &ViewArguments,
) -> Result<(), Failure> {
    if arguments.detached {
        background::become_own_session();
    }
    session
        .logging
        .start_for_view(log_file(arguments.log.as_deref())?)?;
    let mut signals = Signals::listen().map_err(|error| failed("signals cannot be listened to", &error))?;
    let parts =
        system::parts().map_err(|error| failed("this process cannot be looked at in /proc", &error))?;
    // Repositories have a cache of their own. Outlives the view.
    let scratch = match source {
        Source::Directory(..) => None,
        Source::Store(..) => Some(
            Scratch::new(&*parts.randomness)
                .map_err(|error| failed("no directory can be made for a cache", &error))?,
        ),
    };
    let watch = Watch::start(Some("opening"))?;
    let (view, shown_source) = look(
        session,
        source,
        arguments,
        scratch.as_ref(),
        &parts,
        watch.progress(),
    )?;
    let cancelled = watch.progress().is_cancelled();
    drop(watch);
    if cancelled {
        return Err(OperationError::Cancelled.into());
    }
    let (tell, ended) = oneshot::channel();
    let options = MountOptions {
        name: view.snapshot().to_string(),
        allow_other: arguments.allow_other || rustix::process::geteuid().is_root(),
        threads: usize::from(arguments.threads),
    };
    let mount = cairn_fuse::mount(
        view.tree(),
        mount_point,
        &options,
        Box::new(move || {
            // Nobody waits any more if a signal came first.
            let _ = tell.send(());
        }),
    )?;
    let shown = text::path(mount.mount_point().as_os_str().as_bytes());
    let told = Told {
        mounted: Mounted {
            mount_point: shown.clone(),
            snapshot: view.snapshot().to_string(),
            source: shown_source.clone(),
            leased: view.is_leased(),
            process: std::process::id(),
        },
    };
    let hint = match arguments.detached {
        true => format!("to end it: cairn view --unmount {}", shell_word(&shown)),
        false => "Ctrl-C ends it".to_owned(),
    };
    let line = || {
        let snapshot = text::short_id(view.snapshot());
        format!("snapshot {snapshot} of {shown_source} is mounted on {shown}; {hint}\n")
    };
    let printed = session
        .output
        .put(&told, line)
        .and_then(|()| session.output.finish());
    if let Err(error) = printed {
        // Whoever wanted to hear of it is gone: then it is of no use either.
        drop(mount);
        return Err(error.into());
    }
    if arguments.detached {
        background::let_go().map_err(|error| failed("the terminal cannot be left", &error))?;
    }
    let by_signal = signals.wait(ended);
    let unmounted = mount.unmount()?;
    drop(view);
    let in_use = unmounted == Unmounted::InUse;
    let told = ToldEnd {
        ended: Ended {
            by: if by_signal { "signal" } else { "unmount" },
            in_use,
        },
    };
    Ok(session.output.put(&told, || {
        let used = match in_use {
            true => "; it was in use, and who has files open in it gets errors now",
            false => "",
        };
        format!("{shown} is not mounted any more{used}\n")
    })?)
}

/// Opens what is looked at; says also what it is of.
fn look(
    session: &Session,
    source: &Source,
    arguments: &ViewArguments,
    scratch: Option<&Scratch>,
    parts: &Parts,
    progress: &Progress,
) -> Result<(View, String), Failure> {
    match source {
        Source::Directory(directory, reference) => {
            let opened = open(session, Some(directory.clone()))?;
            let id = opened.resolve(reference.as_deref())?;
            let shown = opened.shown();
            let repository = Arc::new(opened.repository);
            let view = open_snapshot(repository, id, progress)?;
            Ok((view, shown))
        }
        Source::Store(url, reference) => {
            let place = ArchivePlace {
                url,
                endpoint: arguments.endpoint.clone(),
                region: arguments.region.clone(),
                account: arguments.account.clone(),
                allow_http: arguments.allow_http,
                key_file: arguments.key_file.as_deref(),
                cache: scratch.map_or(Path::new(""), Scratch::path),
                parts,
            };
            let view = open_archive(&place, Some(reference), progress)?;
            Ok((view, text::line(url)))
        }
    }
}

/// The file that warnings and errors are appended to, if one is asked for.
fn log_file(path: Option<&Path>) -> Result<Option<File>, Failure> {
    let Some(path) = path else {
        return Ok(None);
    };
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map(Some).map_err(|error| {
        let shown = text::path(path.as_os_str().as_bytes());
        failed(&format!("{shown} cannot be written"), &error)
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use super::{Source, source};

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn sources_are_directories_or_stores() {
        let Source::Directory(path, reference) = source(words(&["./model", "v1"])).unwrap() else {
            panic!("no directory");
        };
        assert_eq!(
            (path.as_path(), reference.as_deref()),
            (Path::new("./model"), Some("v1"))
        );
        let Source::Directory(_, None) = source(words(&["."])).unwrap() else {
            panic!("no directory");
        };
        let Source::Store(url, reference) = source(words(&["s3://bucket/cairn@v1"])).unwrap() else {
            panic!("no store");
        };
        assert_eq!((url.as_str(), reference.as_str()), ("s3://bucket/cairn", "v1"));
        for wrong in [&[][..], &["model"], &["file:///a", "v1"]] {
            assert!(source(words(wrong)).is_err(), "{wrong:?}");
        }
    }
}
