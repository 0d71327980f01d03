//! From the command line to a serving daemon, and back, in one fixed order.
//!
//! Start: configuration; data directory, locked; sockets bound; HTTP and RPC answer (not ready yet); stores opened, which
//! replays what a crash left; NFS answers; work on plain directories that was interrupted is taken up; ready. What can fail at once comes before what may take long, and a client of
//! a daemon that restarts waits in the backlog instead of being refused.
//!
//! Stop, on SIGTERM or SIGINT, the other way round: not ready; NFS and RPC accept nothing new and finish what was begun,
//! operations are cancelled, for at most `limits.shutdown_seconds`; stores synced and closed; HTTP; sockets; lock. A second signal ends the process
//! at once, which loses nothing that was acknowledged as durable.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use cairn_types::Clock;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::arguments::Arguments;
use crate::assembly::{Stores, StoresError, archives, directories, with_causes};
use crate::config::resolved::Environment;
use crate::config::resolved::TcpSettings;
use crate::config::{Config, ConfigError, DEFAULT_CONFIG};
use crate::control::{Control, ControlParts};
use crate::data_directory::{DataDirectory, DataDirectoryError};
use crate::directories::{Directories, DirectoriesError};
use crate::endpoints::Endpoints;
use crate::exit::Exit;
use crate::node::{Node, Phase};
use crate::operations::Operations;
use crate::rpc::tcp::Endpoint;
use crate::rpc::tls::{Credentials, CredentialsError};
use crate::sockets::{self, BindError};
use crate::system::{SystemClock, SystemRandomness};
use crate::{http, logging, nfs_service, rpc};

/// Time between two looks for what is due of plain directories.
const TICK_INTERVAL: Duration = Duration::from_secs(1);
/// How long HTTP requests may take to finish at the end; they are short.
const HTTP_DRAIN: Duration = Duration::from_secs(5);
/// Time between looks for keys that can be forgotten.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(3600);

