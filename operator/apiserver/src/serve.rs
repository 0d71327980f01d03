//! The server on a loopback socket, with TLS and bearer tokens, so that `kubectl` and other processes can join.

use std::{collections::HashMap, net::SocketAddr, path::Path, sync::Arc};

use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use tower::Service;

use crate::{request::User, server::ApiServer, service::refusal, status::Failure};

/// Connections at a time; more wait.
const CONNECTIONS_MAX: usize = 1024;

/// Why the server could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket could not be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The address is not of this machine alone.
    #[error("{0} is no loopback address; this server is for tests")]
    NotLoopback(SocketAddr),
    /// The certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(String),
    /// A kubeconfig could not be written.
    #[error("cannot write {path}")]
    Write {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The server, served. `stop` ends it; dropping it leaves the tasks to the runtime.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    authority: String,
    users: Arc<Mutex<HashMap<String, User>>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl ApiServer {
    /// Serves on a loopback address (port 0 for any). Every request needs the token of a user that was added.
    ///
    /// # Errors
    /// `ServeError`: not loopback, cannot listen, no certificate.
    pub async fn serve(&self, address: SocketAddr) -> Result<Serving, ServeError> {
        if !address.ip().is_loopback() {
            return Err(ServeError::NotLoopback(address));
        }
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| ServeError::Listen { address, source })?;
        let address = listener
            .local_addr()
            .map_err(|source| ServeError::Listen { address, source })?;
        let identity = Identity::generate().map_err(|error| ServeError::Certificate(error.to_string()))?;
        let tls = identity.server_config().map_err(ServeError::Certificate)?;
        let users = Arc::new(Mutex::new(HashMap::new()));
        let (stop, stopped) = watch::channel(false);
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let task = tokio::spawn(accept(
            listener,
            acceptor,
            self.clone(),
            Arc::clone(&users),
            stopped,
        ));
        Ok(Serving {
            address,
            authority: identity.authority,
            users,
            stop,
            task,
        })
    }
}

impl Serving {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base of its addresses.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate of the authority, as PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Lets a user in by a token.
    pub fn add_user(&self, token: &str, user: User) {
        self.users.lock().insert(token.to_owned(), user);
    }

    /// A kubeconfig for the holder of a token.
    pub fn kubeconfig(&self, token: &str, namespace: &str) -> String {
        kubeconfig(&self.url(), &self.authority, token, namespace)
    }

    /// Writes a kubeconfig for the holder of a token.
    ///
    /// # Errors
    /// `ServeError::Write`.
    pub fn write_kubeconfig(&self, path: &Path, token: &str, namespace: &str) -> Result<(), ServeError> {
        std::fs::write(path, self.kubeconfig(token, namespace)).map_err(|source| ServeError::Write {
            path: path.display().to_string(),
            source,
        })
    }

    /// Ends all connections and waits until they have ended.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// A kubeconfig for the holder of a token, at a server whose certificate comes from `authority` (PEM).
pub(crate) fn kubeconfig(url: &str, authority: &str, token: &str, namespace: &str) -> String {
    let authority = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, authority.as_bytes());
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: cairn\nclusters:\n- name: cairn\n  cluster:\n    server: {url}\n    certificate-authority-data: {authority}\nusers:\n- name: cairn\n  user:\n    token: {token}\ncontexts:\n- name: cairn\n  context:\n    cluster: cairn\n    user: cairn\n    namespace: {namespace}\n"
    )
}

/// A key and certificate for loopback, signed by an authority of its own. All as PEM.
#[derive(Debug)]
pub(crate) struct Identity {
    pub authority: String,
    pub certificate: String,
    pub key: String,
    pub public_key: String,
}

impl Identity {
    /// A new one.
    pub(crate) fn generate() -> Result<Self, rcgen::Error> {
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        authority
            .distinguished_name
            .push(DnType::CommonName, "cairn-apiserver authority");
        let authority_certificate = authority.self_signed(&authority_key)?;
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate()?;
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut leaf = CertificateParams::new(names)?;
        leaf.distinguished_name
            .push(DnType::CommonName, "cairn-apiserver");
        let leaf = leaf.signed_by(&key, &issuer)?;
        Ok(Self {
            authority: authority_certificate.pem(),
            certificate: leaf.pem(),
            key: key.serialize_pem(),
            public_key: key.public_key_pem(),
        })
    }

    fn server_config(&self) -> Result<ServerConfig, String> {
        let certificate =
            CertificateDer::from_pem_slice(self.certificate.as_bytes()).map_err(|error| error.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|error| error.to_string())?;
        ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .map_err(|error| error.to_string())
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    server: ApiServer,
    users: Arc<Mutex<HashMap<String, User>>>,
    mut stopped: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => break,
        };
        while connections.try_join_next().is_some() {}
        // A connection that fails while it is made is the client's affair.
        let Ok((stream, _)) = accepted else { continue };
        let (acceptor, server, users) = (acceptor.clone(), server.clone(), Arc::clone(&users));
        connections.spawn(async move {
            let _permit = permit;
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
                let user = authenticate(&users, &request);
                let server = server.clone();
                async move {
                    match user {
                        Some(user) => server
                            .service(user)
                            .call(request)
                            .await
                            .map_err(std::io::Error::other),
                        None => Ok(refusal(&Failure::Unauthorized)),
                    }
                }
            });
            // An error is a client that went away, or a connection that is dropped on purpose.
            let _ended = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
    connections.shutdown().await;
}

fn authenticate(users: &Mutex<HashMap<String, User>>, request: &http::Request<Incoming>) -> Option<User> {
    let Some(value) = request.headers().get(http::header::AUTHORIZATION) else {
        return Some(User::anonymous());
    };
    let token = value.to_str().ok()?.strip_prefix("Bearer ")?.trim();
    users.lock().get(token).cloned()
}
