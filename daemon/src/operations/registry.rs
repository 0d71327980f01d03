//! The registry of operations: starts them, finds them, remembers the last that ended, and stops them at the end.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cairn_api::{ApiError, Reason};
use cairn_types::{Clock, Randomness};
use parking_lot::{Condvar, Mutex};

use super::{
    DIRECTORIES_MAX, ENDED_MAX, Operation, OperationId, OperationIdentity, Outcome, RUNNING_MAX, Request,
    State, findings,
};

/// Fewest digits of a prefix of an identity.
pub const PREFIX_DIGITS_MIN: usize = 4;
/// Memory for the findings of all that have ended, in bytes, about: those of the newest are kept.
const ENDED_FINDINGS_BYTES_MAX: usize = 2 * findings::BYTES_MAX;

/// Why an operation was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// As many run as may.
    #[error("{running} operations are running, and no more than {limit} may at once")]
    TooMany {
        /// How many run.
        running: usize,
        /// How many may.
        limit: usize,
    },
    /// One that runs excludes it.
    #[error("another {kind} into workspace {workspace} is running: operation {running}")]
    Excluded {
        /// What kind of work it is.
        kind: &'static str,
        /// The workspace that both want.
        workspace: String,
        /// The one that runs.
        running: OperationId,
    },
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
    /// The operating system gave no thread.
    #[error("a thread for the operation cannot be started: {0}")]
    Thread(#[source] io::Error),
}

/// Why an operation was not found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// No operation has the identity.
    #[error("there is no operation {text:?}; the daemon remembers the last {ENDED_MAX} since it started")]
    NotFound {
        /// What was asked for.
        text: String,
    },
    /// Several have the prefix.
    #[error("{text} fits {} operations", candidates.len())]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// What fits.
        candidates: Vec<OperationId>,
    },
}

/// All operations of a daemon.
pub struct Operations {
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    inner: Mutex<Inner>,
    /// Told whenever one ends.
    ended: Condvar,
}

impl std::fmt::Debug for Operations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = self.inner.lock();
        f.debug_struct("Operations")
            .field("running", &inner.running.len())
            .field("ended", &inner.ended.len())
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Inner {
    /// At most [`RUNNING_MAX`] and [`DIRECTORIES_MAX`], oldest first.
    running: Vec<Running>,
    /// At most [`ENDED_MAX`], oldest first.
    ended: VecDeque<Arc<Operation>>,
    stopping: bool,
}

struct Running {
    operation: Arc<Operation>,
    /// Taken by whoever waits for its end.
    thread: Option<JoinHandle<()>>,
}

impl Operations {
    /// None yet.
    pub fn new(clock: Arc<dyn Clock>, randomness: Arc<dyn Randomness>) -> Arc<Self> {
        Arc::new(Operations {
            clock,
            randomness,
            inner: Mutex::new(Inner::default()),
            ended: Condvar::new(),
        })
    }

    /// Starts `work` on a thread of its own, or gives the operation that runs for an equal request; the flag says whether
    /// it was started now. `work` ends soon after its progress is cancelled, with [`Reason::Cancelled`].
    ///
    /// # Errors
    /// `TooMany`, `Excluded`, `Stopping`, `Thread`. Nothing was started.
    pub fn start(
        self: &Arc<Self>,
        request: Request,
        work: impl FnOnce(&Operation) -> Result<Outcome, ApiError> + Send + 'static,
    ) -> Result<(Arc<Operation>, bool), StartError> {
        self.start_as(self.new_identity(), request, work)
    }

    /// An identity for an operation that begins now.
    pub fn new_identity(&self) -> OperationIdentity {
        OperationIdentity {
            id: OperationId::random(self.randomness.as_ref()),
            started: self.clock.now(),
            resumed: false,
        }
    }

    /// The same as [`Operations::start`], with an identity that is chosen, and used if it is started now.
    ///
    /// # Errors
    /// As of [`Operations::start`].
    pub fn start_as(
        self: &Arc<Self>,
        identity: OperationIdentity,
        request: Request,
        work: impl FnOnce(&Operation) -> Result<Outcome, ApiError> + Send + 'static,
    ) -> Result<(Arc<Operation>, bool), StartError> {
        let mut inner = self.inner.lock();
        if inner.stopping {
            return Err(StartError::Stopping);
        }
        // One that was cancelled is about to end without a result: it serves nobody else.
        let serves = |running: &&Running| {
            running.operation.request == request && !running.operation.progress().is_cancelled()
        };
        if let Some(same) = inner.running.iter().find(serves) {
            return Ok((Arc::clone(&same.operation), false));
        }
        let excludes = |running: &&Running| running.operation.request.excludes(&request);
        if let Some(other) = inner.running.iter().find(excludes) {
            return Err(StartError::Excluded {
                kind: request.kind.as_str(),
                workspace: request.workspace,
                running: other.operation.id,
            });
        }
        let of_directory = request.kind.is_of_directory();
        let limit = match of_directory {
            true => DIRECTORIES_MAX,
            false => RUNNING_MAX,
        };
        let is_alike = |running: &&Running| running.operation.request.kind.is_of_directory() == of_directory;
        let running = inner.running.iter().filter(is_alike).count();
        if running >= limit {
            return Err(StartError::TooMany { running, limit });
        }
        let name = format!("cairnd-{}", request.kind.as_str());
        let operation = Arc::new(Operation::new(identity, request));
        let (registry, worker) = (Arc::clone(self), Arc::clone(&operation));
        // The thread cannot end before it is entered: to end it takes the lock that is held here.
        let thread = thread::Builder::new()
            .name(name)
            .spawn(move || registry.run(&worker, work))
            .map_err(StartError::Thread)?;
        inner.running.push(Running {
            operation: Arc::clone(&operation),
            thread: Some(thread),
        });
        Ok((operation, true))
    }

