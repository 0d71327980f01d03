//! Any of our file systems behind the crate nfsserve, for comparison: the same volume code, that crate's protocol core.
//!
//! What nfsserve cannot express is missing: credentials (everybody is root), hard links, devices, stability (a WRITE is
//! answered when it is durable, since nfsserve always answers FILE_SYNC), exclusive creates that can be repeated.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use cairn_types::{FileKind, Timestamp};
use cairn_vfs::filesystem::{Attributes, Caller, CreateMode, ObjectId, SetAttributes, SetTime, Stability};
use cairn_vfs::{Error, FileSystem};
use nfsserve::nfs::{
    fattr3, fileid3, filename3, ftype3, nfspath3, nfsstat3, nfstime3, sattr3, set_atime, set_gid3, set_mode3,
    set_mtime, set_size3, set_uid3, specdata3,
};
use nfsserve::tcp::{NFSTcp, NFSTcpListener};
use nfsserve::vfs::{DirEntry, NFSFileSystem, ReadDirResult, VFSCapabilities};
use parking_lot::Mutex;

/// Serves the export `path` of `fs` by nfsserve on a loopback port until the runtime ends.
pub async fn serve<F: FileSystem>(fs: Arc<F>, path: &str) -> anyhow::Result<SocketAddr> {
    let root = fs.mount(path.as_bytes())?.object;
    let adapter = Adapter {
        fs,
        root,
        known: Mutex::new(HashMap::from([(root.inode.0, root)])),
    };
    let listener = NFSTcpListener::bind("127.0.0.1:0", adapter)
        .await
        .context("nfsserve cannot listen")?;
    let address = SocketAddr::from(([127, 0, 0, 1], listener.get_listen_port()));
    tokio::spawn(async move { listener.handle_forever().await });
    Ok(address)
}

struct Adapter<F> {
    fs: Arc<F>,
    root: ObjectId,
    /// nfsserve names objects by one number.
    known: Mutex<HashMap<fileid3, ObjectId>>,
}

fn root_caller() -> Caller {
    Caller {
        uid: 0,
        gid: 0,
        groups: Arc::new([]),
    }
}

fn status(error: Error) -> nfsstat3 {
    match error {
        Error::NotFound => nfsstat3::NFS3ERR_NOENT,
        Error::Exists => nfsstat3::NFS3ERR_EXIST,
        Error::NotDirectory => nfsstat3::NFS3ERR_NOTDIR,
        Error::IsDirectory => nfsstat3::NFS3ERR_ISDIR,
        Error::NotEmpty => nfsstat3::NFS3ERR_NOTEMPTY,
        Error::Stale => nfsstat3::NFS3ERR_STALE,
        Error::NoSpace => nfsstat3::NFS3ERR_NOSPC,
        _ => nfsstat3::NFS3ERR_IO,
    }
}

fn time(time: Timestamp) -> nfstime3 {
    nfstime3 {
        seconds: time.seconds() as u32,
        nseconds: time.nanoseconds(),
    }
}

fn attributes_of(attributes: &Attributes) -> fattr3 {
    fattr3 {
        ftype: match attributes.kind {
            FileKind::Regular => ftype3::NF3REG,
            FileKind::Directory => ftype3::NF3DIR,
            FileKind::Symlink => ftype3::NF3LNK,
            FileKind::BlockDevice => ftype3::NF3BLK,
            FileKind::CharacterDevice => ftype3::NF3CHR,
            FileKind::Fifo => ftype3::NF3FIFO,
            FileKind::Socket => ftype3::NF3SOCK,
        },
        mode: attributes.mode,
        nlink: attributes.links,
        uid: attributes.uid,
        gid: attributes.gid,
        size: attributes.size,
        used: attributes.used,
        rdev: specdata3 {
            specdata1: attributes.device.major,
            specdata2: attributes.device.minor,
        },
        fsid: attributes.object.volume.0,
        fileid: attributes.object.inode.0,
        atime: time(attributes.accessed),
        mtime: time(attributes.modified),
        ctime: time(attributes.changed),
    }
}

