//! The operations of a crash workload: as values, as requests that can be sent twice, as outcomes.

use std::sync::Arc;

use nfs3_types::nfs3::{
    COMMIT3args, COMMIT3res, CREATE3args, CREATE3res, LINK3args, LINK3res, MKDIR3args, MKDIR3res, MKNOD3args,
    MKNOD3res, Nfs3Option, Nfs3Result, REMOVE3args, REMOVE3res, RENAME3args, RENAME3res, RMDIR3args,
    RMDIR3res, SETATTR3args, SETATTR3res, SYMLINK3args, SYMLINK3res, WRITE3args, WRITE3res, fattr3,
    mknoddata3, nfs_fh3, nfspath3, symlinkdata3, wcc_data,
};
use nfs3_types::xdr_codec::Opaque;

use super::model::{Id, State};
use crate::client::attributes::{after, optional};
use crate::client::procedures::{self, CreateMode, Stability, place};
use crate::client::{Attributes, Client, ClientError, Handle, SetAttributes};
use crate::rpc::Record;

/// An object to be made.
#[derive(Debug, Clone)]
pub enum Object {
    /// A regular file.
    File(CreateMode),
    /// A directory with permission bits.
    Directory(u32),
    /// A symbolic link with its target.
    Symlink(Arc<[u8]>),
    /// A named pipe with permission bits.
    Fifo(u32),
}

/// A directory and a name in it.
pub type Place = (Id, Vec<u8>);

/// A change of a worker's directory. Every one is generated so that it must succeed.
#[derive(Debug, Clone)]
pub enum Operation {
    /// CREATE, MKDIR, SYMLINK or MKNOD.
    Make {
        directory: Id,
        name: Vec<u8>,
        what: Object,
    },
    /// WRITE.
    Write {
        file: Id,
        offset: u64,
        data: Arc<[u8]>,
        stability: Stability,
    },
    /// COMMIT of the whole file.
    Commit { file: Id },
    /// SETATTR.
    Set { object: Id, set: SetAttributes },
    /// RENAME.
    Rename { from: Place, to: Place },
    /// REMOVE.
    Remove { directory: Id, name: Vec<u8> },
    /// RMDIR.
    Rmdir { directory: Id, name: Vec<u8> },
    /// LINK.
    Link {
        object: Id,
        directory: Id,
        name: Vec<u8>,
    },
}

/// What the reply to an operation said.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The handle of a new object.
    pub handle: Option<Handle>,
    /// The attributes of the object that was made or changed.
    pub attributes: Option<Attributes>,
    /// The attributes of the directories whose names changed.
    pub directories: Vec<(Id, Attributes)>,
    /// How durable written data is.
    pub stability: Option<Stability>,
    /// The write verifier.
    pub verifier: Option<[u8; 8]>,
}

impl Outcome {
    fn directory(&mut self, id: Id, wcc: &wcc_data) {
        self.directories
            .extend(after(wcc).map(|attributes| (id, attributes)));
    }
}

impl Operation {
    /// For people.
    pub fn show(&self) -> String {
        match self {
            Operation::Write {
                file,
                offset,
                data,
                stability,
            } => {
                format!("Write {file:?} {offset}+{} {stability:?}", data.len())
            }
            other => format!("{other:?}"),
        }
    }

    /// Whether a server must not execute the request a second time, so that it has to remember its answer.
    pub fn must_be_remembered(&self) -> bool {
        !matches!(self, Operation::Write { .. } | Operation::Commit { .. })
    }

    /// The request. `state` is what it is made in, and knows the handles.
    pub fn record(&self, client: &Client, state: &State) -> Result<Record, ClientError> {
        let handle = |id: &Id| {
            let handle = state.inode(*id).and_then(|inode| inode.handle.clone());
            handle.ok_or_else(|| ClientError::Protocol {
                procedure: "operation",
                what: format!("{id:?} has no handle"),
            })
        };
        match self {
            Operation::Make {
                directory,
                name,
                what,
            } => make(client, &handle(directory)?, name, what),
            Operation::Write {
                file,
                offset,
                data,
                stability,
            } => {
                let arguments = WRITE3args {
                    file: handle(file)?.wire(),
                    offset: *offset,
                    count: data.len() as u32,
                    stable: *stability,
                    data: Opaque::borrowed(data),
                };
                client.nfs_record(procedures::WRITE, &arguments)
            }
            Operation::Commit { file } => {
                let arguments = COMMIT3args {
                    file: handle(file)?.wire(),
                    offset: 0,
                    count: 0,
                };
                client.nfs_record(procedures::COMMIT, &arguments)
            }
            Operation::Set { object, set } => {
                let (object, new_attributes) = (handle(object)?.wire(), set.wire());
                let arguments = SETATTR3args {
                    object,
                    new_attributes,
                    guard: Nfs3Option::None,
                };
                client.nfs_record(procedures::SETATTR, &arguments)
            }
            Operation::Rename { from, to } => {
                let arguments = RENAME3args {
                    from: place(&handle(&from.0)?, &from.1),
                    to: place(&handle(&to.0)?, &to.1),
                };
                client.nfs_record(procedures::RENAME, &arguments)
            }
            Operation::Remove { directory, name } => {
                let arguments = REMOVE3args {
                    object: place(&handle(directory)?, name),
                };
                client.nfs_record(procedures::REMOVE, &arguments)
            }
            Operation::Rmdir { directory, name } => {
                let arguments = RMDIR3args {
                    object: place(&handle(directory)?, name),
                };
                client.nfs_record(procedures::RMDIR, &arguments)
            }
            Operation::Link {
                object,
                directory,
                name,
            } => {
                let link = place(&handle(directory)?, name);
                client.nfs_record(
                    procedures::LINK,
                    &LINK3args {
                        file: handle(object)?.wire(),
                        link,
                    },
                )
            }
        }
    }

