//! Why a guest could not be used.

use std::io;
use std::process::ExitStatus;

/// Why a guest could not be used. What its script did wrong is not among it: see [`super::Output`].
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// This machine cannot run guests.
    #[error("guests cannot run here: {0}")]
    Unavailable(&'static str),
    /// The image could not be built; the builder has said why on standard error.
    #[error("the guest's image could not be built ({0}); try `make guest`")]
    Image(ExitStatus),
    /// Files, devices or processes of this machine could not be handled.
    #[error("{what}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A command of this machine failed.
    #[error("{command}: {message}")]
    Command {
        /// The command.
        command: String,
        /// What it said.
        message: String,
    },
    /// As many guests as there can be are running.
    #[error("{0} guests are running already")]
    TooMany(u8),
    /// The guest did not get as far as its script, or ended before it.
    #[error("the guest {what}\n-- standard error\n{stderr}\n-- console\n{console}")]
    Broken {
        /// What happened.
        what: String,
        /// The last of what it said.
        stderr: String,
        /// The last of what its kernel said.
        console: String,
    },
}

/// Makes an error of a failed system call.
pub(super) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> GuestError {
    let what = what.into();
    move |source| GuestError::System { what, source }
}
