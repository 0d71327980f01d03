//! Leader election by a Lease (coordination.k8s.io/v1): one process writes, the others keep their caches warm.
//!
//! Invariants:
//!
//! - Every term has a *generation* of its own (`leaseTransitions`), greater than all before: also when the same process holds the lease again.
//!   It travels with every request to a daemon, which refuses what a deposed leader still sends.
//! - A holder that could not renew stops before anybody else may take over ([`LeaseSettings::renew_deadline`] is shorter than
//!   [`LeaseSettings::duration`]). Time is measured on the monotonic clock of this machine: clocks of machines are not compared.
//! - Every write of the Lease is of the version that was read.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_types::Clock;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::clock;

/// How a lease is held.
#[derive(Debug, Clone)]
pub struct LeaseSettings {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who we are: unique per process.
    pub identity: String,
    /// How long a lease holds that is not renewed.
    pub duration: Duration,
    /// How long the holder tries to renew before it stops.
    pub renew_deadline: Duration,
    /// How often the holder renews, and others look.
    pub retry: Duration,
}

impl LeaseSettings {
    /// 30 s, renewed every 5 s; a holder that cannot renew stops after 20 s.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        LeaseSettings {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            duration: Duration::from_secs(30),
            renew_deadline: Duration::from_secs(20),
            retry: Duration::from_secs(5),
        }
    }
}

/// What is known of the leadership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseState {
    /// The Lease has not been read yet.
    Unknown,
    /// Somebody else holds it, or nobody.
    Standby {
        /// Who, if anybody does.
        holder: Option<String>,
    },
    /// We hold it.
    Leading {
        /// The generation of our term.
        generation: u64,
    },
}

/// Whether this process leads, readable from everywhere without waiting.
#[derive(Debug, Clone)]
pub struct Leadership {
    /// The generation; 0: we do not lead.
    generation: Arc<AtomicU64>,
}

impl Leadership {
    /// Nobody leads yet.
    pub fn none() -> Self {
        Leadership {
            generation: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Leads without a lease, as this generation: for the one process of an installation that has no second one, and for tests.
    pub fn alone(generation: u64) -> Self {
        Leadership {
            generation: Arc::new(AtomicU64::new(generation.max(1))),
        }
    }

    /// Whether this process may write.
    pub fn is_held(&self) -> bool {
        self.generation() > 0
    }

    /// The generation of our term; 0 if we do not lead.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn set(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
    }
}

/// Takes part in the election of one Lease.
pub struct Elector {
    api: Api<Lease>,
    settings: LeaseSettings,
    clock: Arc<dyn Clock>,
    leadership: Leadership,
    state: watch::Sender<LeaseState>,
    /// A daemon has seen a greater generation than ours: the next term begins above it.
    at_least: AtomicU64,
}

impl Debug for Elector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elector")
            .field("identity", &self.settings.identity)
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}

/// What was read of the Lease, and when it was first seen like this.
struct Seen {
    lease: Lease,
    since: Instant,
}

impl Elector {
    /// Takes part as `settings.identity`; nothing happens until [`Elector::run`].
    pub fn new(
        client: Client,
        settings: LeaseSettings,
        clock: Arc<dyn Clock>,
        leadership: Leadership,
    ) -> Self {
        Elector {
            api: Api::namespaced(client, &settings.namespace),
            settings,
            clock,
            leadership,
            state: watch::Sender::new(LeaseState::Unknown),
            at_least: AtomicU64::new(0),
        }
    }

    /// Follows what is known of the leadership.
    pub fn state(&self) -> watch::Receiver<LeaseState> {
        self.state.subscribe()
    }

    /// A daemon refused our generation because it has seen `greatest`, which happens after somebody deleted the Lease. While we hold the lease, the
    /// generation is raised above it with the next renewal.
    pub fn raise(&self, greatest: u64) {
        self.at_least
            .fetch_max(greatest.saturating_add(1), Ordering::AcqRel);
    }

