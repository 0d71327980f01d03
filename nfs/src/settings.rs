//! What can be set about the server: plain data with defaults, units and bounds.

use std::time::Duration;

use crate::error::ServerError;

/// Settings of a [`crate::Server`]. [`ServerSettings::check`] says whether they fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// Largest READ and WRITE payload in bytes: `rtmax`, `wtmax`, and the largest READDIR reply. 64 KiB to 1 MiB, a
    /// multiple of 4,096. Default 1 MiB, the most that Linux clients ask for.
    pub transfer_bytes_max: u32,
    /// Most connections; further clients wait in the listen backlog. At least 1. Default 1,024.
    pub connections_max: usize,
    /// Most calls of one connection being executed; beyond, its socket is not read. At least 1. Default 256.
    pub connection_calls_max: usize,
    /// Most calls being executed in all. At least 1. Default 8,192.
    pub calls_max: usize,
    /// Most bytes of requests being executed and of replies not yet sent, per connection; beyond, its socket is not
    /// read. At least twice the largest payload and 256 KiB. Default 32 MiB.
    pub connection_bytes_max: usize,
    /// The same for all connections of one client address. At least as for a connection. Default 256 MiB.
    pub client_bytes_max: usize,
    /// The same for everybody. At least as for a client. Default 512 MiB.
    pub bytes_max: usize,
    /// Most threads that execute calls which may wait for a disk. They start when needed. 1 to 1,024. Default 64.
    pub workers_max: usize,
    /// Most bytes of buffers for large WRITE payloads kept for the next ones. Default 32 MiB.
    pub payload_pool_bytes_max: usize,
    /// Most finished replies in the duplicate request cache. At least 1. Default 65,536.
    pub reply_cache_entries_max: usize,
    /// Most bytes of finished replies in the duplicate request cache. Default 16 MiB.
    pub reply_cache_bytes_max: usize,
    /// How long a finished reply can be replayed. Default 120 s; a Linux client sends again after 60 s over TCP.
    pub reply_cache_age_max: Duration,
    /// Most mounts remembered for MOUNT's DUMP; the oldest are forgotten first. Default 4,096.
    pub mounts_max: usize,
    /// A connection without a call for so long is closed; clients reconnect when they need to. Default 10 minutes.
    pub idle_timeout: Duration,
    /// A connection on which a request has begun but nothing more has come for so long is closed. Default 60 s.
    pub record_timeout: Duration,
    /// A connection that takes no byte of its replies for so long is closed. Default 60 s.
    pub reply_timeout: Duration,
    /// How long shutdown waits for calls being executed and their replies. Default 10 s.
    pub drain_timeout: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        ServerSettings {
            transfer_bytes_max: 1 << 20,
            connections_max: 1024,
            connection_calls_max: 256,
            calls_max: 8192,
            connection_bytes_max: 32 << 20,
            client_bytes_max: 256 << 20,
            bytes_max: 512 << 20,
            workers_max: 64,
            payload_pool_bytes_max: 32 << 20,
            reply_cache_entries_max: 65_536,
            reply_cache_bytes_max: 16 << 20,
            reply_cache_age_max: Duration::from_secs(120),
            mounts_max: 4096,
            idle_timeout: Duration::from_secs(600),
            record_timeout: Duration::from_secs(60),
            reply_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

impl ServerSettings {
    /// Largest [`ServerSettings::transfer_bytes_max`].
    pub const TRANSFER_BYTES_LIMIT: u32 = 1 << 20;
    /// Smallest [`ServerSettings::transfer_bytes_max`].
    pub const TRANSFER_BYTES_LEAST: u32 = 64 << 10;

    /// Whether the bounds documented at the fields hold. Error: [`ServerError::Setting`] names the first that does not.
    pub fn check(&self) -> Result<(), ServerError> {
        let transfer = self.transfer_bytes_max;
        let connection_least = 2 * transfer as usize + (256 << 10);
        let second = Duration::from_secs(1);
        let wrong = [
            (
                !(Self::TRANSFER_BYTES_LEAST..=Self::TRANSFER_BYTES_LIMIT).contains(&transfer)
                    || !transfer.is_multiple_of(4096),
                "transfer_bytes_max: 65,536 to 1,048,576, a multiple of 4,096",
            ),
            (self.connections_max == 0, "connections_max: at least 1"),
            (self.connection_calls_max == 0, "connection_calls_max: at least 1"),
            (self.calls_max == 0, "calls_max: at least 1"),
            (
                self.connection_bytes_max < connection_least,
                "connection_bytes_max: at least twice transfer_bytes_max and 256 KiB",
            ),
            (
                self.client_bytes_max < self.connection_bytes_max,
                "client_bytes_max: at least connection_bytes_max",
            ),
            (
                self.bytes_max < self.client_bytes_max,
                "bytes_max: at least client_bytes_max",
            ),
            (self.bytes_max > u32::MAX as usize, "bytes_max: at most 4 GiB - 1"),
            (
                self.workers_max == 0 || self.workers_max > 1024,
                "workers_max: 1 to 1,024",
            ),
            (
                self.reply_cache_entries_max == 0,
                "reply_cache_entries_max: at least 1",
            ),
            (self.idle_timeout < second, "idle_timeout: at least 1 s"),
            (self.record_timeout < second, "record_timeout: at least 1 s"),
            (self.reply_timeout < second, "reply_timeout: at least 1 s"),
        ];
        match wrong.into_iter().find(|(wrong, _)| *wrong) {
            Some((_, rule)) => Err(ServerError::Setting(rule)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ServerSettings;

    #[test]
    fn defaults_fit_together_and_contradictions_are_named() {
        ServerSettings::default().check().unwrap();
        let settings = ServerSettings {
            connection_bytes_max: 1 << 20,
            ..ServerSettings::default()
        };
        let message = settings.check().unwrap_err().to_string();
        assert!(message.contains("connection_bytes_max"), "{message}");
        let settings = ServerSettings {
            transfer_bytes_max: 100_000,
            ..ServerSettings::default()
        };
        assert!(settings.check().is_err());
    }
}
