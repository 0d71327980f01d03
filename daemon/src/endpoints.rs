//! Where the daemon listens, told to others by a file in the data directory.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The file's name. docs/formats/data-directory.md describes it.
pub const ENDPOINTS_NAME: &str = "endpoints.json";

/// The places where the daemon listens, with the ports that it really has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoints {
    /// The daemon's process.
    pub process_id: u32,
    /// NFS and MOUNT.
    pub nfs: SocketAddr,
    /// HTTP.
    pub http: SocketAddr,
    /// RPC.
    pub rpc: PathBuf,
    /// RPC over TCP, if there is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_tcp: Option<SocketAddr>,
}

/// The file, which goes away with this.
#[derive(Debug)]
pub struct EndpointsFile(PathBuf);

impl Endpoints {
    /// Writes the file into `directory`, replacing an old one at once and wholly. It is not made durable: after a crash
    /// it means nothing.
    pub fn write(&self, directory: &Path) -> io::Result<EndpointsFile> {
        let path = directory.join(ENDPOINTS_NAME);
        let new = directory.join(format!("{ENDPOINTS_NAME}.new"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        file.write_all(&text)?;
        fs::rename(&new, &path)?;
        Ok(EndpointsFile(path))
    }
}

impl Drop for EndpointsFile {
    fn drop(&mut self) {
        // Left over, it is replaced by the next start.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::{ENDPOINTS_NAME, Endpoints};

    #[test]
    fn the_file_is_as_documented_and_goes_away() {
        let directory = tempfile::tempdir().unwrap();
        let endpoints = Endpoints {
            process_id: 4711,
            nfs: "127.0.0.1:12049".parse().unwrap(),
            http: "127.0.0.1:12080".parse().unwrap(),
            rpc: "/var/lib/cairn/cairnd.sock".into(),
            rpc_tcp: Some("0.0.0.0:12443".parse().unwrap()),
        };
        let file = endpoints.write(directory.path()).unwrap();
        let text = std::fs::read_to_string(directory.path().join(ENDPOINTS_NAME)).unwrap();
        assert!(
            include_str!("../../docs/formats/data-directory.md").contains(&text),
            "{text}"
        );
        drop(file);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
