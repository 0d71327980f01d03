//! What goes on beside work that is done in this process: the line that shows how far it is, and Ctrl-C, which asks the work to stop.
//! A second Ctrl-C ends the process at once; what it leaves is put right by the next command.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use cairn_snapshot::archive::{Phase, Progress, ProgressNow};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::exit::Exit;
use crate::failure::{DirectoryFailure, DirectoryReason, Failure};
use crate::progress::Line;
use crate::text;

/// Time between two looks at the progress.
const LOOK: Duration = Duration::from_millis(100);

/// Watches over work while it exists.
pub struct Watch {
    progress: Arc<Progress>,
    /// Dropped: the thread ends.
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins. On return signals are listened to. `what` is shown with the numbers, such as "saving"; nothing is shown without it.
    /// Errors: the thread or the listeners cannot be made.
    pub fn start(what: Option<&'static str>) -> Result<Self, Failure> {
        Watch::begin(what).map_err(|error| {
            let message = format!("signals cannot be listened to: {error}");
            DirectoryFailure::new(DirectoryReason::FileSystem, message).into()
        })
    }

    fn begin(what: Option<&'static str>) -> std::io::Result<Self> {
        let progress = Arc::new(Progress::new());
        let watched = progress.clone();
        let (end, ended) = oneshot::channel();
        let (ready, listening) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let told = match runtime {
                    Ok(runtime) => runtime.block_on(run(what, &watched, ended, &ready)),
                    Err(error) => Err(error),
                };
                if let Err(error) = told {
                    // Nobody listens any more if this is not about the start.
                    let _ = ready.try_send(Err(error));
                }
            })?;
        match listening.recv() {
            Ok(outcome) => outcome?,
            Err(_) => return Err(std::io::Error::other("the thread that listens to signals ended")),
        }
        Ok(Watch {
            progress,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// How far the work is; what asks it to stop.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            // It shows things and decides nothing: how it ended does not matter.
            let _ = thread.join();
        }
    }
}

async fn run(
    what: Option<&'static str>,
    progress: &Progress,
    mut ended: oneshot::Receiver<()>,
    ready: &SyncSender<std::io::Result<()>>,
) -> std::io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let _ = ready.try_send(Ok(()));
    let mut line = Line::new();
    loop {
        tokio::select! {
            _ = interrupt.recv() => stop(progress, &mut line),
            _ = terminate.recv() => stop(progress, &mut line),
            _ = &mut ended => return Ok(()),
            () = tokio::time::sleep(LOOK) => {}
        }
        if let Some(what) = what {
            line.show(&progress_text(what, &progress.now(), progress.is_cancelled()));
        }
    }
}

fn stop(progress: &Progress, line: &mut Line) {
    if progress.is_cancelled() {
        line.clear();
        eprintln!("cairn: ended at once; the next command puts right what is left");
        std::process::exit(Exit::Cancelled.code().into());
    }
    progress.cancel();
}

fn progress_text(what: &str, now: &ProgressNow, cancelled: bool) -> String {
    let doing = match now.phase {
        Phase::Finishing => "finishing",
        Phase::Preparing | Phase::Transferring | Phase::Marking | Phase::Verifying | Phase::Removing => what,
    };
    let mut told = match cancelled {
        true => "stopping".to_owned(),
        false => doing.to_owned(),
    };
    if now.files > 0 {
        let of = match now.files_total {
            0 => String::new(),
            total => format!(" of {total}"),
        };
        told.push_str(&format!(": {}{of} files, {}", now.files, text::size(now.bytes)));
        if now.bytes_total > 0 {
            told.push_str(&format!(" of {}", text::size(now.bytes_total)));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use cairn_snapshot::archive::{Phase, ProgressNow};

    use super::{Watch, progress_text};

    #[test]
    fn progress_is_told_as_far_as_it_is_known() {
        let mut now = ProgressNow {
            phase: Phase::Preparing,
            files: 0,
            files_total: 0,
            bytes: 0,
            bytes_total: 0,
            transferred_bytes: 0,
        };
        assert_eq!(progress_text("saving", &now, false), "saving");
        (now.files, now.bytes) = (3, 2048);
        assert_eq!(progress_text("saving", &now, false), "saving: 3 files, 2.0 KiB");
        (now.files_total, now.bytes_total, now.phase) = (4, 4096, Phase::Finishing);
        assert_eq!(
            progress_text("saving", &now, true),
            "stopping: 3 of 4 files, 2.0 KiB of 4.0 KiB"
        );
        assert_eq!(
            progress_text("saving", &now, false),
            "finishing: 3 of 4 files, 2.0 KiB of 4.0 KiB"
        );
    }

    #[test]
    fn a_watch_ends_with_its_work() {
        let watch = Watch::start(Some("working")).unwrap();
        assert!(!watch.progress().is_cancelled());
        drop(watch);
    }
}
