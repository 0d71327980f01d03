//! Attributes as this client sees and sets them (RFC 1813 section 2.5).

use nfs3_types::nfs3::{
    Nfs3Option, fattr3, ftype3, nfstime3, sattr3, set_atime, set_mtime, specdata3, wcc_data,
};

/// What kind of object it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Block device.
    BlockDevice,
    /// Character device.
    CharacterDevice,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
}

impl From<ftype3> for Kind {
    fn from(kind: ftype3) -> Self {
        match kind {
            ftype3::NF3REG => Kind::Regular,
            ftype3::NF3DIR => Kind::Directory,
            ftype3::NF3BLK => Kind::BlockDevice,
            ftype3::NF3CHR => Kind::CharacterDevice,
            ftype3::NF3LNK => Kind::Symlink,
            ftype3::NF3SOCK => Kind::Socket,
            ftype3::NF3FIFO => Kind::Fifo,
        }
    }
}

/// A time as NFSv3 carries it: seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds.
    pub seconds: u32,
    /// Nanoseconds of the second.
    pub nanoseconds: u32,
}

impl From<nfstime3> for Time {
    fn from(time: nfstime3) -> Self {
        Time {
            seconds: time.seconds,
            nanoseconds: time.nseconds,
        }
    }
}

impl From<Time> for nfstime3 {
    fn from(time: Time) -> Self {
        nfstime3 {
            seconds: time.seconds,
            nseconds: time.nanoseconds,
        }
    }
}

/// The attributes of an object (`fattr3`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Its kind.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Hard links.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Bytes of storage in use.
    pub used: u64,
    /// Device numbers of special files.
    pub device: (u32, u32),
    /// Identity within the file system.
    pub fileid: u64,
    /// Last access.
    pub accessed: Time,
    /// Last change of data.
    pub modified: Time,
    /// Last change of data or attributes.
    pub changed: Time,
}

impl From<&fattr3> for Attributes {
    fn from(wire: &fattr3) -> Self {
        Attributes {
            kind: wire.type_.into(),
            mode: wire.mode,
            links: wire.nlink,
            uid: wire.uid,
            gid: wire.gid,
            size: wire.size,
            used: wire.used,
            device: (wire.rdev.specdata1, wire.rdev.specdata2),
            fileid: wire.fileid,
            accessed: wire.atime.into(),
            modified: wire.mtime.into(),
            changed: wire.ctime.into(),
        }
    }
}

/// The attributes after an operation, if the server gave them.
pub fn after(wcc: &wcc_data) -> Option<Attributes> {
    optional(&wcc.after)
}

/// Optional attributes (`post_op_attr`).
pub fn optional(attributes: &Nfs3Option<fattr3>) -> Option<Attributes> {
    match attributes {
        Nfs3Option::Some(attributes) => Some(attributes.into()),
        Nfs3Option::None => None,
    }
}

/// Attributes to set; `None` leaves one as it is (`sattr3`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttributes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size.
    pub size: Option<u64>,
    /// Last access.
    pub accessed: Option<Time>,
    /// Last change of data.
    pub modified: Option<Time>,
}

impl SetAttributes {
    /// The wire form.
    pub fn wire(&self) -> sattr3 {
        sattr3 {
            mode: option(self.mode),
            uid: option(self.uid),
            gid: option(self.gid),
            size: option(self.size),
            atime: self.accessed.map_or(set_atime::DONT_CHANGE, |time| {
                set_atime::SET_TO_CLIENT_TIME(time.into())
            }),
            mtime: self.modified.map_or(set_mtime::DONT_CHANGE, |time| {
                set_mtime::SET_TO_CLIENT_TIME(time.into())
            }),
        }
    }
}

/// Device numbers in their wire form.
pub fn device(numbers: (u32, u32)) -> specdata3 {
    specdata3 {
        specdata1: numbers.0,
        specdata2: numbers.1,
    }
}

fn option<T: nfs3_types::xdr_codec::Pack + nfs3_types::xdr_codec::Unpack>(value: Option<T>) -> Nfs3Option<T> {
    value.map_or(Nfs3Option::None, Nfs3Option::Some)
}
