//! The daemons of the nodes: who they are, how they are reached, and what can be asked of them.
//!
//! [`Daemons`] is the one way to them. The real one ([`client`]) speaks gRPC over mutual TLS; tests have another. Whoever asks goes through
//! [`Fleet`], which adds by whom a request is led and for which process it is meant.

pub mod call;
pub mod channel;
pub mod client;
pub mod discovery;
pub mod error;
pub mod fleet;

pub use call::{Call, Request, Response};
pub use error::{CallError, CallFailure, Outcome};
pub use fleet::{Fleet, NodeState};

use futures_util::future::BoxFuture;

/// Where a daemon answers, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Its IP address.
    pub ip: std::net::IpAddr,
    /// The port of the RPC service.
    pub port: u16,
    /// Whether it says that it is ready.
    pub is_ready: bool,
}

/// Sends requests to daemons. A request is answered once; nothing is repeated here.
pub trait Daemons: Send + Sync + 'static {
    /// The nodes that have a daemon now, by name.
    fn nodes(&self) -> Vec<(String, Address)>;

    /// Where the daemon of a node answers, if it has one.
    fn address(&self, node: &str) -> Option<Address>;

    /// Says where a daemon answers that is no node's, and which name its certificate has; nothing: it does not answer any more. Its name has a `/`.
    fn locate(&self, daemon: &str, at: Option<(Address, String)>);

    /// Sends a request to the daemon of a node and waits for its answer, at most as long as the request's [`Request::deadline`]. Errors: see
    /// [`CallError`]. If the answer did not arrive, the request may have been executed.
    fn send<'a>(&'a self, node: &'a str, request: Request) -> BoxFuture<'a, Result<Response, CallError>>;
}
