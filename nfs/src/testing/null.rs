//! A file system that answers at once and keeps nothing: what is measured with it is the protocol and the transport.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use cairn_types::{DeviceNumber, ExportPolicy, FileKind, InodeId, Timestamp, VolumeId};
use cairn_vfs::filesystem::{
    Attributes, Before, Caller, Capacity, Change, CreateMode, Created, Entry, Export, FileSystem, Found,
    Linked, Listed, ObjectId, ReadData, Record, Renamed, ReplyRecord, SetAttributes, SpecialFile, Stability,
    Written,
};
use cairn_vfs::{Error, Pending};

/// One export, `/null`, for this machine; every name in it is the same endless file, every change succeeds and changes
/// nothing. Listings have `.` and `..` only.
#[derive(Debug)]
pub struct NullFileSystem {
    export: Export,
    data: Bytes,
}

const VOLUME: VolumeId = VolumeId(1);
const FILE: InodeId = InodeId(2);
/// Most bytes of a READ.
const DATA_BYTES: usize = 1 << 20;
const TIME_SECONDS: i64 = 1_700_000_000;

impl Default for NullFileSystem {
    fn default() -> Self {
        let policy = ExportPolicy {
            privileged_port: false,
            ..ExportPolicy::default()
        };
        NullFileSystem {
            export: Export {
                path: "/null".to_owned(),
                volume: VOLUME,
                policy: Arc::new(policy),
            },
            data: vec![0x5a; DATA_BYTES].into(),
        }
    }
}

fn attributes(inode: InodeId) -> Attributes {
    let time = Timestamp::new(TIME_SECONDS, 0);
    let directory = inode == InodeId::ROOT;
    Attributes {
        object: ObjectId {
            volume: VOLUME,
            inode,
            generation: 1,
        },
        kind: if directory {
            FileKind::Directory
        } else {
            FileKind::Regular
        },
        mode: if directory { 0o777 } else { 0o666 },
        links: 1,
        uid: 0,
        gid: 0,
        size: if directory { 0 } else { 1 << 40 },
        used: 0,
        device: DeviceNumber::default(),
        accessed: time,
        modified: time,
        changed: time,
    }
}

fn change(inode: InodeId) -> Change {
    let after = attributes(inode);
    Change {
        before: Before::from(&after),
        after,
    }
}

fn recorded<T>(outcome: T, record: Record<'_, T>) -> Result<Pending<T>, Error> {
    record(&outcome);
    Ok(Pending::ready(outcome))
}

fn created(directory: ObjectId) -> Created {
    Created {
        attributes: attributes(FILE),
        directory: change(directory.inode),
    }
}

impl FileSystem for NullFileSystem {
    fn exports(&self) -> Vec<Export> {
        vec![self.export.clone()]
    }

    fn export(&self, volume: VolumeId) -> Option<Export> {
        (volume == VOLUME).then(|| self.export.clone())
    }

    fn mount(&self, path: &[u8]) -> Result<Attributes, Error> {
        if path == self.export.path.as_bytes() {
            Ok(attributes(InodeId::ROOT))
        } else {
            Err(Error::NotFound)
        }
    }

    fn getattr_cached(&self, object: ObjectId) -> Option<Attributes> {
        Some(attributes(object.inode))
    }

    fn getattr(&self, object: ObjectId) -> Result<Attributes, Error> {
        Ok(attributes(object.inode))
    }

    fn setattr(
        &self,
        _: &Caller,
        object: ObjectId,
        _: SetAttributes,
        _: Option<Timestamp>,
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        recorded(change(object.inode), record)
    }

    fn lookup(&self, _: &Caller, directory: ObjectId, _: &[u8]) -> Result<Found, Error> {
        Ok(Found {
            attributes: attributes(FILE),
            directory: attributes(directory.inode),
        })
    }

    fn lookup_cached(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
    ) -> Option<Result<Found, Error>> {
        Some(self.lookup(caller, directory, name))
    }

