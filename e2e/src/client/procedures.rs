//! The procedures of NFSv3, one method each (RFC 1813 section 3.3), and calls that are kept to be sent again.

use nfs3_types::nfs3::{
    COMMIT3args, COMMIT3resfail, COMMIT3resok, CREATE3args, CREATE3resfail, CREATE3resok, FSINFO3args,
    FSINFO3resfail, FSINFO3resok, FSSTAT3args, FSSTAT3resfail, FSSTAT3resok, GETATTR3args, GETATTR3resok,
    LINK3args, LINK3resfail, LINK3resok, LOOKUP3args, LOOKUP3resfail, LOOKUP3resok, MKDIR3args,
    MKDIR3resfail, MKDIR3resok, MKNOD3args, MKNOD3resfail, MKNOD3resok, Nfs3Option, READ3args, READ3resfail,
    READ3resok, READDIRPLUS3args, READDIRPLUS3resfail, READDIRPLUS3resok, READLINK3args, READLINK3resfail,
    READLINK3resok, REMOVE3args, REMOVE3resfail, REMOVE3resok, RENAME3args, RENAME3resfail, RENAME3resok,
    RMDIR3args, RMDIR3resfail, RMDIR3resok, SETATTR3args, SETATTR3resfail, SETATTR3resok, SYMLINK3args,
    SYMLINK3resfail, SYMLINK3resok, WRITE3args, WRITE3resfail, WRITE3resok, cookieverf3, createhow3,
    createverf3, devicedata3, diropargs3, fattr3, filename3, mknoddata3, nfs_fh3, nfspath3, symlinkdata3,
};
use nfs3_types::xdr_codec::{Opaque, Void};

pub use nfs3_types::nfs3::stable_how as Stability;

use super::attributes::{self, Attributes, Kind, SetAttributes};
use super::{Client, ClientError, Handle};

/// Procedure numbers and names.
pub(crate) const GETATTR: (u32, &str) = (1, "GETATTR");
pub(crate) const SETATTR: (u32, &str) = (2, "SETATTR");
pub(crate) const LOOKUP: (u32, &str) = (3, "LOOKUP");
pub(crate) const READLINK: (u32, &str) = (5, "READLINK");
pub(crate) const READ: (u32, &str) = (6, "READ");
pub(crate) const WRITE: (u32, &str) = (7, "WRITE");
pub(crate) const CREATE: (u32, &str) = (8, "CREATE");
pub(crate) const MKDIR: (u32, &str) = (9, "MKDIR");
pub(crate) const SYMLINK: (u32, &str) = (10, "SYMLINK");
pub(crate) const MKNOD: (u32, &str) = (11, "MKNOD");
pub(crate) const REMOVE: (u32, &str) = (12, "REMOVE");
pub(crate) const RMDIR: (u32, &str) = (13, "RMDIR");
pub(crate) const RENAME: (u32, &str) = (14, "RENAME");
pub(crate) const LINK: (u32, &str) = (15, "LINK");
pub(crate) const READDIRPLUS: (u32, &str) = (17, "READDIRPLUS");
pub(crate) const FSSTAT: (u32, &str) = (18, "FSSTAT");
pub(crate) const FSINFO: (u32, &str) = (19, "FSINFO");
pub(crate) const COMMIT: (u32, &str) = (21, "COMMIT");

/// Bytes of a directory that one READDIRPLUS asks for.
const DIRECTORY_PAGE_BYTES: u32 = 512 << 10;

/// How CREATE treats a name that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateMode {
    /// Use an existing file.
    Unchecked(SetAttributes),
    /// Fail.
    Guarded(SetAttributes),
    /// Fail unless the verifier is that of the file.
    Exclusive([u8; 8]),
}

impl CreateMode {
    pub(crate) fn wire(&self) -> createhow3 {
        match self {
            CreateMode::Unchecked(set) => createhow3::UNCHECKED(set.wire()),
            CreateMode::Guarded(set) => createhow3::GUARDED(set.wire()),
            CreateMode::Exclusive(verifier) => createhow3::EXCLUSIVE(createverf3(*verifier)),
        }
    }
}

/// An object that was found or made.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its handle.
    pub handle: Handle,
    /// Its attributes.
    pub attributes: Attributes,
    /// The attributes of the directory after the operation.
    pub directory: Option<Attributes>,
}

