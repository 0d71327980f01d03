//! Exports that change, clients that come and go, and the server's end.

use std::sync::Arc;
use std::time::Duration;

use cairn_nfs::{ServerError, ServerSettings};
use cairn_types::{ExportPolicy, Squash};
use tokio::net::TcpStream;

use crate::support::Running;
use crate::support::client::{Client, MOUNT, NFS, Xdr, create_arguments, nobody, sys};
use crate::support::durability::Durability;
use crate::support::memory::{MemoryFs, open_policy};

const ACCESS: u32 = 13;
const READ_ONLY: u32 = 30;
const CROSS_VOLUME: u32 = 18;
const STALE: u32 = 70;

async fn getattr(client: &mut Client<TcpStream>, handle: &[u8]) -> u32 {
    client.nfs(1, &Xdr::new().opaque(handle)).await.status()
}

/// Owner and group of a new file.
async fn created_by(client: &mut Client<TcpStream>, root: &[u8], name: &str) -> (u32, u32) {
    let reply = client.nfs(8, &create_arguments(root, name)).await;
    assert_eq!(reply.status(), 0);
    // Handle 40, attributes follow: type, mode, links, uid, gid.
    let word = |at: usize| u32::from_be_bytes(reply.results()[at..at + 4].try_into().unwrap());
    (word(44 + 12), word(44 + 16))
}

#[tokio::test]
async fn the_rules_of_an_export_hold_for_every_request() {
    let fs = MemoryFs::simple();
    let running = Running::start(Arc::clone(&fs), ServerSettings::default()).await;
    let mut client = Client::connect(running.address).await;
    let root = client.mount("/vol").await;
    let file = client.create(&root, "file").await;
    assert_eq!(getattr(&mut client, &root).await, 0);

    fs.set_policy(
        1,
        ExportPolicy {
            read_only: true,
            ..open_policy()
        },
    );
    assert_eq!(getattr(&mut client, &root).await, 0);
    let set = [0; 6];
    let at = |name: &[u8]| Xdr::new().opaque(&root).opaque(name);
    for (procedure, arguments) in [
        (2, Xdr::new().opaque(&file).words(&set).u32(0)),
        (7, Xdr::new().opaque(&file).u64(0).words(&[1, 0]).opaque(b"x")),
        (8, at(b"n").u32(0).words(&set)),
        (9, at(b"n").words(&set)),
        (10, at(b"n").words(&set).opaque(b"t")),
        (11, at(b"n").u32(7).words(&set)),
        (12, at(b"file")),
        (13, at(b"file")),
        (14, at(b"file").opaque(&root).opaque(b"n")),
        (15, Xdr::new().opaque(&file).opaque(&root).opaque(b"n")),
    ] {
        assert_eq!(
            client.nfs(procedure, &arguments).await.status(),
            READ_ONLY,
            "procedure {procedure}"
        );
    }
    let access = client.nfs(4, &Xdr::new().opaque(&root).u32(0x3f)).await;
    assert_eq!(
        access.results()[88..],
        0x03u32.to_be_bytes(),
        "read and lookup only"
    );
    assert_eq!(fs.names(), ["file"]);

    fs.set_policy(1, ExportPolicy::default());
    assert_eq!(
        getattr(&mut client, &root).await,
        ACCESS,
        "not from a privileged port"
    );
    let mount = client.call(MOUNT, 1, &Xdr::new().opaque(b"/vol")).await;
    assert_eq!(mount.status(), ACCESS);
    assert_eq!(running.server.metrics().not_admitted.get(), 2);

    fs.set_policy(
        1,
        ExportPolicy {
            allow: Vec::new(),
            ..open_policy()
        },
    );
    assert_eq!(getattr(&mut client, &root).await, ACCESS, "not from this network");
    let exports = client.call(MOUNT, 5, &Xdr::new()).await;
    assert_eq!(exports.status(), 0, "an empty list");

    fs.drop_volume(1);
    assert_eq!(getattr(&mut client, &root).await, STALE);
    assert_eq!(
        client.call(MOUNT, 1, &Xdr::new().opaque(b"/vol")).await.status(),
        2
    );
}

