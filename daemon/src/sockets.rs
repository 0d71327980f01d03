//! The places where the daemon listens, bound before anything is served.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{TcpListener, UnixListener};

/// Connections that the kernel keeps until they are accepted.
pub const BACKLOG: i32 = 1024;

/// Where somebody wanted to listen, and with which key that is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Address or path.
    pub place: String,
    /// The key of the configuration.
    pub key: &'static str,
    /// The flag of the command line.
    pub flag: &'static str,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

/// Why a place cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there.
    #[error("{wanted} is in use by another process")]
    InUse {
        /// The place.
        wanted: Wanted,
    },
    /// A file that is no socket has the path.
    #[error("{wanted} exists and is not a socket")]
    NotSocket {
        /// The place.
        wanted: Wanted,
    },
    /// The operating system refused.
    #[error("cannot listen on {wanted}: {source}")]
    Io {
        /// The place.
        wanted: Wanted,
        /// The answer.
        source: io::Error,
    },
}

impl BindError {
    /// What to do.
    pub fn remedy(&self) -> String {
        match self {
            BindError::InUse { wanted } => {
                format!(
                    "stop the other process, or choose another place with {} or the key {}",
                    wanted.flag, wanted.key
                )
            }
            BindError::NotSocket { wanted } => {
                format!(
                    "move that file away, or choose another path with {} or the key {}",
                    wanted.flag, wanted.key
                )
            }
            BindError::Io { wanted, .. } => {
                format!(
                    "choose another place with {} or the key {}",
                    wanted.flag, wanted.key
                )
            }
        }
    }
}

/// Listens on a TCP address. Must be called within a runtime.
pub async fn tcp(
    address: SocketAddr,
    key: &'static str,
    flag: &'static str,
) -> Result<TcpListener, BindError> {
    // tokio sets SO_REUSEADDR, so that a restart does not wait for connections in TIME_WAIT.
    TcpListener::bind(address).await.map_err(|source| {
        let wanted = Wanted {
            place: address.to_string(),
            key,
            flag,
        };
        match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { wanted },
            _ => BindError::Io { wanted, source },
        }
    })
}

/// Listens on a Unix socket of mode 0600. A socket that a dead process left is replaced; one that answers is not, and
/// nothing else ever is. Must be called within a runtime.
pub fn unix(path: &Path, key: &'static str, flag: &'static str) -> Result<SocketFile, BindError> {
    let wanted = || Wanted {
        place: path.display().to_string(),
        key,
        flag,
    };
    let failed = |source: io::Error| BindError::Io {
        wanted: wanted(),
        source,
    };
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotSocket { wanted: wanted() });
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(BindError::InUse { wanted: wanted() }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = listen_privately(path).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { wanted: wanted() },
        _ => failed(source),
    })?;
    let listener = UnixListener::from_std(listener.into()).map_err(failed)?;
    Ok(SocketFile {
        listener: Some(listener),
        path: path.to_owned(),
    })
}

/// The mode is set between bind(2) and listen(2): before it nobody can connect.
fn listen_privately(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::fs::chmod(path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A bound Unix socket, whose file goes away with it.
#[derive(Debug)]
pub struct SocketFile {
    listener: Option<UnixListener>,
    path: PathBuf,
}

impl SocketFile {
    /// The listener, once.
    pub fn take(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Left over, it does no harm: the next start replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{BindError, tcp, unix};

    #[tokio::test]
    async fn a_taken_port_names_address_and_key() {
        let first = tcp("127.0.0.1:0".parse().unwrap(), "nfs.listen", "--nfs-listen")
            .await
            .unwrap();
        let address = first.local_addr().unwrap();
        let error = tcp(address, "nfs.listen", "--nfs-listen").await.unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
        assert!(error.to_string().contains(&address.to_string()));
        assert!(error.remedy().contains("nfs.listen") && error.remedy().contains("--nfs-listen"));
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_refused() {
        let error = tcp("192.0.2.1:0".parse().unwrap(), "nfs.listen", "--nfs-listen")
            .await
            .unwrap_err();
        assert!(matches!(error, BindError::Io { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn sockets_are_private_replace_dead_ones_and_go_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let bound = unix(&path, "rpc.socket", "--rpc-socket").unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let error = unix(&path, "rpc.socket", "--rpc-socket").unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
        drop(bound);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        std::fs::write(&path, "precious").unwrap();
        let error = unix(&path, "rpc.socket", "--rpc-socket").unwrap_err();
        assert!(matches!(error, BindError::NotSocket { .. }), "{error:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
