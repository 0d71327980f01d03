//! The configuration that holds: file, flags and defaults together, checked once.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_api::location::{Surroundings, default_data_directory, default_socket};
use cairn_content::codec::Compression;
use toml::Spanned;

use super::file::{File, LogFormat, LogLevel, line_of};
use super::size::ByteSize;
use super::stores::{Given, Store, StoreSettings};
use super::{ConfigError, Place};
use crate::arguments::Arguments;

mod tcp;

pub use tcp::TcpSettings;

/// Longest path of a Unix socket in bytes: `sun_path` without its NUL (unix(7)).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// What holds. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Directory that holds everything.
    pub data_dir: PathBuf,
    /// What the node is called; `None`: by the machine's name.
    pub node_name: Option<String>,
    /// Address of NFS and MOUNT.
    pub nfs_listen: SocketAddr,
    /// NFS connections at once.
    pub nfs_connections_max: u32,
    /// Threads for NFS calls that may wait for a disk.
    pub nfs_threads_max: u32,
    /// Bytes of NFS requests and replies under way.
    pub nfs_memory_bytes_max: u64,
    /// Path of the Unix socket for RPC.
    pub rpc_socket: PathBuf,
    /// RPC requests that are executed at once.
    pub rpc_requests_max: u32,
    /// RPC over TCP, if it is wanted.
    pub rpc_tcp: Option<TcpSettings>,
    /// Address of HTTP.
    pub http_listen: SocketAddr,
    /// Bytes of the metadata store's block cache.
    pub metadata_cache_bytes: u64,
    /// Bytes of one write buffer of the metadata store.
    pub metadata_write_buffer_bytes: u64,
    /// Bytes of a new segment of the content log.
    pub segment_bytes: u64,
    /// Free bytes below which changes that need room are refused.
    pub disk_reserve_bytes: u64,
    /// Longest wait for clients at shutdown.
    pub shutdown: Duration,
    /// Directories below which plain directories may be touched.
    pub directories_roots: Vec<PathBuf>,
    /// Work on plain directories that runs at once.
    pub directories_jobs_max: u32,
    /// Bytes that the verification of their snapshots reads in a second, in the background; 0: it does not.
    pub directories_verify_bytes_per_second: u64,
    /// Days after which such a snapshot is verified again; 0: never.
    pub directories_verify_again_days: u32,
    /// Form of the log.
    pub log_format: LogFormat,
    /// Least severe level of the log.
    pub log_level: LogLevel,
    /// How object stores are reached.
    pub stores: Vec<StoreSettings>,
}

/// What the defaults depend on besides [`Surroundings`].
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The user.
    pub user: Surroundings,
    /// The working directory, which relative paths start from.
    pub working_directory: PathBuf,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let variable = |name: &str| -> Option<OsString> { std::env::var_os(name) };
        Environment {
            user: Surroundings {
                root: rustix::process::geteuid().is_root(),
                xdg_data_home: variable("XDG_DATA_HOME"),
                home: variable("HOME"),
            },
            working_directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        }
    }
}

