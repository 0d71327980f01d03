//! How much work a connection may have in hand: calls and bytes, of its own, of its client and of everybody.
//!
//! A call reserves before it is executed: one call, and as many bytes as its request has and its reply may have. The
//! reservation is given back when the reply has been written, or when nobody is left to write it to. Who cannot reserve
//! waits, which means that its socket is not read; nothing is ever refused for load. Order of reservation, the same for
//! everybody: the connection's calls, the connection's bytes, the client's bytes, all calls, all bytes.
//!
//! A connection that does not move (its request does not arrive, or its replies are not read) is ended by the
//! connection's timeouts, so a reservation cannot be held for ever.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::settings::ServerSettings;

/// Bytes reserved for the reply of a call with a small one.
pub(crate) const SMALL_REPLY_BYTES: usize = 1024;

/// The bounds of the whole server.
pub(crate) struct ServerBudget {
    calls: Semaphore,
    bytes: Semaphore,
    clients: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
    settings: ServerSettings,
}

impl ServerBudget {
    pub(crate) fn new(settings: &ServerSettings) -> Self {
        ServerBudget {
            calls: Semaphore::new(settings.calls_max),
            bytes: Semaphore::new(settings.bytes_max),
            clients: Mutex::default(),
            settings: settings.clone(),
        }
    }

    /// Bytes reserved now, by everybody.
    pub(crate) fn bytes_reserved(&self) -> usize {
        self.settings.bytes_max - self.bytes.available_permits()
    }

    /// Calls being executed or answered now.
    pub(crate) fn calls_reserved(&self) -> usize {
        self.settings.calls_max - self.calls.available_permits()
    }

    /// The budget of a new connection of `client`.
    pub(crate) fn connection(self: &Arc<Self>, client: IpAddr) -> Arc<Budget> {
        let mut clients = self.clients.lock();
        let known = clients.get(&client).and_then(Weak::upgrade);
        let client_bytes = known.unwrap_or_else(|| {
            // Connections are bounded, so is what is left here after dropping clients that are gone.
            clients.retain(|_, bytes| bytes.strong_count() > 0);
            let bytes = Arc::new(Semaphore::new(self.settings.client_bytes_max));
            clients.insert(client, Arc::downgrade(&bytes));
            bytes
        });
        drop(clients);
        Arc::new(Budget {
            calls: Semaphore::new(self.settings.connection_calls_max),
            bytes: Semaphore::new(self.settings.connection_bytes_max),
            client_bytes,
            server: Arc::clone(self),
        })
    }
}

/// The bounds of one connection.
pub(crate) struct Budget {
    calls: Semaphore,
    bytes: Semaphore,
    client_bytes: Arc<Semaphore>,
    server: Arc<ServerBudget>,
}

impl Budget {
    /// Reserves one call and `bytes`, if that needs no waiting.
    pub(crate) fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let bytes = self.clamp(bytes);
        let permits = [
            self.calls.try_acquire(),
            self.bytes.try_acquire_many(bytes),
            self.client_bytes.try_acquire_many(bytes),
            self.server.calls.try_acquire(),
            self.server.bytes.try_acquire_many(bytes),
        ];
        if permits.iter().any(Result::is_err) {
            return None;
        }
        permits.into_iter().flatten().for_each(SemaphorePermit::forget);
        Some(Reservation {
            budget: Arc::clone(self),
            bytes,
        })
    }

    /// Reserves one call and `bytes`, waiting until they are free. Dropping the future reserves nothing.
    pub(crate) async fn reserve(self: &Arc<Self>, bytes: usize) -> Reservation {
        let bytes = self.clamp(bytes);
        // No semaphore is ever closed, so that an error cannot come; were one, the bound would be lifted.
        let permits = (
            self.calls.acquire().await,
            self.bytes.acquire_many(bytes).await,
            self.client_bytes.acquire_many(bytes).await,
            self.server.calls.acquire().await,
            self.server.bytes.acquire_many(bytes).await,
        );
        let (a, b, c, d, e) = permits;
        [a, b, c, d, e]
            .into_iter()
            .flatten()
            .for_each(SemaphorePermit::forget);
        Reservation {
            budget: Arc::clone(self),
            bytes,
        }
    }

    /// Whether no call of the connection is being executed or answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.calls.available_permits() == self.server.settings.connection_calls_max
    }

    /// Waits until [`Budget::is_idle`].
    pub(crate) async fn idle(&self) {
        let calls = self.server.settings.connection_calls_max as u32;
        drop(self.calls.acquire_many(calls).await);
    }

    /// One call must fit by itself, whatever it announces.
    fn clamp(&self, bytes: usize) -> u32 {
        bytes.min(self.server.settings.connection_bytes_max) as u32
    }
}

/// One call and its bytes; given back on drop.
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: u32,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let bytes = self.bytes as usize;
        self.budget.server.bytes.add_permits(bytes);
        self.budget.server.calls.add_permits(1);
        self.budget.client_bytes.add_permits(bytes);
        self.budget.bytes.add_permits(bytes);
        self.budget.calls.add_permits(1);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::ServerBudget;
    use crate::settings::ServerSettings;

    fn server() -> Arc<ServerBudget> {
        let settings = ServerSettings {
            connection_calls_max: 3,
            connection_bytes_max: 100,
            client_bytes_max: 150,
            bytes_max: 200,
            ..ServerSettings::default()
        };
        Arc::new(ServerBudget::new(&settings))
    }

    #[test]
    fn each_bound_holds_by_itself() {
        let server = server();
        let one: IpAddr = [127, 0, 0, 1].into();
        let (a, b, c) = (
            server.connection(one),
            server.connection(one),
            server.connection([127, 0, 0, 2].into()),
        );
        let first = a.try_reserve(90).unwrap();
        assert!(a.try_reserve(11).is_none(), "the connection's bytes");
        assert!(b.try_reserve(61).is_none(), "the client's bytes");
        let second = b.try_reserve(60).unwrap();
        assert!(c.try_reserve(51).is_none(), "all bytes");
        assert_eq!((server.bytes_reserved(), server.calls_reserved()), (150, 2));
        drop((first, second));
        assert_eq!((server.bytes_reserved(), server.calls_reserved()), (0, 0));
        let calls: Vec<_> = (0..3).map(|_| a.try_reserve(1).unwrap()).collect();
        assert!(a.try_reserve(1).is_none(), "the connection's calls");
        assert!(!a.is_idle());
        drop(calls);
        assert!(a.is_idle());
    }

    #[test]
    fn more_than_a_connection_may_have_is_reserved_as_all_it_may_have() {
        let budget = server().connection([127, 0, 0, 1].into());
        assert_eq!(budget.try_reserve(1 << 30).unwrap().bytes, 100);
    }

    #[tokio::test]
    async fn waiting_ends_when_the_bytes_are_given_back() {
        let server = server();
        let budget = server.connection([127, 0, 0, 1].into());
        let held = budget.try_reserve(100).unwrap();
        let waiting = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.reserve(40).await.bytes }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        assert_eq!(waiting.await.unwrap(), 40);
        budget.idle().await;
        assert_eq!(server.bytes_reserved(), 0);
    }
}
