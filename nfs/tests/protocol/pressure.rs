//! Load beyond the bounds: met by waiting, never by an error, and never by memory.

use std::sync::Arc;
use std::time::Duration;

use cairn_nfs::testing::NullFileSystem;
use cairn_nfs::{Endpoints, Server, ServerSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::support::client::{Client, NFS, Xdr, call, nobody, record};
use crate::support::durability::Durability;
use crate::support::memory::MemoryFs;
use crate::support::{Running, SECRET};

fn endpoints() -> Endpoints {
    Endpoints {
        peer: "127.0.0.1:900".parse().unwrap(),
        local: "127.0.0.1:2049".parse().unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_calls_in_flight_are_all_answered() {
    let fs = MemoryFs::simple();
    fs.cached.store(false, std::sync::atomic::Ordering::SeqCst);
    fs.set_hook(|operation| {
        if operation == "getattr" {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let running = Running::start(fs, ServerSettings::default()).await;
    let mut client = Client::connect(running.address).await;
    let root = client.mount("/vol").await;
    let calls: Vec<u8> = (0..300)
        .flat_map(|xid| record(&call(xid, NFS, 3, 1, &nobody(), &Xdr::new().opaque(&root))))
        .collect();
    client.stream.write_all(&calls).await.unwrap();
    let mut answered = vec![false; 300];
    for _ in 0..300 {
        let reply = client.reply().await;
        assert_eq!(reply.status(), 0);
        assert!(
            !std::mem::replace(&mut answered[reply.xid as usize], true),
            "answered once"
        );
    }
    assert!(running.server.metrics().stalls.get() > 0, "256 at a time");
}

#[tokio::test]
async fn replies_leave_as_they_finish() {
    let fs = MemoryFs::simple();
    let running = Running::start(Arc::clone(&fs), ServerSettings::default()).await;
    let mut client = Client::connect(running.address).await;
    let root = client.mount("/vol").await;
    let file = client.create(&root, "file").await;
    fs.set_durability(Durability::Waiting);
    let commit = client
        .start(NFS, 21, &Xdr::new().opaque(&file).u64(0).u32(0))
        .await;
    let read = client.nfs(6, &Xdr::new().opaque(&file).u64(0).u32(10)).await;
    assert_eq!(read.status(), 0, "behind a commit that waits");
    fs.set_durability(Durability::Ready);
    assert_eq!(client.reply().await.xid, commit);
}

/// Starts a connection over a small in-memory pipe; the client end is returned.
fn piped(server: &Server<NullFileSystem>) -> (DuplexStream, tokio::task::JoinHandle<()>) {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let server = server.clone();
    let task = tokio::spawn(async move {
        server
            .serve_connection(theirs, endpoints(), std::future::pending())
            .await;
    });
    (ours, task)
}

async fn file(server: &Server<NullFileSystem>) -> Vec<u8> {
    let (stream, task) = piped(server);
    let mut client = Client::over(stream);
    let root = client.mount("/null").await;
    let handle = client.lookup(&root, "file").await.results()[4..36].to_vec();
    drop(client);
    task.await.unwrap();
    handle
}

#[tokio::test]
async fn a_client_that_reads_no_replies_holds_no_more_than_its_budget() {
    let settings = ServerSettings {
        connection_bytes_max: 4 << 20,
        client_bytes_max: 6 << 20,
        reply_timeout: Duration::from_secs(3600),
        ..ServerSettings::default()
    };
    let server = Server::new(Arc::new(NullFileSystem::default()), settings, SECRET).unwrap();
    let file = file(&server).await;
    let read = record(&call(
        1,
        NFS,
        3,
        6,
        &nobody(),
        &Xdr::new().opaque(&file).u64(0).u32(1 << 20),
    ));
    let mut greedy = Vec::new();
    for _ in 0..2 {
        let (mut stream, task) = piped(&server);
        // 2,000 megabytes of replies; the pipe takes the requests until the server stops reading.
        let requests = read.repeat(2000);
        let sent = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&requests)).await;
        assert!(sent.is_err(), "the server reads on and on");
        assert!(
            server.bytes_reserved() <= 6 << 20,
            "{} bytes",
            server.bytes_reserved()
        );
        greedy.push((stream, task));
    }
    // Both have a share.
    while server.bytes_reserved() <= 4 << 20 {
        tokio::task::yield_now().await;
    }
    // Another client address is served meanwhile.
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let other = Endpoints {
        peer: "127.0.0.9:900".parse().unwrap(),
        ..endpoints()
    };
    let task = tokio::spawn({
        let server = server.clone();
        async move {
            server
                .serve_connection(theirs, other, std::future::pending())
                .await
        }
    });
    let mut client = Client::over(ours);
    let reply = client.nfs(6, &Xdr::new().opaque(&file).u64(0).u32(1 << 20)).await;
    assert_eq!((reply.status(), reply.results().len()), (0, 88 + 12 + (1 << 20)));
    drop(client);
    task.await.unwrap();
    // The greedy ones get their answers when they read.
    let mut client = Client::over(greedy.remove(0).0);
    for _ in 0..5 {
        assert_eq!(client.reply().await.status(), 0);
    }
    drop((client, greedy));
    while server.bytes_reserved() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.calls_reserved(), 0);
}

#[tokio::test]
async fn cheap_calls_of_a_client_that_reads_nothing_are_bounded_too() {
    let settings = ServerSettings {
        reply_timeout: Duration::from_secs(3600),
        ..ServerSettings::default()
    };
    let server = Server::new(Arc::new(NullFileSystem::default()), settings, SECRET).unwrap();
    let file = file(&server).await;
    let (mut stream, _task) = piped(&server);
    let getattr = record(&call(1, NFS, 3, 1, &nobody(), &Xdr::new().opaque(&file)));
    let requests = getattr.repeat(100_000);
    let sent = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&requests)).await;
    assert!(sent.is_err(), "the server reads on and on");
    let answered: u64 = server
        .metrics()
        .procedures()
        .map(|(_, procedure)| procedure.calls())
        .sum();
    // A mebibyte unsent, and what one buffer of requests is answered with.
    assert!(answered < 15_000, "{answered} replies made for nobody");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_let_go() {
    let server = Server::new(
        Arc::new(NullFileSystem::default()),
        ServerSettings::default(),
        SECRET,
    )
    .unwrap();
    let (mut stream, task) = piped(&server);
    let null = record(&call(1, NFS, 3, 0, &nobody(), &Xdr::new()));
    // More replies than the pipe takes.
    stream.write_all(&null.repeat(4000)).await.unwrap();
    let started = tokio::time::Instant::now();
    task.await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(60));
    assert!(started.elapsed() < Duration::from_secs(200));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_go_on_ends_the_connection() {
    let server = Server::new(
        Arc::new(NullFileSystem::default()),
        ServerSettings::default(),
        SECRET,
    )
    .unwrap();
    let write = call(
        1,
        NFS,
        3,
        7,
        &nobody(),
        &Xdr::new().opaque(&[1; 32]).u64(0).words(&[1 << 20, 0, 1 << 20]),
    );
    let mut large = (0x8000_0000u32 | (write.len() as u32 + (1 << 20)))
        .to_be_bytes()
        .to_vec();
    large.extend(write);
    large.extend([0; 4096]);
    for beginning in [&[0x80, 0, 0][..], &[0x80, 0, 0, 40, 1, 2], &large] {
        let (mut stream, task) = piped(&server);
        stream.write_all(beginning).await.unwrap();
        let started = tokio::time::Instant::now();
        task.await.unwrap();
        assert!(started.elapsed() >= Duration::from_secs(60));
        assert!(started.elapsed() < Duration::from_secs(200));
        assert_eq!(server.bytes_reserved(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_and_busy_ones_are_not() {
    let server = Server::new(
        Arc::new(NullFileSystem::default()),
        ServerSettings::default(),
        SECRET,
    )
    .unwrap();
    let (mut stream, task) = piped(&server);
    let started = tokio::time::Instant::now();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    task.await.unwrap();
    assert!((Duration::from_secs(600)..Duration::from_secs(700)).contains(&started.elapsed()));
    assert_eq!(server.metrics().connections_failed.get(), 0, "nobody's fault");
}