#[tokio::test]
async fn identities_are_squashed() {
    let fs = MemoryFs::simple();
    let running = Running::start(Arc::clone(&fs), ServerSettings::default()).await;
    let mut client = Client::connect(running.address).await;
    let root = client.mount("/vol").await;
    assert_eq!(created_by(&mut client, &root, "as-root").await, (0, 0));
    fs.set_policy(
        1,
        ExportPolicy {
            squash: Squash::Root,
            ..open_policy()
        },
    );
    assert_eq!(
        created_by(&mut client, &root, "squashed-root").await,
        (65_534, 65_534)
    );
    client.auth = sys(1000, 100, &[]);
    assert_eq!(created_by(&mut client, &root, "user").await, (1000, 100));
    fs.set_policy(
        1,
        ExportPolicy {
            squash: Squash::All,
            anonymous_uid: 5,
            anonymous_gid: 6,
            ..open_policy()
        },
    );
    assert_eq!(created_by(&mut client, &root, "anybody").await, (5, 6));
    fs.set_policy(1, open_policy());
    client.auth = nobody();
    assert_eq!(created_by(&mut client, &root, "nobody").await, (65_534, 65_534));
    // Without identity, root's directory of mode 0700 is closed.
    client.auth = sys(0, 0, &[]);
    let made = client
        .nfs(
            9,
            &Xdr::new()
                .opaque(&root)
                .opaque(b"d")
                .words(&[1, 0o700, 0, 0, 0, 0, 0]),
        )
        .await;
    let directory = made.results()[8..40].to_vec();
    client.auth = nobody();
    assert_eq!(client.lookup(&directory, "x").await.status(), ACCESS);
}

#[tokio::test]
async fn two_exports_are_two_worlds() {
    let fs = MemoryFs::new(&[("/one", open_policy()), ("/two", open_policy())]);
    let running = Running::start(Arc::clone(&fs), ServerSettings::default()).await;
    let mut client = Client::connect(running.address).await;
    let (one, two) = (client.mount("/one").await, client.mount("/two").await);
    assert_eq!(
        client.mount("/one/").await,
        one,
        "mounting again gives the same handle"
    );
    assert_ne!(one, two);
    let file = client.create(&one, "file").await;
    assert_eq!(client.lookup(&two, "file").await.status(), 2);
    let rename = Xdr::new()
        .opaque(&one)
        .opaque(b"file")
        .opaque(&two)
        .opaque(b"file");
    let reply = client.nfs(14, &rename).await;
    assert_eq!(reply.status(), CROSS_VOLUME);
    assert_eq!(
        reply.results().len(),
        2 * (4 + 88),
        "with the attributes of both directories"
    );
    let link = Xdr::new().opaque(&file).opaque(&two).opaque(b"file");
    assert_eq!(client.nfs(15, &link).await.status(), CROSS_VOLUME);
    // A subdirectory can be mounted.
    let made = client
        .nfs(9, &Xdr::new().opaque(&one).opaque(b"sub").words(&[0; 6]))
        .await;
    assert_eq!(client.mount("/one/sub").await, made.results()[8..40]);
    let not_directory = client.call(MOUNT, 1, &Xdr::new().opaque(b"/one/file")).await;
    assert_eq!(not_directory.status(), 20);
    fs.set_policy(
        2,
        ExportPolicy {
            read_only: true,
            ..open_policy()
        },
    );
    let rename = Xdr::new()
        .opaque(&one)
        .opaque(b"file")
        .opaque(&two)
        .opaque(b"file");
    assert_eq!(
        client.nfs(14, &rename).await.status(),
        READ_ONLY,
        "both ends are checked"
    );
}

#[tokio::test]
async fn shutdown_finishes_what_was_begun() {
    let fs = MemoryFs::simple();
    let running = Running::start(Arc::clone(&fs), ServerSettings::default()).await;
    let address = running.address;
    let mut client = Client::connect(address).await;
    let mut idle = Client::connect(address).await;
    let root = client.mount("/vol").await;
    idle.ping().await;
    fs.set_durability(Durability::Waiting);
    let begun = client.start(NFS, 8, &create_arguments(&root, "file")).await;
    client.ping().await;
    let stopped = running.shut_down();
    idle.closed().await;
    assert!(TcpStream::connect(address).await.is_err(), "the listener is gone");
    assert!(!stopped.is_finished());
    fs.set_durability(Durability::Ready);
    let reply = client.reply().await;
    assert_eq!((reply.xid, reply.status()), (begun, 0));
    client.closed().await;
    stopped.await.unwrap();
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let fs = MemoryFs::simple();
    let settings = ServerSettings {
        drain_timeout: Duration::from_millis(50),
        ..ServerSettings::default()
    };
    let running = Running::start(Arc::clone(&fs), settings).await;
    let mut client = Client::connect(running.address).await;
    let root = client.mount("/vol").await;
    fs.set_durability(Durability::Waiting);
    client.start(NFS, 8, &create_arguments(&root, "file")).await;
    client.ping().await;
    running.shut_down().await.unwrap();
    client.closed().await;
}

