//! Attributes of an inode, the data of a small file, the target of a symbolic link.
//!
//! Attributes (`a`), 142 bytes, all little-endian:
//!
//! | offset | width | field |
//! | --- | --- | --- |
//! | 0 | 1 | layout, 1 |
//! | 1 | 1 | kind: 1 regular, 2 directory, 3 symlink, 4 block, 5 character, 6 fifo, 7 socket |
//! | 2 | 2 | mode, 0..=0o7777 |
//! | 4 | 4 | links |
//! | 8 | 4 | uid |
//! | 12 | 4 | gid |
//! | 16 | 4 | generation |
//! | 20 | 8 | size |
//! | 28 | 4 + 4 | device major, minor |
//! | 36 | 8 + 4 | accessed: seconds (signed), nanoseconds |
//! | 48 | 8 + 4 | modified |
//! | 60 | 8 + 4 | changed |
//! | 72 | 8 | data version: raised by every change of the data |
//! | 80 | 8 | log sequence: newest record of the hot log that the extents reflect |
//! | 88 | 8 | bytes of storage in use |
//! | 96 | 8 | parent, for directories |
//! | 104 | 8 | next cookie, for directories |
//! | 112 | 8 | entries, for directories |
//! | 120 | 1 | 1 if the data is inline |
//! | 121 | 1 | 1 if the verifier is set |
//! | 122 | 8 | verifier of the exclusive create that made the file |
//! | 130 | 12 | zero |

use cairn_types::{DeviceNumber, FileKind, InodeId, Timestamp};

use super::codec::{DecodeError, Reader, Writer};
use super::{ObjectKind, body};

/// The stored attributes of an inode. The module's documentation draws the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InodeRecord {
    /// Type.
    pub kind: FileKind,
    /// Permission bits, `0..=0o7777`.
    pub mode: u16,
    /// Hard links; for a directory 2 and its subdirectories.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Differs between objects; part of the file handle.
    pub generation: u32,
    /// Size in bytes. Of a symbolic link: of its target. Of a directory: a nominal 4096.
    pub size: u64,
    /// Device of a special file.
    pub device: DeviceNumber,
    /// Last access.
    pub accessed: Timestamp,
    /// Last change of data.
    pub modified: Timestamp,
    /// Last change of data or attributes.
    pub changed: Timestamp,
    /// Raised by every change of the data.
    pub data_version: u64,
    /// Newest record of the hot log that the extents reflect: replay skips records up to it.
    pub log_sequence: u64,
    /// Bytes of storage in use.
    pub used: u64,
    /// The directory that holds this directory; the root's is itself.
    pub parent: InodeId,
    /// The cookie of the next entry made in this directory.
    pub next_cookie: u64,
    /// Entries of this directory, without `.` and `..`.
    pub entries: u64,
    /// Whether the data is in the inline object instead of extents.
    pub inline: bool,
    /// Verifier of the exclusive create that made the file, until its first change of attributes.
    pub verifier: Option<[u8; 8]>,
}

const LAYOUT: u8 = 1;
const BYTES: usize = 142;

/// Code of a file kind in values.
pub(crate) fn kind_code(kind: FileKind) -> u8 {
    match kind {
        FileKind::Regular => 1,
        FileKind::Directory => 2,
        FileKind::Symlink => 3,
        FileKind::BlockDevice => 4,
        FileKind::CharacterDevice => 5,
        FileKind::Fifo => 6,
        FileKind::Socket => 7,
    }
}

/// File kind of a code.
pub(crate) fn kind_of(code: u8) -> Option<FileKind> {
    Some(match code {
        1 => FileKind::Regular,
        2 => FileKind::Directory,
        3 => FileKind::Symlink,
        4 => FileKind::BlockDevice,
        5 => FileKind::CharacterDevice,
        6 => FileKind::Fifo,
        7 => FileKind::Socket,
        _ => return None,
    })
}

impl InodeRecord {
    pub(crate) fn body(inode: InodeId) -> Vec<u8> {
        body(inode, ObjectKind::Attributes)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(BYTES);
        writer.u8(LAYOUT);
        writer.u8(kind_code(self.kind));
        writer.u16(self.mode);
        writer.u32(self.links);
        writer.u32(self.uid);
        writer.u32(self.gid);
        writer.u32(self.generation);
        writer.u64(self.size);
        writer.u32(self.device.major);
        writer.u32(self.device.minor);
        writer.time(self.accessed);
        writer.time(self.modified);
        writer.time(self.changed);
        writer.u64(self.data_version);
        writer.u64(self.log_sequence);
        writer.u64(self.used);
        writer.u64(self.parent.0);
        writer.u64(self.next_cookie);
        writer.u64(self.entries);
        writer.u8(u8::from(self.inline));
        writer.u8(u8::from(self.verifier.is_some()));
        writer.bytes(&self.verifier.unwrap_or_default());
        writer.bytes(&[0; 12]);
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("inode", bytes);
        let error = reader.error();
        if reader.u8()? != LAYOUT {
            return Err(error);
        }
        let error = reader.error();
        let kind = kind_of(reader.u8()?).ok_or(error)?;
        let record = InodeRecord {
            kind,
            mode: reader.u16()?,
            links: reader.u32()?,
            uid: reader.u32()?,
            gid: reader.u32()?,
            generation: reader.u32()?,
            size: reader.u64()?,
            device: DeviceNumber {
                major: reader.u32()?,
                minor: reader.u32()?,
            },
            accessed: reader.time()?,
            modified: reader.time()?,
            changed: reader.time()?,
            data_version: reader.u64()?,
            log_sequence: reader.u64()?,
            used: reader.u64()?,
            parent: InodeId(reader.u64()?),
            next_cookie: reader.u64()?,
            entries: reader.u64()?,
            inline: reader.flag()?,
            verifier: if reader.flag()? {
                Some(reader.array()?)
            } else {
                reader.take(8)?;
                None
            },
        };
        reader.take(12)?;
        reader.end()?;
        Ok(record)
    }
}

/// Body of the data of a small file. The value is the data itself, as long as the size says or shorter: the rest is zeros.
pub(crate) fn inline_body(inode: InodeId) -> Vec<u8> {
    body(inode, ObjectKind::InlineData)
}

/// Body of a symbolic link's target. The value is the target.
pub(crate) fn link_target_body(inode: InodeId) -> Vec<u8> {
    body(inode, ObjectKind::LinkTarget)
}
