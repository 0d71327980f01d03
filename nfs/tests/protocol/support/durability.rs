//! When the changes of the file system in memory become durable: a test decides.

use std::future::Future;
use std::pin::Pin;

use cairn_types::ErrorKind;
use cairn_vfs::{Barrier, Error};
use tokio::sync::watch;

/// What a barrier finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Changes are durable at once.
    Ready,
    /// Changes wait until the gate says something else.
    Waiting,
    /// Waiting ends with an error.
    Failing,
    /// Waiting panics.
    Panicking,
}

/// Waits for the test's decision.
pub struct Gate(pub watch::Receiver<Durability>);

impl Barrier for Gate {
    fn wait(mut self: Box<Self>) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> {
        Box::pin(async move {
            let found = *self
                .0
                .wait_for(|found| *found != Durability::Waiting)
                .await
                .unwrap();
            match found {
                Durability::Failing => Err(Error::Io {
                    what: "log".into(),
                    kind: ErrorKind::Unavailable,
                }),
                Durability::Panicking => panic!("expected by the test"),
                Durability::Ready | Durability::Waiting => Ok(()),
            }
        })
    }
}
