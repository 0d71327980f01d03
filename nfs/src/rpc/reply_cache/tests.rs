//! The cache by itself; its use over connections is tested in `tests/duplicates.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Admission, Bounds, ReplyCache, ReplyKey, ReplySink, WAITERS_MAX, Waiter};
use crate::connection::budget::{Budget, Reservation, ServerBudget};
use crate::rpc::auth::Credential;
use crate::settings::ServerSettings;

#[derive(Default)]
struct Sink(Mutex<Vec<(u32, Bytes)>>);

impl ReplySink for Sink {
    fn deliver(&self, xid: u32, body: Bytes, _reservation: Reservation) {
        self.0.lock().push((xid, body));
    }
}

const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 700);

fn cache(entries_max: usize, bytes_max: usize) -> ReplyCache {
    ReplyCache::new(
        &[1; 16],
        Bounds {
            entries_max,
            bytes_max,
            age_max: Duration::from_secs(120),
        },
    )
}

fn budget() -> Arc<Budget> {
    Arc::new(ServerBudget::new(&ServerSettings::default())).connection(CLIENT.ip())
}

fn waiter(budget: &Arc<Budget>, sink: &Arc<Sink>, xid: u32) -> Waiter {
    Waiter {
        sink: sink.clone(),
        xid,
        reservation: budget.try_reserve(1).unwrap(),
    }
}

fn key(shard: u8, number: u32) -> ReplyKey {
    let mut key = [shard; 16];
    key[12..].copy_from_slice(&number.to_be_bytes());
    key
}

#[test]
fn a_request_runs_once_and_is_replayed_afterwards() {
    let (cache, budget, sink, now) = (cache(100, 1000), budget(), Arc::default(), Instant::now());
    assert!(matches!(
        cache.admit(key(0, 1), waiter(&budget, &sink, 1), now),
        Admission::Execute(_)
    ));
    assert!(matches!(
        cache.admit(key(0, 1), waiter(&budget, &sink, 2), now),
        Admission::Attached
    ));
    let waiters = cache.complete(key(0, 1), Bytes::from_static(b"done"), now);
    assert_eq!(waiters.iter().map(|waiter| waiter.xid).collect::<Vec<_>>(), [2]);
    let Admission::Replay(_, body) = cache.admit(key(0, 1), waiter(&budget, &sink, 3), now) else {
        panic!("not replayed")
    };
    assert_eq!(&body[..], b"done");
}

#[test]
fn an_abandoned_request_may_run_again() {
    let (cache, budget, sink, now) = (cache(100, 1000), budget(), Arc::default(), Instant::now());
    for _ in 0..2 {
        assert!(matches!(
            cache.admit(key(0, 1), waiter(&budget, &sink, 1), now),
            Admission::Execute(_)
        ));
        assert!(cache.abandon(key(0, 1)).is_empty());
    }
    assert_eq!(cache.counts(), (0, 0));
}

#[test]
fn attached_retransmissions_are_bounded() {
    let (cache, budget, sink, now) = (cache(100, 1000), budget(), Arc::default(), Instant::now());
    for xid in 0..20 {
        cache.admit(key(0, 1), waiter(&budget, &sink, xid), now);
    }
    let waiters = cache.abandon(key(0, 1));
    let xids: Vec<u32> = waiters.iter().map(|waiter| waiter.xid).collect();
    assert_eq!(xids.len(), WAITERS_MAX);
    assert_eq!(xids.last(), Some(&19));
}

#[test]
fn entries_bytes_and_age_are_bounded() {
    let now = Instant::now();
    let cache = cache(16 * 4, 16 * 100);
    for number in 0..50 {
        cache.complete(key(0, number), Bytes::from_static(b"0123456789"), now);
    }
    assert_eq!(cache.counts(), (4, 40), "entries of a shard");
    cache.complete(key(0, 99), Bytes::from(vec![0; 90]), now);
    assert_eq!(cache.counts(), (2, 100), "bytes of a shard");
    cache.complete(
        key(0, 100),
        Bytes::from_static(b"x"),
        now + Duration::from_secs(121),
    );
    assert_eq!(cache.counts(), (1, 1), "age");
}

#[test]
fn completing_twice_does_not_count_twice() {
    let (cache, now) = (cache(100, 1600), Instant::now());
    cache.complete(key(0, 1), Bytes::from_static(b"aaaa"), now);
    cache.complete(key(0, 1), Bytes::from_static(b"bb"), now);
    assert_eq!(cache.counts(), (1, 2));
}

#[test]
fn keys_depend_on_everything_but_the_port() {
    let cache = cache(1, 1);
    let base = cache.key(CLIENT, 1, 2, &Credential::None, b"arguments");
    let mut other_port = CLIENT;
    other_port.set_port(1);
    assert_eq!(cache.key(other_port, 1, 2, &Credential::None, b"arguments"), base);
    let mapped: SocketAddr = "[::ffff:127.0.0.1]:700".parse().unwrap();
    assert_eq!(cache.key(mapped, 1, 2, &Credential::None, b"arguments"), base);
    let other_client: SocketAddr = "127.0.0.2:700".parse().unwrap();
    let others = [
        cache.key(other_client, 1, 2, &Credential::None, b"arguments"),
        cache.key(CLIENT, 2, 2, &Credential::None, b"arguments"),
        cache.key(CLIENT, 1, 3, &Credential::None, b"arguments"),
        cache.key(CLIENT, 1, 2, &Credential::None, b"argument"),
        ReplyCache::new(&[2; 16], cache.bounds).key(CLIENT, 1, 2, &Credential::None, b"arguments"),
    ];
    assert!(others.iter().all(|key| *key != base));
}
