//! MOUNT version 3 (RFC 1813 appendix I): program 100005.
//!
//! The mount table behind DUMP is a courtesy: nothing depends on it, it is bounded, and it is empty after a restart.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};
use cairn_vfs::Error;
use cairn_vfs::filesystem::FileSystem;
use parking_lot::Mutex;

use crate::export;
use crate::nfs3::dispatch::status_of;
use crate::rpc::auth::{AUTH_NONE, AUTH_SYS};
use crate::rpc::message::{Refusal, put_accepted, put_refusal};
use crate::server::Inner;
use crate::xdr::{Decoder, Encode, XdrError};

/// The program's number.
pub(crate) const PROGRAM: u32 = 100_005;
/// The program's version.
pub(crate) const VERSION: u32 = 3;

/// Longest path (`MNTPATHLEN`).
const PATH_BYTES_MAX: usize = 1024;

/// A procedure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Procedure {
    Null,
    Mount,
    Dump,
    Unmount,
    UnmountAll,
    Export,
}

impl Procedure {
    /// The procedure with this number.
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        let all = [
            Procedure::Null,
            Procedure::Mount,
            Procedure::Dump,
            Procedure::Unmount,
            Procedure::UnmountAll,
            Procedure::Export,
        ];
        all.get(number as usize).copied()
    }

    /// Whether it asks the file system, which may wait for a disk.
    pub(crate) fn may_block(self) -> bool {
        matches!(self, Procedure::Mount | Procedure::Export)
    }
}

/// `mountstat3`, those values that this server uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum MountStatus {
    Ok = 0,
    NotPermitted = 1,
    NotFound = 2,
    Io = 5,
    Access = 13,
    NotDirectory = 20,
    Invalid = 22,
    NameTooLong = 63,
    ServerFault = 10_006,
}

impl From<&Error> for MountStatus {
    fn from(error: &Error) -> Self {
        match error {
            Error::NotFound | Error::Stale => MountStatus::NotFound,
            Error::NotDirectory => MountStatus::NotDirectory,
            Error::Access => MountStatus::Access,
            Error::NotPermitted | Error::ReadOnly => MountStatus::NotPermitted,
            Error::Invalid(_) | Error::WrongType => MountStatus::Invalid,
            Error::NameTooLong => MountStatus::NameTooLong,
            Error::Io { .. } => MountStatus::Io,
            Error::Exists
            | Error::IsDirectory
            | Error::NotEmpty
            | Error::FileTooLarge
            | Error::TooManyLinks
            | Error::NoSpace
            | Error::OverCapacity
            | Error::CrossVolume
            | Error::GuardFailed
            | Error::BadCookie => MountStatus::ServerFault,
        }
    }
}

/// Who mounted what, oldest first.
pub(crate) struct MountTable {
    mounts: Mutex<VecDeque<(IpAddr, Box<[u8]>)>>,
    mounts_max: usize,
}

impl MountTable {
    pub(crate) fn new(mounts_max: usize) -> Self {
        MountTable {
            mounts: Mutex::default(),
            mounts_max,
        }
    }

    fn add(&self, client: IpAddr, path: &[u8]) {
        let mut mounts = self.mounts.lock();
        mounts.retain(|(address, mounted)| *address != client || **mounted != *path);
        mounts.push_back((client, path.into()));
        while mounts.len() > self.mounts_max {
            mounts.pop_front();
        }
    }

    fn remove(&self, client: IpAddr, path: &[u8]) {
        self.mounts
            .lock()
            .retain(|(address, mounted)| *address != client || **mounted != *path);
    }

    fn remove_all(&self, client: IpAddr) {
        self.mounts.lock().retain(|(address, _)| *address != client);
    }
}

/// Answers a call: the body of the reply, all after the transaction id.
pub(crate) fn answer<F: FileSystem>(
    server: &Inner<F>,
    peer: SocketAddr,
    procedure: Procedure,
    arguments: &[u8],
) -> Bytes {
    server.metrics.mount_calls.add(1);
    let mut out = BytesMut::with_capacity(256);
    put_accepted(&mut out);
    if execute(server, peer, procedure, Decoder::new(arguments), &mut out).is_err() {
        server.metrics.refusals.add(1);
        out.clear();
        put_refusal(&mut out, Refusal::GarbageArguments);
    }
    out.freeze()
}

/// The body that says that the server is at fault.
pub(crate) fn fault_body() -> Bytes {
    let mut out = BytesMut::with_capacity(24);
    put_accepted(&mut out);
    out.put_u32(MountStatus::ServerFault as u32);
    out.freeze()
}