fn set_of(set: &sattr3) -> SetAttributes {
    let to = |time: &nfstime3| SetTime::To(Timestamp::new(i64::from(time.seconds), time.nseconds));
    SetAttributes {
        mode: match set.mode {
            set_mode3::mode(mode) => Some(mode),
            set_mode3::Void => None,
        },
        uid: match set.uid {
            set_uid3::uid(uid) => Some(uid),
            set_uid3::Void => None,
        },
        gid: match set.gid {
            set_gid3::gid(gid) => Some(gid),
            set_gid3::Void => None,
        },
        size: match set.size {
            set_size3::size(size) => Some(size),
            set_size3::Void => None,
        },
        accessed: match &set.atime {
            set_atime::DONT_CHANGE => None,
            set_atime::SET_TO_SERVER_TIME => Some(SetTime::Now),
            set_atime::SET_TO_CLIENT_TIME(time) => Some(to(time)),
        },
        modified: match &set.mtime {
            set_mtime::DONT_CHANGE => None,
            set_mtime::SET_TO_SERVER_TIME => Some(SetTime::Now),
            set_mtime::SET_TO_CLIENT_TIME(time) => Some(to(time)),
        },
    }
}

impl<F: FileSystem> Adapter<F> {
    fn object(&self, id: fileid3) -> Result<ObjectId, nfsstat3> {
        self.known.lock().get(&id).copied().ok_or(nfsstat3::NFS3ERR_STALE)
    }

    fn know(&self, attributes: &Attributes) -> (fileid3, fattr3) {
        self.known
            .lock()
            .insert(attributes.object.inode.0, attributes.object);
        (attributes.object.inode.0, attributes_of(attributes))
    }
}

#[async_trait]
impl<F: FileSystem> NFSFileSystem for Adapter<F> {
    fn capabilities(&self) -> VFSCapabilities {
        VFSCapabilities::ReadWrite
    }

    fn root_dir(&self) -> fileid3 {
        self.root.inode.0
    }

    async fn lookup(&self, dirid: fileid3, filename: &filename3) -> Result<fileid3, nfsstat3> {
        let found = self
            .fs
            .lookup(&root_caller(), self.object(dirid)?, &filename.0)
            .map_err(status)?;
        Ok(self.know(&found.attributes).0)
    }

    async fn getattr(&self, id: fileid3) -> Result<fattr3, nfsstat3> {
        Ok(attributes_of(&self.fs.getattr(self.object(id)?).map_err(status)?))
    }

    async fn setattr(&self, id: fileid3, setattr: sattr3) -> Result<fattr3, nfsstat3> {
        let set = set_of(&setattr);
        let pending = self
            .fs
            .setattr(&root_caller(), self.object(id)?, set, None, &|_| None);
        Ok(attributes_of(
            &pending.map_err(status)?.durable().await.map_err(status)?.after,
        ))
    }

    async fn read(&self, id: fileid3, offset: u64, count: u32) -> Result<(Vec<u8>, bool), nfsstat3> {
        let read = self
            .fs
            .read(&root_caller(), self.object(id)?, offset, count)
            .map_err(status)?;
        Ok((read.pieces.concat(), read.end_of_file))
    }

    async fn write(&self, id: fileid3, offset: u64, data: &[u8]) -> Result<fattr3, nfsstat3> {
        let data = Bytes::copy_from_slice(data);
        let pending = self
            .fs
            .write(&root_caller(), self.object(id)?, offset, data, Stability::File);
        let written = pending.map_err(status)?.durable().await.map_err(status)?;
        Ok(attributes_of(&written.change.after))
    }

    async fn create(
        &self,
        dirid: fileid3,
        filename: &filename3,
        attr: sattr3,
    ) -> Result<(fileid3, fattr3), nfsstat3> {
        let mode = CreateMode::Unchecked(set_of(&attr));
        let pending = self
            .fs
            .create(&root_caller(), self.object(dirid)?, &filename.0, mode, &|_| None);
        Ok(self.know(
            &pending
                .map_err(status)?
                .durable()
                .await
                .map_err(status)?
                .attributes,
        ))
    }

