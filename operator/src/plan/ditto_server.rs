//! What is to be done for a DittoServer: its children, the size of its claim, its shares, its end.
//!
//! Order: finalizer; configuration and Services before the pod that needs them; the claim; what guards the pod; shares, which are asked of the running daemon; what nobody
//! wants any more. A specification that cannot be honoured (more replicas than one) changes nothing of what is there.

mod deletion;
mod fields;
mod shares;
mod summary;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_api::proto;
use cairn_crds::conditions as types;
use cairn_crds::validation::quantity_bytes;
use cairn_crds::{DittoServer, DittoServerStatus, names};
use cairn_types::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;

use super::{Again, Child, Decision, Failure, FailureKind};
use crate::children::ditto::config::{self, Recorded};
use crate::children::ditto::monitor::{self, ServiceMonitor};
use crate::children::ditto::{self, DittoSettings, disruption, network_policy, services, stateful_set};
use crate::runtime::cache;
use crate::runtime::conditions::{Conditions, Holds};

pub use fields::unsupported;

/// Condition: whether what the server holds is also in an object store.
pub const DATA_PROTECTED: &str = "DataProtected";
/// Reason: the pod is on a node, and something that is mounted into it is not there.
pub const VOLUMES_NOT_MOUNTED: &str = "VolumesNotMounted";
/// How long a pod may take to have its volumes before that is told, in seconds.
pub const MOUNTING_SECONDS: i64 = 60;
/// How often a server that is not ready is looked at, in seconds: what keeps a pod from starting changes no object that is watched.
pub const LOOK_SECONDS: u64 = 15;

/// A child that is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// The configuration.
    Config(Box<ConfigMap>),
    /// The StatefulSet's Service.
    Headless(Box<Service>),
    /// The Service of NFS.
    Nfs(Box<Service>),
    /// The StatefulSet.
    Set(Box<StatefulSet>),
    /// The budget.
    Budget(Box<PodDisruptionBudget>),
    /// Who can reach it.
    Policy(Box<NetworkPolicy>),
    /// The Service of metrics.
    Metrics(Box<Service>),
    /// The ServiceMonitor.
    Monitor(Box<ServiceMonitor>),
}

/// Which child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// [`Object::Config`]
    Config,
    /// [`Object::Headless`]
    Headless,
    /// [`Object::Nfs`]
    Nfs,
    /// [`Object::Set`]
    Set,
    /// [`Object::Budget`]
    Budget,
    /// [`Object::Policy`]
    Policy,
    /// [`Object::Metrics`]
    Metrics,
    /// [`Object::Monitor`]
    Monitor,
}

impl Object {
    /// Which child it is.
    pub fn role(&self) -> Role {
        match self {
            Object::Config(_) => Role::Config,
            Object::Headless(_) => Role::Headless,
            Object::Nfs(_) => Role::Nfs,
            Object::Set(_) => Role::Set,
            Object::Budget(_) => Role::Budget,
            Object::Policy(_) => Role::Policy,
            Object::Metrics(_) => Role::Metrics,
            Object::Monitor(_) => Role::Monitor,
        }
    }
}

/// What a pod says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: Option<std::net::IpAddr>,
    /// Whether it is ready.
    pub is_ready: bool,
    /// Why its container does not run: reason and message of the kubelet, or of the scheduler.
    pub trouble: Option<(String, String)>,
    /// How often its container was started again.
    pub restarts: i32,
}

/// What there is.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The DittoServer.
    pub server: Arc<DittoServer>,
    /// The time.
    pub now: Timestamp,
    /// Settings.
    pub settings: DittoSettings,
    /// Its configuration.
    pub config: Child<ConfigMap>,
    /// Its StatefulSet.
    pub set: Child<StatefulSet>,
    /// The Service of NFS.
    pub service: Child<Service>,
    /// Its claim.
    pub claim: Child<PersistentVolumeClaim>,
    /// Its pod, as far as somebody has looked.
    pub pod: Option<PodView>,
    /// The class that it names is not there.
    pub class_is_missing: bool,
    /// Children that are there though they may not be wanted.
    pub present: BTreeSet<Role>,
    /// Whether the cluster knows ServiceMonitors.
    pub has_monitors: bool,
    /// What its daemon said of itself.
    pub info: Option<Arc<proto::GetInfoResponse>>,
    /// What its daemon said of shares in this pass, by name; or why it refused.
    pub answers: BTreeMap<String, Result<Arc<proto::ManagedWorkspace>, Failure>>,
    /// What this pass has done already.
    pub done: BTreeSet<Done>,
    /// The step that this pass could not take, and why.
    pub failure: Option<(Done, Failure)>,
    /// Why the certificate could not be kept in this pass.
    pub certificate: Option<Failure>,
}

