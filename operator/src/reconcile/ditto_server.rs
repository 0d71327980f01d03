//! Takes the steps that [`crate::plan::ditto_server`] decides.
//!
//! Pods, classes and the kinds that the cluster knows are looked up when something depends on them, not watched. People's Secrets are never read: the kubelet
//! tells by the pod when one is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cairn_crds::DittoServer;
use cairn_crds::names;
use cairn_types::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use parking_lot::Mutex;
use serde_json::json;

use super::{Context, Taken, next, taken};
use crate::children::ditto::monitor::{self, ServiceMonitor};
use crate::children::ditto::{
    DittoSettings, RPC_PORT, SERVER, claim_name, config_name, daemon, host, keeps_certificate, metrics_name,
    stateful_set,
};
use crate::daemons::Address;
use crate::plan::ditto_server::{
    Done, MOUNTING_SECONDS, Object, Observed, PodView, Role, Step, VOLUMES_NOT_MOUNTED, decide,
};
use crate::plan::{Child, Failure, FailureKind};
use crate::runtime::api::Kind;
use crate::runtime::apply;
use crate::runtime::cache::{self, Cache, Key};
use crate::runtime::clock::timestamp;
use crate::runtime::controller::{Next, Reconciler};
use crate::runtime::error::ReconcileError;
use crate::runtime::tls::secrets::Signing;
use crate::runtime::tls::servers::Servers;

/// Most steps of one pass: every child, every share that is there or was withdrawn.
pub const STEPS_MAX: usize = 128;
/// How long an answer of the API server on which kinds it knows is believed, in seconds.
const KINDS_SECONDS: i64 = 600;

/// Reconciles DittoServers.
pub struct DittoServerReconciler {
    context: Arc<Context>,
    settings: DittoSettings,
    /// Never watched: the cluster may not know the kind.
    monitors: Cache<ServiceMonitor>,
    has_monitors: Mutex<Option<(Timestamp, bool)>>,
    /// Keeps their certificates, if the operator signs.
    certificates: Option<Servers>,
}

impl std::fmt::Debug for DittoServerReconciler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DittoServerReconciler")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// What one pass has learned.
#[derive(Default)]
struct Pass {
    done: BTreeSet<Done>,
    failure: Option<(Done, Failure)>,
    error: Option<ReconcileError>,
    pod: Option<Option<PodView>>,
    class_is_missing: Option<bool>,
    certificate: Option<Failure>,
    answers: BTreeMap<String, Result<Arc<cairn_api::proto::ManagedWorkspace>, Failure>>,
}

impl DittoServerReconciler {
    /// Nothing has been looked up yet. `signing`: the operator's authority, if it keeps one.
    pub fn new(context: Arc<Context>, settings: DittoSettings, signing: Option<Signing>) -> Self {
        DittoServerReconciler {
            certificates: signing.map(|signing| Servers::new(context.dittos.clone(), signing)),
            context,
            settings,
            monitors: Cache::new(&[]),
            has_monitors: Mutex::new(None),
        }
    }

    async fn run(&self, key: &Key) -> Result<Next, ReconcileError> {
        let context = &self.context;
        let mut pass = Pass::default();
        for _ in 0..STEPS_MAX {
            let Some(server) = context.caches.dittos.get(key) else {
                context.fleet.locate(&key.to_string(), None);
                return Ok(Next::OnChange);
            };
            let observed = self.gather(&server, &mut pass).await?;
            let decision = decide(&observed);
            let Some(step) = decision.step else {
                let empty = Vec::new();
                let old = server.status.as_ref();
                let conditions = old.map(|status| &status.conditions).unwrap_or(&empty);
                context
                    .record(
                        &context.dittos,
                        &context.caches.dittos,
                        server.as_ref(),
                        old,
                        &decision.status,
                        (conditions, &decision.status.conditions),
                    )
                    .await?;
                return next(decision.again, pass.error, "DittoServer");
            };
            let done = step.done();
            if step == Step::KeepCertificate {
                self.keep_certificate(&server, &mut pass).await?;
                pass.done.insert(done);
                continue;
            }
            match taken(self.take(&server, step, &mut pass).await)? {
                Taken::Done => {
                    // What was applied may have changed what the pod says.
                    if matches!(done, Done::Applied(Role::Set)) {
                        pass.pod = None;
                    }
                    pass.done.insert(done.clone());
                }
                Taken::Failed(failure, error) => {
                    if let Done::Share(share) = &done {
                        pass.answers.insert(share.clone(), Err(failure.clone()));
                    }
                    pass.failure = Some((done.clone(), failure));
                    pass.error = Some(error);
                }
            }
            if done == Done::NoFinalizer && pass.failure.is_none() {
                context.fleet.locate(&daemon(&server), None);
                return Ok(Next::OnChange);
            }
        }
        Err(ReconcileError::TooManySteps { limit: STEPS_MAX })
    }