/// Why the daemon did not start, or did not stop in order.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory.
    #[error(transparent)]
    DataDirectory(#[from] DataDirectoryError),
    /// An address or socket path.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The stores.
    #[error(transparent)]
    Stores(#[from] StoresError),
    /// What controllers have asked for cannot be read.
    #[error("the ledger of controllers' requests cannot be opened: {message}")]
    Ledger {
        /// Why.
        message: String,
    },
    /// The certificates of RPC over TCP.
    #[error("RPC over TCP: {0}")]
    Credentials(#[from] CredentialsError),
    /// The operating system refused something that it always grants.
    #[error("cannot {operation}: {source}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// The answer.
        source: io::Error,
    },
    /// A part of the daemon ended by itself.
    #[error("the {part} server ended: {message}")]
    Ended {
        /// The part.
        part: &'static str,
        /// How.
        message: String,
    },
}

impl BootError {
    fn system(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| BootError::System { operation, source }
    }

    /// How the process ends.
    pub fn exit(&self) -> Exit {
        match self {
            BootError::Config(_) | BootError::Credentials(_) => Exit::Configuration,
            BootError::Ledger { .. } => Exit::Storage,
            BootError::DataDirectory(error) => error.exit(),
            BootError::Bind(_) => Exit::Address,
            BootError::Stores(error) => error.exit,
            BootError::System { .. } | BootError::Ended { .. } => Exit::Internal,
        }
    }

    /// What to do.
    pub fn remedy(&self) -> String {
        match self {
            BootError::Config(error) => error.remedy().to_owned(),
            BootError::DataDirectory(error) => error.remedy().to_owned(),
            BootError::Bind(error) => error.remedy(),
            BootError::Stores(error) => error.remedy.to_owned(),
            BootError::Ledger { .. } => {
                "keep a copy of the data directory as it is, look at the disk, and restore from a backup"
                    .to_owned()
            }
            BootError::Credentials(_) => {
                "put the right files there, or take the table [rpc.tcp] out of the configuration".to_owned()
            }
            BootError::System { .. } => {
                "look at the limits of the process (ulimit -a) and of its cgroup".to_owned()
            }
            BootError::Ended { .. } => "start the daemon again and report the fault with its log".to_owned(),
        }
    }
}

/// Does what the command line asks for, and says how it ended on standard error.
pub fn run(arguments: &Arguments) -> Exit {
    match start(arguments) {
        Ok(exit) => exit,
        Err(error) => {
            // Said as plain text whatever the log's form is: it is for whoever started the daemon.
            eprintln!("cairnd: {error}\n  {}", error.remedy());
            error.exit()
        }
    }
}

fn start(arguments: &Arguments) -> Result<Exit, BootError> {
    if arguments.print_default_config {
        print!("{DEFAULT_CONFIG}");
        return Ok(Exit::Success);
    }
    let config = Config::load(arguments, &Environment::of_process())?;
    if arguments.check_config {
        return Ok(Exit::Success);
    }
    logging::start(config.log_format, config.log_level);
    let directory = DataDirectory::open(&config.data_dir, &SystemRandomness)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("cairnd")
        .build()
        .map_err(BootError::system("start threads"))?;
    let drain = config.shutdown;
    let outcome = runtime.block_on(serve(config, &directory));
    // Blocking work whose client has gone away may still run; the stores are closed, so it only fails.
    runtime.shutdown_timeout(drain);
    // The lock goes last.
    drop(directory);
    outcome.map(|()| Exit::Success)
}

async fn serve(config: Config, directory: &DataDirectory) -> Result<(), BootError> {
    let mut signals = Signals::listen()?;
    let tcp = match &config.rpc_tcp {
        Some(settings) => Some(RpcTcp::open(settings).await?),
        None => None,
    };
    let nfs = sockets::tcp(config.nfs_listen, "nfs.listen", "--nfs-listen").await?;
    let http = sockets::tcp(config.http_listen, "http.listen", "--http-listen").await?;
    let mut rpc = sockets::unix(&config.rpc_socket, "rpc.socket", "--rpc-socket")?;
    let address = BootError::system("ask for the address of a listener");
    let endpoints = Endpoints {
        process_id: std::process::id(),
        nfs: nfs.local_addr().map_err(address)?,
        http: http
            .local_addr()
            .map_err(BootError::system("ask for the address of a listener"))?,
        rpc: config.rpc_socket.clone(),
        rpc_tcp: match &tcp {
            Some(tcp) => Some(
                tcp.listener
                    .local_addr()
                    .map_err(BootError::system("ask for the address of a listener"))?,
            ),
            None => None,
        },
    };
    let operations = Operations::new(Arc::new(SystemClock), Arc::new(SystemRandomness));
    let node = Arc::new(Node::new(
        config,
        endpoints,
        SystemClock.now(),
        operations,
        &directory.format().handle_secret,
        &SystemRandomness,
    ));

    let mut http_part = Part::start("http", |stop| {
        let serving = http::serve(Arc::clone(&node), http, stop);
        async move { serving.await.map_err(|error| error.to_string()) }
    });
    let listener = rpc.take().expect("the listener is taken here and nowhere else");
    let mut rpc_part = Part::start("rpc", |stop| {
        let serving = rpc::serve(Arc::clone(&node), listener, stop);
        async move { serving.await.map_err(|error| error.to_string()) }
    });

    let mut tcp_part = Part::start("rpc_tcp", |stop| {
        let node = Arc::clone(&node);
        async move {
            match tcp {
                Some(tcp) => tcp.serve(node, stop).await.map_err(|error| error.to_string()),
                None => {
                    stop.await;
                    Ok(())
                }
            }
        }
    });

    let stores = open_stores(&node, directory).await?;
    let mut nfs_part = Part::start("nfs", |stop| {
        let serving = nfs_service::serve(Arc::clone(&stores), nfs, Arc::clone(&node.draining), stop);
        async move { serving.await.map_err(|error| error.to_string()) }
    });
    let looked_after = open_directories(&node, directory)?;
    open_control(&node, &stores)?;
    let mut directories_part = Part::start("directories", |stop| tick(Arc::clone(&looked_after), stop));
    let upkeep_part = Part::start("upkeep", |stop| {
        let upkeep = upkeep(Arc::clone(&node), stop);
        async move {
            upkeep.await;
            Ok(())
        }
    });
    // Who finds the file may ask at once.
    node.set_phase(Phase::Serving);
    let endpoints_file = node
        .endpoints
        .write(directory.path())
        .map_err(BootError::system("write endpoints.json"))?;
    let Endpoints {
        nfs,
        http,
        rpc: rpc_path,
        ..
    } = &node.endpoints;
    tracing::info!(%nfs, %http, rpc = %rpc_path.display(), data_dir = %directory.path().display(), "ready");

    let ended = tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "stopping; a second signal stops at once");
            None
        }
        ended = http_part.ended() => Some(ended),
        ended = rpc_part.ended() => Some(ended),
        ended = tcp_part.ended() => Some(ended),
        ended = nfs_part.ended() => Some(ended),
        ended = directories_part.ended() => Some(ended),
    };
    node.set_phase(Phase::Stopping);
    let stopping = async {
        let drain = node.config.shutdown;
        // The NFS server keeps to the same time itself; the extra second lets it.
        // Who watches an operation over RPC sees its end: both have the same time.
        tokio::join!(
            nfs_part.stop(drain + Duration::from_secs(1)),
            rpc_part.stop(drain),
            tcp_part.stop(drain),
            upkeep_part.stop(drain),
            directories_part.stop(drain),
            stop_operations(Arc::clone(&node), drain),
            stop_directories(looked_after)
        );
        let closing = Arc::clone(&stores);
        let closed = tokio::task::spawn_blocking(move || closing.close()).await;
        http_part.stop(HTTP_DRAIN).await;
        closed
    };
    let closed = tokio::select! {
        closed = stopping => closed,
        name = signals.next() => {
            tracing::warn!(signal = name, "stopped at once; the next start replays what was not closed");
            std::process::exit(Exit::Interrupted.code().into());
        }
    };
    drop((endpoints_file, rpc));
    match closed {
        Ok(closed) => closed?,
        Err(failed) => {
            return Err(BootError::Ended {
                part: "stores",
                message: failed.to_string(),
            });
        }
    }
    tracing::info!("stopped");
    ended.map_or(Ok(()), Err)
}

