//! A real kube-apiserver with etcd, from the directory that `KUBEBUILDER_ASSETS` names, for tests that hold the same
//! rules against both. Data and certificates are in a directory that goes with it; both processes end with it.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use crate::serve::Identity;

/// The variable that names the directory with `etcd` and `kube-apiserver`.
pub const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// The variable that makes a missing directory a failure: `make test-kube` sets it.
pub const REQUIRED: &str = "CAIRN_REAL_KUBE";

/// The longest that the start may take.
const START_MAX: Duration = Duration::from_secs(120);

/// Why there is no real server.
#[derive(Debug, thiserror::Error)]
pub enum RealError {
    /// The directory lacks a program.
    #[error("{0} is missing; xtask/scripts/kubebuilder-assets.sh builds it")]
    Missing(PathBuf),
    /// A real server was asked for, and there is none.
    #[error("{REQUIRED} is set and {ASSETS} is not: `make test-kube` sets both")]
    Required,
    /// Something could not be prepared.
    #[error("cannot prepare {what}: {message}")]
    Prepare {
        /// What.
        what: &'static str,
        /// Why.
        message: String,
    },
    /// It does not get ready; the end of its log.
    #[error("the server has ended, or is not ready after {} s; its log ends with:\n{log}", START_MAX.as_secs())]
    NotReady {
        /// The end of the log.
        log: String,
    },
}

/// A process that ends with its holder.
#[derive(Debug)]
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _gone = self.0.kill();
        let _code = self.0.wait();
    }
}

/// A running server.
#[derive(Debug)]
pub struct RealServer {
    address: SocketAddr,
    authority: String,
    token: String,
    server: Ended,
    _etcd: Ended,
}

/// The directory that `KUBEBUILDER_ASSETS` names, if it is set and not empty.
pub fn assets() -> Option<PathBuf> {
    std::env::var_os(ASSETS)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// The same for a test, which is passed over without it: that is said on standard error, past what hides the words of tests that pass.
///
/// # Errors
/// `RealError::Required`.
pub fn assets_for(test: &str) -> Result<Option<PathBuf>, RealError> {
    let assets = assets();
    if assets.is_none() {
        if std::env::var_os(REQUIRED).is_some_and(|value| !value.is_empty()) {
            return Err(RealError::Required);
        }
        // Whoever closed standard error does not want to know.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED {test}: {ASSETS} names no directory with etcd and kube-apiserver (make test-kube)"
        );
    }
    Ok(assets)
}

impl RealServer {
    /// Starts the programs in `assets`, with everything that they keep in `directory`, and waits until they are ready.
    ///
    /// # Errors
    /// `RealError`.
    pub async fn start(assets: &Path, directory: &Path) -> Result<Self, RealError> {
        let program = |name: &str| -> Result<PathBuf, RealError> {
            let path = assets.join(name);
            if path.is_file() {
                Ok(path)
            } else {
                Err(RealError::Missing(path))
            }
        };
        let (etcd, server) = (program("etcd")?, program("kube-apiserver")?);
        let prepare = |what: &'static str| {
            move |error: &dyn std::fmt::Display| RealError::Prepare {
                what,
                message: error.to_string(),
            }
        };
        let identity = Identity::generate().map_err(|error| prepare("certificates")(&error))?;
        let token = crate::clock::new_uid();
        let write = |name: &str, text: &str| -> Result<String, RealError> {
            let path = directory.join(name);
            std::fs::write(&path, text).map_err(|error| prepare("files")(&error))?;
            Ok(path.display().to_string())
        };
        let certificate = write("server.crt", &identity.certificate)?;
        let key = write("server.key", &identity.key)?;
        // The key that signs for service accounts: the same, for nobody asks for its tokens.
        let accounts = write("accounts.pub", &identity.public_key)?;
        let tokens = write("tokens.csv", &format!("{token},admin,admin,system:masters\n"))?;
        let port = || free_port().map_err(|error| prepare("ports")(&error));
        let (client, peer, secure) = (port()?, port()?, port()?);
        let log = |name: &str| -> Result<Stdio, RealError> {
            std::fs::File::create(directory.join(name))
                .map(Stdio::from)
                .map_err(|error| prepare("logs")(&error))
        };
        let spawn = |program: &Path, name: &str, arguments: &[String]| -> Result<Ended, RealError> {
            Command::new(program)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(log(&format!("{name}.out"))?)
                .stderr(log(&format!("{name}.log"))?)
                .spawn()
                .map(Ended)
                .map_err(|error| prepare("processes")(&error))
        };
        let etcd_url = format!("http://127.0.0.1:{client}");
        let etcd = spawn(
            &etcd,
            "etcd",
            &[
                format!("--data-dir={}", directory.join("etcd").display()),
                format!("--listen-client-urls={etcd_url}"),
                format!("--advertise-client-urls={etcd_url}"),
                format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
                "--unsafe-no-fsync".to_owned(),
            ],
        )?;
        let server = spawn(
            &server,
            "kube-apiserver",
            &[
                format!("--etcd-servers={etcd_url}"),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--secure-port={secure}"),
                format!("--cert-dir={}", directory.display()),
                format!("--tls-cert-file={certificate}"),
                format!("--tls-private-key-file={key}"),
                format!("--token-auth-file={tokens}"),
                "--authorization-mode=RBAC".to_owned(),
                format!("--service-account-key-file={accounts}"),
                format!("--service-account-signing-key-file={key}"),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
                // There is no controller that would make the accounts that pods get by default.
                "--disable-admission-plugins=ServiceAccount".to_owned(),
                "--allow-privileged=true".to_owned(),
            ],
        )?;
        let address = SocketAddr::from(([127, 0, 0, 1], secure));
        let mut real = Self {
            address,
            authority: identity.authority,
            token,
            server,
            _etcd: etcd,
        };
        real.wait(directory).await?;
        Ok(real)
    }

    /// The base of its addresses.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate of its authority, as PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// A kubeconfig for the administrator.
    pub fn kubeconfig(&self, namespace: &str) -> String {
        crate::serve::kubeconfig(&self.url(), &self.authority, &self.token, namespace)
    }

    /// The token of an administrator.
    pub fn token(&self) -> &str {
        &self.token
    }

    async fn wait(&mut self, directory: &Path) -> Result<(), RealError> {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            if self.is_ready().await.unwrap_or(false) {
                return Ok(());
            }
            if matches!(self.server.0.try_wait(), Ok(Some(_))) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let log = std::fs::read_to_string(directory.join("kube-apiserver.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(20).collect();
        Err(RealError::NotReady {
            log: lines.into_iter().rev().collect::<Vec<_>>().join("\n"),
        })
    }

    async fn is_ready(&self) -> Result<bool, Box<dyn std::error::Error>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.as_bytes())?)?;
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost")?;
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let request = format!(
            "GET /readyz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            self.token
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = [0_u8; 12];
        stream.read_exact(&mut head).await?;
        Ok(&head == b"HTTP/1.1 200")
    }
}

/// A port that nobody listens on now. Another process could take it before it is used; then the start fails and says so.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
