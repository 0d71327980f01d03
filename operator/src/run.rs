//! The process: logging, the client of the API server, sockets, signals. Everything that tests do without.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::arguments::Run;
use crate::assembly::{DRAIN_TIME_MAX, Operator, Parts};
use crate::daemons::client::GrpcDaemons;
use crate::runtime::api::ApiClient;
use crate::runtime::clock::{SystemClock, SystemRandomness, random};
use crate::runtime::health;
use crate::runtime::lease::{Leadership, LeaseSettings};
use crate::runtime::metrics::Metrics;
use crate::runtime::tls::secrets::{Keeper, Signing};
use crate::runtime::tls::{Kept, Source};
use crate::settings::{Certificates, Settings};

/// Runs until SIGTERM or SIGINT. Errors: no API server is configured; an address cannot be bound.
pub fn run(arguments: &Run) -> anyhow::Result<()> {
    log(arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(operate(arguments.settings()))
}

fn log(arguments: &Run) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&arguments.log).with_context(|| format!("--log {:?}", arguments.log))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match arguments.log_json {
        true => builder.json().init(),
        false => builder.init(),
    }
    Ok(())
}

async fn operate(settings: Settings) -> anyhow::Result<()> {
    let client = kube::Client::try_default()
        .await
        .context("no API server: run in a pod with a service account, or set KUBECONFIG")?;
    let metrics_socket = TcpListener::bind(settings.metrics_address)
        .await
        .with_context(|| format!("cannot bind --metrics-address {}", settings.metrics_address))?;
    let health_socket = TcpListener::bind(settings.health_address)
        .await
        .with_context(|| format!("cannot bind --health-address {}", settings.health_address))?;

    let (stop, stopped) = watch::channel(false);
    let asked = |mut stopped: watch::Receiver<bool>| async move {
        // An error is a sender that is gone: the process ends.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let metrics = Metrics::default();
    let operator = Operator::new(parts(client, metrics.clone(), settings));
    let pages = tokio::spawn(health::serve_metrics(
        metrics_socket,
        metrics,
        asked(stopped.clone()),
    ));
    let probes = tokio::spawn(health::serve(
        health_socket,
        operator.checks(),
        asked(stopped.clone()),
    ));
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    operator
        .run(async {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
                _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
            }
        })
        .await;
    stop.send_replace(true);
    for server in [pages, probes] {
        // Open connections of a scraper do not keep the process.
        let _ = tokio::time::timeout(Duration::from_secs(1), server).await;
    }
    tracing::info!(limit = DRAIN_TIME_MAX.as_secs(), "stopped in order");
    Ok(())
}

fn parts(client: kube::Client, metrics: Metrics, settings: Settings) -> Parts {
    let randomness = Arc::new(SystemRandomness);
    let clock = Arc::new(SystemClock);
    let leadership = match &settings.lease {
        Some(_) => Leadership::none(),
        // Every start is a term of its own: seconds only grow.
        None => {
            Leadership::alone(u64::try_from(cairn_types::Clock::now(clock.as_ref()).seconds()).unwrap_or(1))
        }
    };
    let lease = settings.lease.as_ref().map(|name| {
        let identity = format!("{}_{:016x}", settings.instance, random(randomness.as_ref()));
        LeaseSettings::new(&settings.namespace, name, identity)
    });
    let (tls, keeper) = match &settings.certificates {
        Certificates::Directory(directory) => (Source::Directory(directory.clone()), None),
        Certificates::Own => {
            let kept = Kept::default();
            let keeper = Keeper {
                api: ApiClient::new(
                    client.clone(),
                    leadership.clone(),
                    metrics.clone(),
                    "certificates",
                ),
                namespace: settings.namespace.clone(),
                daemon_names: vec![settings.server_name.clone()],
                operator_names: vec![format!("cairn-operator.{}.svc", settings.namespace)],
                kept: kept.clone(),
                signing: Signing::default(),
            };
            (Source::Kept(kept), Some(keeper))
        }
    };
    let daemons = Arc::new(GrpcDaemons::new(tls, &settings.server_name, metrics.clone()));
    Parts {
        client,
        daemons: Arc::clone(&daemons) as Arc<dyn crate::daemons::Daemons>,
        discovered: Some(daemons),
        keeper,
        leadership,
        lease,
        clock,
        randomness,
        metrics,
        settings,
    }
}