impl Config {
    /// Reads the file that the arguments name, if they name one, and resolves it.
    pub fn load(arguments: &Arguments, environment: &Environment) -> Result<Self, ConfigError> {
        match &arguments.config {
            None => Self::resolve(
                File::default(),
                Source {
                    path: Path::new(""),
                    text: "",
                },
                arguments,
                environment,
            ),
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
                    place: Place::File(path.clone()),
                    message: error.to_string(),
                })?;
                Self::resolve(
                    File::parse(path, &text)?,
                    Source { path, text: &text },
                    arguments,
                    environment,
                )
            }
        }
    }

    /// Checks a parsed file and applies flags and defaults.
    fn resolve(
        file: File,
        source: Source<'_>,
        arguments: &Arguments,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let File {
            data_dir,
            node_name,
            nfs,
            rpc,
            http,
            metadata,
            content,
            limits,
            directories,
            log,
            store,
        } = file;
        let absolute = |path: PathBuf| environment.working_directory.join(path);
        let data_dir = source
            .path("data_dir", "--data-dir", arguments.data_dir.clone(), data_dir)?
            .map(|(path, _)| absolute(path))
            .or_else(|| default_data_directory(&environment.user))
            .ok_or_else(|| ConfigError::BadValue {
                place: Place::Default,
                key: "data_dir",
                message: "neither XDG_DATA_HOME nor HOME gives a default: set it, or --data-dir".to_owned(),
            })?;
        let (rpc_socket, socket_place) = source
            .path(
                "rpc.socket",
                "--rpc-socket",
                arguments.rpc_socket.clone(),
                rpc.socket,
            )?
            .map(|(path, place)| (absolute(path), place))
            .unwrap_or_else(|| (default_socket(&data_dir), Place::Default));
        let socket_bytes = rpc_socket.as_os_str().len();
        if socket_bytes > SOCKET_PATH_BYTES_MAX {
            return Err(ConfigError::BadValue {
                place: socket_place,
                key: "rpc.socket",
                message: format!(
                    "the path {} has {socket_bytes} bytes, more than the {SOCKET_PATH_BYTES_MAX} that a Unix socket can \
                     have: set a shorter one",
                    rpc_socket.display()
                ),
            });
        }
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let count = |key, value, default, bounds| source.bounded(key, value, default, bounds);
        let size = |key, value, default, bounds| source.size(key, value, default, bounds);
        Ok(Config {
            node_name: source.node_name(arguments.node_name.clone(), node_name)?,
            data_dir,
            rpc_socket,
            nfs_listen: either(arguments.nfs_listen, nfs.listen, loopback(12049)),
            nfs_connections_max: count(
                "nfs.connections_max",
                nfs.connections_max,
                1024,
                bounds::NFS_CONNECTIONS,
            )?,
            nfs_threads_max: count("nfs.threads_max", nfs.threads_max, 64, bounds::NFS_THREADS)?,
            nfs_memory_bytes_max: size(
                "nfs.memory_bytes_max",
                nfs.memory_bytes_max,
                512 << 20,
                bounds::NFS_MEMORY_BYTES,
            )?,
            rpc_requests_max: count("rpc.requests_max", rpc.requests_max, 32, bounds::RPC_REQUESTS)?,
            rpc_tcp: source.tcp(rpc.tcp, environment)?,
            http_listen: either(arguments.http_listen, http.listen, loopback(12080)),
            metadata_cache_bytes: size(
                "metadata.cache_bytes",
                metadata.cache_bytes,
                128 << 20,
                bounds::CACHE_BYTES,
            )?,
            metadata_write_buffer_bytes: size(
                "metadata.write_buffer_bytes",
                metadata.write_buffer_bytes,
                16 << 20,
                bounds::WRITE_BUFFER_BYTES,
            )?,
            segment_bytes: size(
                "content.segment_bytes",
                content.segment_bytes,
                64 << 20,
                bounds::SEGMENT_BYTES,
            )?,
            disk_reserve_bytes: size(
                "limits.disk_reserve_bytes",
                limits.disk_reserve_bytes,
                256 << 20,
                bounds::DISK_RESERVE_BYTES,
            )?,
            shutdown: Duration::from_secs(
                count(
                    "limits.shutdown_seconds",
                    limits.shutdown_seconds,
                    20,
                    bounds::SHUTDOWN_SECONDS,
                )?
                .into(),
            ),
            directories_roots: source.roots(directories.roots)?,
            directories_jobs_max: count(
                "directories.jobs_max",
                directories.jobs_max,
                4,
                bounds::DIRECTORY_JOBS,
            )?,
            directories_verify_bytes_per_second: size(
                "directories.verify_bytes_per_second",
                directories.verify_bytes_per_second,
                32 << 20,
                bounds::VERIFY_BYTES_PER_SECOND,
            )?,
            directories_verify_again_days: count(
                "directories.verify_again_days",
                directories.verify_again_days,
                90,
                bounds::VERIFY_AGAIN_DAYS,
            )?,
            log_format: either(arguments.log_format, log.format, LogFormat::Text),
            log_level: either(arguments.log_level, log.level, LogLevel::Info),
            stores: source.stores(store, environment)?,
        })
    }
}

