//! What is mounted in this process's mount namespace, as /proc/self/mountinfo tells (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Longest line that is looked at, in bytes; longer ones are passed over.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Something that is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub mount_point: PathBuf,
    /// The type of file system, such as `fuse` or `fuse.cairn`.
    pub kind: String,
    /// What is mounted, in the file system's own words.
    pub source: String,
}

impl Mounted {
    /// Whether it was mounted by this crate.
    pub fn is_ours(&self) -> bool {
        (self.kind == "fuse" || self.kind.starts_with("fuse."))
            && self.source.starts_with(super::mount::SOURCE_PREFIX)
    }
}

/// What is mounted on exactly this path, which must be absolute and without symbolic links; what was mounted last, if several are. Errors: /proc cannot
/// be read.
pub fn mounted_at(path: &Path) -> io::Result<Option<Mounted>> {
    let mut reader = BufReader::new(File::open("/proc/self/mountinfo")?);
    let (mut line, mut found) = (Vec::new(), None);
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(found);
        }
        if line.len() <= LINE_BYTES_MAX
            && let Some(mounted) = parse(&line)
            && mounted.mount_point == path
        {
            found = Some(mounted);
        }
    }
}

/// The path by which the kernel knows a mount point, without touching what is mounted on it: that may be dead. Errors: the directory that it is in
/// cannot be found.
pub fn resolved(mount_point: &Path) -> io::Result<PathBuf> {
    let whole = std::path::absolute(mount_point)?;
    match (whole.parent(), whole.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
        // The root, or a path that ends with `..`.
        _ => whole.canonicalize(),
    }
}

fn parse(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| matches!(byte, b' ' | b'\n'));
    let mount_point = fields.nth(4)?;
    fields.find(|field| *field == b"-")?;
    let (kind, source) = (fields.next()?, fields.next()?);
    Some(Mounted {
        mount_point: unescaped(mount_point).into(),
        kind: unescaped(kind).to_string_lossy().into_owned(),
        source: unescaped(source).to_string_lossy().into_owned(),
    })
}

/// Blanks, line feeds and backslashes are written as backslashes with three octal digits.
fn unescaped(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let escaped = match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{mounted_at, parse};

    #[test]
    fn lines_are_taken_apart() {
        let line =
            b"36 35 0:42 / /mnt/a\\040b\\134\\012c ro,nosuid master:1 - fuse.cairn cairn:3f0c ro,user_id=0\n";
        let mounted = parse(line).unwrap();
        assert_eq!(mounted.mount_point, Path::new("/mnt/a b\\\nc"));
        assert_eq!(
            (mounted.kind.as_str(), mounted.source.as_str()),
            ("fuse.cairn", "cairn:3f0c")
        );
        assert!(mounted.is_ours());
        let other = parse(b"36 35 0:42 / /mnt rw - ext4 /dev/sda1 rw").unwrap();
        assert!(!other.is_ours());
        for broken in [
            &b""[..],
            b"36 35",
            b"36 35 0:42 / /mnt rw - ext4",
            b"a b c d e f g",
        ] {
            assert!(parse(broken).is_none());
        }
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(mounted_at(Path::new("/")).unwrap().is_some());
        assert_eq!(mounted_at(Path::new("/nonexistent")).unwrap(), None);
    }
}