/// Opening may take long and cannot be broken off; a signal waits for its end.
async fn open_stores(node: &Arc<Node>, directory: &DataDirectory) -> Result<Arc<Stores>, BootError> {
    let stores = tokio::task::block_in_place(|| {
        Stores::open(
            &node.config,
            directory,
            Arc::new(SystemClock),
            Arc::new(SystemRandomness),
        )
    })?;
    let stores = Arc::new(stores);
    node.set_stores(Arc::clone(&stores));
    node.set_archives(Arc::new(archives(&node.config, directory, stores.volumes())));
    Ok(stores)
}

/// RPC over TCP, bound and with its certificates, not yet served.
struct RpcTcp {
    listener: TcpListener,
    credentials: Arc<Credentials>,
    settings: TcpSettings,
}

impl RpcTcp {
    async fn open(settings: &TcpSettings) -> Result<Self, BootError> {
        let credentials = Credentials::load(settings.files.clone(), Arc::new(SystemClock))?;
        Ok(RpcTcp {
            listener: sockets::tcp(settings.listen, "rpc.tcp.listen", "--config").await?,
            credentials: Arc::new(credentials),
            settings: settings.clone(),
        })
    }

    async fn serve(self, node: Arc<Node>, stop: Stop) -> Result<(), tonic::transport::Error> {
        let endpoint = Endpoint {
            credentials: self.credentials,
            allowed: Arc::new(self.settings.allowed),
            connections_max: self.settings.connections_max as usize,
            metrics: Arc::clone(&node.rpc_tcp),
        };
        rpc::serve_tcp(node, endpoint, self.listener, stop).await
    }
}

