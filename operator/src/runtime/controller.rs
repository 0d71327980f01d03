//! Workers: they take keys from a queue and reconcile one object each, while the lease is held.
//!
//! Bounds: so many workers per kind, so long per reconciliation. What fails is tried again with back-off; what ends with nothing to do waits for a
//! change. A reconciliation that panics ends as a fault of its object, not of the process.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cairn_types::Randomness;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::cache::Key;
use super::clock::random;
use super::error::ReconcileError;
use super::metrics::Metrics;
use super::queue::Queue;

/// The longest that one reconciliation may take. Long work is an operation of a daemon, which is only asked how far it is.
pub const RECONCILE_TIME_MAX: Duration = Duration::from_secs(120);
/// The wait after a conflict: somebody else has changed the object, and the watch tells at once.
const CONFLICT_WAIT: Duration = Duration::from_millis(50);

/// When to look at the object again without a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Not at all.
    OnChange,
    /// After this long.
    After(Duration),
}

/// Makes one kind of object what it shall be.
pub trait Reconciler: Send + Sync + 'static {
    /// The kind, for logs and metrics.
    fn kind(&self) -> &'static str;

    /// Looks at one object, which may be gone. To be repeated at any time, any number of times, also after it was broken off anywhere.
    fn reconcile(&self, key: &Key) -> impl Future<Output = Result<Next, ReconcileError>> + Send;
}

/// What the workers of one kind need.
pub struct Controller<R> {
    /// What they do.
    pub reconciler: Arc<R>,
    /// What they do it to.
    pub queue: Arc<Queue<Key>>,
    /// How many there are.
    pub workers: usize,
    /// For jitter.
    pub randomness: Arc<dyn Randomness>,
    /// Told what was done.
    pub metrics: Metrics,
}

impl<R: Reconciler> Controller<R> {
    /// Works until the queue is closed; then what was begun is brought to its end. Dropping the future breaks everything off at once.
    pub async fn run(self) {
        let controller = Arc::new(self);
        let mut workers = JoinSet::new();
        for _ in 0..controller.workers {
            let controller = Arc::clone(&controller);
            workers.spawn(async move {
                while let Some(key) = controller.queue.next().await {
                    controller.work(key).await;
                }
            });
        }
        while workers.join_next().await.is_some() {}
    }

    async fn work(&self, key: Key) {
        let started = Instant::now();
        let kind = self.reconciler.kind();
        // In a task of its own, so that a panic is caught; it is aborted when this future is dropped.
        let mut task = JoinSet::new();
        let (reconciler, of) = (Arc::clone(&self.reconciler), key.clone());
        task.spawn(async move { reconciler.reconcile(&of).await });
        let joined = tokio::time::timeout(RECONCILE_TIME_MAX, task.join_next()).await;
        let result = match joined {
            Ok(Some(Ok(result))) => result,
            Ok(Some(Err(broken))) => Err(ReconcileError::Internal {
                what: "the reconciliation broke off".to_owned(),
                source: Box::new(broken),
            }),
            Ok(None) => Ok(Next::OnChange),
            Err(_) => Err(ReconcileError::TookTooLong {
                seconds: RECONCILE_TIME_MAX.as_secs(),
            }),
        };
        self.metrics
            .reconciled(kind, started.elapsed(), result.as_ref().err());
        match result {
            Ok(next) => {
                self.queue.done(&key);
                if let Next::After(wait) = next {
                    self.queue.add_after(key, wait);
                }
            }
            Err(error) if error.is_conflict() => {
                tracing::debug!(kind, %key, "somebody else changed the object meanwhile");
                self.queue.done(&key);
                self.queue.add_after(key, CONFLICT_WAIT);
            }
            Err(ReconcileError::NotLeading) => self.queue.done(&key),
            Err(error) => {
                let number = random(self.randomness.as_ref());
                let wait = self
                    .queue
                    .failed(&key, |failures| Backoff::OBJECT.wait(failures, number));
                let seconds = wait.as_secs_f64();
                match error {
                    ReconcileError::Internal { .. } | ReconcileError::TooManySteps { .. } => {
                        tracing::error!(kind, %key, error = error.chain(), seconds, "a fault; it is tried again");
                    }
                    _ => tracing::warn!(kind, %key, error = error.chain(), seconds, "it is tried again"),
                }
            }
        }
    }
}