    async fn create_exclusive(&self, dirid: fileid3, filename: &filename3) -> Result<fileid3, nfsstat3> {
        let mode = CreateMode::Guarded(SetAttributes::default());
        let pending = self
            .fs
            .create(&root_caller(), self.object(dirid)?, &filename.0, mode, &|_| None);
        Ok(self
            .know(
                &pending
                    .map_err(status)?
                    .durable()
                    .await
                    .map_err(status)?
                    .attributes,
            )
            .0)
    }

    async fn mkdir(&self, dirid: fileid3, dirname: &filename3) -> Result<(fileid3, fattr3), nfsstat3> {
        let set = SetAttributes::default();
        let pending = self
            .fs
            .mkdir(&root_caller(), self.object(dirid)?, &dirname.0, set, &|_| None);
        Ok(self.know(
            &pending
                .map_err(status)?
                .durable()
                .await
                .map_err(status)?
                .attributes,
        ))
    }

    async fn remove(&self, dirid: fileid3, filename: &filename3) -> Result<(), nfsstat3> {
        let directory = self.object(dirid)?;
        // nfsserve has one call for both procedures.
        let pending = match self.fs.remove(&root_caller(), directory, &filename.0, &|_| None) {
            Err(Error::IsDirectory) => self.fs.rmdir(&root_caller(), directory, &filename.0, &|_| None),
            outcome => outcome,
        };
        pending
            .map_err(status)?
            .durable()
            .await
            .map_err(status)
            .map(|_| ())
    }

    async fn rename(
        &self,
        from_dirid: fileid3,
        from_filename: &filename3,
        to_dirid: fileid3,
        to_filename: &filename3,
    ) -> Result<(), nfsstat3> {
        let from = (self.object(from_dirid)?, from_filename.0.as_slice());
        let to = (self.object(to_dirid)?, to_filename.0.as_slice());
        let pending = self.fs.rename(&root_caller(), from, to, &|_| None);
        pending
            .map_err(status)?
            .durable()
            .await
            .map_err(status)
            .map(|_| ())
    }

    async fn readdir(
        &self,
        dirid: fileid3,
        start_after: fileid3,
        max_entries: usize,
    ) -> Result<ReadDirResult, nfsstat3> {
        let directory = self.object(dirid)?;
        // nfsserve's cookie is the number of an inode: the entry after it is found by walking from the start.
        let mut passed = start_after == 0;
        let mut result = ReadDirResult::default();
        let mut visit = |entry: cairn_vfs::filesystem::Entry<'_>| {
            let Some(attributes) = entry.attributes.filter(|_| passed) else {
                passed |= entry.inode.0 == start_after;
                return ControlFlow::Continue(());
            };
            if result.entries.len() >= max_entries {
                return ControlFlow::Break(());
            }
            let (fileid, attr) = self.know(attributes);
            result.entries.push(DirEntry {
                fileid,
                name: entry.name.into(),
                attr,
            });
            ControlFlow::Continue(())
        };
        let listed = self
            .fs
            .readdir(&root_caller(), directory, 2, true, &mut visit)
            .map_err(status)?;
        result.end = listed.end;
        Ok(result)
    }

    async fn symlink(
        &self,
        dirid: fileid3,
        linkname: &filename3,
        symlink: &nfspath3,
        attr: &sattr3,
    ) -> Result<(fileid3, fattr3), nfsstat3> {
        let directory = self.object(dirid)?;
        let set = set_of(attr);
        let pending = self
            .fs
            .symlink(&root_caller(), directory, &linkname.0, &symlink.0, set, &|_| None);
        Ok(self.know(
            &pending
                .map_err(status)?
                .durable()
                .await
                .map_err(status)?
                .attributes,
        ))
    }

    async fn readlink(&self, id: fileid3) -> Result<nfspath3, nfsstat3> {
        let (target, _) = self
            .fs
            .readlink(&root_caller(), self.object(id)?)
            .map_err(status)?;
        Ok(target.to_vec().into())
    }
}