fn execute<F: FileSystem>(
    server: &Inner<F>,
    peer: SocketAddr,
    procedure: Procedure,
    mut arguments: Decoder<'_>,
    out: &mut BytesMut,
) -> Result<(), XdrError> {
    let client = peer.ip().to_canonical();
    match procedure {
        Procedure::Null => {}
        Procedure::Mount => {
            let path = arguments.opaque(PATH_BYTES_MAX)?;
            arguments.finish()?;
            mount(server, peer, path, out);
        }
        Procedure::Dump => {
            arguments.finish()?;
            for (address, path) in server.mounts.mounts.lock().iter() {
                out.put_bool(true);
                out.put_opaque(address.to_string().as_bytes());
                out.put_opaque(path);
            }
            out.put_bool(false);
        }
        Procedure::Unmount => {
            let path = arguments.opaque(PATH_BYTES_MAX)?;
            arguments.finish()?;
            server.mounts.remove(client, trimmed(path));
        }
        Procedure::UnmountAll => {
            arguments.finish()?;
            server.mounts.remove_all(client);
        }
        Procedure::Export => {
            arguments.finish()?;
            exports(server, peer, out);
        }
    }
    Ok(())
}

/// Without the slashes at the end, which mount commands leave as they were typed.
fn trimmed(path: &[u8]) -> &[u8] {
    let end = path
        .iter()
        .rposition(|byte| *byte != b'/')
        .map_or(path.len().min(1), |last| last + 1);
    &path[..end]
}

fn mount<F: FileSystem>(server: &Inner<F>, peer: SocketAddr, path: &[u8], out: &mut BytesMut) {
    let path = trimmed(path);
    match find(server, peer, path) {
        Ok(handle) => {
            server.mounts.add(peer.ip().to_canonical(), path);
            out.put_u32(MountStatus::Ok as u32);
            out.put_opaque(&handle);
            out.put_u32(2);
            out.put_u32(AUTH_SYS);
            out.put_u32(AUTH_NONE);
        }
        Err(status) => {
            tracing::info!(%peer, path = %path.escape_ascii(), ?status, "mount refused");
            out.put_u32(status as u32);
        }
    }
}

fn find<F: FileSystem>(
    server: &Inner<F>,
    peer: SocketAddr,
    path: &[u8],
) -> Result<crate::file_handle::HandleBytes, MountStatus> {
    let root = server.fs.mount(path).map_err(|error| {
        status_of(&error);
        MountStatus::from(&error)
    })?;
    let export = server
        .fs
        .export(root.object.volume)
        .ok_or(MountStatus::NotFound)?;
    if !export::admits(&export.policy, peer) {
        server.metrics.not_admitted.add(1);
        return Err(MountStatus::Access);
    }
    Ok(server.handles.encode(root.object))
}

/// The exports that admit the client's address, whatever its port: `showmount` has no privileged one.
fn exports<F: FileSystem>(server: &Inner<F>, peer: SocketAddr, out: &mut BytesMut) {
    for export in server.fs.exports() {
        if !export.policy.admits(peer.ip(), 0) {
            continue;
        }
        out.put_bool(true);
        out.put_opaque(export.path.as_bytes());
        for network in &export.policy.allow {
            out.put_bool(true);
            out.put_opaque(network.to_string().as_bytes());
        }
        out.put_bool(false);
    }
    out.put_bool(false);
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{MountTable, trimmed};

    #[test]
    fn slashes_at_the_end_do_not_count() {
        assert_eq!(trimmed(b"/a/b//"), b"/a/b");
        assert_eq!(trimmed(b"//"), b"/");
        assert_eq!(trimmed(b""), b"");
        assert_eq!(trimmed(b"/"), b"/");
    }

    #[test]
    fn the_table_holds_each_mount_once_and_forgets_the_oldest() {
        let table = MountTable::new(2);
        let [one, two]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let paths = |table: &MountTable| {
            table
                .mounts
                .lock()
                .iter()
                .map(|(_, path)| String::from_utf8_lossy(path).into_owned())
                .collect::<Vec<_>>()
        };
        table.add(one, b"/a");
        table.add(one, b"/b");
        table.add(one, b"/a");
        assert_eq!(paths(&table), ["/b", "/a"]);
        table.add(two, b"/c");
        assert_eq!(paths(&table), ["/a", "/c"]);
        table.remove(two, b"/a");
        table.remove_all(one);
        assert_eq!(paths(&table), ["/c"]);
    }
}
