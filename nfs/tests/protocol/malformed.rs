//! What must not be believed: requests that other servers answered wrongly, with a close, or with a gigabyte of memory.
//! After each of them, as far as the protocol allows, the same connection goes on.

use std::sync::Arc;

use cairn_nfs::testing::NullFileSystem;
use cairn_nfs::{Server, ServerSettings};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::Running;
use crate::support::client::{Client, MOUNT, NFS, PORTMAP, Xdr, call, nobody, record, sys};
use crate::support::memory::MemoryFs;

const GARBAGE_ARGUMENTS: u32 = 4;

async fn start() -> (Running<MemoryFs>, Client<TcpStream>, Vec<u8>) {
    let running = Running::start(MemoryFs::simple(), ServerSettings::default()).await;
    let mut client = Client::connect(running.address).await;
    let root = client.mount("/vol").await;
    (running, client, root)
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn unknown_programs_versions_and_procedures_are_told_apart() {
    let (_running, mut client, _) = start().await;
    let mut ask = async |program, version, procedure| {
        client
            .send(&call(
                1,
                program,
                version,
                procedure,
                &sys(0, 0, &[]),
                &Xdr::new(),
            ))
            .await;
        client.reply().await
    };
    for program in [100_227, 100_021, 100_024, 400_122, 0, u32::MAX] {
        assert_eq!(ask(program, 3, 0).await.accepted(), 1, "PROG_UNAVAIL");
    }
    for (program, version, low, high) in [
        (NFS, 2, 3, 3),
        (NFS, 4, 3, 3),
        (MOUNT, 1, 3, 3),
        (PORTMAP, 1, 2, 4),
        (PORTMAP, 5, 2, 4),
    ] {
        let reply = ask(program, version, 0).await;
        assert_eq!(
            (reply.accepted(), reply.word(5), reply.word(6)),
            (2, low, high),
            "PROG_MISMATCH"
        );
    }
    for (program, version, procedure) in [(NFS, 3, 22), (NFS, 3, u32::MAX), (MOUNT, 3, 6), (PORTMAP, 2, 1)] {
        assert_eq!(
            ask(program, version, procedure).await.accepted(),
            3,
            "PROC_UNAVAIL"
        );
    }
    for (program, version) in [(NFS, 3), (MOUNT, 3), (PORTMAP, 2), (PORTMAP, 3), (PORTMAP, 4)] {
        assert_eq!(
            ask(program, version, 0).await.rest,
            Xdr::new().words(&[1, 0, 0, 0, 0]).0,
            "NULL is void"
        );
    }
}

#[tokio::test]
async fn credentials_are_denied_without_closing() {
    let (_running, mut client, _) = start().await;
    let flavour = |flavour| Xdr::new().words(&[flavour, 0, 0, 0]);
    let seventeen = sys(0, 0, &[7; 17]);
    let huge = Xdr::new().words(&[1, 20, 0, 0, 0, 0, 1 << 28, 0, 0]);
    let long = Xdr::new().words(&[1, 1 << 30]);
    let trailing = Xdr::new().words(&[1, 24, 0, 0, 0, 0, 0, 0, 0, 0]);
    let verifier = Xdr::new().words(&[0, 0, 6, 0]);
    let cases = [
        (flavour(2), 2),
        (flavour(6), 2),
        (flavour(7), 2),
        (seventeen, 1),
        (huge, 1),
        (long, 1),
        (trailing, 1),
        (verifier, 3),
    ];
    for (auth, reason) in cases {
        client.send(&call(5, NFS, 3, 0, &auth, &Xdr::new())).await;
        assert_eq!(client.reply().await.denied(), reason, "{:?}", auth.0);
        client.ping().await;
    }
    let mut message = call(6, NFS, 3, 0, &nobody(), &Xdr::new());
    message[11] = 3;
    client.send(&message).await;
    assert_eq!(
        client.reply().await.rest,
        Xdr::new().words(&[1, 1, 0, 2, 2]).0,
        "RPC_MISMATCH"
    );
    client.ping().await;
}

#[tokio::test]
async fn arguments_that_do_not_decode_are_garbage() {
    let (_running, mut client, root) = start().await;
    let root = || Xdr::new().opaque(&root);
    let mut cases = vec![
        (1, Xdr::new(), "nothing"),
        (1, Xdr::new().u32(1 << 30), "an opaque of a gigabyte"),
        (1, Xdr::new().opaque(&[0; 68]), "a handle of 68 bytes"),
        (1, root().u32(0), "trailing bytes"),
        (
            8,
            root().opaque(b"x").words(&[3, 0, 0, 0, 0, 0, 0]),
            "a create mode",
        ),
        (8, root().opaque(b"x").words(&[0, 2, 0, 0, 0, 0, 0]), "a boolean"),
        (
            8,
            root().opaque(b"x").words(&[0, 0, 0, 0, 0, 3, 0]),
            "a time's discriminant",
        ),
        (11, root().opaque(b"x").words(&[8]), "a file type"),
        (7, root().u64(0).words(&[4, 3, 4, 0]), "a stability"),
        (
            7,
            root().u64(0).words(&[5, 0, 4, 0]),
            "a count that is not the length",
        ),
        (7, root().u64(0).words(&[4, 0, 4]), "a payload that is not there"),
        (
            7,
            root().u64(0).words(&[4, 0, 4, 0, 0]),
            "more payload than announced",
        ),
        (
            7,
            root().u64(0).words(&[0, 0, 1 << 30]),
            "a payload of a gigabyte",
        ),
    ];
    // A prefix of valid arguments.
    cases.extend((0..4).map(|words| (17, root().words(&vec![0; words]), "a prefix")));
    for (procedure, arguments, what) in cases {
        assert_eq!(
            client.nfs(procedure, &arguments).await.accepted(),
            GARBAGE_ARGUMENTS,
            "{what}"
        );
        client.ping().await;
    }
    for (procedure, arguments) in [
        (1, Xdr::new()),
        (1, Xdr::new().opaque(&[b'a'; 1028])),
        (5, Xdr::new().u32(0)),
    ] {
        assert_eq!(
            client.call(MOUNT, procedure, &arguments).await.accepted(),
            GARBAGE_ARGUMENTS
        );
    }
}

#[tokio::test]
async fn handles_that_are_not_ours_are_bad() {
    let (running, mut client, root) = start().await;
    const BAD_HANDLE: u32 = 10_001;
    let mut forged = root.clone();
    forged[23] ^= 1;
    for handle in [
        &b""[..],
        b"x",
        &root[..31],
        &[&root[..], &[0; 4]].concat(),
        &forged,
        &[0; 64],
    ] {
        assert_eq!(
            client.nfs(1, &Xdr::new().opaque(handle)).await.status(),
            BAD_HANDLE
        );
    }
    // Every procedure, with the form of its failure.
    let bad = Xdr::new().opaque(&[9; 32]);
    let set = [0; 6];
    for (procedure, arguments, words) in [
        (2, bad.clone().words(&set).u32(0), 2),
        (3, bad.clone().opaque(b"n"), 1),
        (4, bad.clone().u32(63), 1),
        (5, bad.clone(), 1),
        (6, bad.clone().u64(0).u32(1), 1),
        (7, bad.clone().u64(0).words(&[4, 0, 4, 0]), 2),
        (8, bad.clone().opaque(b"n").words(&[0]).words(&set), 2),
        (9, bad.clone().opaque(b"n").words(&set), 2),
        (10, bad.clone().opaque(b"n").words(&set).opaque(b"t"), 2),
        (11, bad.clone().opaque(b"n").words(&[7]).words(&set), 2),
        (12, bad.clone().opaque(b"n"), 2),
        (13, bad.clone().opaque(b"n"), 2),
        (14, bad.clone().opaque(b"n").bytes(&bad.0).opaque(b"m"), 4),
        (15, bad.clone().bytes(&bad.0).opaque(b"n"), 3),
        (16, bad.clone().u64(0).u64(0).u32(4096), 1),
        (17, bad.clone().u64(0).u64(0).words(&[4096, 4096]), 1),
        (18, bad.clone(), 1),
        (19, bad.clone(), 1),
        (20, bad.clone(), 1),
        (21, bad.clone().u64(0).u32(0), 2),
    ] {
        let reply = client.nfs(procedure, &arguments).await;
        assert_eq!(reply.status(), BAD_HANDLE, "procedure {procedure}");
        assert_eq!(
            reply.results(),
            vec![0; words * 4],
            "procedure {procedure}: no attributes, but their places"
        );
    }
    drop(running);
}

#[tokio::test]
async fn records_too_long_end_the_connection_without_memory() {
    let (running, _, _) = start().await;
    let before = resident();
    for marker in [
        0x8000_0000u32 | (1 << 30),
        1 << 30,
        0xffff_ffff,
        0x7fff_ffff,
        0x8000_0000 | (1_048_576 + 65_537),
    ] {
        let mut client = Client::connect(running.address).await;
        client.stream.write_all(&marker.to_be_bytes()).await.unwrap();
        client.closed().await;
    }
    // Over several fragments.
    let mut client = Client::connect(running.address).await;
    let fragment = Xdr::new().u32(600_000).bytes(&vec![0; 600_000]).0;
    client.stream.write_all(&fragment).await.unwrap();
    let _ = client.stream.write_all(&fragment).await;
    client.closed().await;
    assert!(resident() < before + (64 << 20), "a marker is only a promise");
}

#[tokio::test]
async fn announced_records_take_no_memory_before_they_come() {
    let fs = Arc::new(NullFileSystem::default());
    let running = Running::start(fs, ServerSettings::default()).await;
    let mut clients = Vec::new();
    for _ in 0..200 {
        let mut client = Client::connect(running.address).await;
        client
            .stream
            .write_all(&(0x8000_0000u32 | (1 << 20)).to_be_bytes())
            .await
            .unwrap();
        clients.push(client);
    }
    let mut client = Client::connect(running.address).await;
    client.ping().await;
    assert_eq!(running.server.bytes_reserved(), 0);
}

#[tokio::test]
async fn what_is_no_call_ends_the_connection() {
    let (running, _, _) = start().await;
    let messages: [&[u8]; 5] = [
        b"",
        b"abc",
        &Xdr::new().words(&[1]).0,
        &Xdr::new().words(&[1, 1, 0, 0, 0, 0, 0]).0,
        &Xdr::new().words(&[1, 5, 2, 100_003, 3, 0, 0, 0, 0, 0]).0,
    ];
    for message in messages {
        let mut client = Client::connect(running.address).await;
        client.send(message).await;
        client.closed().await;
    }
    let metrics = running.server.metrics();
    assert!(metrics.connections_failed.get() >= 4);
}

#[tokio::test]
async fn fragments_are_put_together() {
    let (_running, mut client, root) = start().await;
    let file = client.create(&root, "file").await;
    let data: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let arguments = Xdr::new().opaque(&file).u64(0).words(&[100_000, 0]).opaque(&data);
    let message = call(77, NFS, 3, 7, &sys(0, 0, &[]), &arguments);
    let mut stream = Vec::new();
    for (number, piece) in message.chunks(4001).enumerate() {
        if number % 7 == 0 {
            stream.extend(0u32.to_be_bytes());
        }
        stream.extend((piece.len() as u32).to_be_bytes());
        stream.extend(piece);
    }
    stream.extend(0x8000_0000u32.to_be_bytes());
    client.stream.write_all(&stream).await.unwrap();
    let reply = client.reply().await;
    assert_eq!((reply.xid, reply.status()), (77, 0));
    let read = client.nfs(6, &Xdr::new().opaque(&file).u64(0).u32(100_000)).await;
    assert!(read.results()[4 + 84 + 12..] == data[..]);
}

#[tokio::test]
async fn endless_fragments_without_a_byte_end_the_connection() {
    let (running, _, _) = start().await;
    let mut client = Client::connect(running.address).await;
    let _ = client.stream.write_all(&[0; 4 * 2000]).await;
    client.closed().await;
}

#[tokio::test]
async fn requests_may_come_byte_by_byte_and_many_at_once() {
    let (_running, mut client, root) = start().await;
    let getattr = |xid| record(&call(xid, NFS, 3, 1, &nobody(), &Xdr::new().opaque(&root)));
    for byte in getattr(1) {
        client.stream.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(client.reply().await.status(), 0);
    let many: Vec<u8> = (0..2000).flat_map(getattr).collect();
    client.stream.write_all(&many).await.unwrap();
    for xid in 0..2000 {
        let reply = client.reply().await;
        assert_eq!((reply.xid, reply.status()), (xid, 0));
    }
}

#[tokio::test]
async fn large_requests_that_are_not_writes_are_refused_and_skipped() {
    let (_running, mut client, root) = start().await;
    let before = resident();
    let padding = vec![0; 1_000_000];
    for (procedure, arguments) in [
        (1, Xdr::new().opaque(&root).bytes(&padding)),
        (
            10,
            Xdr::new()
                .opaque(&root)
                .opaque(b"n")
                .words(&[0; 6])
                .opaque(&padding),
        ),
        (
            7,
            Xdr::new().opaque(&root).u64(0).words(&[1, 0, 1]).bytes(&padding),
        ),
        (
            7,
            Xdr::new()
                .opaque(&root)
                .u64(0)
                .words(&[1_048_580, 0, 1_048_580])
                .bytes(&vec![0; 1_048_580]),
        ),
    ] {
        assert_eq!(
            client.nfs(procedure, &arguments).await.accepted(),
            GARBAGE_ARGUMENTS
        );
        client.ping().await;
    }
    let unknown = call(9, 100_227, 3, 1, &nobody(), &Xdr::new().bytes(&padding));
    client.send(&unknown).await;
    assert_eq!(client.reply().await.accepted(), 1);
    client.ping().await;
    assert!(resident() < before + (64 << 20));
}

#[tokio::test]
async fn a_secret_of_its_own_keeps_handles_apart() {
    let (_running, mut client, root) = start().await;
    let other = Server::new(MemoryFs::simple(), ServerSettings::default(), [1; 16]).unwrap();
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let local = client.stream.local_addr().unwrap();
    let endpoints = cairn_nfs::Endpoints { peer: local, local };
    let task = tokio::spawn(async move {
        other
            .serve_connection(theirs, endpoints, std::future::pending())
            .await
    });
    let mut stranger = Client::over(ours);
    assert_eq!(stranger.nfs(1, &Xdr::new().opaque(&root)).await.status(), 10_001);
    assert_eq!(client.nfs(1, &Xdr::new().opaque(&root)).await.status(), 0);
    drop(stranger);
    task.await.unwrap();
}
