//! A change that is visible but not yet durable.

use std::future::Future;
use std::pin::Pin;

use crate::Error;

/// Something to wait for until a change is durable.
pub trait Barrier: Send {
    /// Lets the calling thread, which may block on a disk, do what the wait needs done. The wait is then often over at
    /// once; it has to be awaited all the same.
    fn assist(&self) {}

    /// Ends when everything that the change wrote would survive a power cut. An error means that it may not: the
    /// change must not be acknowledged.
    fn wait(self: Box<Self>) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;
}

/// The outcome of a change, to be had only by waiting for its durability or by saying that it is not needed.
#[must_use = "a change is not durable before it has been waited for"]
pub struct Pending<T> {
    value: T,
    barrier: Option<Box<dyn Barrier>>,
}

impl<T> Pending<T> {
    /// An outcome that is durable already, or needs no durability.
    pub fn ready(value: T) -> Self {
        Pending { value, barrier: None }
    }

    /// An outcome that is durable once `barrier` has been waited for.
    pub fn after(value: T, barrier: Box<dyn Barrier>) -> Self {
        Pending {
            value,
            barrier: Some(barrier),
        }
    }

    /// Waits until the change is durable. Dropping the future leaves the change visible and its durability unknown.
    pub async fn durable(self) -> Result<T, Error> {
        if let Some(barrier) = self.barrier {
            barrier.wait().await?;
        }
        Ok(self.value)
    }

    /// Lends the calling thread to the syncing, if it may block on a disk: see [`Barrier::assist`].
    pub fn assist(&self) {
        if let Some(barrier) = &self.barrier {
            barrier.assist();
        }
    }

    /// The same change with another outcome.
    pub fn map<U>(self, outcome: impl FnOnce(T) -> U) -> Pending<U> {
        Pending {
            value: outcome(self.value),
            barrier: self.barrier,
        }
    }

    /// Whether nothing is left to wait for.
    pub fn is_ready(&self) -> bool {
        self.barrier.is_none()
    }

    /// The outcome without waiting: visible, perhaps lost in a crash.
    pub fn without_durability(self) -> T {
        self.value
    }
}
