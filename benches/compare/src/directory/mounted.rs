//! A fresh file system in a file, mounted on a loop device; gone with its value. Needs root.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// Inode number of the root of every subvolume of Btrfs (btrfs(5)).
const SUBVOLUME_ROOT: u64 = 256;

/// Which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// XFS with reflinks.
    Xfs,
    /// Btrfs; trees lie in a subvolume.
    Btrfs,
}

impl FileSystem {
    /// What the tables call it.
    pub fn shown(self) -> &'static str {
        match self {
            FileSystem::Xfs => "XFS",
            FileSystem::Btrfs => "Btrfs",
        }
    }
}

/// A mounted file system.
#[derive(Debug)]
pub struct Mounted {
    kind: FileSystem,
    root: PathBuf,
    image: PathBuf,
}

impl Mounted {
    /// Makes and mounts one at `root`.
    pub fn make(kind: FileSystem, root: &Path, gibibytes: u64) -> anyhow::Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "only root can mount file systems: run this as root"
        );
        fs::create_dir_all(root)?;
        let image = root.with_extension("image");
        File::create(&image)?.set_len(gibibytes << 30)?;
        let make: &[&str] = match kind {
            FileSystem::Xfs => &["mkfs.xfs", "-q", "-f", "-m", "reflink=1,bigtime=1"],
            FileSystem::Btrfs => &["mkfs.btrfs", "-q", "-f"],
        };
        command(Command::new(make[0]).args(&make[1..]).arg(&image))?;
        let device = attach(&image)?;
        let mounted = command(Command::new("mount").arg(&device).arg(root));
        // While it is mounted it stays; then it goes by itself.
        command(Command::new("losetup").args(["--detach", &device]))?;
        mounted?;
        Ok(Mounted {
            kind,
            root: root.to_owned(),
            image,
        })
    }

    /// Where it is mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the directory in which a tree named `tree` is to lie; on Btrfs the tree is a subvolume.
    pub fn tree_parent(&self, parent: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(parent)?;
        match self.kind {
            FileSystem::Xfs => Ok(()),
            FileSystem::Btrfs => command(
                Command::new("btrfs")
                    .args(["-q", "subvolume", "create"])
                    .arg(parent.join("tree")),
            ),
        }
    }

    /// Removes a directory with all below, subvolumes too.
    pub fn clear(&self, directory: &Path) -> anyhow::Result<()> {
        if self.kind == FileSystem::Btrfs {
            delete_subvolumes(directory)?;
        }
        fs::remove_dir_all(directory).with_context(|| directory.display().to_string())
    }
}

fn delete_subvolumes(directory: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        match entry.metadata()?.ino() {
            SUBVOLUME_ROOT => command(
                Command::new("btrfs")
                    .args(["-q", "subvolume", "delete"])
                    .arg(entry.path()),
            )?,
            _ => delete_subvolumes(&entry.path())?,
        }
    }
    Ok(())
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // What cannot be unmounted stays, and is told.
        if let Err(error) = command(Command::new("umount").arg(&self.root)) {
            eprintln!("{error:#}");
            return;
        }
        let _ = fs::remove_file(&self.image);
    }
}

/// A loop device on an image, without a second page cache below that of the file system, which would be what is measured.
fn attach(image: &Path) -> anyhow::Result<String> {
    let attached = Command::new("losetup")
        .args(["--find", "--show", "--direct-io=on"])
        .arg(image)
        .output()
        .context("losetup (util-linux)")?;
    ensure!(
        attached.status.success(),
        "losetup: {}",
        String::from_utf8_lossy(&attached.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&attached.stdout).trim().to_owned())
}

/// Runs a program to its success.
pub fn command(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output
        .with_context(|| format!("{program} cannot be started: `make compare ARGS=directory` installs it"))?;
    ensure!(
        output.status.success(),
        "{program} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