    fn run(&self, operation: &Arc<Operation>, work: impl FnOnce(&Operation) -> Result<Outcome, ApiError>) {
        let (id, kind) = (operation.id, operation.request.kind.as_str());
        let done = catch_unwind(AssertUnwindSafe(|| work(operation)));
        let state = match done {
            Ok(Ok(outcome)) => State::Succeeded(Box::new(outcome)),
            Ok(Err(error)) if error.reason == Reason::Cancelled => State::Cancelled,
            Ok(Err(error)) => State::Failed(Box::new(error)),
            Err(_panic) => State::Failed(Box::new(
                ApiError::new(Reason::Internal, format!("the {kind} broke off inside cairnd"))
                    .remedy("read the log of cairnd and report the fault; the same command again goes on where it was"),
            )),
        };
        let seconds = operation.elapsed().as_secs();
        match &state {
            State::Running | State::Succeeded(_) => {
                tracing::info!(operation = %id, kind, seconds, "an operation succeeded");
            }
            State::Cancelled => tracing::info!(operation = %id, kind, seconds, "an operation was cancelled"),
            State::Failed(error) => tracing::warn!(
                operation = %id, kind, seconds, reason = error.reason.as_str(), %error, "an operation failed"
            ),
        }
        let mut inner = self.inner.lock();
        inner.running.retain(|running| running.operation.id != id);
        inner.ended.push_back(Arc::clone(operation));
        if inner.ended.len() > ENDED_MAX {
            inner.ended.pop_front();
        }
        inner.bound_findings();
        // Who sees that it has ended finds it among those that have, with room for another one.
        operation.end(state, self.clock.now());
        drop(inner);
        self.ended.notify_all();
    }

    /// Adds one that has failed without being started here, so that who asks for it hears why.
    pub fn remember_failed(&self, identity: OperationIdentity, request: Request, error: ApiError) {
        let operation = Arc::new(Operation::new(identity, request));
        operation.end(State::Failed(Box::new(error)), self.clock.now());
        let mut inner = self.inner.lock();
        inner.ended.push_back(operation);
        if inner.ended.len() > ENDED_MAX {
            inner.ended.pop_front();
        }
    }

    /// Whether no more are started, and those that run are cancelled, because the daemon stops.
    pub fn is_stopping(&self) -> bool {
        self.inner.lock().stopping
    }

    /// Those that run, then those that have ended, each newest first.
    pub fn list(&self) -> Vec<Arc<Operation>> {
        let inner = self.inner.lock();
        let running = inner.running.iter().rev().map(|running| &running.operation);
        running.chain(inner.ended.iter().rev()).cloned().collect()
    }

    /// The operation with this identity, or the only one that begins with it.
    ///
    /// # Errors
    /// `NotFound`, `Ambiguous`.
    pub fn find(&self, text: &str) -> Result<Arc<Operation>, FindError> {
        let not_found = || FindError::NotFound {
            text: text.to_owned(),
        };
        if text.len() < PREFIX_DIGITS_MIN {
            return Err(not_found());
        }
        let mut fitting = self.list();
        fitting.retain(|operation| operation.id.to_string().starts_with(text));
        if fitting.len() > 1 {
            return Err(FindError::Ambiguous {
                text: text.to_owned(),
                candidates: fitting.iter().map(|operation| operation.id).collect(),
            });
        }
        fitting.pop().ok_or_else(not_found)
    }

    /// Starts no more, cancels all that run, and waits for their end, at most until `timeout` is over. Gives the number of
    /// those that still run then; they end with the process, and lose nothing that they had done durably.
    pub fn stop(&self, timeout: Duration) -> usize {
        let deadline = Instant::now() + timeout;
        let mut inner = self.inner.lock();
        inner.stopping = true;
        let mut threads = Vec::new();
        for running in &mut inner.running {
            running.operation.progress().cancel();
            threads.extend(running.thread.take());
        }
        while !inner.running.is_empty() {
            if self.ended.wait_until(&mut inner, deadline).timed_out() {
                return inner.running.len();
            }
        }
        drop(inner);
        for thread in threads {
            // Panics of the work are caught inside. It has left the list, so that it is about to end.
            let _ = thread.join();
        }
        0
    }
}

impl Inner {
    /// Keeps the findings of the newest that have ended.
    fn bound_findings(&mut self) {
        let mut bytes = 0;
        for operation in self.ended.iter().rev() {
            let mut findings = operation.findings.lock();
            bytes += findings.bytes();
            if bytes > ENDED_FINDINGS_BYTES_MAX {
                findings.forget();
            }
        }
    }
}
