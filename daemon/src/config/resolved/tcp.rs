//! `[rpc.tcp]`: RPC over TCP, which there is only with certificates on both sides.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Spanned;

use super::{Environment, Source, bounds};
use crate::config::file::RpcTcp;
use crate::config::{ConfigError, Place};
use crate::rpc::tcp::Allowed;
use crate::rpc::tls::{Files, normalised};

/// RPC over TCP. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpSettings {
    /// Address and port.
    pub listen: SocketAddr,
    /// Certificates.
    pub files: Files,
    /// Who may use what.
    pub allowed: Allowed,
    /// Connections at once.
    pub connections_max: u32,
}

impl Source<'_> {
    /// `None` if there is no such table.
    pub(super) fn tcp(
        &self,
        table: Option<Spanned<RpcTcp>>,
        environment: &Environment,
    ) -> Result<Option<TcpSettings>, ConfigError> {
        let Some(table) = table else { return Ok(None) };
        let place = self.place(&table);
        let RpcTcp {
            listen,
            certificate,
            key,
            client_ca,
            control_clients,
            operations_clients,
            connections_max,
        } = table.into_inner();
        let missing = |key| {
            ConfigError::BadValue {
            place: place.clone(),
            key,
            message: "it must be set: RPC over TCP needs an address, a certificate with its key, the authority of the \
                      clients' certificates, and the names of clients"
                .to_owned(),
        }
        };
        let file = |key, value: Option<Spanned<PathBuf>>| -> Result<PathBuf, ConfigError> {
            let (path, _) = self.path(key, "", None, value)?.ok_or_else(|| missing(key))?;
            Ok(environment.working_directory.join(path))
        };
        let files = Files {
            certificate: file("rpc.tcp.certificate", certificate)?,
            key: file("rpc.tcp.key", key)?,
            client_ca: file("rpc.tcp.client_ca", client_ca)?,
        };
        let listen = listen.ok_or_else(|| missing("rpc.tcp.listen"))?.into_inner();
        let control = self
            .names("rpc.tcp.control_clients", control_clients)?
            .ok_or_else(|| missing("rpc.tcp.control_clients"))?;
        let operations = self
            .names("rpc.tcp.operations_clients", operations_clients)?
            .unwrap_or_else(|| control.clone());
        Ok(Some(TcpSettings {
            listen,
            files,
            allowed: Allowed { control, operations },
            connections_max: self.bounded(
                "rpc.tcp.connections_max",
                connections_max,
                64,
                bounds::RPC_TCP_CONNECTIONS,
            )?,
        }))
    }

    fn names(
        &self,
        key: &'static str,
        names: Option<Spanned<Vec<String>>>,
    ) -> Result<Option<Vec<String>>, ConfigError> {
        let Some(names) = names else { return Ok(None) };
        let place: Place = self.place(&names);
        let bad = |message| ConfigError::BadValue {
            place: place.clone(),
            key,
            message,
        };
        let names = names.into_inner();
        if names.len() > bounds::RPC_TCP_CLIENTS_MAX {
            return Err(bad(format!(
                "{} names are more than {}",
                names.len(),
                bounds::RPC_TCP_CLIENTS_MAX
            )));
        }
        let checked = names.iter().map(|name| {
            normalised(name).ok_or_else(|| {
                bad(format!(
                    "{name:?} is no whole DNS name and no URI, as they stand among the subject alternative names of a \
                     certificate; wildcards are not meant here"
                ))
            })
        });
        checked.collect::<Result<_, _>>().map(Some)
    }
}
