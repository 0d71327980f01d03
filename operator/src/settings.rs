//! The operator's settings, resolved: plain data, each with its unit.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::plan::PlanSettings;

/// Reconciliations of one kind at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers {
    /// Workspaces.
    pub workspaces: usize,
    /// Snapshots.
    pub snapshots: usize,
    /// Restores.
    pub restores: usize,
    /// Nodes.
    pub nodes: usize,
    /// DittoServers.
    pub dittos: usize,
}

impl Default for Workers {
    fn default() -> Self {
        Workers {
            workspaces: 16,
            snapshots: 16,
            restores: 4,
            nodes: 16,
            dittos: 4,
        }
    }
}

/// Where the certificates for calls to daemons come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificates {
    /// `tls.crt`, `tls.key` and `ca.crt` of a directory that somebody else keeps.
    Directory(PathBuf),
    /// An authority of the operator's own, in Secrets of its namespace.
    Own,
}

/// All settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The operator's namespace: the daemons', of the Lease, of the Services of nodes.
    pub namespace: String,
    /// The daemons' headless Service.
    pub daemon_service: String,
    /// The name that every daemon's certificate has.
    pub server_name: String,
    /// The cluster, for fencing.
    pub cluster: String,
    /// This process: the pod's name.
    pub instance: String,
    /// The Lease; nothing: there is one process only, and it leads.
    pub lease: Option<String>,
    /// Where `/metrics` is answered.
    pub metrics_address: SocketAddr,
    /// Where `/livez` and `/readyz` are answered.
    pub health_address: SocketAddr,
    /// Certificates.
    pub certificates: Certificates,
    /// How many work at a time.
    pub workers: Workers,
    /// Image of the daemons of DittoServers; nothing: there are none.
    pub ditto_image: Option<String>,
    /// What decisions take from the settings.
    pub plan: PlanSettings,
}
