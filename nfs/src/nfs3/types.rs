//! The procedures and the data types that more than one of them uses (RFC 1813 sections 2.5 and 2.6).
//!
//! Times on the wire are unsigned 32-bit seconds: times before 1970 are sent as 0, times after 2106 as the largest. Names
//! are bytes. `fsid` is the volume, `fileid` the inode.

use bytes::BytesMut;
use cairn_types::{DeviceNumber, FileKind, Timestamp};
use cairn_vfs::filesystem::{Attributes, Before, Change, SetAttributes, SetTime};

use crate::file_handle::PROTOCOL_BYTES_MAX;
use crate::xdr::{Block, Decoder, Encode, XdrError};

/// The program's number.
pub(crate) const PROGRAM: u32 = 100_003;
/// The program's version.
pub(crate) const VERSION: u32 = 3;

/// Longest name or path that is read at all; whether it is too long for a name is the handler's decision.
pub(crate) const STRING_BYTES_MAX: usize = 8192;

/// Bytes of `fattr3`.
pub(crate) const ATTRIBUTES_BYTES: usize = 84;
/// Bytes of `post_op_attr` with attributes.
pub(crate) const POST_ATTRIBUTES_BYTES: usize = 4 + ATTRIBUTES_BYTES;

macro_rules! procedures {
    ($($name:ident $text:literal $number:literal)*) => {
        /// A procedure; its discriminant is its number.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub(crate) enum Procedure {
            $($name = $number,)*
        }

        impl Procedure {
            /// All, in the order of their numbers.
            pub(crate) const ALL: [Procedure; Procedure::COUNT] = [$(Procedure::$name,)*];

            /// The name in RFC 1813, without the prefix.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Procedure::$name => $text,)*
                }
            }
        }
    };
}

procedures! {
    Null "NULL" 0
    Getattr "GETATTR" 1
    Setattr "SETATTR" 2
    Lookup "LOOKUP" 3
    Access "ACCESS" 4
    Readlink "READLINK" 5
    Read "READ" 6
    Write "WRITE" 7
    Create "CREATE" 8
    Mkdir "MKDIR" 9
    Symlink "SYMLINK" 10
    Mknod "MKNOD" 11
    Remove "REMOVE" 12
    Rmdir "RMDIR" 13
    Rename "RENAME" 14
    Link "LINK" 15
    Readdir "READDIR" 16
    Readdirplus "READDIRPLUS" 17
    Fsstat "FSSTAT" 18
    Fsinfo "FSINFO" 19
    Pathconf "PATHCONF" 20
    Commit "COMMIT" 21
}

/// What the results of a failed procedure consist of after the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureShape {
    /// Nothing.
    Void,
    /// `post_op_attr` of the first object.
    Attributes,
    /// `wcc_data` of the first object.
    Change,
    /// `wcc_data` of both objects (RENAME).
    TwoChanges,
    /// `post_op_attr` of the first object, `wcc_data` of the second (LINK).
    AttributesAndChange,
}

impl Procedure {
    /// How many there are.
    pub(crate) const COUNT: usize = 22;

    /// The procedure with this number.
    #[inline]
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }

    /// Whether executing it twice may answer differently from executing it once, so that its replies are kept.
    #[inline]
    pub(crate) fn is_recorded(self) -> bool {
        match self {
            Procedure::Setattr
            | Procedure::Create
            | Procedure::Mkdir
            | Procedure::Symlink
            | Procedure::Mknod
            | Procedure::Remove
            | Procedure::Rmdir
            | Procedure::Rename
            | Procedure::Link => true,
            Procedure::Null
            | Procedure::Getattr
            | Procedure::Lookup
            | Procedure::Access
            | Procedure::Readlink
            | Procedure::Read
            | Procedure::Write
            | Procedure::Readdir
            | Procedure::Readdirplus
            | Procedure::Fsstat
            | Procedure::Fsinfo
            | Procedure::Pathconf
            | Procedure::Commit => false,
        }
    }

    /// The form of its failure.
    pub(crate) fn failure_shape(self) -> FailureShape {
        match self {
            Procedure::Null | Procedure::Getattr => FailureShape::Void,
            Procedure::Lookup
            | Procedure::Access
            | Procedure::Readlink
            | Procedure::Read
            | Procedure::Readdir
            | Procedure::Readdirplus
            | Procedure::Fsstat
            | Procedure::Fsinfo
            | Procedure::Pathconf => FailureShape::Attributes,
            Procedure::Setattr
            | Procedure::Write
            | Procedure::Create
            | Procedure::Mkdir
            | Procedure::Symlink
            | Procedure::Mknod
            | Procedure::Remove
            | Procedure::Rmdir
            | Procedure::Commit => FailureShape::Change,
            Procedure::Rename => FailureShape::TwoChanges,
            Procedure::Link => FailureShape::AttributesAndChange,
        }
    }
}

/// Why a `sattr3` cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArgumentError {
    /// It does not decode.
    Xdr(XdrError),
    /// It decodes to a time with a billion nanoseconds or more.
    Time,
}

impl From<XdrError> for ArgumentError {
    fn from(error: XdrError) -> Self {
        ArgumentError::Xdr(error)
    }
}

/// Reads a file handle as the bytes that the client gave.
#[inline]
pub(crate) fn handle<'a>(decoder: &mut Decoder<'a>) -> Result<&'a [u8], XdrError> {
    decoder.opaque(PROTOCOL_BYTES_MAX)
}

/// Reads `diropargs3`: the directory's handle and a name.
pub(crate) fn directory_and_name<'a>(decoder: &mut Decoder<'a>) -> Result<(&'a [u8], &'a [u8]), XdrError> {
    Ok((handle(decoder)?, decoder.opaque(STRING_BYTES_MAX)?))
}