/// The outcome of a WRITE.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// Bytes written.
    pub count: u32,
    /// How durable they are.
    pub stability: Stability,
    /// Tells one boot of the server from another.
    pub verifier: [u8; 8],
    /// The attributes after it.
    pub attributes: Option<Attributes>,
}

/// A directory entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: Vec<u8>,
    /// Its handle.
    pub handle: Handle,
    /// Its attributes.
    pub attributes: Attributes,
}

pub(crate) fn place<'a>(directory: &Handle, name: &'a [u8]) -> diropargs3<'a> {
    diropargs3 {
        dir: directory.wire(),
        name: filename3(Opaque::borrowed(name)),
    }
}

impl Client {
    /// GETATTR.
    pub async fn getattr(&self, object: &Handle) -> Result<Attributes, ClientError> {
        let arguments = GETATTR3args {
            object: object.wire(),
        };
        let found: GETATTR3resok = self.nfs::<_, Void>(GETATTR, &arguments).await?;
        Ok((&found.obj_attributes).into())
    }

    /// SETATTR without a guard; the attributes after it.
    pub async fn setattr(
        &self,
        object: &Handle,
        set: SetAttributes,
    ) -> Result<Option<Attributes>, ClientError> {
        let arguments = SETATTR3args {
            object: object.wire(),
            new_attributes: set.wire(),
            guard: Nfs3Option::None,
        };
        let done: SETATTR3resok = self.nfs::<_, SETATTR3resfail>(SETATTR, &arguments).await?;
        Ok(attributes::after(&done.obj_wcc))
    }

    /// LOOKUP.
    pub async fn lookup(&self, directory: &Handle, name: &[u8]) -> Result<Object, ClientError> {
        let arguments = LOOKUP3args {
            what: place(directory, name),
        };
        let found: LOOKUP3resok = self.nfs::<_, LOOKUP3resfail>(LOOKUP, &arguments).await?;
        let handle = Handle::from(found.object);
        let attributes = match attributes::optional(&found.obj_attributes) {
            Some(attributes) => attributes,
            None => self.getattr(&handle).await?,
        };
        Ok(Object {
            handle,
            attributes,
            directory: attributes::optional(&found.dir_attributes),
        })
    }

    /// READLINK.
    pub async fn readlink(&self, object: &Handle) -> Result<Vec<u8>, ClientError> {
        let arguments = READLINK3args {
            symlink: object.wire(),
        };
        let link: READLINK3resok<'static> = self.nfs::<_, READLINK3resfail>(READLINK, &arguments).await?;
        Ok(link.data.0.into_owned())
    }

    /// READ: up to `count` bytes, and whether the file ends with them.
    pub async fn read(&self, file: &Handle, offset: u64, count: u32) -> Result<(Vec<u8>, bool), ClientError> {
        let arguments = READ3args {
            file: file.wire(),
            offset,
            count,
        };
        let read: READ3resok<'static> = self.nfs::<_, READ3resfail>(READ, &arguments).await?;
        if read.data.len() != read.count as usize || read.count > count {
            let what = format!("{} bytes, said to be {}, of {count}", read.data.len(), read.count);
            return Err(ClientError::Protocol {
                procedure: READ.1,
                what,
            });
        }
        Ok((read.data.into_owned(), read.eof))
    }

    /// WRITE. The server may write fewer bytes than given.
    pub async fn write(
        &self,
        file: &Handle,
        offset: u64,
        data: &[u8],
        stable: Stability,
    ) -> Result<Written, ClientError> {
        let count = u32::try_from(data.len()).map_err(|error| ClientError::Protocol {
            procedure: WRITE.1,
            what: error.to_string(),
        })?;
        let arguments = WRITE3args {
            file: file.wire(),
            offset,
            count,
            stable,
            data: Opaque::borrowed(data),
        };
        let done: WRITE3resok = self.nfs::<_, WRITE3resfail>(WRITE, &arguments).await?;
        if done.count > count || (done.count == 0 && count > 0) || (done.committed as u32) < stable as u32 {
            let what = format!(
                "{} of {count} bytes written, {} for {stable}",
                done.count, done.committed
            );
            return Err(ClientError::Protocol {
                procedure: WRITE.1,
                what,
            });
        }
        Ok(Written {
            count: done.count,
            stability: done.committed,
            verifier: done.verf.0,
            attributes: attributes::after(&done.file_wcc),
        })
    }

