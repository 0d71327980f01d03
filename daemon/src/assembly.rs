//! Which stores and which file server this daemon is made of, and how they open and close. Every other module sees
//! [`Stores`].

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cairn_content::log::{DirectoryStore, LogSettings};
use cairn_metadata::MetadataError;
use cairn_metadata::engine::rocks::{RocksEngine, RocksSettings};
use cairn_nfs::{Server, ServerError, ServerSettings};
use cairn_snapshot::engine::Tools;
use cairn_snapshot::repository::{Host, LeaseTimes, Parts, SystemTicks};
pub(crate) use cairn_types::with_causes;
use cairn_types::{Clock, ErrorKind, Randomness};
use cairn_vfs::control::{ControlError, Usage};
use cairn_vfs::{OpenError, Volumes, VolumesParts, VolumesSettings};
use tokio::net::TcpListener;

use crate::archives::volumes::NodeEnds;
use crate::archives::{Archives, Repositories, RepositoriesParts, identity, repositories};
use crate::config::Config;
use crate::data_directory::DataDirectory;
use crate::directories::{Directories, DirectoriesParts, VerificationSettings};
use crate::exit::Exit;
use crate::operations::Operations;
use crate::system::{SystemClock, SystemRandomness};

/// Most memory for NFS requests and replies of one connection in bytes.
const NFS_CONNECTION_BYTES_MAX: usize = 32 << 20;

/// The open stores, and the NFS server on top of them.
pub struct Stores {
    volumes: Arc<Volumes>,
    nfs: Server<Volumes>,
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores").finish_non_exhaustive()
    }
}

/// Why the stores cannot be opened, or could not be closed in order.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StoresError {
    /// What is wrong, with its causes.
    pub message: String,
    /// What to do.
    pub remedy: &'static str,
    /// How the process ends.
    pub exit: Exit,
}

impl StoresError {
    fn new(what: &str, error: &dyn Error, kind: ErrorKind) -> Self {
        let remedy = match kind {
            ErrorKind::NoSpace => "free space on the data directory's file system, then start again",
            ErrorKind::Corrupt => {
                "keep a copy of the data directory as it is, look at the disk, and restore from a backup"
            }
            ErrorKind::Conflict => "end the process that has the store open, then start again",
            ErrorKind::Unavailable | ErrorKind::Denied | ErrorKind::NotFound => {
                "look at the disk, the permissions and the limits of the process, then start again"
            }
            ErrorKind::Invalid | ErrorKind::Internal => "report this with the log",
        };
        StoresError {
            message: format!("{what}: {}", with_causes(error)),
            remedy,
            exit: Exit::Storage,
        }
    }

    fn of_opening(error: &OpenError) -> Self {
        let told = Self::new("the stores cannot be opened", error, error.kind());
        match error {
            OpenError::Metadata(MetadataError::NewerFormat { .. }) => StoresError {
                remedy: "use the cairnd that wrote the data directory, or a later one",
                exit: Exit::NewerFormat,
                ..told
            },
            OpenError::Metadata(_) | OpenError::Log { .. } | OpenError::Replay(_) | OpenError::Thread(_) => {
                told
            }
        }
    }
}

impl Stores {
    /// Opens the stores in a data directory and replays what a crash left. May take long.
    pub fn open(
        config: &Config,
        directory: &DataDirectory,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
    ) -> Result<Self, StoresError> {
        let engine = RocksEngine::open(directory.metadata(), rocks_settings(config))
            .map_err(|error| StoresError::new("the metadata store cannot be opened", &error, error.kind()))?;
        let segments = DirectoryStore::open(&directory.log())
            .map_err(|error| StoresError::new("the content log cannot be opened", &error, error.kind()))?;
        let parts = VolumesParts {
            engine: Arc::new(engine),
            segments: Arc::new(segments),
            clock,
            randomness,
        };
        let volumes = Volumes::open(parts, volumes_settings(config))
            .map_err(|error| StoresError::of_opening(&error))?;
        let secret = directory.format().handle_secret.0;
        let nfs = Server::new(Arc::clone(&volumes), nfs_settings(config), secret)
            .map_err(|error| StoresError::new("the NFS server cannot be made", &error, error.kind()))?;
        Ok(Stores { volumes, nfs })
    }

    /// The volumes.
    pub fn volumes(&self) -> &Arc<Volumes> {
        &self.volumes
    }

    /// What the NFS server counts.
    pub fn nfs_metrics(&self) -> &Arc<cairn_nfs::Metrics> {
        self.nfs.metrics()
    }

    /// Serves NFS on `listener` until `shutdown` ends and what was begun is finished, or has had its time.
    pub fn serve_nfs(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = Result<(), ServerError>> + Send + 'static {
        let server = self.nfs.clone();
        async move { server.serve(listener, shutdown).await }
    }

    /// What the node holds. May read from disk.
    pub fn usage(&self) -> Result<Usage, ControlError> {
        self.volumes.usage()
    }

    /// Whether the stores work; the error says what has failed and what to do.
    pub fn health(&self) -> Result<(), String> {
        if self.volumes.has_stopped() {
            return Err("a sync of the disk has failed and changes are refused: repair the disk, then restart cairnd; \
                        everything acknowledged as durable is safe"
                .to_owned());
        }
        Ok(())
    }

    /// Whether changes that need room are accepted.
    pub fn has_room(&self) -> bool {
        self.volumes.has_room()
    }

    /// Brings everything that was acknowledged, stable or not, onto the disk. Changes that come later are refused or
    /// replayed at the next start.
    pub fn close(&self) -> Result<(), StoresError> {
        self.volumes.close().map_err(|error| {
            StoresError::new("the stores could not be closed in order", &error, error.kind())
        })
    }
}