/// A step that is done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Done {
    /// [`Step::AddFinalizer`]
    Finalizer,
    /// [`Step::Apply`]
    Applied(Role),
    /// [`Step::Prune`]
    Pruned(Role),
    /// [`Step::KeepCertificate`]; also when that failed, which keeps nobody from what does not need it
    Certificate,
    /// [`Step::GrowClaim`]
    Grown,
    /// [`Step::Ask`]
    Asked,
    /// [`Step::EnsureShare`]
    Share(String),
    /// [`Step::Stop`]
    Stopped,
    /// [`Step::DeleteClaim`]
    ClaimGone,
    /// [`Step::RemoveFinalizer`]
    NoFinalizer,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Add the finalizer.
    AddFinalizer,
    /// Keep the certificate of the servers of the namespace.
    KeepCertificate,
    /// Keep a child.
    Apply(Object),
    /// Remove a child that nobody wants any more.
    Prune(Role),
    /// Let the claim ask for more.
    GrowClaim {
        /// How much: a quantity.
        size: String,
    },
    /// Ask the daemon who it is.
    Ask,
    /// Ask the daemon for a share.
    EnsureShare {
        /// Its name.
        share: String,
        /// What is asked.
        request: Box<proto::EnsureWorkspaceRequest>,
    },
    /// Remove the StatefulSet, so that the daemon ends in order.
    Stop,
    /// Remove the claim, with all data.
    DeleteClaim,
    /// Remove the finalizer.
    RemoveFinalizer,
}

impl Step {
    /// The step as one that is done or not.
    pub fn done(&self) -> Done {
        match self {
            Step::AddFinalizer => Done::Finalizer,
            Step::KeepCertificate => Done::Certificate,
            Step::Apply(object) => Done::Applied(object.role()),
            Step::Prune(role) => Done::Pruned(*role),
            Step::GrowClaim { .. } => Done::Grown,
            Step::Ask => Done::Asked,
            Step::EnsureShare { share, .. } => Done::Share(share.clone()),
            Step::Stop => Done::Stopped,
            Step::DeleteClaim => Done::ClaimGone,
            Step::RemoveFinalizer => Done::NoFinalizer,
        }
    }
}

/// What was decided for a DittoServer.
pub type DittoDecision = Decision<DittoServerStatus, Step>;

pub(super) struct Draft<'a> {
    observed: &'a Observed,
    status: DittoServerStatus,
    conditions: Conditions,
    again: Again,
}

/// Decides.
pub fn decide(observed: &Observed) -> DittoDecision {
    let server = observed.server.as_ref();
    let old = server.status.clone().unwrap_or_default();
    let generation = cache::generation(server);
    let mut draft = Draft {
        observed,
        conditions: Conditions::new(&old.conditions, generation, observed.now),
        status: old,
        again: Again::OnChange,
    };
    draft.status.observed_generation = Some(generation);
    if cache::is_terminating(server) {
        return deletion::decide(draft);
    }
    if !cache::has_finalizer(server, names::DITTO_FINALIZER)
        && !server.spec.paused
        && !draft.is_done(&Done::Finalizer)
    {
        return draft.step(Step::AddFinalizer);
    }
    let supported = fields::tell(&mut draft);
    summary::observe(&mut draft);
    if server.spec.paused {
        draft.conditions.set(
            types::PROGRESSING,
            false,
            "Paused",
            "spec.paused is set: nothing is changed; remove it to go on",
        );
        return draft.finish();
    }
    if !supported {
        return draft.finish();
    }
    match next(&mut draft) {
        Some(step) => draft.step(step),
        None => draft.finish(),
    }
}

fn next(draft: &mut Draft<'_>) -> Option<Step> {
    let observed = draft.observed;
    let server = observed.server.as_ref();
    let record = shares::record(observed);
    let file = config::file(server, &observed.settings);
    let hash = config::hash(&file);
    draft.status.config_hash = Some(hash.clone());
    if let Some(step) = certificate(draft) {
        return Some(step);
    }
    let wanted = wanted(observed, file, &hash, &record);
    // Everything that can be applied is, though something before it is refused: but the pod not without its configuration.
    for object in wanted {
        let role = object.role();
        if draft.failure(&Done::Applied(role)).is_some() {
            return None;
        }
        if !draft.is_done(&Done::Applied(role)) {
            return Some(Step::Apply(object));
        }
    }
    for role in [Role::Metrics, Role::Policy, Role::Monitor] {
        let is_wanted = match role {
            Role::Metrics => services::metrics(server).is_some(),
            Role::Policy => network_policy::policy(server, &observed.settings).is_some(),
            _ => monitor::is_wanted(server),
        };
        if !is_wanted && observed.present.contains(&role) && !draft.is_done(&Done::Pruned(role)) {
            return Some(Step::Prune(role));
        }
    }
    if let Some(step) = grow(draft) {
        return Some(step);
    }
    shares::step(draft, &record)
}

