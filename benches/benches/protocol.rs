//! READ, WRITE and GETATTR through the protocol, one connection on loopback, over volumes on disk and over a file system
//! that does nothing.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_benches::{Node, WORKSPACE, caller};
use cairn_nfs::testing::NullFileSystem;
use cairn_nfs::testing::load::{Client, FILE_BYTES, Operation, TRANSFER_BYTES};
use cairn_nfs::{Server, ServerSettings};
use cairn_vfs::filesystem::Stability;
use cairn_vfs::{FileSystem, VolumesSettings};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

/// One sample: long enough that starting and ending do not count.
const SAMPLE: Duration = Duration::from_millis(200);

fn serve<F: FileSystem>(runtime: &Runtime, fs: Arc<F>) -> SocketAddr {
    let server = Server::new(fs, ServerSettings::default(), [7; 16]).unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move { server.serve(listener, std::future::pending()).await });
    address
}

fn benches(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let node = Node::new(VolumesSettings::default()).unwrap();
    let file = node
        .wait(node.create(node.root().unwrap(), "file").unwrap())
        .unwrap()
        .object;
    for offset in (0..FILE_BYTES).step_by(TRANSFER_BYTES as usize) {
        let data = Bytes::from(vec![offset as u8; TRANSFER_BYTES as usize]);
        let write = node
            .volumes
            .write(&caller(), file, offset, data, Stability::Unstable)
            .unwrap();
        node.wait(write).unwrap();
    }
    let subjects = [
        (
            "nothing behind it",
            serve(&runtime, Arc::new(NullFileSystem::default())),
            "/null".to_owned(),
        ),
        (
            "volumes on disk",
            serve(&runtime, node.volumes.clone()),
            format!("/{WORKSPACE}"),
        ),
    ];
    for (subject, address, export) in &subjects {
        let mut client = Client::connect(*address).unwrap();
        let root = client.mount(export).unwrap();
        let file = client.lookup(&root, "file").unwrap();
        let mut group = criterion.benchmark_group(format!("protocol, {subject}"));
        for (name, operation, in_flight, bytes) in [
            ("READ 1 MiB, 8 in flight", Operation::Read, 8, TRANSFER_BYTES),
            ("WRITE 1 MiB, 8 in flight", Operation::Write, 8, TRANSFER_BYTES),
            ("GETATTR, 64 in flight", Operation::Getattr, 64, 0),
        ] {
            if bytes > 0 {
                group.throughput(Throughput::Bytes(bytes.into()));
            } else {
                group.throughput(Throughput::Elements(1));
            }
            group.sample_size(10);
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|count| {
                    let measured = client.run(&file, operation, in_flight, SAMPLE).unwrap();
                    measured.elapsed.mul_f64(count as f64 / measured.calls as f64)
                });
            });
            // What the writes left behind would fill the disk.
            node.volumes.flush().unwrap();
            node.volumes.sweep().unwrap();
        }
        group.finish();
    }
}

criterion_group!(protocol, benches);
criterion_main!(protocol);
