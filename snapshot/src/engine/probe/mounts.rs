//! Mounts: which one a directory is on, and which are below it. Reads the kernel's table (`/proc/self/mountinfo`, proc_pid_mountinfo(5)).
//!
//! A mount is found by the number that the kernel gives a descriptor (`STATX_MNT_ID`, Linux 5.8), not by comparing names: a mount may have been
//! mounted over, and names may have been swapped. Kernels without it leave the rule of prefixes, by whole names.

use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags, statx};

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its number.
    pub id: u64,
    /// Number of the superblock's device, as `major:minor`: the same for all mounts of one file system.
    pub device: String,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Type of the file system, with its subtype: `xfs`, `fuse.juicefs`.
    pub kind: String,
    /// What is mounted: a device, or what the file system calls it.
    pub source: String,
}

/// The mounts that this process sees, in the order of mounting.
#[derive(Debug, Clone, Default)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// Reads the table. Errors: it cannot be read. Lines that are no mounts are passed over.
    pub fn read() -> io::Result<Self> {
        Ok(Mounts::parse(&std::fs::read("/proc/self/mountinfo")?))
    }

    /// Reads the text of a table.
    pub fn parse(table: &[u8]) -> Self {
        Mounts(
            table
                .split(|byte| *byte == b'\n')
                .filter_map(parse_line)
                .collect(),
        )
    }

    /// The mount of an open file; `path` is where it was opened, absolute, and decides on kernels that do not tell.
    pub fn of(&self, fd: BorrowedFd<'_>, path: &Path) -> Option<&Mount> {
        mount_number(fd)
            .and_then(|id| self.0.iter().find(|mount| mount.id == id))
            .or_else(|| self.holding(path))
    }

    /// The mount whose point is the longest prefix of an absolute path; of several on one point, the last.
    pub fn holding(&self, path: &Path) -> Option<&Mount> {
        let mut best: Option<&Mount> = None;
        for mount in self.0.iter().filter(|mount| path.starts_with(&mount.point)) {
            if best.is_none_or(|best| best.point.as_os_str().len() <= mount.point.as_os_str().len()) {
                best = Some(mount);
            }
        }
        best
    }

    /// The mounts whose points are below an absolute path, the path itself excluded.
    pub fn below(&self, path: &Path) -> impl Iterator<Item = &Mount> {
        self.0
            .iter()
            .filter(move |mount| mount.point != path && mount.point.starts_with(path))
    }
}

/// The number of the mount that an open file is on; nothing if the kernel does not tell.
pub(crate) fn mount_number(fd: BorrowedFd<'_>) -> Option<u64> {
    let stat = statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id)
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    let mut fields = line.split(|byte| *byte == b' ');
    let id = text(fields.next()?).parse().ok()?;
    let device = text(fields.nth(1)?);
    let point = PathBuf::from(OsString::from_vec(unescaped(fields.nth(1)?)));
    fields.find(|field| *field == b"-")?;
    let kind = text(fields.next()?);
    let source = text(fields.next()?);
    Some(Mount {
        id,
        device,
        point,
        kind,
        source,
    })
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescaped(field)).into_owned()
}

/// The kernel writes space, tab, newline and backslash as `\ooo`.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte, behind) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', behind @ ..]) => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = behind;
            }
            _ => plain.push(*byte),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::Mounts;
    use std::path::Path;

    const TABLE: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        30 22 0:40 / /jfs rw - fuse.juicefs JuiceFS:data rw,user_id=0\n\
        31 22 0:41 / /jfs2 rw master:3 propagate_from:2 - xfs /dev/sdb rw\n\
        nonsense\n\
        32 30 0:42 / /jfs/with\\040space\\134 rw - tmpfs tmpfs rw\n\
        33 22 0:43 / /jfs2 rw - fuse.juicefs JuiceFS:other rw\n";

    #[test]
    fn whole_names_decide() {
        let mounts = Mounts::parse(TABLE);
        let of = |path: &str| mounts.holding(Path::new(path)).unwrap().source.clone();
        assert_eq!(of("/jfs/a/b"), "JuiceFS:data");
        assert_eq!(of("/jfs"), "JuiceFS:data");
        assert_eq!(of("/jfsx/a"), "/dev/vda");
        assert_eq!(
            of("/jfs2/a"),
            "JuiceFS:other",
            "the last of two mounts on one point"
        );
        assert_eq!(of("/jfs/with space\\/x"), "tmpfs");
        assert_eq!(mounts.holding(Path::new("/jfs")).unwrap().kind, "fuse.juicefs");
        let below: Vec<_> = mounts.below(Path::new("/jfs")).map(|mount| mount.id).collect();
        assert_eq!(below, [32]);
        assert_eq!(mounts.below(Path::new("/")).count(), 4);
    }

    #[test]
    fn this_machine_has_a_root() {
        let mounts = Mounts::read().unwrap();
        let root = std::fs::File::open("/proc").unwrap();
        let found = mounts
            .of(std::os::fd::AsFd::as_fd(&root), Path::new("/proc"))
            .unwrap();
        assert_eq!(found.kind, "proc");
    }
}