/// The certificate, which a pod cannot start without, and which is replaced in time while it runs.
fn certificate(draft: &mut Draft<'_>) -> Option<Step> {
    let observed = draft.observed;
    let server = observed.server.as_ref();
    if !ditto::keeps_certificate(server, &observed.settings) {
        return None;
    }
    if !draft.is_done(&Done::Certificate) {
        return Some(Step::KeepCertificate);
    }
    let failure = observed.certificate.clone()?;
    draft.conditions.set(
        types::CONFIG_READY,
        false,
        "CertificateNotKept",
        format!(
            "the Secret {} could not be brought up to date: {}; the operator needs the ClusterRole cairn-operator-ditto-certificates, or name a Secret of your own in \
             spec.tls.secretName",
            ditto::certificate(server, &observed.settings),
            failure.message
        ),
    );
    draft.again = draft.again.or(failure.again());
    None
}

/// The children, in order.
fn wanted(observed: &Observed, file: String, hash: &str, record: &BTreeMap<String, Recorded>) -> Vec<Object> {
    let server = observed.server.as_ref();
    let settings = &observed.settings;
    let set = stateful_set::stateful_set(server, settings, observed.set.get(), hash);
    let policy = network_policy::policy(server, settings);
    let monitor = monitor::monitor(server).filter(|_| observed.has_monitors);
    // The policy before the pod: it is never open, not even for a moment.
    [
        Some(Object::Config(Box::new(config::config_map(server, file, record)))),
        policy.map(|policy| Object::Policy(Box::new(policy))),
        Some(Object::Headless(Box::new(services::headless(server)))),
        Some(Object::Nfs(Box::new(services::nfs(server)))),
        Some(Object::Budget(Box::new(disruption::budget(server)))),
        set.map(|set| Object::Set(Box::new(set))),
        services::metrics(server).map(|service| Object::Metrics(Box::new(service))),
        monitor.map(|monitor| Object::Monitor(Box::new(monitor))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The claim asks for what the specification has, if that is more.
fn grow(draft: &mut Draft<'_>) -> Option<Step> {
    let observed = draft.observed;
    let (size, bytes) = stateful_set::wanted_size(&observed.server)?;
    let claim = observed.claim.get()?;
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    let now = requests.get("storage")?;
    let has = quantity_bytes(&now.0)?;
    if bytes < has {
        draft.conditions.set(
            types::CONFIG_READY,
            false,
            "ShrinkRefused",
            format!(
                "the claim {} has {} and the sizes in spec.storage are {size} together: claims only grow, give at least {}",
                claim.name_any(),
                now.0,
                now.0
            ),
        );
        return None;
    }
    if let Some(failure) = draft.failure(&Done::Grown).cloned() {
        draft.conditions.set(
            types::CONFIG_READY,
            false,
            "CannotGrow",
            format!(
                "the claim {} cannot grow from {} to {size}: {}. See whether its class has allowVolumeExpansion; the server goes on with what it has",
                claim.name_any(),
                now.0,
                failure.message
            ),
        );
        draft.again = draft.again.or(failure.again());
        return None;
    }
    (bytes > has && !draft.is_done(&Done::Grown)).then_some(Step::GrowClaim { size })
}

impl Draft<'_> {
    fn failure(&self, done: &Done) -> Option<&Failure> {
        let failure = self.observed.failure.as_ref();
        failure
            .filter(|(step, _)| step == done)
            .map(|(_, failure)| failure)
    }

    fn is_done(&self, done: &Done) -> bool {
        self.observed.done.contains(done)
    }

    fn step(self, step: Step) -> DittoDecision {
        let mut decision = self.finish();
        decision.step = Some(step);
        decision
    }

    fn finish(mut self) -> DittoDecision {
        summary::summarize(&mut self);
        self.status.conditions = self.conditions.finish();
        Decision {
            status: self.status,
            step: None,
            record_first: false,
            again: self.again,
        }
    }
}

/// How a failure shows in a condition.
fn holds(failure: &Failure) -> Holds {
    match failure.kind {
        FailureKind::Away => Holds::Unknown,
        FailureKind::Again | FailureKind::Refused => Holds::False,
    }
}