    fn readlink(&self, _: &Caller, object: ObjectId) -> Result<(Bytes, Attributes), Error> {
        Ok((Bytes::from_static(b"target"), attributes(object.inode)))
    }

    fn read(&self, _: &Caller, object: ObjectId, _: u64, count: u32) -> Result<ReadData, Error> {
        let data = self.data.slice(..DATA_BYTES.min(count as usize));
        Ok(ReadData {
            pieces: vec![data],
            end_of_file: false,
            attributes: attributes(object.inode),
        })
    }

    fn write(
        &self,
        _: &Caller,
        object: ObjectId,
        _: u64,
        data: Bytes,
        stability: Stability,
    ) -> Result<Pending<Written>, Error> {
        Ok(Pending::ready(Written {
            count: data.len() as u32,
            stability,
            change: change(object.inode),
        }))
    }

    fn commit(&self, _: &Caller, object: ObjectId, _: u64, _: u32) -> Result<Pending<Change>, Error> {
        Ok(Pending::ready(change(object.inode)))
    }

    fn write_verifier(&self) -> [u8; 8] {
        [1; 8]
    }

    fn create(
        &self,
        _: &Caller,
        directory: ObjectId,
        _: &[u8],
        _: CreateMode,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        recorded(created(directory), record)
    }

    fn mkdir(
        &self,
        _: &Caller,
        directory: ObjectId,
        _: &[u8],
        _: SetAttributes,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        recorded(created(directory), record)
    }

    fn symlink(
        &self,
        _: &Caller,
        directory: ObjectId,
        _: &[u8],
        _: &[u8],
        _: SetAttributes,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        recorded(created(directory), record)
    }

    fn mknod(
        &self,
        _: &Caller,
        directory: ObjectId,
        _: &[u8],
        _: SpecialFile,
        _: SetAttributes,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        recorded(created(directory), record)
    }

    fn remove(
        &self,
        _: &Caller,
        directory: ObjectId,
        _: &[u8],
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        recorded(change(directory.inode), record)
    }

    fn rmdir(
        &self,
        _: &Caller,
        directory: ObjectId,
        _: &[u8],
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        recorded(change(directory.inode), record)
    }

    fn rename(
        &self,
        _: &Caller,
        from: (ObjectId, &[u8]),
        to: (ObjectId, &[u8]),
        record: Record<'_, Renamed>,
    ) -> Result<Pending<Renamed>, Error> {
        recorded(
            Renamed {
                from: change(from.0.inode),
                to: change(to.0.inode),
            },
            record,
        )
    }

    fn link(
        &self,
        _: &Caller,
        object: ObjectId,
        directory: ObjectId,
        _: &[u8],
        record: Record<'_, Linked>,
    ) -> Result<Pending<Linked>, Error> {
        recorded(
            Linked {
                attributes: attributes(object.inode),
                directory: change(directory.inode),
            },
            record,
        )
    }

    fn readdir(
        &self,
        _: &Caller,
        directory: ObjectId,
        cookie: u64,
        with_attributes: bool,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<Listed, Error> {
        let root = attributes(InodeId::ROOT);
        let mut end = true;
        for (number, name) in [(1, &b"."[..]), (2, b"..")] {
            let attributes = with_attributes.then_some(&root);
            let entry = Entry {
                name,
                inode: InodeId::ROOT,
                cookie: number,
                attributes,
            };
            if number > cookie && visit(entry).is_break() {
                end = false;
                break;
            }
        }
        Ok(Listed {
            directory: attributes(directory.inode),
            end,
        })
    }

    fn capacity(&self, _: ObjectId) -> Result<Capacity, Error> {
        Ok(Capacity {
            bytes_total: 1 << 40,
            bytes_free: 1 << 40,
            bytes_available: 1 << 40,
            inodes_total: 1 << 32,
            inodes_free: 1 << 32,
        })
    }

    fn recorded_replies(&self, _: usize) -> Result<Vec<ReplyRecord>, Error> {
        Ok(Vec::new())
    }
}
