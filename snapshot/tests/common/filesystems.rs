//! File systems for tests: made in files, mounted on loop devices, gone when dropped. Needs root and the mkfs programs; what cannot be
//! had is told loudly and left out, and is a failure where `CI=true`.
//!
//! Used by several test programs: `#[path = "../common/filesystems.rs"] mod filesystems;`.

#![allow(dead_code, reason = "no test program uses all of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In memory.
    Tmpfs,
    /// No sharing of data.
    Ext4,
    /// Shares data by FICLONE. Symbolic links have at most 1023 bytes.
    Xfs,
    /// Shares data by FICLONE; subvolumes.
    Btrfs,
}

/// All kinds.
pub const KINDS: [Kind; 4] = [Kind::Tmpfs, Kind::Ext4, Kind::Xfs, Kind::Btrfs];

impl Kind {
    /// Whether files can share data.
    pub fn has_reflink(self) -> bool {
        matches!(self, Kind::Xfs | Kind::Btrfs)
    }

    /// Longest target of a symbolic link, in bytes.
    pub fn target_bytes_max(self) -> usize {
        match self {
            Kind::Xfs => 1023,
            // An item must fit into a node of 16 KiB, but targets are inline extents of less than a page.
            Kind::Tmpfs | Kind::Ext4 | Kind::Btrfs => 4095,
        }
    }
}

/// A mounted file system.
#[derive(Debug)]
pub struct Mounted {
    pub kind: Kind,
    /// Its root.
    path: PathBuf,
    /// What holds the image and the mount point.
    _files: tempfile::TempDir,
}

impl Mounted {
    /// Its root.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a descriptor that a failed test left open must not keep it mounted for ever.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// Mounts a new file system of that kind and size. Nothing, with words on standard error, if that is not possible here; a panic where
/// `CI=true`.
pub fn mount(kind: Kind, mebibytes: u64) -> Option<Mounted> {
    match try_mount(kind, mebibytes) {
        Ok(mounted) => Some(mounted),
        Err(why) => {
            assert_ne!(
                std::env::var("CI").as_deref(),
                Ok("true"),
                "no {kind:?} to test on: {why}"
            );
            eprintln!("SKIPPED: no {kind:?} to test on: {why}");
            None
        }
    }
}

/// All kinds that can be had here, each with 512 MiB.
pub fn every() -> impl Iterator<Item = Mounted> {
    KINDS.into_iter().filter_map(|kind| mount(kind, 512))
}

fn try_mount(kind: Kind, mebibytes: u64) -> Result<Mounted, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can mount".into());
    }
    let files = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = files.path().join("mounted");
    fs::create_dir(&path).map_err(|error| error.to_string())?;
    let image = files.path().join("image");
    let make: &[&str] = match kind {
        Kind::Tmpfs => {
            let size = format!("size={mebibytes}m");
            run(Command::new("mount")
                .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
                .arg(&path))?;
            return Ok(Mounted {
                kind,
                path,
                _files: files,
            });
        }
        Kind::Ext4 => &["mkfs.ext4", "-q", "-F", "-I", "256", "-O", "inline_data"],
        Kind::Xfs => &["mkfs.xfs", "-q", "-m", "reflink=1,bigtime=1"],
        Kind::Btrfs => &["mkfs.btrfs", "-q"],
    };
    let made = fs::File::create(&image).and_then(|file| file.set_len(mebibytes << 20));
    made.map_err(|error| error.to_string())?;
    run(Command::new(make[0]).args(&make[1..]).arg(&image))?;
    run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path))?;
    Ok(Mounted {
        kind,
        path,
        _files: files,
    })
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program} cannot be started: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{program} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}
