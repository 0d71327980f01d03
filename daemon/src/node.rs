//! What the parts of the daemon share: what it was told, where it listens, how far it is, and the stores once they are
//! open.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use cairn_types::{Randomness, Timestamp, VolumeId};
use cairn_vfs::control::Usage;

use crate::archives::{Archives, identity};
use crate::assembly::Stores;
use crate::config::Config;
use crate::control::{Control, Draining};
use crate::data_directory::HandleSecret;
use crate::directories::Directories;
use crate::endpoints::Endpoints;
use crate::operations::Operations;
use crate::rpc::tcp::TcpMetrics;

/// How far the daemon is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Opening the stores.
    Starting,
    /// Answering.
    Serving,
    /// Finishing what was begun.
    Stopping,
}

/// Something that must hold for the daemon to be ready.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Condition {
    /// Its name.
    pub name: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// What was found; what to do, if it does not hold.
    pub message: String,
}

/// The shared state of the daemon.
#[derive(Debug)]
pub struct Node {
    /// What holds.
    pub config: Config,
    /// Where it listens.
    pub endpoints: Endpoints,
    /// When it started.
    pub started: Timestamp,
    /// Long work.
    pub operations: Arc<Operations>,
    /// Names this process: 32 random hexadecimal digits.
    pub instance: String,
    /// Names the data directory: 32 hexadecimal digits.
    pub identity: String,
    /// Whether the node takes nothing new on.
    pub draining: Arc<Draining>,
    /// What is counted of RPC over TCP.
    pub rpc_tcp: Arc<TcpMetrics>,
    secret: HandleSecret,
    started_at: Instant,
    phase: AtomicU8,
    stores: OnceLock<Arc<Stores>>,
    archives: OnceLock<Arc<Archives>>,
    control: OnceLock<Arc<Control>>,
    directories: OnceLock<Arc<Directories>>,
}

impl Node {
    /// A daemon that is starting.
    pub fn new(
        config: Config,
        endpoints: Endpoints,
        started: Timestamp,
        operations: Arc<Operations>,
        secret: &HandleSecret,
        randomness: &dyn Randomness,
    ) -> Self {
        let mut instance = [0; 16];
        randomness.fill(&mut instance);
        Node {
            instance: hexadecimal(&instance),
            identity: hexadecimal(&identity::node(secret)),
            draining: Arc::default(),
            rpc_tcp: Arc::default(),
            secret: secret.clone(),
            config,
            endpoints,
            started,
            operations,
            started_at: Instant::now(),
            phase: AtomicU8::new(Phase::Starting as u8),
            stores: OnceLock::new(),
            archives: OnceLock::new(),
            control: OnceLock::new(),
            directories: OnceLock::new(),
        }
    }

    /// How long it has run.
    pub fn uptime(&self) -> Duration {
        self.started_at.elapsed()
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Stopping,
        }
    }

    /// Says how far it is.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// The stores, once they are open.
    pub fn stores(&self) -> Option<&Arc<Stores>> {
        self.stores.get()
    }

    /// Says that the stores are open. Only the first call has an effect.
    pub fn set_stores(&self, stores: Arc<Stores>) {
        // A second set of stores cannot exist: the data directory is locked.
        let _ = self.stores.set(stores);
    }

    /// The archives, once the stores are open.
    pub fn archives(&self) -> Option<&Arc<Archives>> {
        self.archives.get()
    }

    /// Says that archives can be asked for. Only the first call has an effect.
    pub fn set_archives(&self, archives: Arc<Archives>) {
        let _ = self.archives.set(archives);
    }

    /// What is done for controllers, once the stores are open.
    pub fn control(&self) -> Option<&Arc<Control>> {
        self.control.get()
    }

    /// Says that controllers can be answered. Only the first call has an effect.
    pub fn set_control(&self, control: Arc<Control>) {
        let _ = self.control.set(control);
    }

    /// What it is called.
    pub fn name(&self) -> String {
        self.config.node_name.clone().unwrap_or_else(identity::host)
    }

    /// The identity of a workspace: 32 hexadecimal digits, of no other workspace anywhere.
    pub fn workspace_id(&self, volume: VolumeId) -> String {
        hexadecimal(&identity::origin(&self.secret, volume)[..16])
    }

    /// The plain directories, once what is remembered of them was read.
    pub fn directories(&self) -> Option<&Arc<Directories>> {
        self.directories.get()
    }

    /// Says that plain directories can be asked for. Only the first call has an effect.
    pub fn set_directories(&self, directories: Arc<Directories>) {
        let _ = self.directories.set(directories);
    }

    /// What must hold for it to be ready, in a fixed order, with the usage that was found on the way. May read from disk.
    pub fn conditions(&self) -> (Vec<Condition>, Option<Usage>) {
        let phase = self.phase();
        let serving = Condition {
            name: "serving",
            holds: phase == Phase::Serving && !self.draining.is_wanted(),
            message: match phase {
                Phase::Starting => "opening the stores".to_owned(),
                Phase::Serving if self.draining.is_wanted() => {
                    "drained: clients wait until the daemon is restarted, or taken into service again"
                        .to_owned()
                }
                Phase::Serving => "answering requests".to_owned(),
                Phase::Stopping => "stopping".to_owned(),
            },
        };
        let Some(stores) = self.stores() else {
            let unknown = |name| Condition {
                name,
                holds: false,
                message: "the stores are not open yet".to_owned(),
            };
            let conditions = vec![
                unknown("stores_open"),
                unknown("stores_healthy"),
                unknown("disk_space"),
                serving,
            ];
            return (conditions, None);
        };
        let open = Condition {
            name: "stores_open",
            holds: true,
            message: "open".to_owned(),
        };
        let usage = stores.usage();
        let health = stores
            .health()
            .and(usage.as_ref().map(|_| ()).map_err(ToString::to_string));
        let healthy = Condition {
            name: "stores_healthy",
            holds: health.is_ok(),
            message: health.err().unwrap_or_else(|| "no store has failed".to_owned()),
        };
        let disk = match &usage {
            Ok(usage) => disk_space(usage, stores.has_room()),
            Err(_) => Condition {
                name: "disk_space",
                holds: false,
                message: "unknown".to_owned(),
            },
        };
        (vec![open, healthy, disk, serving], usage.ok())
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The stores look at the disk now and then; `has_room` is what they go by.
fn disk_space(usage: &Usage, has_room: bool) -> Condition {
    let (free, reserve) = (usage.disk_free_bytes, usage.disk_reserve_bytes);
    let holds = has_room && free >= reserve;
    let message = if holds {
        format!("{free} bytes free, {reserve} reserved")
    } else {
        format!("{free} bytes free, with a reserve of {reserve}: changes are refused until space is freed")
    };
    Condition {
        name: "disk_space",
        holds,
        message,
    }
}

#[cfg(test)]
mod tests {
    use cairn_vfs::control::Usage;

    use super::disk_space;

    #[test]
    fn the_reserve_itself_is_enough() {
        let usage = |free| Usage {
            disk_free_bytes: free,
            disk_reserve_bytes: 100,
            ..Usage::default()
        };
        assert!(disk_space(&usage(100), true).holds);
        assert!(!disk_space(&usage(100), false).holds);
        let full = disk_space(&usage(99), true);
        assert!(!full.holds && full.message.contains("until space is freed"));
    }
}