    /// COMMIT of the whole file: the write verifier and the attributes after it.
    pub async fn commit(&self, file: &Handle) -> Result<([u8; 8], Option<Attributes>), ClientError> {
        let arguments = COMMIT3args {
            file: file.wire(),
            offset: 0,
            count: 0,
        };
        let done: COMMIT3resok = self.nfs::<_, COMMIT3resfail>(COMMIT, &arguments).await?;
        Ok((done.verf.0, attributes::after(&done.file_wcc)))
    }

    /// CREATE.
    pub async fn create(
        &self,
        directory: &Handle,
        name: &[u8],
        mode: CreateMode,
    ) -> Result<Object, ClientError> {
        let arguments = CREATE3args {
            where_: place(directory, name),
            how: mode.wire(),
        };
        let made: CREATE3resok = self.nfs::<_, CREATE3resfail>(CREATE, &arguments).await?;
        self.made(
            directory,
            name,
            made.obj,
            &made.obj_attributes,
            attributes::after(&made.dir_wcc),
        )
        .await
    }

    /// MKDIR.
    pub async fn mkdir(
        &self,
        directory: &Handle,
        name: &[u8],
        set: SetAttributes,
    ) -> Result<Object, ClientError> {
        let arguments = MKDIR3args {
            where_: place(directory, name),
            attributes: set.wire(),
        };
        let made: MKDIR3resok = self.nfs::<_, MKDIR3resfail>(MKDIR, &arguments).await?;
        self.made(
            directory,
            name,
            made.obj,
            &made.obj_attributes,
            attributes::after(&made.dir_wcc),
        )
        .await
    }

    /// SYMLINK.
    pub async fn symlink(
        &self,
        directory: &Handle,
        name: &[u8],
        target: &[u8],
        set: SetAttributes,
    ) -> Result<Object, ClientError> {
        let symlink = symlinkdata3 {
            symlink_attributes: set.wire(),
            symlink_data: nfspath3(Opaque::borrowed(target)),
        };
        let arguments = SYMLINK3args {
            where_: place(directory, name),
            symlink,
        };
        let made: SYMLINK3resok = self.nfs::<_, SYMLINK3resfail>(SYMLINK, &arguments).await?;
        self.made(
            directory,
            name,
            made.obj,
            &made.obj_attributes,
            attributes::after(&made.dir_wcc),
        )
        .await
    }

    /// MKNOD. `kind` must be a special file's.
    pub async fn mknod(
        &self,
        directory: &Handle,
        name: &[u8],
        (kind, numbers): (Kind, (u32, u32)),
        set: SetAttributes,
    ) -> Result<Object, ClientError> {
        let device = devicedata3 {
            dev_attributes: set.wire(),
            spec: attributes::device(numbers),
        };
        let what = match kind {
            Kind::Fifo => mknoddata3::NF3FIFO(set.wire()),
            Kind::Socket => mknoddata3::NF3SOCK(set.wire()),
            Kind::BlockDevice => mknoddata3::NF3BLK(device),
            Kind::CharacterDevice => mknoddata3::NF3CHR(device),
            Kind::Regular | Kind::Directory | Kind::Symlink => {
                let what = format!("{kind:?} is no special file");
                return Err(ClientError::Protocol {
                    procedure: MKNOD.1,
                    what,
                });
            }
        };
        let arguments = MKNOD3args {
            where_: place(directory, name),
            what,
        };
        let made: MKNOD3resok = self.nfs::<_, MKNOD3resfail>(MKNOD, &arguments).await?;
        self.made(
            directory,
            name,
            made.obj,
            &made.obj_attributes,
            attributes::after(&made.dir_wcc),
        )
        .await
    }

    /// REMOVE; the directory's attributes after it.
    pub async fn remove(&self, directory: &Handle, name: &[u8]) -> Result<Option<Attributes>, ClientError> {
        let arguments = REMOVE3args {
            object: place(directory, name),
        };
        let done: REMOVE3resok = self.nfs::<_, REMOVE3resfail>(REMOVE, &arguments).await?;
        Ok(attributes::after(&done.dir_wcc))
    }

    /// RMDIR; the directory's attributes after it.
    pub async fn rmdir(&self, directory: &Handle, name: &[u8]) -> Result<Option<Attributes>, ClientError> {
        let arguments = RMDIR3args {
            object: place(directory, name),
        };
        let done: RMDIR3resok = self.nfs::<_, RMDIR3resfail>(RMDIR, &arguments).await?;
        Ok(attributes::after(&done.dir_wcc))
    }

