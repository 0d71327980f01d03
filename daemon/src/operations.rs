//! Operations: work that takes long, goes on when its client has gone away, and can be watched and cancelled.
//!
//! Each has an identity, runs on a thread of its own (the work blocks) and ends in exactly one [`State`]. The registry is
//! [`Operations`]; what an operation finds out on the way is kept in [`Findings`].
//!
//! Invariants:
//! - At most [`RUNNING_MAX`] of those on object stores run at once; more are refused, never queued: who asks shall know. Of those on
//!   plain directories, at most [`DIRECTORIES_MAX`] wait for their turn or run: [`crate::directories::turns`].
//! - Of two equal [`Request`]s at the same time one is executed, and both callers get it.
//! - An operation that has ended never changes again, but that its findings may be dropped to keep memory bounded.
//!
//! What is not done here: the work itself, and keeping anything beyond the life of the process. What is interrupted goes on
//! where it was when it is asked for again; that is a matter of the work. Work on plain directories is asked for again by
//! [`crate::directories`], which writes it down.

mod findings;
mod registry;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cairn_api::ApiError;
use cairn_snapshot::archive::{Progress, Pulled, Pushed, Reclaimed, Verified};
use cairn_types::{Randomness, SnapshotId, Timestamp, hexadecimal};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::directories;
pub use findings::{Finding, Findings, Told};

pub use registry::{FindError, Operations, StartError};

/// Operations that run at once. Each may use as much memory as a pipeline does, and they share one line to the stores.
pub const RUNNING_MAX: usize = 4;
/// Operations on plain directories that wait for their turn or run. Each has a thread, and most of them wait.
pub const DIRECTORIES_MAX: usize = 64;
/// Operations that have ended and are remembered; the oldest is forgotten first.
pub const ENDED_MAX: usize = 256;

/// An operation's identity: 16 random bytes, written as 32 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperationId([u8; 16]);

impl OperationId {
    /// A new one.
    pub fn random(randomness: &dyn Randomness) -> Self {
        let mut bytes = [0; 16];
        randomness.fill(&mut bytes);
        OperationId(bytes)
    }

    /// The identity with these digits, all of them.
    pub fn parse(text: &str) -> Option<Self> {
        hexadecimal::parse(text).map(OperationId)
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What kind of work it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A snapshot goes into a store.
    Push,
    /// An archive becomes a workspace.
    Pull,
    /// Stored bytes are compared with their checksums.
    Verify,
    /// What no archive needs is removed.
    Reclaim,
    /// A plain directory is saved.
    DirectorySave,
    /// A plain directory is restored.
    DirectoryRestore,
    /// Snapshots of a plain directory are read.
    DirectoryVerify,
    /// A snapshot of a plain directory becomes another directory.
    DirectoryFork,
    /// Snapshots of a plain directory that retention does not keep are removed.
    DirectoryCollect,
    /// A snapshot of a plain directory is removed.
    DirectoryDelete,
}

impl Kind {
    /// The word for it, in messages and in names of threads.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Push => "push",
            Kind::Pull => "pull",
            Kind::Verify => "verify",
            Kind::Reclaim => "reclaim",
            Kind::DirectorySave => "save",
            Kind::DirectoryRestore => "restore",
            Kind::DirectoryVerify => "read",
            Kind::DirectoryFork => "fork",
            Kind::DirectoryCollect => "collect",
            Kind::DirectoryDelete => "delete",
        }
    }

    /// Whether it is on a plain directory.
    pub fn is_of_directory(self) -> bool {
        match self {
            Kind::Push | Kind::Pull | Kind::Verify | Kind::Reclaim => false,
            Kind::DirectorySave
            | Kind::DirectoryRestore
            | Kind::DirectoryVerify
            | Kind::DirectoryFork
            | Kind::DirectoryCollect
            | Kind::DirectoryDelete => true,
        }
    }
}

/// What was asked for. Equal requests at the same time are one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What kind of work.
    pub kind: Kind,
    /// The workspace, if one is concerned; else empty.
    pub workspace: String,
    /// The repository of a plain directory, if one is concerned; else empty.
    pub repository: String,
    /// The snapshot or archive, if a single one is concerned; else empty.
    pub reference: String,
    /// URL of the store; it holds no secret.
    pub store: String,
    /// The other parameters, in any form that differs when they do.
    pub parameters: String,
}

