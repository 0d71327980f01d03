//! A certificate authority of one test, and clients with certificates of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_api::proto;
use cairn_api::proto::control_client::ControlClient;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use tonic::transport::{Channel, Endpoint};

/// The name that the daemon's certificates are for.
pub const SERVER: &str = "cairnd.test";

/// An authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for DNS names and URIs.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_until(names, 2100)
    }

    /// One that is over at the beginning of a year.
    pub fn issue_until(&self, names: &[&str], year: i32) -> Issued {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.contains("://") {
                true => SanType::URI((*name).try_into().unwrap()),
                false => SanType::DnsName((*name).try_into().unwrap()),
            })
            .collect();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// The files of a daemon that serves RPC over TCP.
pub struct Files {
    pub directory: PathBuf,
}

impl Files {
    /// Writes the files, and a configuration that names them.
    pub fn write(directory: &Path, server: &Issued, clients: &Authority, extra: &str) -> Files {
        let files = Files {
            directory: directory.to_owned(),
        };
        files.replace(server, clients);
        let path = |name: &str| directory.join(name).display().to_string();
        let text = format!(
            "[rpc.tcp]\nlisten = '127.0.0.1:0'\ncertificate = '{}'\nkey = '{}'\nclient_ca = '{}'\n{extra}\n",
            path("tls.crt"),
            path("tls.key"),
            path("ca.crt")
        );
        std::fs::write(files.config(), text).unwrap();
        files
    }

    /// Writes other certificates, each file wholly.
    pub fn replace(&self, server: &Issued, clients: &Authority) {
        for (name, text) in [
            ("tls.crt", server.certificate.clone()),
            ("tls.key", server.key.clone()),
            ("ca.crt", clients.pem()),
        ] {
            let new = self.directory.join(format!("{name}.new"));
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, self.directory.join(name)).unwrap();
        }
    }

    pub fn config(&self) -> PathBuf {
        self.directory.join("cairnd.toml")
    }
}

/// What a client goes by.
pub fn client_config(server: &Authority, own: Option<&Issued>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(server.pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// A TLS connection. The daemon's refusal of a certificate may come only when something is read.
pub async fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(SERVER).unwrap();
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

/// A channel for gRPC.
pub async fn channel(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> Result<Channel, tonic::transport::Error> {
    let config = Arc::clone(config);
    let connector = tower::service_fn(move |_| {
        let config = Arc::clone(&config);
        async move { connect(address, &config).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://cairnd.invalid")
        .connect_with_connector(connector)
        .await
}

/// Asks for the node's information over a new connection.
pub async fn ask(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> Result<proto::GetInfoResponse, Box<dyn std::error::Error>> {
    let mut client = ControlClient::new(channel(address, config).await?);
    Ok(client.get_info(proto::GetInfoRequest {}).await?.into_inner())
}
