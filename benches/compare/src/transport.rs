//! One connection on loopback: READ and WRITE of 1 MiB with 8 in flight, GETATTR with 64, against a bare responder (the
//! ceiling), our server over a file system that does nothing, our server over volumes on disk, and nfsserve over the
//! first of these.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_benches::{Node, WORKSPACE, caller};
use cairn_nfs::testing::load::{Client, FILE_BYTES, Operation};
use cairn_nfs::testing::{NullFileSystem, bare};
use cairn_nfs::{Server, ServerSettings};
use cairn_vfs::filesystem::Stability;
use cairn_vfs::{FileSystem, VolumesSettings};
use clap::Args;
use tokio::runtime::Runtime;

use crate::nfsserve_adapter;
use crate::report::Report;

/// What is measured.
#[derive(Debug, Args)]
pub struct TransportArguments {
    /// Seconds for each figure.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Figures of each kind; their median is shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

const WORKS: [(&str, Operation, usize); 3] = [
    ("READ 1 MiB, 8 in flight, MiB/s", Operation::Read, 8),
    ("WRITE 1 MiB, 8 in flight, MiB/s", Operation::Write, 8),
    ("GETATTR, 64 in flight, calls/s", Operation::Getattr, 64),
];

const OURS: &str = "cairn null";

fn serve<F: FileSystem>(runtime: &Runtime, fs: Arc<F>) -> anyhow::Result<SocketAddr> {
    let server = Server::new(fs, ServerSettings::default(), [7; 16])?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    runtime.spawn(async move { server.serve(listener, std::future::pending()).await });
    Ok(address)
}

/// Measures all subjects in turn, round by round, so that a noisy moment meets them all.
pub fn run(arguments: &TransportArguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let node = Node::new(VolumesSettings::default())?;
    let file = node.wait(node.create(node.root()?, "file")?)?.object;
    for offset in (0..FILE_BYTES).step_by(1 << 20) {
        let data = Bytes::from(vec![offset as u8; 1 << 20]);
        node.wait(
            node.volumes
                .write(&caller(), file, offset, data, Stability::Unstable)?,
        )?;
    }
    let null = Arc::new(NullFileSystem::default());
    let volumes = format!("/{WORKSPACE}");
    let subjects = [
        ("bare", bare::start()?, None),
        (OURS, serve(&runtime, null.clone())?, Some("/null")),
        (
            "nfsserve null",
            runtime.block_on(nfsserve_adapter::serve(null, "/null"))?,
            Some("/"),
        ),
        (
            "cairn volumes",
            serve(&runtime, node.volumes.clone())?,
            Some(volumes.as_str()),
        ),
    ];
    let mut report = Report::default();
    for _ in 0..arguments.rounds {
        for (work, operation, in_flight) in WORKS {
            for (subject, address, export) in &subjects {
                let mut client = Client::connect(*address)?;
                let file = match export {
                    Some(export) => {
                        let root = client.mount(export)?;
                        client.lookup(&root, "file")?
                    }
                    None => vec![0; 32],
                };
                let duration = Duration::from_secs(arguments.seconds);
                let measured = client.run(&file, operation, in_flight, duration)?;
                let figure = match operation {
                    Operation::Getattr => measured.calls_per_second(),
                    Operation::Read | Operation::Write => measured.mebibytes_per_second(),
                };
                report.add(work, subject, figure);
            }
        }
        // What the writes left behind would fill the disk.
        node.volumes.flush()?;
        node.volumes.sweep()?;
    }
    report.print(OURS);
    Ok(())
}