    async fn gather(&self, server: &Arc<DittoServer>, pass: &mut Pass) -> Result<Observed, ReconcileError> {
        let caches = &self.context.caches;
        let name = server.name_any();
        let key = |name: String| Key::new(server.namespace().unwrap_or_default(), name);
        let set = own(server, caches.sets.get(&key(name.clone())));
        let claim = caches.claims.get(&key(claim_name(&name)));
        let claim = claim.filter(|claim| claim.labels().get(SERVER) == Some(&name));
        let pod = match &pass.pod {
            Some(pod) => pod.clone(),
            None => {
                let pod = self.pod(server).await?;
                pass.pod = Some(pod.clone());
                pod
            }
        };
        let class_is_missing = match pass.class_is_missing {
            Some(missing) => missing,
            None => {
                let missing = self.class_is_missing(server, claim.as_deref()).await?;
                pass.class_is_missing = Some(missing);
                missing
            }
        };
        let mut present = BTreeSet::new();
        if own(server, caches.ditto_services.get(&key(metrics_name(&name)))).is_some() {
            present.insert(Role::Metrics);
        }
        if own(server, caches.policies.get(&key(name.clone()))).is_some() {
            present.insert(Role::Policy);
        }
        let has_monitors = self.has_monitors(server).await;
        if self.monitors.get(&key(name.clone())).is_some() {
            present.insert(Role::Monitor);
        }
        let info = self.context.fleet.info(&daemon(server));
        Ok(Observed {
            server: Arc::clone(server),
            now: self.context.now(),
            settings: self.settings.clone(),
            config: child(own(server, caches.configs.get(&key(config_name(&name))))),
            set: child(set),
            service: child(own(server, caches.ditto_services.get(&key(name)))),
            claim: child(claim),
            pod,
            class_is_missing,
            present,
            has_monitors,
            info,
            answers: pass.answers.clone(),
            done: pass.done.clone(),
            failure: pass.failure.clone(),
            certificate: pass.certificate.clone(),
        })
    }

    /// Keeps the certificate of the namespace. What a condition can tell is told, and keeps nobody from the rest.
    async fn keep_certificate(&self, server: &DittoServer, pass: &mut Pass) -> Result<(), ReconcileError> {
        let Some(certificates) = &self.certificates else {
            return Ok(());
        };
        let namespace = server.namespace().unwrap_or_default();
        let all = self.context.caches.dittos.all();
        let mut owners: Vec<OwnerReference> = all
            .iter()
            .filter(|other| other.namespace().as_deref() == Some(&namespace))
            .filter(|other| !cache::is_terminating(other.as_ref()))
            .filter(|other| keeps_certificate(other, &self.settings))
            .filter_map(|other| other.owner_ref(&()))
            .collect();
        owners.sort_by(|a, b| a.uid.cmp(&b.uid));
        let kept = certificates.keep(&namespace, &owners, self.context.now()).await;
        let Err(error) = kept else { return Ok(()) };
        let kind = match &error {
            ReconcileError::Tls(_) => FailureKind::Again,
            error if error.is_refusal() => FailureKind::Refused,
            _ => return Err(error),
        };
        pass.certificate = Some(Failure {
            reason: "CertificateNotKept".to_owned(),
            message: error.chain(),
            kind,
        });
        pass.error = Some(error);
        Ok(())
    }

    /// What the pod says of itself. Also tells where its daemon is.
    async fn pod(&self, server: &DittoServer) -> Result<Option<PodView>, ReconcileError> {
        let namespace = server.namespace().unwrap_or_default();
        let labels = format!(
            "{}={},{SERVER}={}",
            names::MANAGED_BY,
            names::MANAGER,
            server.name_any()
        );
        let pods: Vec<Pod> = self.context.dittos.list(&namespace, &labels).await?;
        let expected = format!("{}-0", server.name_any());
        let pod = pods
            .iter()
            .find(|pod| pod.name_any() == expected)
            .map(|pod| view(pod, self.context.now()));
        let ip = pod.as_ref().filter(|pod| pod.is_ready).and_then(|pod| pod.ip);
        let address = ip.map(|ip| Address {
            ip,
            port: RPC_PORT,
            is_ready: true,
        });
        let at = address.map(|address| (address, host(server)));
        self.context.fleet.locate(&daemon(server), at);
        Ok(pod)
    }