/// Reads `nfstime3`.
pub(crate) fn time(decoder: &mut Decoder<'_>) -> Result<Timestamp, ArgumentError> {
    let seconds = decoder.u32()?;
    let nanoseconds = decoder.u32()?;
    if nanoseconds >= 1_000_000_000 {
        return Err(ArgumentError::Time);
    }
    Ok(Timestamp::new(i64::from(seconds), nanoseconds))
}

fn optional<'a, T, E: From<XdrError>>(
    decoder: &mut Decoder<'a>,
    read: impl FnOnce(&mut Decoder<'a>) -> Result<T, E>,
) -> Result<Option<T>, E> {
    if decoder.boolean()? {
        read(decoder).map(Some)
    } else {
        Ok(None)
    }
}

/// Reads `sattr3`.
pub(crate) fn set_attributes(decoder: &mut Decoder<'_>) -> Result<SetAttributes, ArgumentError> {
    let mode = optional(decoder, Decoder::u32)?;
    let uid = optional(decoder, Decoder::u32)?;
    let gid = optional(decoder, Decoder::u32)?;
    let size = optional(decoder, Decoder::u64)?;
    let accessed = set_time(decoder)?;
    let modified = set_time(decoder)?;
    Ok(SetAttributes {
        mode,
        uid,
        gid,
        size,
        accessed,
        modified,
    })
}

/// Reads `sattrguard3`.
pub(crate) fn guard(decoder: &mut Decoder<'_>) -> Result<Option<Timestamp>, ArgumentError> {
    optional(decoder, time)
}

fn set_time(decoder: &mut Decoder<'_>) -> Result<Option<SetTime>, ArgumentError> {
    match decoder.u32()? {
        0 => Ok(None),
        1 => Ok(Some(SetTime::Now)),
        2 => time(decoder).map(|time| Some(SetTime::To(time))),
        other => Err(XdrError::BadValue(other).into()),
    }
}

/// Reads `specdata3`.
pub(crate) fn device(decoder: &mut Decoder<'_>) -> Result<DeviceNumber, XdrError> {
    Ok(DeviceNumber {
        major: decoder.u32()?,
        minor: decoder.u32()?,
    })
}

/// `ftype3`.
#[inline]
pub(crate) fn kind_number(kind: FileKind) -> u32 {
    match kind {
        FileKind::Regular => 1,
        FileKind::Directory => 2,
        FileKind::BlockDevice => 3,
        FileKind::CharacterDevice => 4,
        FileKind::Symlink => 5,
        FileKind::Socket => 6,
        FileKind::Fifo => 7,
    }
}

#[inline(always)]
fn time_words(time: Timestamp) -> u64 {
    let (seconds, nanoseconds) = match u32::try_from(time.seconds()) {
        Ok(seconds) => (seconds, time.nanoseconds()),
        Err(_) if time.seconds() < 0 => (0, 0),
        Err(_) => (u32::MAX, time.nanoseconds()),
    };
    u64::from(seconds) << 32 | u64::from(nanoseconds)
}

#[inline(always)]
fn add_attributes<const N: usize>(block: &mut Block<N>, attributes: &Attributes) {
    block.u32(kind_number(attributes.kind));
    block.u32(attributes.mode & 0o7777);
    block.u32(attributes.links);
    block.u32(attributes.uid);
    block.u32(attributes.gid);
    block.u64(attributes.size);
    block.u64(attributes.used);
    block.u32(attributes.device.major);
    block.u32(attributes.device.minor);
    block.u64(attributes.object.volume.0);
    block.u64(attributes.object.inode.0);
    block.u64(time_words(attributes.accessed));
    block.u64(time_words(attributes.modified));
    block.u64(time_words(attributes.changed));
}

/// Writes `fattr3`.
#[inline]
pub(crate) fn put_attributes(out: &mut BytesMut, attributes: &Attributes) {
    let mut block = Block::<ATTRIBUTES_BYTES>::new();
    add_attributes(&mut block, attributes);
    out.extend_from_slice(block.filled());
}

/// Writes `post_op_attr`.
#[inline]
pub(crate) fn put_post_attributes(out: &mut BytesMut, attributes: Option<&Attributes>) {
    let mut block = Block::<POST_ATTRIBUTES_BYTES>::new();
    block.u32(u32::from(attributes.is_some()));
    if let Some(attributes) = attributes {
        add_attributes(&mut block, attributes);
    }
    out.extend_from_slice(block.filled());
}

/// Bytes of `wcc_data` with all attributes.
const CHANGE_BYTES: usize = 4 + 24 + POST_ATTRIBUTES_BYTES;

/// Writes `wcc_data` of a change.
pub(crate) fn put_change(out: &mut BytesMut, change: &Change) {
    let Before {
        size,
        modified,
        changed,
    } = change.before;
    let mut block = Block::<CHANGE_BYTES>::new();
    block.u32(1);
    block.u64(size);
    block.u64(time_words(modified));
    block.u64(time_words(changed));
    block.u32(1);
    add_attributes(&mut block, &change.after);
    out.extend_from_slice(block.filled());
}

/// Writes `wcc_data` without the attributes before.
pub(crate) fn put_no_change(out: &mut BytesMut, after: Option<&Attributes>) {
    out.put_bool(false);
    put_post_attributes(out, after);
}

/// Writes `post_op_fh3` with a handle.
pub(crate) fn put_post_handle(out: &mut BytesMut, handle: &[u8]) {
    out.put_bool(true);
    out.put_opaque(handle);
}

#[cfg(test)]
mod tests;
