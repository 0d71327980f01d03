//! Retransmitted requests: answered as the first time, executed once, whatever happened to the connection or the server.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;

use cairn_nfs::ServerSettings;
use parking_lot::Mutex;

use crate::support::Running;
use crate::support::client::{Client, NFS, Xdr, call, create_arguments, mkdir_arguments, stamped, sys};
use crate::support::durability::Durability;
use crate::support::memory::MemoryFs;

const OK: u32 = 0;
const NOT_FOUND: u32 = 2;
const IO: u32 = 5;
const EXISTS: u32 = 17;
const SERVER_FAULT: u32 = 10_006;

fn mkdir(xid: u32, root: &[u8], stamp: u32) -> Vec<u8> {
    call(
        xid,
        NFS,
        3,
        9,
        &stamped(stamp, 0, 0, &[]),
        &mkdir_arguments(root, "dir"),
    )
}

#[tokio::test]
async fn a_lost_reply_is_replayed_over_a_new_connection() {
    let fs = MemoryFs::simple();
    let running = Running::start(Arc::clone(&fs), ServerSettings::default()).await;
    let mut client = Client::connect(running.address).await;
    let root = client.mount("/vol").await;
    client.send(&mkdir(500, &root, 1)).await;
    let first = client.reply().await;
    assert_eq!(first.status(), OK);
    client.reset();
    // Another port, and another stamp in the credential, as some clients have at a retransmission.
    let mut client = Client::connect(running.address).await;
    client.send(&mkdir(500, &root, 2)).await;
    assert_eq!(client.reply().await, first);
    assert_eq!(running.server.metrics().replays.get(), 1);
    client.send(&mkdir(501, &root, 2)).await;
    assert_eq!(
        client.reply().await.status(),
        EXISTS,
        "another transaction is another request"
    );
}

#[tokio::test]
async fn failures_are_replayed_too() {
    let running = Running::start(MemoryFs::simple(), ServerSettings::default()).await;
    let mut client = Client::connect(running.address).await;
    let root = client.mount("/vol").await;
    let remove = call(
        500,
        NFS,
        3,
        12,
        &sys(0, 0, &[]),
        &Xdr::new().opaque(&root).opaque(b"file"),
    );
    client.send(&remove).await;
    assert_eq!(client.reply().await.status(), NOT_FOUND);
    client.create(&root, "file").await;
    client.send(&remove).await;
    assert_eq!(
        client.reply().await.status(),
        NOT_FOUND,
        "the file made since is not the one that was meant"
    );
}

#[tokio::test]
async fn another_principal_address_or_argument_is_another_request() {
    let running = Running::start(MemoryFs::simple(), ServerSettings::default()).await;
    let mut client = Client::connect(running.address).await;
    let root = client.mount("/vol").await;
    let create = |auth: Xdr, name| call(500, NFS, 3, 8, &auth, &create_arguments(&root, name));
    let remove = |auth: Xdr| call(501, NFS, 3, 12, &auth, &Xdr::new().opaque(&root).opaque(b"a"));
    client.send(&create(sys(0, 0, &[]), "a")).await;
    assert_eq!(client.reply().await.status(), OK);
    client.send(&remove(sys(0, 0, &[]))).await;
    assert_eq!(client.reply().await.status(), OK);
    for auth in [sys(1, 0, &[]), sys(0, 1, &[]), sys(0, 0, &[0])] {
        client.send(&remove(auth)).await;
        assert_eq!(
            client.reply().await.status(),
            NOT_FOUND,
            "not the reply to somebody else"
        );
    }
    let mut other = Client::connect_from(running.address, "127.0.0.2:0").await;
    other.send(&remove(sys(0, 0, &[]))).await;
    assert_eq!(other.reply().await.status(), NOT_FOUND);
    assert_eq!(running.server.metrics().replays.get(), 0);
}

#[tokio::test]
async fn a_retransmission_attaches_to_the_running_call() {
    let fs = MemoryFs::simple();
    let running = Running::start(Arc::clone(&fs), ServerSettings::default()).await;
    let mut first = Client::connect(running.address).await;
    let mut second = Client::connect(running.address).await;
    let root = first.mount("/vol").await;
    let (entered, is_entered) = sync_channel(1);
    let (release, is_released) = sync_channel::<()>(1);
    let is_released = Mutex::new(is_released);
    fs.set_hook(move |operation| {
        if operation == "mkdir" {
            entered.send(()).unwrap();
            is_released.lock().recv().unwrap();
        }
    });
    first.send(&mkdir(500, &root, 1)).await;
    tokio::task::spawn_blocking(move || is_entered.recv().unwrap())
        .await
        .unwrap();
    first.send(&mkdir(500, &root, 1)).await;
    second.send(&mkdir(500, &root, 1)).await;
    // A NULL call behind it: the retransmission has been looked at.
    first.ping().await;
    second.ping().await;
    assert_eq!(running.server.metrics().replays_attached.get(), 2);
    release.send(()).unwrap();
    let replies = [first.reply().await, first.reply().await, second.reply().await];
    assert_eq!(replies[0].status(), OK);
    assert!(replies.iter().all(|reply| *reply == replies[0]));
    assert_eq!(fs.names(), ["dir"]);
}