#[tokio::test]
async fn a_client_that_sends_no_more_still_gets_its_replies() {
    let fs = MemoryFs::simple();
    let running = Running::start(Arc::clone(&fs), ServerSettings::default()).await;
    let mut client = Client::connect(running.address).await;
    let root = client.mount("/vol").await;
    fs.set_durability(Durability::Waiting);
    client.start(NFS, 8, &create_arguments(&root, "file")).await;
    tokio::io::AsyncWriteExt::shutdown(&mut client.stream)
        .await
        .unwrap();
    fs.set_durability(Durability::Ready);
    assert_eq!(client.reply().await.status(), 0);
    client.closed().await;
}

#[tokio::test]
async fn connections_beyond_the_bound_wait() {
    let settings = ServerSettings {
        connections_max: 2,
        ..ServerSettings::default()
    };
    let running = Running::start(MemoryFs::simple(), settings).await;
    let mut first = Client::connect(running.address).await;
    let mut second = Client::connect(running.address).await;
    first.ping().await;
    second.ping().await;
    let mut third = Client::connect(running.address).await;
    third.start(NFS, 0, &Xdr::new()).await;
    first.ping().await;
    assert_eq!(running.server.metrics().connections.get(), 2);
    drop(first);
    assert_eq!(third.reply().await.accepted(), 0);
    assert_eq!(
        third.stream.try_read(&mut [0; 1]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    drop((second, third));
}

#[tokio::test]
async fn a_closed_connection_leaves_nothing_reserved() {
    let fs = MemoryFs::simple();
    let running = Running::start(Arc::clone(&fs), ServerSettings::default()).await;
    let mut client = Client::connect(running.address).await;
    let root = client.mount("/vol").await;
    fs.set_durability(Durability::Waiting);
    client.start(NFS, 8, &create_arguments(&root, "file")).await;
    client.ping().await;
    client.reset();
    fs.set_durability(Durability::Ready);
    while running.server.metrics().connections.get() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        (running.server.bytes_reserved(), running.server.calls_reserved()),
        (0, 0)
    );
    let mut client = Client::connect(running.address).await;
    assert_eq!(
        client.lookup(&root, "file").await.status(),
        0,
        "executed all the same"
    );
}

#[tokio::test]
async fn uncached_answers_are_the_same() {
    let fs = MemoryFs::simple();
    let running = Running::start(Arc::clone(&fs), ServerSettings::default()).await;
    let mut client = Client::connect(running.address).await;
    let root = client.mount("/vol").await;
    client.create(&root, "file").await;
    let calls = [
        (1, Xdr::new().opaque(&root)),
        (3, Xdr::new().opaque(&root).opaque(b"file")),
        (3, Xdr::new().opaque(&root).opaque(b"none")),
        (4, Xdr::new().opaque(&root).u32(0x3f)),
        (19, Xdr::new().opaque(&root)),
        (20, Xdr::new().opaque(&root)),
    ];
    for (procedure, arguments) in calls {
        let cached = client.nfs(procedure, &arguments).await;
        fs.cached.store(false, std::sync::atomic::Ordering::SeqCst);
        let mut uncached = client.nfs(procedure, &arguments).await;
        fs.cached.store(true, std::sync::atomic::Ordering::SeqCst);
        if cached.status() != 0 {
            // The attributes of a failure are given only if they are at hand.
            assert_eq!(uncached.results(), [0; 4]);
            uncached.rest = cached.rest.clone();
        }
        assert_eq!(cached.rest, uncached.rest, "procedure {procedure}");
    }
}

#[tokio::test]
async fn settings_are_checked_at_start() {
    let settings = ServerSettings {
        workers_max: 0,
        ..ServerSettings::default()
    };
    let error = cairn_nfs::Server::new(MemoryFs::simple(), settings, [0; 16])
        .err()
        .unwrap();
    assert!(matches!(error, ServerError::Setting(_)));
}
