//! A full disk: writes are refused, reads go on, and nothing that was acknowledged is lost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use cairn_e2e::client::procedures::CreateMode;
use cairn_e2e::client::{Client, ClientError, ClientSettings, SetAttributes};
use cairn_e2e::control::Control;
use cairn_e2e::node::{Node, NodeSettings};
use cairn_e2e::random::Random;
use nfs3_types::nfs3::nfsstat3;

/// Size of the file system.
const DISK_BYTES: u64 = 600 << 20;
/// Bytes of it that the daemon keeps free.
const RESERVE_BYTES: u64 = 64 << 20;
/// What somebody else leaves free: more than what the daemon keeps for its own last writes (a quarter of the reserve),
/// and so little that there is no room either when its start has given back a segment that it no longer needs.
const LEFT_BYTES: u64 = RESERVE_BYTES / 2;
/// Size of a file.
const FILE_BYTES: usize = 3 << 20;

/// A small file system of its own, which goes away with this.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> std::io::Result<Self> {
        std::fs::create_dir(at)?;
        let size = format!("size={DISK_BYTES}");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "cairn-e2e"])
            .arg(at)
            .status()?;
        match status.success() {
            true => Ok(SmallDisk(at.to_owned())),
            false => Err(std::io::Error::other(format!("mount -t tmpfs: {status}"))),
        }
    }

    /// Fills it until only `LEFT_BYTES` are free, as another user of the disk may.
    fn fill(&self) -> anyhow::Result<()> {
        let found = rustix::fs::statvfs(&self.0)?;
        let excess = (found.f_bavail * found.f_frsize).saturating_sub(LEFT_BYTES);
        let file = std::fs::File::create(self.0.join("somebody else's"))?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, excess)?;
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let disk = match SmallDisk::mount(&directory.path().join("disk")) {
        Ok(disk) => disk,
        Err(error) => {
            assert!(
                std::env::var_os("CI").is_none(),
                "in CI this test must run, but {error}"
            );
            eprintln!("SKIPPED a_full_disk_loses_nothing: it needs root to mount a tmpfs: {error}");
            return Ok(());
        }
    };
    let mut settings = NodeSettings::new(disk.0.join("data"));
    settings.disk_reserve_bytes = Some(RESERVE_BYTES);
    let mut node = Node::start(&settings).await?;
    let control = Control::connect(node.socket()).await?;
    control.create("w").await?;
    let client = Client::connect(node.nfs(), ClientSettings::default()).await?;
    let root = client.mount("/w").await?;

    let set = SetAttributes {
        mode: Some(0o644),
        ..SetAttributes::default()
    };
    let data = |number: u64| Random::new(number).bytes(FILE_BYTES);
    let mut written = 0;
    let refused = loop {
        let name = format!("file {written}");
        let fill = async {
            let made = client
                .create(&root, name.as_bytes(), CreateMode::Guarded(set))
                .await?;
            let data = data(written);
            let runs = cairn_e2e::client::files::runs(0, FILE_BYTES as u64);
            let source = |run: cairn_e2e::client::files::Run| {
                let start = run.offset as usize;
                Ok(data[start..start + run.length as usize].to_vec())
            };
            client.write_runs(&made.handle, &runs, source).await
        };
        match fill.await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(
            written * (FILE_BYTES as u64) < DISK_BYTES,
            "more was written than the disk holds"
        );
    };
    assert_eq!(refused.status(), Some(nfsstat3::NFS3ERR_NOSPC), "{refused:?}");
    assert!(written > 20, "only {written} files fit");
    assert!(node.runs(), "the daemon ended:\n{}", node.log_end());

    for round in 0..2 {
        let client = Client::connect(node.nfs(), ClientSettings::default()).await?;
        for number in 0..written {
            let found = client.lookup(&root, format!("file {number}").as_bytes()).await?;
            let read = client.read_all(&found.handle).await?;
            assert!(read == data(number), "file {number} differs in round {round}");
        }
        if round == 0 {
            node.kill()?;
            disk.fill()?;
            node.restart(true).await?;
        }
    }
    // The disk is still full, and room can be made again.
    let client = Client::connect(node.nfs(), ClientSettings::default()).await?;
    let refused = client.create(&root, b"one more", CreateMode::Guarded(set)).await;
    assert_eq!(refused.unwrap_err().status(), Some(nfsstat3::NFS3ERR_NOSPC));
    client.remove(&root, b"file 0").await?;
    let gone: Result<_, ClientError> = client.lookup(&root, b"file 0").await;
    assert_eq!(gone.unwrap_err().status(), Some(nfsstat3::NFS3ERR_NOENT));
    Ok(())
}