#[tokio::test]
async fn a_retransmission_waits_for_durability_too() {
    let fs = MemoryFs::simple();
    let running = Running::start(Arc::clone(&fs), ServerSettings::default()).await;
    let mut client = Client::connect(running.address).await;
    let root = client.mount("/vol").await;
    fs.set_durability(Durability::Waiting);
    client.send(&mkdir(500, &root, 1)).await;
    client.send(&mkdir(500, &root, 1)).await;
    client.ping().await;
    assert_eq!(fs.names(), ["dir"], "visible, and not acknowledged");
    fs.set_durability(Durability::Ready);
    let (first, second) = (client.reply().await, client.reply().await);
    assert_eq!((first.status(), &first), (OK, &second));
}

#[tokio::test]
async fn replies_recorded_with_the_change_survive_the_server() {
    let fs = MemoryFs::simple();
    let running = Running::start(Arc::clone(&fs), ServerSettings::default()).await;
    let mut client = Client::connect(running.address).await;
    let root = client.mount("/vol").await;
    let file = client.create(&root, "file").await;
    let auth = sys(0, 0, &[]);
    let name = |name: &[u8]| Xdr::new().opaque(&root).opaque(name);
    let requests = [
        call(
            600,
            NFS,
            3,
            2,
            &auth,
            &Xdr::new().opaque(&file).words(&[1, 0o600, 0, 0, 0, 0, 0, 0]),
        ),
        call(
            601,
            NFS,
            3,
            8,
            &auth,
            &name(b"created").words(&[1, 0, 0, 0, 0, 0, 0]),
        ),
        call(602, NFS, 3, 9, &auth, &name(b"directory").words(&[0; 6])),
        call(
            603,
            NFS,
            3,
            10,
            &auth,
            &name(b"symlink").words(&[0; 6]).opaque(b"target"),
        ),
        call(604, NFS, 3, 11, &auth, &name(b"fifo").words(&[7]).words(&[0; 6])),
        call(605, NFS, 3, 12, &auth, &name(b"fifo")),
        call(606, NFS, 3, 13, &auth, &name(b"directory")),
        call(
            607,
            NFS,
            3,
            14,
            &auth,
            &name(b"created").opaque(&root).opaque(b"renamed"),
        ),
        call(
            608,
            NFS,
            3,
            15,
            &auth,
            &Xdr::new().opaque(&file).opaque(&root).opaque(b"linked"),
        ),
    ];
    let mut replies = Vec::new();
    for request in &requests {
        client.send(request).await;
        replies.push(client.reply().await);
        assert_eq!(replies.last().unwrap().status(), OK);
    }
    drop(client);
    running.shut_down().await.unwrap();

    let restarted = Running::start(Arc::clone(&fs), ServerSettings::default()).await;
    let mut client = Client::connect(restarted.address).await;
    let operations = fs.operations.load(Ordering::SeqCst);
    for (request, reply) in requests.iter().zip(&replies) {
        client.send(request).await;
        assert_eq!(client.reply().await, *reply);
    }
    assert_eq!(
        fs.operations.load(Ordering::SeqCst),
        operations,
        "nothing was executed"
    );
    assert_eq!(
        client.lookup(&root, "renamed").await.status(),
        OK,
        "handles survive too"
    );
}

#[tokio::test]
async fn a_panic_is_a_server_fault_and_leaves_nothing_behind() {
    let fs = MemoryFs::simple();
    let running = Running::start(Arc::clone(&fs), ServerSettings::default()).await;
    let mut client = Client::connect(running.address).await;
    let root = client.mount("/vol").await;
    fs.set_hook(|operation| {
        assert!(
            operation != "mkdir" && operation != "readdir",
            "expected by the test"
        )
    });
    client.send(&mkdir(500, &root, 1)).await;
    let reply = client.reply().await;
    assert_eq!((reply.status(), reply.results()), (SERVER_FAULT, &[0; 8][..]));
    let listing = client
        .nfs(16, &Xdr::new().opaque(&root).u64(0).u64(0).u32(4096))
        .await;
    assert_eq!((listing.status(), listing.results()), (SERVER_FAULT, &[0; 4][..]));
    fs.set_hook(|_| {});
    client.send(&mkdir(500, &root, 1)).await;
    assert_eq!(
        client.reply().await.status(),
        OK,
        "the request is executed when it is sent again"
    );
    assert_eq!(running.server.metrics().panics.get(), 2);

    fs.set_durability(Durability::Panicking);
    client.auth = sys(0, 0, &[1]);
    assert_eq!(
        client.nfs(9, &mkdir_arguments(&root, "other")).await.status(),
        SERVER_FAULT
    );
    client.ping().await;
}

#[tokio::test]
async fn a_change_that_does_not_become_durable_is_an_error() {
    let fs = MemoryFs::simple();
    let running = Running::start(Arc::clone(&fs), ServerSettings::default()).await;
    let mut client = Client::connect(running.address).await;
    let root = client.mount("/vol").await;
    let file = client.create(&root, "file").await;
    fs.set_durability(Durability::Failing);
    client.send(&mkdir(500, &root, 1)).await;
    assert_eq!(
        client.reply().await.status(),
        IO,
        "never \"try again\": it has been executed"
    );
    let commit = client.nfs(21, &Xdr::new().opaque(&file).u64(0).u32(0)).await;
    assert_eq!(commit.status(), IO, "COMMIT tells of a failed sync");
    let write = client
        .nfs(7, &Xdr::new().opaque(&file).u64(0).words(&[1, 2]).opaque(b"x"))
        .await;
    assert_eq!(write.status(), IO);
}
