//! Mutated requests through a whole connection: whatever comes, the server answers or closes, does not panic, and keeps
//! nothing. The mutations are the same in every run.

use std::sync::Arc;

use cairn_nfs::testing::NullFileSystem;
use cairn_nfs::{Endpoints, Server, ServerSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::SECRET;
use crate::support::client::{Client, MOUNT, NFS, PORTMAP, Xdr, call, nobody, record, sys};

const REQUESTS: usize = 20_000;
/// A connection gets so many requests unless it is closed before.
const REQUESTS_OF_A_CONNECTION: usize = 50;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// A valid request of every procedure.
fn seeds(root: &[u8], file: &[u8]) -> Vec<Vec<u8>> {
    let r = || Xdr::new().opaque(root);
    let f = || Xdr::new().opaque(file);
    let set = [1, 0o644, 1, 5, 1, 6, 1, 0, 7, 2, 8, 9, 1];
    let nfs = [
        (0, Xdr::new()),
        (1, f()),
        (2, f().words(&set).words(&[1, 4, 5])),
        (3, r().opaque(b"name")),
        (4, r().u32(63)),
        (5, f()),
        (6, f().u64(5).u32(1000)),
        (7, f().u64(5).words(&[10, 2]).opaque(&[7; 10])),
        (7, f().u64(5).words(&[30_000, 0]).opaque(&[7; 30_000])),
        (8, r().opaque(b"name").u32(1).words(&set)),
        (8, r().opaque(b"name").u32(2).u64(77)),
        (9, r().opaque(b"name").words(&set)),
        (10, r().opaque(b"name").words(&set).opaque(b"target")),
        (11, r().opaque(b"name").u32(4).words(&set).words(&[1, 2])),
        (12, r().opaque(b"name")),
        (13, r().opaque(b"name")),
        (14, r().opaque(b"name").opaque(root).opaque(b"other")),
        (15, f().opaque(root).opaque(b"other")),
        (16, r().u64(0).u64(0).u32(4096)),
        (17, r().u64(0).u64(0).words(&[1000, 4096])),
        (18, r()),
        (19, r()),
        (20, r()),
        (21, f().u64(0).u32(0)),
    ];
    let auth = sys(1, 2, &[3, 4, 5]);
    let mut seeds: Vec<Vec<u8>> = nfs
        .iter()
        .map(|(procedure, arguments)| call(9, NFS, 3, *procedure, &auth, arguments))
        .collect();
    for procedure in 0..6 {
        seeds.push(call(
            9,
            MOUNT,
            3,
            procedure,
            &nobody(),
            &Xdr::new().opaque(b"/null"),
        ));
    }
    seeds.push(call(
        9,
        PORTMAP,
        2,
        3,
        &nobody(),
        &Xdr::new().words(&[NFS, 3, 6, 0]),
    ));
    seeds.push(call(
        9,
        PORTMAP,
        4,
        3,
        &nobody(),
        &Xdr::new().words(&[NFS, 3]).opaque(b"tcp").opaque(b"").opaque(b""),
    ));
    seeds
}

/// A changed message in a sound record; one time in sixteen the record is changed too, which ends the connection more
/// often than not.
fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut message = seed.to_vec();
    for _ in 0..random.below(4) {
        mutate_bytes(&mut message, random);
    }
    let mut stream = record(&message);
    if random.below(16) == 0 {
        mutate_bytes(&mut stream, random);
    }
    stream
}

fn mutate_bytes(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random
        .below(bytes.len().max(1))
        .min(bytes.len().saturating_sub(1));
    let word = at / 4 * 4;
    match random.below(6) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        1 if !bytes.is_empty() => bytes[at] = random.next() as u8,
        2 if word + 4 <= bytes.len() => {
            let interesting = [
                0,
                1,
                2,
                3,
                255,
                256,
                400,
                401,
                1 << 20,
                1 << 28,
                1 << 31,
                u32::MAX,
            ];
            let value = interesting[random.below(interesting.len())];
            bytes[word..word + 4].copy_from_slice(&value.to_be_bytes());
        }
        3 => bytes.resize(random.below(bytes.len() + 64), random.next() as u8),
        4 if !bytes.is_empty() => {
            let byte = bytes[at];
            bytes.insert(at, byte);
        }
        _ => bytes.truncate(at.max(12)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutated_requests_are_answered_or_refused() {
    let settings = ServerSettings {
        workers_max: 4,
        ..ServerSettings::default()
    };
    let server = Server::new(Arc::new(NullFileSystem::default()), settings, SECRET).unwrap();
    let peer = "127.0.0.1:900".parse().unwrap();
    let endpoints = Endpoints {
        peer,
        local: "127.0.0.1:2049".parse().unwrap(),
    };
    let connect = || {
        let (ours, theirs) = tokio::io::duplex(256 << 10);
        let server = server.clone();
        let task = tokio::spawn(async move {
            server
                .serve_connection(theirs, endpoints, std::future::pending())
                .await;
        });
        (ours, task)
    };
    let (stream, task) = connect();
    let mut client = Client::over(stream);
    let root = client.mount("/null").await;
    let file = client.lookup(&root, "file").await.results()[4..36].to_vec();
    drop(client);
    task.await.unwrap();

    let seeds = seeds(&root, &file);
    let mut random = Random(0x5eed);
    let (mut sent, mut replies) = (0, 0);
    while sent < REQUESTS {
        let (stream, task) = connect();
        let (mut from, mut to) = tokio::io::split(stream);
        let counting = tokio::spawn(async move {
            let mut received = Vec::new();
            // A reset is an end as good as any.
            let _ = from.read_to_end(&mut received).await;
            received
        });
        for _ in 0..REQUESTS_OF_A_CONNECTION {
            sent += 1;
            let request = mutate(&seeds[random.below(seeds.len())], &mut random);
            if to.write_all(&request).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
        task.await.unwrap();
        drop(to);
        let received = counting.await.unwrap();
        let mut left = &received[..];
        while let Some((marker, rest)) = left.split_first_chunk::<4>() {
            let length = (u32::from_be_bytes(*marker) & 0x7fff_ffff) as usize;
            assert!(
                length >= 20 && length.is_multiple_of(4) && rest.len() >= length,
                "replies are whole records"
            );
            left = &rest[length..];
            replies += 1;
        }
    }
    assert!(
        replies > REQUESTS / 10,
        "{replies} replies: the mutations still reach the procedures"
    );
    assert_eq!(server.metrics().panics.get(), 0);
    assert_eq!((server.bytes_reserved(), server.calls_reserved()), (0, 0));
    assert_eq!(server.metrics().connections.get(), 0);
}
