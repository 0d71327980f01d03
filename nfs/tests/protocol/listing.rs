//! READDIR and READDIRPLUS: sizes to the byte, cookies through changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_nfs::ServerSettings;
use tokio::net::TcpStream;

use crate::support::Running;
use crate::support::client::{Client, Reply, Xdr};
use crate::support::memory::MemoryFs;

const TOO_SMALL: u32 = 10_005;

struct Listing {
    /// Name and cookie.
    entries: Vec<(String, u64)>,
    end: bool,
    /// Bytes of the results after the status.
    bytes: usize,
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take(&mut self, count: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8).try_into().unwrap())
    }
}

fn parse(reply: &Reply, plus: bool) -> Listing {
    assert_eq!(reply.status(), 0);
    let mut cursor = Cursor(reply.results());
    let bytes = cursor.0.len();
    assert_eq!(cursor.u32(), 1);
    cursor.take(84);
    assert_eq!(cursor.u64(), 0, "the verifier is constant");
    let mut entries = Vec::new();
    while cursor.u32() == 1 {
        cursor.u64();
        let length = cursor.u32() as usize;
        let name = String::from_utf8(cursor.take(length).to_vec()).unwrap();
        cursor.take(length.next_multiple_of(4) - length);
        entries.push((name, cursor.u64()));
        if plus {
            assert_eq!(cursor.u32(), 1);
            cursor.take(84);
            assert_eq!((cursor.u32(), cursor.u32()), (1, 32));
            cursor.take(32);
        }
    }
    let end = cursor.u32() == 1;
    assert!(cursor.0.is_empty());
    Listing { entries, end, bytes }
}

async fn start(files: usize) -> (Running<MemoryFs>, Client<TcpStream>, Vec<u8>, Arc<MemoryFs>) {
    let fs = MemoryFs::simple();
    fs.add_files((0..files).map(|number| format!("file-{number:05}")));
    let running = Running::start(Arc::clone(&fs), ServerSettings::default()).await;
    let mut client = Client::connect(running.address).await;
    let root = client.mount("/vol").await;
    (running, client, root, fs)
}

async fn readdir(client: &mut Client<TcpStream>, root: &[u8], cookie: u64, count: u32) -> Reply {
    client
        .nfs(16, &Xdr::new().opaque(root).u64(cookie).u64(0).u32(count))
        .await
}

async fn readdirplus(client: &mut Client<TcpStream>, root: &[u8], cookie: u64, counts: [u32; 2]) -> Reply {
    client
        .nfs(17, &Xdr::new().opaque(root).u64(cookie).u64(77).words(&counts))
        .await
}

#[tokio::test]
async fn counts_are_kept_to_the_byte() {
    let (_running, mut client, root, _) = start(50).await;
    // Attributes 88, verifier 8, end of list 4, end flag 4; "." and "..": 4 + 8 + 8 + 8 each.
    const FIXED: u32 = 104;
    for (count, entries) in [
        (FIXED + 28, 1),
        (FIXED + 55, 1),
        (FIXED + 56, 2),
        (FIXED + 91, 2),
        (FIXED + 92, 3),
    ] {
        let listing = parse(&readdir(&mut client, &root, 0, count).await, false);
        assert_eq!(listing.entries.len(), entries, "count {count}");
        assert!(listing.bytes <= count as usize && !listing.end);
    }
    for count in [0, 1, 103, 104, FIXED + 27] {
        let reply = readdir(&mut client, &root, 0, count).await;
        assert_eq!(reply.status(), TOO_SMALL, "count {count}");
        assert_eq!(
            reply.results().len(),
            4 + 84,
            "with the attributes of the directory"
        );
        assert_eq!(
            readdirplus(&mut client, &root, 0, [4096, count]).await.status(),
            TOO_SMALL
        );
    }
    // An entry with attributes and handle: 28 + 88 + 40.
    for (count, entries) in [(FIXED + 156, 1), (FIXED + 311, 1), (FIXED + 312, 2)] {
        let listing = parse(&readdirplus(&mut client, &root, 0, [4096, count]).await, true);
        assert_eq!(listing.entries.len(), entries, "maxcount {count}");
        assert!(listing.bytes <= count as usize);
    }
    for (directory_count, entries) in [(0, 1), (55, 1), (56, 2), (92, 3)] {
        let listing = parse(
            &readdirplus(&mut client, &root, 0, [directory_count, 1 << 20]).await,
            true,
        );
        assert_eq!(listing.entries.len(), entries, "dircount {directory_count}");
    }
    let listing = parse(&readdir(&mut client, &root, 0, u32::MAX).await, false);
    assert_eq!((listing.entries.len(), listing.end), (52, true));
    let last = listing.entries.last().unwrap().1;
    let rest = parse(&readdir(&mut client, &root, last, FIXED).await, false);
    assert_eq!(
        (rest.entries.len(), rest.end),
        (0, true),
        "nothing left fits into the smallest reply"
    );
}

#[tokio::test]
async fn every_name_is_listed_once_in_pages() {
    let (_running, mut client, root, _) = start(2500).await;
    for plus in [false, true] {
        let (mut names, mut cookie, mut pages) = (Vec::new(), 0, 0);
        loop {
            let reply = if plus {
                readdirplus(&mut client, &root, cookie, [4096, 32 << 10]).await
            } else {
                readdir(&mut client, &root, cookie, 4096).await
            };
            let page = parse(&reply, plus);
            pages += 1;
            cookie = page.entries.last().map_or(cookie, |entry| entry.1);
            names.extend(page.entries.into_iter().map(|entry| entry.0));
            if page.end {
                break;
            }
        }
        assert!(pages > 20);
        assert_eq!(names.len(), 2502);
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 2502, "each once");
    }
}

#[tokio::test]
async fn deleting_while_listing_loses_and_repeats_nothing() {
    let (_running, mut client, root, fs) = start(2500).await;
    let (mut seen, mut cookie, mut removed) = (Vec::new(), 0, 0);
    loop {
        // READDIR and READDIRPLUS by turns, as Linux mixes them.
        let reply = if seen.len() % 2 == 0 {
            readdir(&mut client, &root, cookie, 2048).await
        } else {
            readdirplus(&mut client, &root, cookie, [2048, 8192]).await
        };
        let plus = seen.len() % 2 == 1;
        let page = parse(&reply, plus);
        cookie = page.entries.last().map_or(cookie, |entry| entry.1);
        for (name, _) in &page.entries {
            // Every third name that was listed is removed, the one that the cookie names among them.
            if name.starts_with("file") && (removed + seen.len()) % 3 == 0 {
                let reply = client
                    .nfs(12, &Xdr::new().opaque(&root).opaque(name.as_bytes()))
                    .await;
                assert_eq!(reply.status(), 0);
                removed += 1;
            }
            seen.push(name.clone());
        }
        if page.end {
            break;
        }
    }
    assert!(removed > 500);
    assert_eq!(seen.len(), 2502);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 2502);
    assert_eq!(fs.names().len(), 2500 - removed);
}