/// The least and the most of every number, as default.toml says them.
pub mod bounds {
    /// `nfs.connections_max`
    pub const NFS_CONNECTIONS: (u32, u32) = (1, 65_536);
    /// `nfs.threads_max`
    pub const NFS_THREADS: (u32, u32) = (1, 1024);
    /// `nfs.memory_bytes_max`
    pub const NFS_MEMORY_BYTES: (u64, u64) = (64 << 20, 2 << 30);
    /// `rpc.requests_max`
    pub const RPC_REQUESTS: (u32, u32) = (1, 256);
    /// `rpc.tcp.connections_max`
    pub const RPC_TCP_CONNECTIONS: (u32, u32) = (1, 4096);
    /// Names in `rpc.tcp.control_clients` and in `rpc.tcp.operations_clients`
    pub const RPC_TCP_CLIENTS_MAX: usize = 64;
    /// Bytes of `node_name`
    pub const NODE_NAME_BYTES_MAX: usize = 253;
    /// `metadata.cache_bytes`
    pub const CACHE_BYTES: (u64, u64) = (1 << 20, 1 << 40);
    /// `metadata.write_buffer_bytes`
    pub const WRITE_BUFFER_BYTES: (u64, u64) = (1 << 20, 1 << 30);
    /// `content.segment_bytes`
    pub const SEGMENT_BYTES: (u64, u64) = (8 << 20, 1 << 30);
    /// `limits.disk_reserve_bytes`
    pub const DISK_RESERVE_BYTES: (u64, u64) = (64 << 20, 1 << 50);
    /// `limits.shutdown_seconds`
    pub const SHUTDOWN_SECONDS: (u32, u32) = (1, 3600);
    /// Paths in `directories.roots`
    pub const ROOTS_MAX: usize = 256;
    /// `directories.jobs_max`
    pub const DIRECTORY_JOBS: (u32, u32) = (1, 32);
    /// `directories.verify_bytes_per_second`
    pub const VERIFY_BYTES_PER_SECOND: (u64, u64) = (0, 1 << 40);
    /// `directories.verify_again_days`
    pub const VERIFY_AGAIN_DAYS: (u32, u32) = (0, 3650);
    /// Tables `[[store]]`
    pub const STORES_MAX: usize = 256;
    /// `store.connect_timeout_seconds`
    pub const STORE_CONNECT_SECONDS: (u32, u32) = (1, 300);
    /// `store.request_timeout_seconds`
    pub const STORE_REQUEST_SECONDS: (u32, u32) = (1, 3600);
    /// `store.attempts_max`
    pub const STORE_ATTEMPTS: (u32, u32) = (1, 100);
    /// `store.requests_max`
    pub const STORE_REQUESTS: (u32, u32) = (1, 1024);
}

/// The first of flag, file and default that is there.
fn either<T>(flag: Option<T>, file: Option<Spanned<T>>, default: T) -> T {
    flag.or(file.map(Spanned::into_inner)).unwrap_or(default)
}