    /// Takes part until the future is dropped. Call [`Elector::release`] afterwards.
    pub async fn run(&self) {
        let mut seen: Option<Seen> = None;
        let mut renewed = Instant::now();
        loop {
            let step = tokio::time::timeout(self.settings.retry * 2, self.step(&mut seen)).await;
            match step {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(lease = self.settings.name, %error, "the lease cannot be read or written");
                }
                Err(_) => tracing::warn!(lease = self.settings.name, "the API server does not answer"),
            }
            if self.leadership.is_held() && renewed.elapsed() >= self.settings.renew_deadline {
                tracing::error!(
                    lease = self.settings.name,
                    "the lease could not be renewed in time: another process may take over"
                );
                self.stand_by(None);
            }
            // A holder that fails tries again soon: its time runs.
            let wait = match self.leadership.is_held() && renewed.elapsed() > self.settings.retry {
                true => self.settings.retry / 4,
                false => self.settings.retry,
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// One look, and one write if one is due. Answers whether we hold the lease now, by an answer of the API server.
    async fn step(&self, seen: &mut Option<Seen>) -> Result<bool, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.settings.name).await? else {
            let generation = self.at_least.load(Ordering::Acquire).max(1);
            let mut lease = Lease {
                spec: Some(self.spec(generation, None)),
                ..Lease::default()
            };
            lease.metadata.name = Some(self.settings.name.clone());
            return match self.api.create(&PostParams::default(), &lease).await {
                Ok(created) => {
                    self.lead(generation);
                    *seen = Some(Seen::now(created));
                    Ok(true)
                }
                Err(error) if is_conflict(&error) => Ok(false),
                Err(error) => Err(error),
            };
        };
        let is_unchanged = seen
            .as_ref()
            .is_some_and(|seen| seen.lease.metadata.resource_version == lease.metadata.resource_version);
        if !is_unchanged {
            *seen = Some(Seen::now(lease.clone()));
        }
        let since = seen.as_ref().map(|seen| seen.since.elapsed()).unwrap_or_default();
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty());
        let transitions = u64::try_from(spec.lease_transitions.unwrap_or(0)).unwrap_or(0);
        let is_ours = holder.as_deref() == Some(self.settings.identity.as_str());
        let least = self.at_least.load(Ordering::Acquire);
        // Ours only while we know that we lead: a Lease in our name from before is a term that has ended.
        if is_ours && self.leadership.generation() == transitions && transitions > 0 {
            let generation = transitions.max(least);
            let written = self
                .write(&lease, self.spec(generation, spec.acquire_time))
                .await?;
            return match written {
                Some(lease) => {
                    *seen = Some(Seen::now(lease));
                    self.lead(generation);
                    Ok(true)
                }
                None => Ok(false),
            };
        }
        let lasts = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs)
            .unwrap_or(self.settings.duration)
            .max(self.settings.duration);
        if holder.is_some() && !is_ours && since < lasts {
            self.stand_by(holder);
            return Ok(false);
        }
        let generation = (transitions + 1).max(least);
        match self.write(&lease, self.spec(generation, None)).await? {
            Some(lease) => {
                *seen = Some(Seen::now(lease));
                self.lead(generation);
                Ok(true)
            }
            None => {
                self.stand_by(None);
                Ok(false)
            }
        }
    }

    /// Writes the Lease if it is still as it was read; nothing if it is not.
    async fn write(&self, read: &Lease, spec: LeaseSpec) -> Result<Option<Lease>, kube::Error> {
        let mut lease = read.clone();
        lease.spec = Some(spec);
        match self
            .api
            .replace(&self.settings.name, &PostParams::default(), &lease)
            .await
        {
            Ok(lease) => Ok(Some(lease)),
            Err(error) if is_conflict(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn spec(
        &self,
        generation: u64,
        acquired: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime>,
    ) -> LeaseSpec {
        let now = clock::micro_time(self.clock.now());
        LeaseSpec {
            holder_identity: Some(self.settings.identity.clone()),
            lease_duration_seconds: Some(
                i32::try_from(self.settings.duration.as_secs().max(1)).unwrap_or(i32::MAX),
            ),
            acquire_time: acquired.or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(i32::try_from(generation).unwrap_or(i32::MAX)),
            ..LeaseSpec::default()
        }
    }

    fn lead(&self, generation: u64) {
        if self.leadership.generation() != generation {
            tracing::info!(
                lease = self.settings.name,
                generation,
                "this process leads from now on"
            );
        }
        self.leadership.set(generation);
        self.tell(LeaseState::Leading { generation });
    }

    fn stand_by(&self, holder: Option<String>) {
        if self.leadership.is_held() {
            tracing::info!(lease = self.settings.name, "this process does not lead any more");
        }
        self.leadership.set(0);
        self.tell(LeaseState::Standby { holder });
    }

    fn tell(&self, state: LeaseState) {
        self.state.send_if_modified(|known| {
            let is_new = *known != state;
            *known = state;
            is_new
        });
    }

    /// Gives the lease back, if we hold it, so that another process need not wait for its end. To be called after the last write.
    pub async fn release(&self) {
        let generation = self.leadership.generation();
        self.stand_by(None);
        if generation == 0 {
            return;
        }
        let result = async {
            let Some(lease) = self.api.get_opt(&self.settings.name).await? else {
                return Ok(());
            };
            let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
            if holder.as_deref() != Some(self.settings.identity.as_str()) {
                return Ok(());
            }
            let patch = json!({
                "metadata": { "resourceVersion": lease.metadata.resource_version },
                "spec": { "holderIdentity": "" },
            });
            let params = PatchParams::default();
            self.api
                .patch(&self.settings.name, &params, &Patch::Merge(&patch))
                .await
                .map(drop)
        };
        match tokio::time::timeout(self.settings.retry, result).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease was not given back: it ends by itself");
            }
            Err(_) => tracing::warn!("the lease was not given back in time: it ends by itself"),
        }
    }
}

impl Seen {
    fn now(lease: Lease) -> Self {
        Seen {
            lease,
            since: Instant::now(),
        }
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}
