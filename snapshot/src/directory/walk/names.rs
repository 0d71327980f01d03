//! The names in one directory, sorted by their bytes, in little memory: one piece of memory for all names, 16 bytes beside each.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use cairn_types::FileKind;
use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

/// Bytes that one getdents64(2) fills.
pub(super) const LIST_BUFFER_BYTES: usize = 64 << 10;
/// Most bytes of names of one directory: offsets have 32 bits.
const NAMES_BYTES_MAX: usize = u32::MAX as usize - LIST_BUFFER_BYTES;

/// The sorted names of a directory, without `.` and `..`.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// All names, each with a NUL behind it.
    bytes: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    /// The first 8 bytes, big-endian, so that most comparisons need nothing else.
    prefix: u64,
    offset: u32,
    /// Without the NUL.
    length: u16,
    kind: Option<FileKind>,
}

impl Names {
    /// Reads the names of an open directory that `keep` accepts; the kind is what the directory says, if it says it. Errors:
    /// getdents64(2).
    pub(super) fn read(
        directory: impl AsFd,
        buffer: &mut [MaybeUninit<u8>],
        mut keep: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<Names> {
        let mut names = Names::default();
        let mut list = RawDir::new(directory, buffer);
        while let Some(entry) = list.next() {
            let entry = match entry {
                Ok(entry) => entry,
                // A directory that was removed while it was open has nothing in it.
                Err(Errno::NOENT) => break,
                Err(error) => return Err(error.into()),
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || !keep(name) {
                continue;
            }
            if names.bytes.len() > NAMES_BYTES_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "its names take up more than 4 GiB",
                ));
            }
            let kind = match entry.file_type() {
                FileType::RegularFile => Some(FileKind::Regular),
                FileType::Directory => Some(FileKind::Directory),
                FileType::Symlink => Some(FileKind::Symlink),
                FileType::BlockDevice => Some(FileKind::BlockDevice),
                FileType::CharacterDevice => Some(FileKind::CharacterDevice),
                FileType::Fifo => Some(FileKind::Fifo),
                FileType::Socket => Some(FileKind::Socket),
                FileType::Unknown => None,
            };
            names.add(name, kind);
        }
        names.sort();
        Ok(names)
    }

    fn add(&mut self, name: &[u8], kind: Option<FileKind>) {
        let mut first = [0; 8];
        let length = name.len().min(8);
        first[..length].copy_from_slice(&name[..length]);
        self.items.push(Item {
            prefix: u64::from_be_bytes(first),
            offset: self.bytes.len() as u32,
            length: name.len() as u16,
            kind,
        });
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        let name = |item: &Item| &bytes[item.offset as usize..][..usize::from(item.length)];
        self.items
            .sort_unstable_by(|a, b| a.prefix.cmp(&b.prefix).then_with(|| name(a).cmp(name(b))));
        self.items
            .dedup_by(|a, b| a.prefix == b.prefix && name(a) == name(b));
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether `name` is among them.
    pub(super) fn contains(&self, name: &[u8]) -> bool {
        let of = |item: &Item| &self.bytes[item.offset as usize..][..usize::from(item.length)];
        self.items.binary_search_by(|item| of(item).cmp(name)).is_ok()
    }

    /// The name at `index`, and its kind.
    pub(super) fn get(&self, index: usize) -> Option<(&CStr, Option<FileKind>)> {
        let item = self.items.get(index)?;
        let start = item.offset as usize;
        let bytes = &self.bytes[start..=start + usize::from(item.length)];
        Some((CStr::from_bytes_with_nul(bytes).ok()?, item.kind))
    }
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn names_are_sorted_by_their_bytes() {
        let mut names = Names::default();
        let given = [
            "b",
            "abcdefghi",
            "abcdefgh",
            "a",
            "abcdefgha",
            "\u{ff}",
            "a b",
            "a",
            "ab",
        ];
        for name in given {
            names.add(name.as_bytes(), None);
        }
        names.sort();
        let found: Vec<String> = (0..names.len())
            .map(|at| names.get(at).unwrap().0.to_string_lossy().into_owned())
            .collect();
        assert_eq!(
            found,
            [
                "a",
                "a b",
                "ab",
                "abcdefgh",
                "abcdefgha",
                "abcdefghi",
                "b",
                "\u{ff}"
            ]
        );
    }
}