/// The file that values came from, to name their lines.
#[derive(Clone, Copy)]
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn place<T>(&self, value: &Spanned<T>) -> Place {
        Place::Line(self.path.to_owned(), line_of(self.text, value.span().start))
    }

    /// A path of flag or file with its place; an empty one is an error.
    fn path(
        &self,
        key: &'static str,
        flag_name: &'static str,
        flag: Option<PathBuf>,
        file: Option<Spanned<PathBuf>>,
    ) -> Result<Option<(PathBuf, Place)>, ConfigError> {
        let given = match (flag, file) {
            (Some(path), _) => (path, Place::Flag(flag_name)),
            (None, Some(value)) => {
                let place = self.place(&value);
                (value.into_inner(), place)
            }
            (None, None) => return Ok(None),
        };
        if given.0.as_os_str().is_empty() {
            return Err(ConfigError::BadValue {
                place: given.1,
                key,
                message: "the path is empty".to_owned(),
            });
        }
        Ok(Some(given))
    }

    /// A name of flag or file: one to [`bounds::NODE_NAME_BYTES_MAX`] visible ASCII characters.
    fn node_name(
        &self,
        flag: Option<String>,
        file: Option<Spanned<String>>,
    ) -> Result<Option<String>, ConfigError> {
        let (name, place) = match (flag, file) {
            (Some(name), _) => (name, Place::Flag("--node-name")),
            (None, Some(name)) => {
                let place = self.place(&name);
                (name.into_inner(), place)
            }
            (None, None) => return Ok(None),
        };
        let fits = (1..=bounds::NODE_NAME_BYTES_MAX).contains(&name.len());
        if fits && name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Some(name));
        }
        Err(ConfigError::BadValue {
            place,
            key: "node_name",
            message: format!(
                "{name:?} is not 1 to {} visible ASCII characters",
                bounds::NODE_NAME_BYTES_MAX
            ),
        })
    }

    /// The roots of plain directories.
    fn roots(&self, value: Option<Spanned<Vec<PathBuf>>>) -> Result<Vec<PathBuf>, ConfigError> {
        let Some(value) = value else { return Ok(Vec::new()) };
        let place = self.place(&value);
        let roots = value.into_inner();
        let wrong = match roots.iter().find(|root| !root.is_absolute()) {
            Some(root) => format!("{} is no absolute path", root.display()),
            None if roots.len() > bounds::ROOTS_MAX => {
                format!("{} paths are more than {}", roots.len(), bounds::ROOTS_MAX)
            }
            None => return Ok(roots),
        };
        Err(ConfigError::BadValue {
            place,
            key: "directories.roots",
            message: wrong,
        })
    }

    fn bounded(
        &self,
        key: &'static str,
        value: Option<Spanned<u32>>,
        default: u32,
        (least, most): (u32, u32),
    ) -> Result<u32, ConfigError> {
        let Some(value) = value else { return Ok(default) };
        let place = self.place(&value);
        let value = value.into_inner();
        if (least..=most).contains(&value) {
            return Ok(value);
        }
        Err(ConfigError::BadValue {
            place,
            key,
            message: format!("{value} is not in {least} to {most}"),
        })
    }

    fn size(
        &self,
        key: &'static str,
        value: Option<Spanned<ByteSize>>,
        default: u64,
        (least, most): (u64, u64),
    ) -> Result<u64, ConfigError> {
        let Some(value) = value else { return Ok(default) };
        let place = self.place(&value);
        let value = value.into_inner();
        if (least..=most).contains(&value.0) {
            return Ok(value.0);
        }
        let (least, most) = (ByteSize(least), ByteSize(most));
        Err(ConfigError::BadValue {
            place,
            key,
            message: format!("{value} is not in {least} to {most}"),
        })
    }
}