impl Request {
    /// Whether the two must not run at the same time. Two pulls into one workspace would each undo the other's progress.
    fn excludes(&self, other: &Request) -> bool {
        let pull = |request: &Request| request.kind == Kind::Pull;
        pull(self) && pull(other) && self.workspace == other.workspace
    }
}

/// What came of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Of a push.
    Pushed(Pushed),
    /// Of a pull.
    Pulled {
        /// What was pulled.
        pulled: Pulled,
        /// The snapshot of the workspace that holds it.
        snapshot: SnapshotId,
        /// The snapshot of what an existing workspace was before.
        safety: Option<SnapshotId>,
        /// Files that could not be read and were left out.
        left_out: u64,
    },
    /// Of verifying.
    Verified(Verified),
    /// Of reclaiming.
    Reclaimed {
        /// Nothing was changed.
        dry_run: bool,
        /// What was done, or would be.
        reclaimed: Reclaimed,
    },
    /// Of work on a plain directory.
    Directory(Box<directories::Outcome>),
}

/// How an operation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It goes on.
    Running,
    /// It has done what it was asked for.
    Succeeded(Box<Outcome>),
    /// It has not.
    Failed(Box<ApiError>),
    /// It was asked to stop, and has.
    Cancelled,
}

/// What an operation is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationIdentity {
    /// Its identity.
    pub id: OperationId,
    /// When it was started first.
    pub started: Timestamp,
    /// It is taken up again.
    pub resumed: bool,
}

/// One operation. Shared between who works, who watches and who may cancel.
#[derive(Debug)]
pub struct Operation {
    /// Its identity.
    pub id: OperationId,
    /// What was asked for.
    pub request: Request,
    /// When it was started; of one that was taken up again, when it was started first.
    pub started: Timestamp,
    /// The process before was interrupted while it ran, and it was taken up again.
    pub resumed: bool,
    waiting: AtomicBool,
    cancelled: AtomicBool,
    started_at: Instant,
    progress: Arc<Progress>,
    findings: Mutex<Findings>,
    now: Mutex<Now>,
    has_ended: watch::Sender<bool>,
}

#[derive(Debug)]
struct Now {
    state: State,
    ended: Option<(Timestamp, Duration)>,
}

impl Operation {
    fn new(identity: OperationIdentity, request: Request) -> Self {
        Operation {
            id: identity.id,
            request,
            started: identity.started,
            resumed: identity.resumed,
            waiting: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            started_at: Instant::now(),
            progress: Arc::new(Progress::new()),
            findings: Mutex::new(Findings::default()),
            now: Mutex::new(Now {
                state: State::Running,
                ended: None,
            }),
            has_ended: watch::Sender::new(false),
        }
    }

    /// How far it is, and the flag that stops it.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Asks it to stop for good, on somebody's word: it ends as cancelled, also if the daemon stops before it has noticed.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.progress.cancel();
    }

    /// Whether somebody has cancelled it; a daemon that stops has not.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Whether it waits for its turn.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Says whether it waits for its turn.
    pub fn set_waiting(&self, waiting: bool) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    /// How it is.
    pub fn state(&self) -> State {
        self.now.lock().state.clone()
    }

    /// When it ended; `None` while it runs.
    pub fn ended(&self) -> Option<Timestamp> {
        self.now.lock().ended.map(|(time, _)| time)
    }

    /// How long it has run, or ran.
    pub fn elapsed(&self) -> Duration {
        let ended = self.now.lock().ended;
        ended.map_or_else(|| self.started_at.elapsed(), |(_, ran)| ran)
    }

    /// Tells whoever watches what has been found.
    pub fn found(&self, finding: Finding) {
        self.findings.lock().push(finding);
    }

    /// What has been found from `position` on.
    pub fn findings_since(&self, position: u64) -> Told {
        self.findings.lock().since(position)
    }

    /// Becomes true, once, when it has ended.
    pub fn has_ended(&self) -> watch::Receiver<bool> {
        self.has_ended.subscribe()
    }

    fn end(&self, state: State, time: Timestamp) {
        {
            let mut now = self.now.lock();
            now.state = state;
            now.ended = Some((time, self.started_at.elapsed()));
        }
        self.has_ended.send_replace(true);
    }
}