    async fn class_is_missing(
        &self,
        server: &DittoServer,
        claim: Option<&PersistentVolumeClaim>,
    ) -> Result<bool, ReconcileError> {
        let phase = claim.and_then(|claim| claim.status.as_ref()?.phase.as_deref());
        let Some(class) = server.spec.storage.storage_class_name.as_deref() else {
            return Ok(false);
        };
        if class.is_empty() || phase != Some("Pending") {
            return Ok(false);
        }
        let found: Result<Option<StorageClass>, _> = self.context.dittos.get(&Key::cluster(class)).await;
        match found {
            Ok(found) => Ok(found.is_none()),
            // Whoever may not look cannot tell.
            Err(error) if error.is_refusal() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn has_monitors(&self, server: &DittoServer) -> bool {
        if server.spec.metrics.is_none() {
            return false;
        }
        let now = self.context.now();
        if let Some((at, known)) = *self.has_monitors.lock()
            && now.seconds() - at.seconds() < KINDS_SECONDS
        {
            return known;
        }
        let client = self.context.dittos.client();
        let known = match client.list_api_group_resources(monitor::API).await {
            Ok(list) => list.resources.iter().any(|kind| kind.name == "servicemonitors"),
            // The group is not there, or nobody can tell now: without it for a while.
            Err(_) => false,
        };
        *self.has_monitors.lock() = Some((now, known));
        known
    }

    async fn take(
        &self,
        server: &Arc<DittoServer>,
        step: Step,
        pass: &mut Pass,
    ) -> Result<(), ReconcileError> {
        let context = &self.context;
        let (api, caches) = (&context.dittos, &context.caches);
        let key = |name: String| Key::new(server.namespace().unwrap_or_default(), name);
        match step {
            Step::AddFinalizer => {
                api.set_finalizer(&caches.dittos, server.as_ref(), names::DITTO_FINALIZER, true)
                    .await
            }
            Step::RemoveFinalizer => {
                api.set_finalizer(&caches.dittos, server.as_ref(), names::DITTO_FINALIZER, false)
                    .await
            }
            Step::Apply(object) => self.apply(server, object).await,
            // Taken apart from the others: its failure stops none of them.
            Step::KeepCertificate => Ok(()),
            Step::Prune(role) => {
                let name = server.name_any();
                match role {
                    Role::Metrics => {
                        self.remove(server, &caches.ditto_services, &key(metrics_name(&name)))
                            .await
                    }
                    Role::Policy => self.remove(server, &caches.policies, &key(name)).await,
                    Role::Monitor => self.remove(server, &self.monitors, &key(name)).await,
                    // The others are always wanted.
                    Role::Config | Role::Headless | Role::Nfs | Role::Set | Role::Budget => Ok(()),
                }
            }
            Step::GrowClaim { size } => {
                let patch = json!({"spec": {"resources": {"requests": {"storage": size}}}});
                let claim = key(claim_name(&server.name_any()));
                api.merge(Some(&caches.claims), &claim, &patch).await.map(drop)
            }
            Step::Ask => Ok(context.fleet.refresh(&daemon(server)).await.map(drop)?),
            Step::EnsureShare { share, request } => {
                let answer = context.fleet.call(&daemon(server), *request).await?;
                if let Some(managed) = answer.workspace {
                    pass.answers.insert(share, Ok(Arc::new(managed)));
                    return Ok(());
                }
                Err(ReconcileError::Internal {
                    what: format!("the daemon answered without the workspace of share {share}"),
                    source: "the answer is empty".into(),
                })
            }
            Step::Stop => self.remove(server, &caches.sets, &key(server.name_any())).await,
            Step::DeleteClaim => match caches.claims.get(&key(claim_name(&server.name_any()))) {
                Some(claim) => api.delete(claim.as_ref()).await,
                None => Ok(()),
            },
        }
    }

    async fn apply(&self, server: &DittoServer, object: Object) -> Result<(), ReconcileError> {
        let (api, caches) = (&self.context.dittos, &self.context.caches);
        match object {
            Object::Config(object) => keep(api, &caches.configs, server, *object).await,
            Object::Headless(object) | Object::Nfs(object) | Object::Metrics(object) => {
                keep(api, &caches.ditto_services, server, *object).await
            }
            Object::Set(object) => keep(api, &caches.sets, server, *object).await,
            Object::Budget(object) => keep(api, &caches.budgets, server, *object).await,
            Object::Policy(object) => keep(api, &caches.policies, server, *object).await,
            Object::Monitor(object) => keep(api, &self.monitors, server, *object).await,
        }
    }

    async fn remove<K: Kind>(
        &self,
        server: &DittoServer,
        cache: &Cache<K>,
        key: &Key,
    ) -> Result<(), ReconcileError> {
        match own(server, cache.get(key)) {
            Some(found) => {
                self.context.dittos.delete(found.as_ref()).await?;
                // What is not watched is forgotten by hand.
                if !cache.is_synced() {
                    cache.observe_deleted(found.as_ref());
                }
                Ok(())
            }
            None => Ok(()),
        }
    }
}

async fn keep<K: Kind>(
    api: &crate::runtime::api::ApiClient,
    cache: &Cache<K>,
    server: &DittoServer,
    object: K,
) -> Result<(), ReconcileError> {
    apply::ensure(api, cache, apply::Knows::Ours, object, |found| {
        is_own(server, found)
    })
    .await
    .map(drop)
}

/// Whether an object is this DittoServer's: by its owner, so that one of the same name that is gone does not count.
fn is_own<K: Kind>(server: &DittoServer, found: &K) -> bool {
    let uid = cache::uid(server);
    found
        .owner_references()
        .iter()
        .any(|owner| owner.uid == uid && owner.controller == Some(true))
}

fn own<K: Kind>(server: &DittoServer, found: Option<Arc<K>>) -> Option<Arc<K>> {
    found.filter(|found| is_own(server, found.as_ref()))
}

fn child<K>(found: Option<Arc<K>>) -> Child<K> {
    found.map(Child::Ours).unwrap_or(Child::Absent)
}

/// What of a pod decisions need.
fn view(pod: &Pod, now: Timestamp) -> PodView {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let condition =
        |type_: &str| conditions.and_then(|all| all.iter().find(|condition| condition.type_ == type_));
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let container = containers.and_then(|all| all.iter().find(|one| one.name == stateful_set::CONTAINER));
    let waiting = container.and_then(|container| container.state.as_ref()?.waiting.as_ref());
    let waiting = waiting.and_then(|waiting| {
        Some((
            waiting.reason.clone()?,
            waiting.message.clone().unwrap_or_default(),
        ))
    });
    let unscheduled = condition("PodScheduled").filter(|condition| condition.status == "False");
    let unscheduled = unscheduled.map(|condition| {
        (
            condition.reason.clone().unwrap_or_default(),
            condition.message.clone().unwrap_or_default(),
        )
    });
    // On a node, but without a sandbox for long: what the sandbox waits for is what is mounted (KEP-3085).
    let unmounted = condition("PodScheduled")
        .filter(|scheduled| scheduled.status == "True")
        .and(condition("PodReadyToStartContainers"))
        .filter(|ready| ready.status == "False")
        .and_then(|ready| ready.last_transition_time.as_ref())
        .map(|since| now.seconds().saturating_sub(timestamp(since).seconds()))
        .filter(|seconds| *seconds >= MOUNTING_SECONDS)
        .map(|_| (VOLUMES_NOT_MOUNTED.to_owned(), String::new()));
    PodView {
        name: pod.name_any(),
        ip: status.and_then(|status| status.pod_ip.as_ref()?.parse().ok()),
        is_ready: !cache::is_terminating(pod)
            && condition("Ready").is_some_and(|condition| condition.status == "True"),
        trouble: unmounted.or(waiting).or(unscheduled),
        restarts: container.map(|container| container.restart_count).unwrap_or(0),
    }
}

impl Reconciler for DittoServerReconciler {
    fn kind(&self) -> &'static str {
        "DittoServer"
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, ReconcileError> {
        Box::pin(self.run(key)).await
    }
}

/// How long after a change of a child its DittoServer is looked at, so that many changes are one look.
pub const SETTLE: Duration = Duration::from_millis(200);
