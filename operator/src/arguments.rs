//! The command line of `cairn-operator`, also by environment variables. Everything is checked here, once.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::plan::PlanSettings;
use crate::settings::{Certificates, Settings, Workers};

/// Most reconciliations of one kind at a time.
pub const WORKERS_MAX: u16 = 256;

/// The Kubernetes operator of Cairn.
#[derive(Debug, Parser)]
#[command(name = "cairn-operator", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the operator does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keeps the resources of the cluster, until it is asked to stop (SIGTERM, SIGINT).
    ///
    /// Example: cairn-operator run --namespace cairn-system --leader-election
    Run(Box<Run>),
}

/// How the operator runs.
#[derive(Debug, Args)]
pub struct Run {
    /// Namespace of the operator, its Lease and the daemons.
    #[arg(long, env = "POD_NAMESPACE", default_value = "cairn-system")]
    pub namespace: String,
    /// Name of this process in events and in the Lease: the pod's name.
    #[arg(long, env = "POD_NAME", default_value = "cairn-operator")]
    pub instance: String,
    /// Where /metrics is answered.
    #[arg(long, env = "CAIRN_METRICS_ADDRESS", default_value = ":8080", value_parser = address)]
    pub metrics_address: SocketAddr,
    /// Where /livez and /readyz are answered.
    #[arg(long, env = "CAIRN_HEALTH_ADDRESS", default_value = ":8081", value_parser = address)]
    pub health_address: SocketAddr,
    /// Headless Service of the daemons.
    #[arg(long, env = "CAIRN_DAEMON_SERVICE", default_value = "cairnd")]
    pub daemon_service: String,
    /// Name that every daemon's certificate has. Default: SERVICE.NAMESPACE.svc.
    #[arg(long, env = "CAIRN_SERVER_NAME")]
    pub server_name: Option<String>,
    /// Take part in a leader election. Without it this process leads at once: then there must never be a second one.
    #[arg(long, env = "CAIRN_LEADER_ELECTION", num_args = 0..=1, default_value_t = false, default_missing_value = "true")]
    pub leader_election: bool,
    /// Name of the Lease.
    #[arg(long, env = "CAIRN_LEASE", default_value = "cairn-operator")]
    pub lease: String,
    /// Name of the cluster, by which daemons tell its leaders from those of others. Default: cluster:NAMESPACE.
    #[arg(long, env = "CAIRN_CLUSTER")]
    pub cluster: Option<String>,
    /// Directory with tls.crt, tls.key and ca.crt for calls to daemons, such as a mounted Secret of cert-manager. Read anew when it changes.
    /// Default: the operator keeps an authority of its own, in Secrets of its namespace.
    #[arg(long, env = "CAIRN_TLS_DIRECTORY")]
    pub tls_directory: Option<PathBuf>,
    /// Networks that may mount Workspaces whose export names none, with commas between them.
    #[arg(
        long,
        env = "CAIRN_EXPORT_CLIENTS",
        value_delimiter = ',',
        default_value = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fd00::/8"
    )]
    pub export_clients: Vec<ipnet::IpNet>,
    /// The kubelet's directory on nodes (its --root-dir).
    #[arg(long, env = "CAIRN_KUBELET_DIRECTORY", default_value = "/var/lib/kubelet")]
    pub kubelet_directory: String,
    /// Image of the daemons of DittoServers. Without it DittoServers are not served, and nothing of theirs is watched.
    #[arg(long, env = "CAIRN_DITTO_IMAGE")]
    pub ditto_image: Option<String>,
    /// Reconciliations of Workspaces, and of Snapshots, at a time.
    #[arg(long, env = "CAIRN_WORKERS", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=i64::from(WORKERS_MAX)))]
    pub workers: u16,
    /// What is logged, such as info or cairn_operator=debug.
    #[arg(long, env = "CAIRN_LOG", default_value = "info")]
    pub log: String,
    /// Log lines as JSON.
    #[arg(long, env = "CAIRN_LOG_JSON", num_args = 0..=1, default_value_t = false, default_missing_value = "true")]
    pub log_json: bool,
}

impl Run {
    /// The settings.
    pub fn settings(&self) -> Settings {
        let workers = usize::from(self.workers);
        let service = &self.daemon_service;
        let namespace = &self.namespace;
        Settings {
            namespace: namespace.clone(),
            daemon_service: service.clone(),
            server_name: self
                .server_name
                .clone()
                .unwrap_or_else(|| format!("{service}.{namespace}.svc")),
            cluster: self
                .cluster
                .clone()
                .unwrap_or_else(|| format!("cluster:{namespace}")),
            instance: self.instance.clone(),
            lease: self.leader_election.then(|| self.lease.clone()),
            metrics_address: self.metrics_address,
            health_address: self.health_address,
            certificates: match &self.tls_directory {
                Some(directory) => Certificates::Directory(directory.clone()),
                None => Certificates::Own,
            },
            workers: Workers {
                workspaces: workers,
                snapshots: workers,
                ..Workers::default()
            },
            ditto_image: self.ditto_image.clone().filter(|image| !image.is_empty()),
            plan: PlanSettings {
                export_clients: self.export_clients.iter().map(ToString::to_string).collect(),
                kubelet_directory: self.kubelet_directory.clone(),
            },
        }
    }
}

/// `:8080` is all addresses of the machine.
fn address(text: &str) -> Result<SocketAddr, String> {
    let whole = match text.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => text.to_owned(),
    };
    whole
        .parse()
        .map_err(|_| format!("{text:?} is no address: give one such as :8080 or 127.0.0.1:8080"))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Arguments, Command};
    use crate::settings::Certificates;

    fn parse(arguments: &[&str]) -> Result<crate::settings::Settings, clap::Error> {
        let all = ["cairn-operator", "run"].iter().chain(arguments);
        let Command::Run(run) = Arguments::try_parse_from(all)?.command;
        Ok(run.settings())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn defaults_fit_the_manifests() {
        let settings = parse(&["--namespace", "x"]).unwrap();
        assert_eq!(settings.server_name, "cairnd.x.svc");
        assert_eq!(settings.cluster, "cluster:x");
        assert_eq!(settings.lease, None);
        assert_eq!(settings.metrics_address.to_string(), "[::]:8080");
        assert_eq!(settings.certificates, Certificates::Own);
        assert_eq!(settings.plan.export_clients.len(), 4);
        let with = parse(&["--leader-election", "--tls-directory", "/tls"]).unwrap();
        assert_eq!(with.lease.as_deref(), Some("cairn-operator"));
        assert_eq!(with.certificates, Certificates::Directory("/tls".into()));
        assert!(parse(&["--leader-election=false"]).unwrap().lease.is_none());
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in [
            ["--metrics-address", "8080"],
            ["--export-clients", "everybody"],
            ["--workers", "0"],
            ["--workers", "1000"],
        ] {
            assert!(parse(&wrong).is_err(), "{wrong:?}");
        }
    }
}
