//! What the TCP endpoint proves itself with, and by what it recognises its clients: the files of the configuration, read again
//! when they change.
//!
//! Only TLS 1.3, and no connection without a client certificate that the configured authority signed. A change of the files takes
//! effect for the next connection; those that are there go on. Files that cannot be used (half written, of different
//! pairs) leave what held before in force, and are told once.
//!
//! Who may do what is not decided here but by the names in the certificate ([`Peer`]).

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_types::Clock;
use parking_lot::{Mutex, RwLock};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::time_provider::TimeProvider;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig, version};

mod peer;

pub use peer::{Peer, PeerError, normalised};

/// Largest file that is read, in bytes: a bundle of some hundred certificates.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// The protocol of gRPC, which both sides agree on in the handshake (RFC 7301, RFC 9113 section 3.3).
const ALPN: &[u8] = b"h2";

/// The files, by absolute paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The server's certificate, with what leads to its authority; PEM.
    pub certificate: PathBuf,
    /// Its private key; PEM.
    pub key: PathBuf,
    /// Authorities of the clients' certificates; PEM, one or more.
    pub client_ca: PathBuf,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The answer of the operating system.
        source: io::Error,
    },
    /// A file is beyond [`FILE_BYTES_MAX`].
    #[error("{} has more than {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A file is not what it should be.
    #[error("{} holds no {what}: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        source: pem::Error,
    },
    /// A file holds none of what it should hold.
    #[error("{} holds no {what}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A certificate cannot be an authority.
    #[error("{} holds a certificate that can be no authority: {source}", path.display())]
    NotAuthority {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// Certificate and key do not belong together, or are of a kind that TLS 1.3 does not have.
    #[error("certificate {} and key {} cannot be used together: {source}", certificate.display(), key.display())]
    Pair {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The library cannot do what is needed.
    #[error("TLS cannot be set up: {0}")]
    Library(String),
}

/// What is in force, and the files that it comes from.
pub struct Credentials {
    files: Files,
    clock: Arc<dyn Clock>,
    config: RwLock<Arc<ServerConfig>>,
    /// How the files were when they were looked at last.
    seen: Mutex<Stamps>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// By what it is known that a file has changed: device, inode, length, time of change. A missing one has none. Kubernetes changes
/// all files of a Secret at once, by another target of a symbolic link, and so the inodes.
type Stamps = [Option<(u64, u64, u64, i64, i64)>; 3];

/// What [`Credentials::refresh`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// The files are as they were.
    Unchanged,
    /// They changed, and are in force.
    Changed,
    /// They changed, and cannot be used; what held before holds on.
    Refused,
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// Every variant of [`CredentialsError`].
    pub fn load(files: Files, clock: Arc<dyn Clock>) -> Result<Self, CredentialsError> {
        let seen = stamps(&files);
        let config = RwLock::new(read(&files, &clock)?);
        Ok(Credentials {
            files,
            clock,
            config,
            seen: Mutex::new(seen),
        })
    }

    /// What a handshake that begins now goes by.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read())
    }

    /// Looks at the files, and reads them if they have changed. Failures are logged, once for each change.
    pub fn refresh(&self) -> Refreshed {
        let mut seen = self.seen.lock();
        // Before they are read: what changes while they are read is found the next time.
        let now = stamps(&self.files);
        if *seen == now {
            return Refreshed::Unchanged;
        }
        *seen = now;
        match read(&self.files, &self.clock) {
            Ok(config) => {
                *self.config.write() = config;
                tracing::info!(certificate = %self.files.certificate.display(), "read the certificates again");
                Refreshed::Changed
            }
            Err(error) => {
                tracing::error!(%error, "changed certificates cannot be used; those from before hold on");
                Refreshed::Refused
            }
        }
    }
}

fn stamps(files: &Files) -> Stamps {
    [&files.certificate, &files.key, &files.client_ca].map(|path| {
        let found = fs::metadata(path).ok()?;
        Some((
            found.dev(),
            found.ino(),
            found.len(),
            found.ctime(),
            found.ctime_nsec(),
        ))
    })
}

fn read(files: &Files, clock: &Arc<dyn Clock>) -> Result<Arc<ServerConfig>, CredentialsError> {
    let chain = certificates(&files.certificate)?;
    let key = bounded(&files.key)?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|source| CredentialsError::Malformed {
        path: files.key.clone(),
        what: "private key in PEM",
        source,
    })?;
    let mut roots = RootCertStore::empty();
    for authority in certificates(&files.client_ca)? {
        roots
            .add(authority)
            .map_err(|source| CredentialsError::NotAuthority {
                path: files.client_ca.clone(),
                source,
            })?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| CredentialsError::Library(error.to_string()))?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(Time(Arc::clone(clock))))
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| CredentialsError::Library(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|source| CredentialsError::Pair {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            source,
        })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would be by the certificate of the first one, which may be over, or no longer welcome.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    const WHAT: &str = "certificate in PEM";
    let bytes = bounded(path)?;
    let found = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|source| CredentialsError::Malformed {
        path: path.to_owned(),
        what: WHAT,
        source,
    })?;
    if found.is_empty() {
        return Err(CredentialsError::Empty {
            path: path.to_owned(),
            what: WHAT,
        });
    }
    Ok(found)
}

fn bounded(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let failed = |source| CredentialsError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(CredentialsError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

/// The daemon's clock, by which certificates are over.
struct Time(Arc<dyn Clock>);

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            seconds,
        )))
    }
}

#[cfg(test)]
mod tests;