    /// RENAME.
    pub async fn rename(&self, from: (&Handle, &[u8]), to: (&Handle, &[u8])) -> Result<(), ClientError> {
        let arguments = RENAME3args {
            from: place(from.0, from.1),
            to: place(to.0, to.1),
        };
        let _: RENAME3resok = self.nfs::<_, RENAME3resfail>(RENAME, &arguments).await?;
        Ok(())
    }

    /// LINK.
    pub async fn link(&self, object: &Handle, directory: &Handle, name: &[u8]) -> Result<(), ClientError> {
        let arguments = LINK3args {
            file: object.wire(),
            link: place(directory, name),
        };
        let _: LINK3resok = self.nfs::<_, LINK3resfail>(LINK, &arguments).await?;
        Ok(())
    }

    /// READDIRPLUS, all pages: every entry but `.` and `..`.
    pub async fn list(&self, directory: &Handle) -> Result<Vec<Entry>, ClientError> {
        let mut entries = Vec::new();
        let (mut cookie, mut cookieverf) = (0, cookieverf3::default());
        loop {
            let arguments = READDIRPLUS3args {
                dir: directory.wire(),
                cookie,
                cookieverf,
                dircount: DIRECTORY_PAGE_BYTES,
                maxcount: DIRECTORY_PAGE_BYTES,
            };
            let page: READDIRPLUS3resok<'static> = self
                .nfs::<_, READDIRPLUS3resfail>(READDIRPLUS, &arguments)
                .await?;
            cookieverf = page.cookieverf;
            let end = page.reply.eof;
            let page = page.reply.entries.into_inner();
            match page.last() {
                Some(last) => cookie = last.cookie,
                None if end => {}
                None => {
                    let what = "an empty page that is not the last".to_owned();
                    return Err(ClientError::Protocol {
                        procedure: READDIRPLUS.1,
                        what,
                    });
                }
            }
            for entry in page {
                let name = entry.name.0.into_owned();
                if matches!(name.as_slice(), b"." | b"..") {
                    continue;
                }
                let (handle, attributes) = self
                    .complete(directory, &name, entry.name_handle, &entry.name_attributes)
                    .await?;
                entries.push(Entry {
                    name,
                    handle,
                    attributes,
                });
            }
            if end {
                return Ok(entries);
            }
        }
    }

    /// FSSTAT: bytes in all and bytes free.
    pub async fn capacity(&self, root: &Handle) -> Result<(u64, u64), ClientError> {
        let arguments = FSSTAT3args { fsroot: root.wire() };
        let found: FSSTAT3resok = self.nfs::<_, FSSTAT3resfail>(FSSTAT, &arguments).await?;
        Ok((found.tbytes, found.fbytes))
    }

    /// FSINFO: the largest READ and the largest WRITE in bytes.
    pub async fn transfer_limits(&self, root: &Handle) -> Result<(u32, u32), ClientError> {
        let arguments = FSINFO3args { fsroot: root.wire() };
        let found: FSINFO3resok = self.nfs::<_, FSINFO3resfail>(FSINFO, &arguments).await?;
        Ok((found.rtmax, found.wtmax))
    }

    async fn made(
        &self,
        directory: &Handle,
        name: &[u8],
        handle: Nfs3Option<nfs_fh3>,
        attributes: &Nfs3Option<fattr3>,
        directory_after: Option<Attributes>,
    ) -> Result<Object, ClientError> {
        let (handle, attributes) = self.complete(directory, name, handle, attributes).await?;
        Ok(Object {
            handle,
            attributes,
            directory: directory_after,
        })
    }

    /// Handle and attributes, asked for where the server left them out.
    async fn complete(
        &self,
        directory: &Handle,
        name: &[u8],
        handle: Nfs3Option<nfs_fh3>,
        attributes: &Nfs3Option<fattr3>,
    ) -> Result<(Handle, Attributes), ClientError> {
        match (handle, attributes::optional(attributes)) {
            (Nfs3Option::Some(handle), Some(attributes)) => Ok((handle.into(), attributes)),
            (Nfs3Option::Some(handle), None) => {
                let handle = Handle::from(handle);
                let attributes = self.getattr(&handle).await?;
                Ok((handle, attributes))
            }
            (Nfs3Option::None, _) => {
                let found = self.lookup(directory, name).await?;
                Ok((found.handle, found.attributes))
            }
        }
    }
}
