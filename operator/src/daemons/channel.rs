//! The connection to one daemon: made when it is needed, kept alive, bounded, and left alone for a while when it only fails.

use std::sync::Arc;
use std::time::Duration;

use cairn_api::proto::control_client::ControlClient;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::Address;
use super::error::CallError;
use crate::runtime::backoff::Backoff;
use crate::runtime::tls::Source;

/// Calls to one daemon at a time; more wait.
pub const IN_FLIGHT_MAX: usize = 16;
/// How long a connection may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a connection is asked whether it lives.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long an answer to that may take.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Failures in a row after which a daemon is left alone.
pub const BREAKER_FAILURES: u32 = 3;
/// How long it is left alone, doubled with each failure.
pub const BREAKER: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(30),
};
/// Largest answer in bytes.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Leaves a daemon alone that only fails. One call at a time may try whether it is back.
#[derive(Debug, Default)]
pub struct Breaker {
    state: Mutex<BreakerState>,
}

#[derive(Debug, Default)]
struct BreakerState {
    failures: u32,
    until: Option<Instant>,
    last: String,
}

impl Breaker {
    /// Whether a call may be tried now. Errors: why not.
    pub fn admit(&self, now: Instant) -> Result<(), String> {
        let mut state = self.state.lock();
        match state.until {
            Some(until) if now < until => Err(format!(
                "{}; it is tried again in {} s",
                state.last,
                (until - now).as_secs() + 1
            )),
            Some(_) => {
                // This call tries; the others wait for what it finds.
                let wait = BREAKER.wait(state.failures, 0);
                state.until = Some(now + wait);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The daemon answered, whatever it said.
    pub fn answered(&self) {
        *self.state.lock() = BreakerState::default();
    }

    /// The daemon did not answer.
    pub fn failed(&self, now: Instant, why: &str) {
        let mut state = self.state.lock();
        state.failures = state.failures.saturating_add(1);
        state.last = why.chars().take(200).collect();
        if state.failures >= BREAKER_FAILURES {
            let wait = BREAKER.wait(state.failures - BREAKER_FAILURES + 1, 0);
            state.until = Some(now + wait);
        }
    }
}

/// The connection to the daemon of one node.
#[derive(Debug)]
pub struct NodeChannel {
    node: String,
    /// Calls under way.
    pub in_flight: Arc<Semaphore>,
    /// Whether it is worth trying.
    pub breaker: Breaker,
    connection: Mutex<Option<Connection>>,
}

#[derive(Debug)]
struct Connection {
    address: Address,
    material: u64,
    client: ControlClient<Channel>,
}

impl NodeChannel {
    /// Nothing is connected yet.
    pub fn new(node: &str) -> Self {
        NodeChannel {
            node: node.to_owned(),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            breaker: Breaker::default(),
            connection: Mutex::new(None),
        }
    }

    /// A client of the daemon at `address`. A new one if the address or the certificates have changed. Errors: the certificates cannot be read or used.
    pub fn client(
        &self,
        call: &'static str,
        address: &Address,
        tls: &Source,
        server_name: &str,
    ) -> Result<ControlClient<Channel>, CallError> {
        let refused = |why: String| CallError::away(&self.node, call, &why);
        let material = tls.load().map_err(|error| refused(error.to_string()))?;
        let hash = material.hash();
        let mut connection = self.connection.lock();
        if let Some(known) = connection.as_ref()
            && (known.address.ip, known.address.port) == (address.ip, address.port)
            && known.material == hash
        {
            return Ok(known.client.clone());
        }
        let config = ClientTlsConfig::new()
            .domain_name(server_name)
            .ca_certificate(Certificate::from_pem(&material.authorities))
            .identity(Identity::from_pem(&material.certificate, &material.key));
        let uri = format!("https://{}", std::net::SocketAddr::new(address.ip, address.port));
        let endpoint = Endpoint::from_shared(uri)
            .and_then(|endpoint| endpoint.tls_config(config))
            .map_err(|error| refused(format!("the certificates cannot be used: {error}")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let client = ControlClient::new(endpoint.connect_lazy()).max_decoding_message_size(ANSWER_BYTES_MAX);
        *connection = Some(Connection {
            address: address.clone(),
            material: hash,
            client: client.clone(),
        });
        Ok(client)
    }

    /// Forgets the connection: the next call makes another.
    pub fn disconnect(&self) {
        *self.connection.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{BREAKER_FAILURES, Breaker};

    #[test]
    fn a_daemon_that_only_fails_is_left_alone() {
        let breaker = Breaker::default();
        let start = Instant::now();
        for _ in 0..BREAKER_FAILURES - 1 {
            assert!(breaker.admit(start).is_ok());
            breaker.failed(start, "refused");
        }
        assert!(breaker.admit(start).is_ok());
        breaker.failed(start, "refused");
        assert!(breaker.admit(start).unwrap_err().contains("refused"));
        // One call tries, the others wait.
        let later = start + Duration::from_secs(2);
        assert!(breaker.admit(later).is_ok());
        assert!(breaker.admit(later).is_err());
        breaker.answered();
        assert!(breaker.admit(later).is_ok());
        assert!(breaker.admit(later).is_ok());
    }

    #[test]
    fn it_is_left_alone_longer_and_longer() {
        let breaker = Breaker::default();
        let mut now = Instant::now();
        for _ in 0..20 {
            breaker.failed(now, "away");
            now += Duration::from_millis(1);
        }
        assert!(breaker.admit(now + Duration::from_secs(20)).is_err());
        assert!(breaker.admit(now + Duration::from_secs(31)).is_ok());
    }
}
