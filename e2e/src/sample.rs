//! Local trees to copy, made on the spot.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::random::Random;
use crate::tree::{Tree, local};

/// Size of the file that is mostly a hole, in bytes.
const SPARSE_BYTES: u64 = 64 << 20;
/// Sizes around the bounds where storage changes its ways, in bytes.
const SIZES: [usize; 10] = [0, 1, 100, 4095, 4096, 4097, 8192, 65_537, 300_000, (1 << 20) + 1];

/// A tree of `files` regular files in directories of twenty, with every bit chosen by the seed.
pub fn many(root: &Path, seed: u64, files: usize) -> anyhow::Result<Tree> {
    let mut random = Random::new(seed);
    for index in 0..files {
        let directory = root.join(format!("directory {}", index / 20));
        fs::create_dir_all(&directory)?;
        let path = directory.join(format!("file {index}"));
        let size = SIZES[index % SIZES.len()] + random.below(50) as usize;
        fs::write(&path, random.bytes(size))?;
        fs::set_permissions(&path, Permissions::from_mode(random.below(0o1000) as u32))?;
        let time = Duration::new(random.below(1 << 32), random.below(1_000_000_000) as u32);
        let time = SystemTime::UNIX_EPOCH + time;
        // Root may open it whatever its mode says; others gave themselves no way to be refused.
        File::open(&path)
            .or_else(|_| {
                fs::set_permissions(&path, Permissions::from_mode(0o600))?;
                File::open(&path)
            })?
            .set_modified(time)?;
    }
    Ok(local::list(root, &|_| true)?)
}

/// Symbolic and hard links, odd modes and names, old times, empty things, a pipe, and a hole.
pub fn odd(root: &Path) -> anyhow::Result<Tree> {
    let mut random = Random::new(1);
    let deep = root.join("a/deep/directory with spaces/\u{e4}\u{f6}\u{fc}");
    fs::create_dir_all(&deep)?;
    fs::create_dir(root.join("empty directory"))?;
    fs::write(root.join("empty file"), b"")?;
    for (index, mode) in [0o000, 0o400, 0o644, 0o755, 0o1777, 0o2755, 0o4711, 0o7777]
        .into_iter()
        .enumerate()
    {
        // Only root may read what nobody may read.
        let mode = if rustix::process::geteuid().is_root() {
            mode
        } else {
            mode | 0o400
        };
        let path = deep.join(format!("{index}, mode {mode:o}"));
        fs::write(&path, random.bytes(1 << (2 * index)))?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    fs::write(root.join(OsStr::from_bytes(b"not UTF-8 \xff\xfe\x01")), b"bytes")?;
    fs::write(root.join("n".repeat(255)), b"a name of 255 bytes")?;
    symlink("a/deep", root.join("link to a directory"))?;
    symlink("nowhere", root.join("dangling link"))?;
    symlink(
        OsStr::from_bytes(&[b'/', 0xff].repeat(1000)),
        root.join("long link"),
    )?;
    fs::write(root.join("one"), random.bytes(100_000))?;
    fs::hard_link(root.join("one"), root.join("a/two"))?;
    fs::hard_link(root.join("one"), deep.join("three"))?;
    let pipe = rustix::fs::Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe"),
        rustix::fs::FileType::Fifo,
        pipe,
        0,
    )?;

    let sparse = File::create(root.join("sparse"))?;
    sparse.set_len(SPARSE_BYTES)?;
    sparse.write_all_at(b"an island", SPARSE_BYTES / 3)?;
    for (name, seconds) in [
        ("empty file", 1),
        ("one", 1_000_000_000),
        ("sparse", 4_000_000_000),
    ] {
        let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789);
        File::options()
            .append(true)
            .open(root.join(name))?
            .set_modified(time)?;
    }
    Ok(local::list(root, &|_| true)?)
}

#[cfg(test)]
mod tests {
    use super::odd;
    use crate::client::attributes::Kind;

    #[test]
    fn the_odd_tree_has_what_it_promises() {
        let directory = tempfile::tempdir().unwrap();
        let tree = odd(&directory.path().join("made")).unwrap();
        let kinds: std::collections::BTreeSet<_> = tree.nodes.values().map(|node| node.kind()).collect();
        assert!(kinds.is_superset(&[Kind::Regular, Kind::Directory, Kind::Symlink, Kind::Fifo].into()));
        assert_eq!(
            tree.link_groups()
                .into_values()
                .map(|names| names.len())
                .collect::<Vec<_>>(),
            [3]
        );
        assert!(tree.nodes.keys().any(|path| std::str::from_utf8(path).is_err()));
        let sparse = tree.node(b"sparse").unwrap();
        assert!(sparse.attributes.used < sparse.attributes.size / 100);
    }
}