    /// Sends the request, for the first time or again.
    pub async fn send(&self, client: &Client, record: Record) -> Result<Outcome, ClientError> {
        let mut outcome = Outcome::default();
        match self {
            Operation::Make { directory, what, .. } => {
                let (handle, attributes, wcc) = made(client, record, what).await?;
                outcome.handle = match handle {
                    Nfs3Option::Some(handle) => Some(handle.into()),
                    Nfs3Option::None => None,
                };
                outcome.attributes = optional(&attributes);
                outcome.directory(*directory, &wcc);
            }
            Operation::Write { data, stability, .. } => {
                let procedure = procedures::WRITE.1;
                let done = ok(procedure, client.send::<WRITE3res>(procedure, record).await?)?;
                if done.count as usize != data.len() || (done.committed as u32) < *stability as u32 {
                    let what = format!("{} of {} bytes, {}", done.count, data.len(), done.committed);
                    return Err(ClientError::Protocol { procedure, what });
                }
                outcome.attributes = after(&done.file_wcc);
                outcome.stability = Some(done.committed);
                outcome.verifier = Some(done.verf.0);
            }
            Operation::Commit { .. } => {
                let procedure = procedures::COMMIT.1;
                let done = ok(procedure, client.send::<COMMIT3res>(procedure, record).await?)?;
                outcome.attributes = after(&done.file_wcc);
                outcome.verifier = Some(done.verf.0);
            }
            Operation::Set { .. } => {
                let procedure = procedures::SETATTR.1;
                let done = ok(procedure, client.send::<SETATTR3res>(procedure, record).await?)?;
                outcome.attributes = after(&done.obj_wcc);
            }
            Operation::Rename { from, to } => {
                let procedure = procedures::RENAME.1;
                let done = ok(procedure, client.send::<RENAME3res>(procedure, record).await?)?;
                outcome.directory(from.0, &done.fromdir_wcc);
                outcome.directory(to.0, &done.todir_wcc);
            }
            Operation::Remove { directory, .. } => {
                let procedure = procedures::REMOVE.1;
                let done = ok(procedure, client.send::<REMOVE3res>(procedure, record).await?)?;
                outcome.directory(*directory, &done.dir_wcc);
            }
            Operation::Rmdir { directory, .. } => {
                let procedure = procedures::RMDIR.1;
                let done = ok(procedure, client.send::<RMDIR3res>(procedure, record).await?)?;
                outcome.directory(*directory, &done.dir_wcc);
            }
            Operation::Link { directory, .. } => {
                let procedure = procedures::LINK.1;
                let done = ok(procedure, client.send::<LINK3res>(procedure, record).await?)?;
                outcome.attributes = optional(&done.file_attributes);
                outcome.directory(*directory, &done.linkdir_wcc);
            }
        }
        Ok(outcome)
    }
}

fn make(client: &Client, directory: &Handle, name: &[u8], what: &Object) -> Result<Record, ClientError> {
    let where_ = place(directory, name);
    let with = |mode: u32| {
        SetAttributes {
            mode: Some(mode),
            ..SetAttributes::default()
        }
        .wire()
    };
    match what {
        Object::File(mode) => client.nfs_record(
            procedures::CREATE,
            &CREATE3args {
                where_,
                how: mode.wire(),
            },
        ),
        Object::Directory(mode) => client.nfs_record(
            procedures::MKDIR,
            &MKDIR3args {
                where_,
                attributes: with(*mode),
            },
        ),
        Object::Symlink(target) => {
            let symlink_data = nfspath3(Opaque::borrowed(target));
            let symlink = symlinkdata3 {
                symlink_attributes: with(0o777),
                symlink_data,
            };
            client.nfs_record(procedures::SYMLINK, &SYMLINK3args { where_, symlink })
        }
        Object::Fifo(mode) => {
            let what = mknoddata3::NF3FIFO(with(*mode));
            client.nfs_record(procedures::MKNOD, &MKNOD3args { where_, what })
        }
    }
}

type Made = (Nfs3Option<nfs_fh3>, Nfs3Option<fattr3>, wcc_data);

async fn made(client: &Client, record: Record, what: &Object) -> Result<Made, ClientError> {
    match what {
        Object::File(_) => {
            let procedure = procedures::CREATE.1;
            let made = ok(procedure, client.send::<CREATE3res>(procedure, record).await?)?;
            Ok((made.obj, made.obj_attributes, made.dir_wcc))
        }
        Object::Directory(_) => {
            let procedure = procedures::MKDIR.1;
            let made = ok(procedure, client.send::<MKDIR3res>(procedure, record).await?)?;
            Ok((made.obj, made.obj_attributes, made.dir_wcc))
        }
        Object::Symlink(_) => {
            let procedure = procedures::SYMLINK.1;
            let made = ok(procedure, client.send::<SYMLINK3res>(procedure, record).await?)?;
            Ok((made.obj, made.obj_attributes, made.dir_wcc))
        }
        Object::Fifo(_) => {
            let procedure = procedures::MKNOD.1;
            let made = ok(procedure, client.send::<MKNOD3res>(procedure, record).await?)?;
            Ok((made.obj, made.obj_attributes, made.dir_wcc))
        }
    }
}

fn ok<T, E>(procedure: &'static str, result: Nfs3Result<T, E>) -> Result<T, ClientError> {
    match result {
        Nfs3Result::Ok(result) => Ok(result),
        Nfs3Result::Err((status, _)) => Err(ClientError::Status { procedure, status }),
    }
}
