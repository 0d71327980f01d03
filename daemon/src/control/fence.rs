//! Who may lead: of every cluster only those who lead with the greatest generation that was ever seen.
//!
//! Invariants: a generation is durable before any request of it has an effect. Once [`Fences::enter`] has let a generation through,
//! no request of a smaller one is being carried out or ever will be.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cairn_vfs::Volumes;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Refused;

/// Longest name of a cluster in bytes.
pub const CLUSTER_BYTES_MAX: usize = 128;
/// Most clusters whose generations are kept. A node serves one, or a few in its life.
pub const CLUSTERS_MAX: usize = 64;

/// By whom a request is led, and for which process it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The cluster.
    pub cluster: String,
    /// The generation of the leadership.
    pub generation: u64,
    /// The instance that is meant; empty: any.
    pub instance: String,
}

/// The greatest generations.
pub struct Fences {
    volumes: Arc<Volumes>,
    instance: String,
    /// Read while a request is carried out, written while a generation is raised.
    greatest: RwLock<BTreeMap<String, u64>>,
}

impl fmt::Debug for Fences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fences")
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// Held while a request is carried out: no generation is raised meanwhile.
#[derive(Debug)]
#[must_use]
pub struct Gate<'a>(
    #[allow(dead_code, reason = "held for its drop")] RwLockReadGuard<'a, BTreeMap<String, u64>>,
);

impl Fences {
    /// The generations that the volumes keep.
    ///
    /// # Errors
    /// [`Refused::Volumes`].
    pub fn open(volumes: Arc<Volumes>, instance: String) -> Result<Self, Refused> {
        let greatest = volumes.generations()?.into_iter().collect();
        Ok(Fences {
            volumes,
            instance,
            greatest: RwLock::new(greatest),
        })
    }

    /// This process.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Lets a request through, after its generation is durable. Waits for requests of smaller generations to end.
    ///
    /// # Errors
    /// `FenceInvalid`, `InstanceChanged`, `Fenced`, `TooManyClusters`, `Volumes`.
    pub fn enter(&self, fence: &Fence) -> Result<Gate<'_>, Refused> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
        let cluster = &fence.cluster;
        if !(1..=CLUSTER_BYTES_MAX).contains(&cluster.len()) || !cluster.bytes().all(plain) {
            return Err(Refused::FenceInvalid { field: "cluster" });
        }
        if !fence.instance.is_empty() && fence.instance != self.instance {
            return Err(Refused::InstanceChanged {
                expected: fence.instance.chars().take(64).collect(),
                instance: self.instance.clone(),
            });
        }
        let greatest = self.greatest.read();
        match greatest.get(cluster) {
            Some(known) if *known == fence.generation => return Ok(Gate(greatest)),
            Some(known) if *known > fence.generation => return Err(fenced(fence, *known)),
            Some(_) | None => drop(greatest),
        }
        let mut greatest = self.greatest.write();
        match greatest.get(cluster) {
            Some(known) if *known > fence.generation => return Err(fenced(fence, *known)),
            Some(known) if *known == fence.generation => {}
            None if greatest.len() >= CLUSTERS_MAX => {
                return Err(Refused::TooManyClusters { limit: CLUSTERS_MAX });
            }
            Some(_) | None => {
                self.volumes.put_generation(cluster, fence.generation)?;
                greatest.insert(cluster.clone(), fence.generation);
                tracing::info!(cluster, generation = fence.generation, "a new generation leads");
            }
        }
        Ok(Gate(RwLockWriteGuard::downgrade(greatest)))
    }
}

fn fenced(fence: &Fence, greatest: u64) -> Refused {
    tracing::warn!(
        cluster = fence.cluster,
        generation = fence.generation,
        greatest,
        "refused a request of a generation that is over"
    );
    Refused::Fenced {
        cluster: fence.cluster.clone(),
        generation: fence.generation,
        greatest,
    }
}