/// Keeps the ledger of controllers' requests small, until `stop` ends.
async fn upkeep(node: Arc<Node>, mut stop: Stop) {
    loop {
        let Some(control) = node.control().map(Arc::clone) else {
            return stop.await;
        };
        let kept = tokio::task::spawn_blocking(move || control.upkeep()).await;
        let pause = match kept {
            Ok(Ok(true)) => Duration::ZERO,
            Ok(Ok(false)) => UPKEEP_INTERVAL,
            Ok(Err(error)) => {
                tracing::error!(error = %with_causes(&error), "the ledger of controllers' requests could not be looked through");
                UPKEEP_INTERVAL
            }
            Err(failed) => {
                tracing::error!(error = %failed, "the look through the ledger broke off");
                UPKEEP_INTERVAL
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = &mut stop => return,
        }
    }
}

/// Reads what controllers have asked for, and finishes what was interrupted.
fn open_control(node: &Arc<Node>, stores: &Arc<Stores>) -> Result<(), BootError> {
    let control = tokio::task::block_in_place(|| {
        Control::open(ControlParts {
            volumes: Arc::clone(stores.volumes()),
            directories: node.directories().map(Arc::clone),
            operations: Arc::clone(&node.operations),
            clock: Arc::new(SystemClock),
            instance: node.instance.clone(),
            draining: Arc::clone(&node.draining),
        })
    });
    let control = control.map_err(|error| BootError::Ledger {
        message: with_causes(&error),
    })?;
    node.set_control(Arc::new(control));
    Ok(())
}

/// Reads what is remembered of plain directories, and takes up what was interrupted.
fn open_directories(node: &Arc<Node>, directory: &DataDirectory) -> Result<Arc<Directories>, BootError> {
    tokio::task::block_in_place(|| {
        let opened = directories(&node.config, directory, &node.operations)?;
        opened.resume().map_err(|error: DirectoriesError| {
            BootError::Stores(StoresError {
                message: format!(
                    "work on plain directories that was interrupted cannot be taken up again: {}",
                    crate::assembly::with_causes(&error)
                ),
                remedy: "look at the disk and the permissions of the data directory, then start again",
                exit: Exit::Storage,
            })
        })?;
        node.set_directories(Arc::clone(&opened));
        Ok(opened)
    })
}

/// Does what is due of plain directories, until it shall stop.
async fn tick(directories: Arc<Directories>, stop: Stop) -> Result<(), String> {
    let mut ticks = tokio::time::interval(TICK_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            _ = ticks.tick() => directories.tick(SystemClock.now()),
            () = &mut stop => return Ok(()),
        }
    }
}

/// Stops the verification in the background. What was not read to its end is read again.
async fn stop_directories(directories: Arc<Directories>) {
    if let Err(failed) = tokio::task::spawn_blocking(move || directories.stop()).await {
        tracing::error!(error = %failed, "plain directories could not be left in order");
    }
}

/// Cancels the operations and waits for their end. What they have done so far is durable; asked for again, they go on.
async fn stop_operations(node: Arc<Node>, drain: Duration) {
    let stopped = tokio::task::spawn_blocking(move || node.operations.stop(drain)).await;
    match stopped {
        Ok(0) => {}
        Ok(left) => tracing::warn!(left, "operations did not end in time; cut off"),
        Err(failed) => tracing::error!(error = %failed, "operations could not be stopped in order"),
    }
}

/// The signals that end the daemon.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, BootError> {
        let handle = |kind| signal(kind).map_err(BootError::system("handle signals"));
        Ok(Signals {
            terminate: handle(SignalKind::terminate())?,
            interrupt: handle(SignalKind::interrupt())?,
        })
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// A server that runs beside the others, and can be asked to end.
struct Part {
    name: &'static str,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), String>>,
}

impl Part {
    /// Starts a server; what it is given ends when the server shall end.
    fn start<S, F>(name: &'static str, server: S) -> Self
    where
        S: FnOnce(Stop) -> F,
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(server(wait_for_stop(stopped)));
        Part { name, stop, task }
    }

    /// Waits until it ends by itself, which it never should. Cancel safe.
    async fn ended(&mut self) -> BootError {
        let message = match (&mut self.task).await {
            Ok(Ok(())) => "nobody asked it to".to_owned(),
            Ok(Err(message)) => message,
            Err(failed) => failed.to_string(),
        };
        tracing::error!(
            part = self.name,
            message,
            "a server ended by itself; stopping the daemon"
        );
        BootError::Ended {
            part: self.name,
            message,
        }
    }

    /// Asks it to end, and breaks it off after `drain`.
    async fn stop(mut self, drain: Duration) {
        self.stop.send_replace(true);
        if self.task.is_finished() {
            return;
        }
        if tokio::time::timeout(drain, &mut self.task).await.is_err() {
            tracing::warn!(
                part = self.name,
                seconds = drain.as_secs(),
                "clients did not finish in time; cut off"
            );
            self.task.abort();
        }
    }
}

type Stop = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn wait_for_stop(mut stopped: watch::Receiver<bool>) -> Stop {
    Box::pin(async move {
        // An error means that the daemon is gone: that is a reason to end too.
        let _ = stopped.wait_for(|stop| *stop).await;
    })
}
