//! The duplicate request cache: a retransmitted call that must not be executed twice is answered with the first
//! execution's reply, or attached to it while it runs.
//!
//! A request is identified by a keyed hash of client address, transaction id, program and procedure, ids of the credential,
//! and all argument bytes with their length. Neither the connection nor the client's port is part of it, so a
//! retransmission over a new connection, or over another of several, is recognised. Two different requests of one client
//! with the same transaction id differ in the rest.
//!
//! A reply is kept until it is too old, or until too many entries or bytes are kept, oldest first, in each of
//! [`SHARDS`] shards by itself. Entries of running calls are bounded by the bound on calls.

use std::collections::{HashMap, VecDeque};
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use siphasher::sip128::{Hasher128, SipHasher24};
use tokio::time::Instant;

use super::auth::Credential;
use crate::connection::budget::Reservation;
use crate::file_handle::derive_key;

/// Independent parts of the cache, each under its own lock.
const SHARDS: usize = 16;
/// Most retransmissions attached to one running call; a further one takes the place of the oldest.
const WAITERS_MAX: usize = 4;

/// Identifies a request.
pub(crate) type ReplyKey = [u8; 16];

/// Where a reply can be delivered: a connection.
pub(crate) trait ReplySink: Send + Sync {
    /// Sends `body`, all of the reply after the transaction id.
    fn deliver(&self, xid: u32, body: Bytes, reservation: Reservation);
}

/// A retransmission that waits for the running call.
pub(crate) struct Waiter {
    pub(crate) sink: Arc<dyn ReplySink>,
    pub(crate) xid: u32,
    pub(crate) reservation: Reservation,
}

/// What to do with a request.
pub(crate) enum Admission {
    /// It is new: execute it, then [`ReplyCache::complete`] or [`ReplyCache::abandon`] it.
    Execute(Waiter),
    /// It is running; its reply will go to the waiter too.
    Attached,
    /// It has been executed, with this reply.
    Replay(Waiter, Bytes),
}

enum Entry {
    Running(Vec<Waiter>),
    Done(Bytes),
}

#[derive(Default)]
struct Shard {
    entries: HashMap<ReplyKey, Entry>,
    /// Finished entries, oldest first.
    finished: VecDeque<(ReplyKey, Instant)>,
    bytes: usize,
}

/// Bounds of the cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) entries_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) age_max: Duration,
}

/// The cache.
pub(crate) struct ReplyCache {
    keyed: SipHasher24,
    shards: [Mutex<Shard>; SHARDS],
    bounds: Bounds,
}

impl ReplyCache {
    /// An empty cache. Its keys depend on the secret only, so that records of an earlier process are recognised.
    pub(crate) fn new(secret: &[u8; 16], bounds: Bounds) -> Self {
        let share = |total: usize| total.div_ceil(SHARDS);
        ReplyCache {
            keyed: SipHasher24::new_with_key(&derive_key(secret, "cairn nfs reply cache")),
            shards: Default::default(),
            bounds: Bounds {
                entries_max: share(bounds.entries_max),
                bytes_max: share(bounds.bytes_max),
                ..bounds
            },
        }
    }

    /// The key of a request.
    pub(crate) fn key(
        &self,
        client: SocketAddr,
        xid: u32,
        procedure: u32,
        credential: &Credential<'_>,
        arguments: &[u8],
    ) -> ReplyKey {
        let mut hasher = self.keyed;
        let mut word = |value: u32| hasher.write(&value.to_be_bytes());
        word(xid);
        word(procedure);
        match credential {
            Credential::None => word(0),
            Credential::Sys(sys) => {
                word(1);
                word(sys.uid);
                word(sys.gid);
                word(sys.groups().len() as u32);
                sys.groups().for_each(&mut word);
            }
        }
        word(arguments.len() as u32);
        hasher.write(arguments);
        let address = match client.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        hasher.write(&address.octets());
        hasher.finish128().as_bytes()
    }

    /// Decides about a request and, if it is new, marks it as running.
    pub(crate) fn admit(&self, key: ReplyKey, waiter: Waiter, now: Instant) -> Admission {
        let mut shard = self.shard(&key);
        shard.evict(self.bounds, now);
        match shard.entries.get_mut(&key) {
            None => {
                shard.entries.insert(key, Entry::Running(Vec::new()));
                Admission::Execute(waiter)
            }
            Some(Entry::Running(waiters)) => {
                if waiters.len() == WAITERS_MAX {
                    waiters.remove(0);
                }
                waiters.push(waiter);
                Admission::Attached
            }
            Some(Entry::Done(body)) => Admission::Replay(waiter, body.clone()),
        }
    }

    /// Keeps the reply of a running request and returns who else waits for it.
    pub(crate) fn complete(&self, key: ReplyKey, body: Bytes, now: Instant) -> Vec<Waiter> {
        let mut shard = self.shard(&key);
        shard.bytes += body.len();
        let before = shard.entries.insert(key, Entry::Done(body));
        if let Some(Entry::Done(replaced)) = &before {
            shard.bytes -= replaced.len();
        } else {
            shard.finished.push_back((key, now));
        }
        shard.evict(self.bounds, now);
        match before {
            Some(Entry::Running(waiters)) => waiters,
            Some(Entry::Done(_)) | None => Vec::new(),
        }
    }

    /// Forgets a running request and returns who waits for its reply.
    pub(crate) fn abandon(&self, key: ReplyKey) -> Vec<Waiter> {
        let mut shard = self.shard(&key);
        match shard.entries.remove(&key) {
            Some(Entry::Running(waiters)) => waiters,
            Some(done @ Entry::Done(_)) => {
                shard.entries.insert(key, done);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn shard(&self, key: &ReplyKey) -> parking_lot::MutexGuard<'_, Shard> {
        self.shards[usize::from(key[0]) % SHARDS].lock()
    }

    #[cfg(test)]
    fn counts(&self) -> (usize, usize) {
        self.shards
            .iter()
            .map(Mutex::lock)
            .fold((0, 0), |(entries, bytes), shard| {
                (entries + shard.entries.len(), bytes + shard.bytes)
            })
    }
}

impl Shard {
    fn evict(&mut self, bounds: Bounds, now: Instant) {
        while let Some((key, finished)) = self.finished.front() {
            let fits = self.finished.len() <= bounds.entries_max && self.bytes <= bounds.bytes_max;
            if fits && now.duration_since(*finished) <= bounds.age_max {
                return;
            }
            if let Some(Entry::Done(body)) = self.entries.remove(key) {
                self.bytes -= body.len();
            }
            self.finished.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