/// The archives of object stores, for the volumes of this node. Must be called within the runtime on which the stores' requests
/// are to be made. Opens no store yet.
pub fn archives(config: &Config, directory: &DataDirectory, volumes: &Arc<Volumes>) -> Archives {
    let secret = &directory.format().handle_secret;
    let repositories = Repositories::new(RepositoriesParts {
        stores: config.stores.clone(),
        directory: directory.stores(),
        runtime: tokio::runtime::Handle::current(),
        clock: Arc::new(SystemClock),
        randomness: Arc::new(SystemRandomness),
        owner: identity::owner(secret, &identity::host(), directory.path()),
        opener: Box::new(repositories::open),
    });
    let ends = NodeEnds::new(Arc::clone(volumes), secret.clone());
    Archives::new(repositories, Arc::new(ends))
}

/// The plain directories that are looked after. Must be called within the runtime on which looks at them, and requests to the stores of their
/// archives, are to run. Nothing is begun yet.
///
/// # Errors
/// What is remembered of them cannot be read, or this process cannot be looked at in `/proc`.
pub fn directories(
    config: &Config,
    directory: &DataDirectory,
    operations: &Arc<Operations>,
) -> Result<Arc<Directories>, StoresError> {
    let runtime = tokio::runtime::Handle::current();
    let host = Host::detect().map_err(|error| {
        StoresError::new(
            "this process cannot be looked at in /proc",
            &error,
            ErrorKind::Unavailable,
        )
    })?;
    let uid = rustix::process::geteuid();
    let user = if uid.is_root() {
        "root".to_owned()
    } else {
        format!("uid {}", uid.as_raw())
    };
    let rate = config.directories_verify_bytes_per_second;
    let days = config.directories_verify_again_days;
    let spawner = runtime.clone();
    let parts = DirectoriesParts {
        records: directory.directories(),
        roots: config.directories_roots.clone(),
        jobs_max: config.directories_jobs_max as usize,
        verification: VerificationSettings {
            bytes_per_second: (rate > 0).then_some(rate),
            again_after: (days > 0).then(|| Duration::from_secs(u64::from(days) * 86_400)),
        },
        parts: Parts {
            clock: Arc::new(SystemClock),
            randomness: Arc::new(SystemRandomness),
            ticks: Arc::new(SystemTicks::new()),
            host,
            actor: user,
            lease_times: LeaseTimes::default(),
            runtime: Some(runtime),
        },
        tools: Tools::find(&std::env::var_os("PATH").unwrap_or_default(), None),
        operations: Arc::clone(operations),
        spawner: Box::new(move |look| {
            spawner.spawn_blocking(look);
        }),
    };
    Directories::open(parts).map_err(|error| {
        StoresError::new(
            "what is remembered of plain directories cannot be read",
            &error,
            error.kind(),
        )
    })
}

fn rocks_settings(config: &Config) -> RocksSettings {
    RocksSettings {
        block_cache_bytes: config.metadata_cache_bytes,
        write_buffer_bytes: config.metadata_write_buffer_bytes,
        // Well below where the volumes refuse changes: what was acknowledged by then must still find room.
        space_reserve_bytes: RocksSettings::default()
            .space_reserve_bytes
            .min(config.disk_reserve_bytes / 4),
        ..RocksSettings::default()
    }
}

fn volumes_settings(config: &Config) -> VolumesSettings {
    VolumesSettings {
        log: LogSettings {
            segment_bytes: config.segment_bytes,
            ..LogSettings::default()
        },
        disk_reserve_bytes: config.disk_reserve_bytes,
        ..VolumesSettings::default()
    }
}

fn nfs_settings(config: &Config) -> ServerSettings {
    let bytes_max = usize::try_from(config.nfs_memory_bytes_max).unwrap_or(usize::MAX);
    let client_bytes_max = bytes_max / 2;
    ServerSettings {
        connections_max: config.nfs_connections_max as usize,
        workers_max: config.nfs_threads_max as usize,
        bytes_max,
        client_bytes_max,
        connection_bytes_max: client_bytes_max.min(NFS_CONNECTION_BYTES_MAX),
        drain_timeout: config.shutdown,
        ..ServerSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{nfs_settings, rocks_settings, volumes_settings};
    use crate::config::resolved::{bounds, example};

    #[test]
    fn every_value_within_bounds_fits_the_parts() {
        for memory in [bounds::NFS_MEMORY_BYTES.0, bounds::NFS_MEMORY_BYTES.1] {
            for cache in [bounds::CACHE_BYTES.0, bounds::CACHE_BYTES.1] {
                for buffer in [bounds::WRITE_BUFFER_BYTES.0, bounds::WRITE_BUFFER_BYTES.1] {
                    let mut config = example();
                    config.nfs_memory_bytes_max = memory;
                    config.metadata_cache_bytes = cache;
                    config.metadata_write_buffer_bytes = buffer;
                    nfs_settings(&config).check().unwrap();
                    rocks_settings(&config).check().unwrap();
                }
            }
        }
    }

    #[test]
    fn the_configuration_reaches_the_parts() {
        let mut config = example();
        config.nfs_connections_max = 3;
        config.nfs_threads_max = 5;
        config.segment_bytes = 9 << 20;
        config.disk_reserve_bytes = 77 << 20;
        let nfs = nfs_settings(&config);
        assert_eq!(
            (nfs.connections_max, nfs.workers_max, nfs.drain_timeout),
            (3, 5, config.shutdown)
        );
        let volumes = volumes_settings(&config);
        assert_eq!(
            (volumes.log.segment_bytes, volumes.disk_reserve_bytes),
            (9 << 20, 77 << 20)
        );
    }
}
