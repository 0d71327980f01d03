//! Certificates for the calls to daemons: read from files that somebody else keeps (cert-manager, or Secrets that are mounted), or kept by the operator
//! itself ([`authority`]).
//!
//! Whoever needs them asks for the newest ([`Source::load`]) and compares [`Material::hash`]; nothing is restarted when they change.

pub mod authority;
pub mod secrets;
pub mod servers;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

/// Largest file of certificates or keys in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// A certificate with its key, and who is trusted; all PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// The own certificate, and what stands between it and the root.
    pub certificate: String,
    /// The own key.
    pub key: String,
    /// The roots that others' certificates may come from: two while one is replaced.
    pub authorities: String,
}

impl Debug for Material {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material")
            .field("hash", &self.hash())
            .finish_non_exhaustive()
    }
}

impl Material {
    /// Tells one state of the files from another.
    pub fn hash(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for part in [&self.certificate, &self.key, &self.authorities] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(bytes)
    }
}

/// Why there is no certificate.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Arc<io::Error>,
    },
    /// A file is far larger than certificates are.
    #[error("{path} has {found} bytes, certificates and keys have at most {limit}", path = path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// The operator keeps the certificates and has not made or read them yet.
    #[error("the operator's certificates have not been read yet")]
    NotYet,
}

/// Where certificates come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// The files `tls.crt`, `tls.key` and `ca.crt` of a directory, read anew whenever they are asked for.
    Directory(PathBuf),
    /// What was put here last.
    Kept(Kept),
}

/// Certificates that somebody in this process keeps up to date.
#[derive(Debug, Clone, Default)]
pub struct Kept(Arc<watch::Sender<Option<Material>>>);

impl Kept {
    /// From now on these.
    pub fn put(&self, material: Material) {
        self.0.send_replace(Some(material));
    }

    /// Returns when there are any.
    pub async fn wait(&self) {
        // Fails only when the sender is gone, and we are one.
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }
}

impl Source {
    /// The certificates as they are now. Reads small files: it may wait for a disk, shortly. Errors: a file is missing, unreadable or too large;
    /// nothing was put yet.
    pub fn load(&self) -> Result<Material, TlsError> {
        match self {
            Source::Directory(directory) => Ok(Material {
                certificate: read(&directory.join("tls.crt"))?,
                key: read(&directory.join("tls.key"))?,
                authorities: read(&directory.join("ca.crt"))?,
            }),
            Source::Kept(kept) => kept.0.borrow().clone().ok_or(TlsError::NotYet),
        }
    }
}

fn read(path: &Path) -> Result<String, TlsError> {
    let failed = |source: io::Error| TlsError::File {
        path: path.to_owned(),
        source: Arc::new(source),
    };
    let found = std::fs::metadata(path).map_err(failed)?.len();
    if found > FILE_BYTES_MAX {
        return Err(TlsError::TooLarge {
            path: path.to_owned(),
            found,
            limit: FILE_BYTES_MAX,
        });
    }
    std::fs::read_to_string(path).map_err(failed)
}