/// The tables `[[store]]`.
impl Source<'_> {
    fn stores(
        &self,
        tables: Vec<Store>,
        environment: &Environment,
    ) -> Result<Vec<StoreSettings>, ConfigError> {
        if tables.len() > bounds::STORES_MAX {
            return Err(ConfigError::BadValue {
                place: Place::File(self.path.to_owned()),
                key: "store",
                message: format!("{} tables are more than {}", tables.len(), bounds::STORES_MAX),
            });
        }
        let mut stores: Vec<StoreSettings> = Vec::new();
        for table in tables {
            let Some(url) = &table.url else {
                return Err(ConfigError::BadValue {
                    place: Place::File(self.path.to_owned()),
                    key: "store.url",
                    message: "a table [[store]] has no url".to_owned(),
                });
            };
            let place = self.place(url);
            let store = self.store(table, environment)?;
            if stores.iter().any(|other| other.url == store.url) {
                return Err(ConfigError::BadValue {
                    place,
                    key: "store.url",
                    message: format!("another table [[store]] has {} already", store.url),
                });
            }
            stores.push(store);
        }
        Ok(stores)
    }

    fn store(&self, table: Store, environment: &Environment) -> Result<StoreSettings, ConfigError> {
        let bad = |place, key, message: String| Err(ConfigError::BadValue { place, key, message });
        let (url, place) = match table.url {
            Some(url) => (url.get_ref().clone(), self.place(&url)),
            None => (String::new(), Place::Default),
        };
        let url = match crate::archives::url::parse(&url) {
            Ok(url) => url,
            Err(error) => return bad(place, "store.url", error.message),
        };
        if let (None, Some(profile)) = (&table.credentials_file, &table.credentials_profile) {
            let message = "there is no credentials_file that it could be a section of".to_owned();
            return bad(self.place(profile), "store.credentials_profile", message);
        }
        if let Some(endpoint) = &table.endpoint {
            let allowed = table.allow_http.as_ref().is_some_and(|allow| *allow.get_ref());
            let text = endpoint.get_ref();
            let schemes: &[&str] = match allowed {
                true => &["https://", "http://"],
                false => &["https://"],
            };
            if !schemes.iter().any(|scheme| text.starts_with(scheme)) {
                let message =
                    format!("{text:?} does not begin with https://; http:// needs allow_http = true");
                return bad(self.place(endpoint), "store.endpoint", message);
            }
        }
        let credentials_file = self
            .path("store.credentials_file", "", None, table.credentials_file)?
            .map(|(path, _)| environment.working_directory.join(path));
        let key_file = self
            .path("store.key_file", "", None, table.key_file)?
            .map(|(path, _)| environment.working_directory.join(path));
        if let (None, Some(shared)) = (&key_file, &table.key_file_shared) {
            let message = "there is no key_file that it could be about".to_owned();
            return bad(self.place(shared), "store.key_file_shared", message);
        }
        let compression = match &table.compression {
            None => Compression::default(),
            Some(text) => match text.get_ref().parse::<Compression>() {
                Ok(compression) => compression,
                Err(error) => return bad(self.place(text), "store.compression", error.to_string()),
            },
        };
        let count = |key, value, default, bounds| self.bounded(key, value, default, bounds);
        let given = Given {
            compression,
            url,
            endpoint: table.endpoint.map(Spanned::into_inner),
            region: table.region.map(Spanned::into_inner),
            account: table.account.map(Spanned::into_inner),
            allow_http: table.allow_http.is_some_and(Spanned::into_inner),
            credentials_file,
            key_file,
            key_file_shared: table.key_file_shared.is_some_and(Spanned::into_inner),
            credentials_profile: table.credentials_profile.map(Spanned::into_inner),
            connect_timeout_seconds: count(
                "store.connect_timeout_seconds",
                table.connect_timeout_seconds,
                10,
                bounds::STORE_CONNECT_SECONDS,
            )?,
            request_timeout_seconds: count(
                "store.request_timeout_seconds",
                table.request_timeout_seconds,
                60,
                bounds::STORE_REQUEST_SECONDS,
            )?,
            attempts_max: count(
                "store.attempts_max",
                table.attempts_max,
                6,
                bounds::STORE_ATTEMPTS,
            )?,
            requests_max: count(
                "store.requests_max",
                table.requests_max,
                32,
                bounds::STORE_REQUESTS,
            )?,
        };
        Ok(given.settings())
    }
}

/// The default configuration of root, for tests of other modules.
#[cfg(test)]
pub(crate) fn example() -> Config {
    let user = Surroundings {
        root: true,
        ..Surroundings::default()
    };
    Config::load(
        &Arguments::default(),
        &Environment {
            user,
            working_directory: "/".into(),
        },
    )
    .unwrap()
}

#[cfg(test)]
mod tests;
