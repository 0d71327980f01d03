//! Whether the node is to take nothing new on, and how far its parts are with that.

use tokio::sync::watch;

/// The wish to drain, and what the NFS server has made of it.
#[derive(Debug)]
pub struct Draining {
    wanted: watch::Sender<bool>,
    nfs_stopped: watch::Sender<bool>,
}

/// How far a node is with draining.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Drained {
    /// The NFS server has finished all calls and closed all connections.
    pub nfs_stopped: bool,
    /// Operations that run.
    pub operations: Vec<String>,
    /// Bytes that were acknowledged and are not on the disk.
    pub unstable_bytes: u64,
}

impl Drained {
    /// Whether ending the process disturbs nobody but clients that wait.
    pub fn is_safe_to_stop(&self) -> bool {
        self.nfs_stopped && self.operations.is_empty() && self.unstable_bytes == 0
    }
}

impl Default for Draining {
    fn default() -> Self {
        Draining {
            wanted: watch::Sender::new(false),
            nfs_stopped: watch::Sender::new(true),
        }
    }
}

impl Draining {
    /// Whether the node is to take nothing new on.
    pub fn is_wanted(&self) -> bool {
        *self.wanted.borrow()
    }

    /// Says whether it is.
    pub fn want(&self, wanted: bool) {
        self.wanted
            .send_if_modified(|now| std::mem::replace(now, wanted) != wanted);
    }

    /// To wait for a change of the wish.
    pub fn wanted(&self) -> watch::Receiver<bool> {
        self.wanted.subscribe()
    }

    /// Says whether the NFS server has stopped.
    pub fn set_nfs_stopped(&self, stopped: bool) {
        self.nfs_stopped.send_replace(stopped);
    }

    /// To wait for the NFS server to stop.
    pub fn nfs_stopped(&self) -> watch::Receiver<bool> {
        self.nfs_stopped.subscribe()
    }
}
