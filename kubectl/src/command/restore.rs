//! `kubectl cairn restore`: a Restore that is planned first, shown, and run when it was agreed to.
//!
//! Nothing is done before the mode is Run; a Restore that has only been planned is removed again if it goes no further, whatever the cause.

use cairn_crds::restore::{InPlace, NewWorkspace, RestoreMode, RestorePhase, RestoreTarget};
use cairn_crds::{Restore, RestoreSpec, Snapshot, conditions};
use cairn_types::SnapshotId;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::json;

use super::{Session, ended, unless_cancelled};
use crate::arguments::RestoreArguments;
use crate::cluster::Cluster;
use crate::failure::{Exit, Failure};
use crate::json::ShownRestore;
use crate::output::tell;
use crate::system::{self, Cancellation, new_name};
use crate::text;
use crate::wait::{self, Ended, Verdict};

#[derive(Serialize)]
struct Restored {
    restore: ShownRestore,
    done: bool,
}

pub(super) async fn run(session: &mut Session, arguments: RestoreArguments) -> Result<(), Failure> {
    if !arguments.plan && !arguments.yes && !system::has_terminal() {
        return Err(Failure::usage(
            "a restore is agreed to first, and there is no terminal to ask on",
            "give --plan to see what it would do, or --yes to do it",
        ));
    }
    let mut cancellation = Cancellation::listen()?;
    let cluster = session.cluster().await?;
    let spec = spec(&cluster, &arguments).await?;
    let name = new_name(&arguments.snapshot)?;
    let wanted = Restore::new(&name, spec);
    let unknown =
        || format!("cancelled; if Restore {name} was made, it is only a plan, which changes nothing");
    unless_cancelled(&mut cancellation, cluster.create(&wanted, true), unknown).await?;
    let agreed = plan(session, &cluster, &name, &arguments, &mut cancellation).await;
    let planned = match agreed {
        Ok(Some(planned)) => planned,
        other => {
            remove(&cluster, &name).await;
            return other.map(|_| ());
        }
    };
    run_it(&cluster, &planned, &mut cancellation).await?;
    let (shown, done) = match arguments.wait {
        false => (planned, false),
        true => {
            let waited = wait::until(
                &cluster,
                &name,
                arguments.waiting.timeout,
                &mut cancellation,
                completed,
            );
            let done = ended(waited.await, || {
                format!("no longer waiting; Restore {name} goes on")
            })?;
            (done, true)
        }
    };
    let restored = Restored {
        restore: ShownRestore {
            mode: "Run",
            ..ShownRestore::from(&shown)
        },
        done,
    };
    session.output.put(&restored, || said(&restored))?;
    Ok(())
}

/// What is asked for. Errors: nothing tells which workspace the snapshot is of.
async fn spec(cluster: &Cluster, arguments: &RestoreArguments) -> Result<RestoreSpec, Failure> {
    let snapshot = match cluster.find::<Snapshot>(&arguments.snapshot).await? {
        Some(found) => Some(found),
        None => by_id(cluster, &arguments.snapshot).await?,
    };
    let of = snapshot.as_ref().map(|snapshot| snapshot.spec.workspace.clone());
    let workspace = match (&arguments.workspace, of) {
        (Some(named), Some(of)) if *named != of => {
            return Err(Failure::told(
                Exit::Invalid,
                "SNAPSHOT_FOREIGN",
                format!(
                    "Snapshot {} is of workspace {of}, not of {named}",
                    arguments.snapshot
                ),
                "leave --workspace out",
            ));
        }
        (_, Some(of)) => of,
        (Some(named), None) if SnapshotId::parse(&arguments.snapshot).is_some() => named.clone(),
        (_, None) => {
            return Err(Failure::told(
                Exit::NotFound,
                "NOT_FOUND",
                format!(
                    "there is no Snapshot {} in namespace {}",
                    arguments.snapshot, cluster.namespace
                ),
                "kubectl cairn list WORKSPACE tells their names; of an id that no Snapshot has, name the --workspace",
            ));
        }
    };
    Ok(RestoreSpec {
        snapshot: snapshot
            .map(|snapshot| snapshot.name_any())
            .unwrap_or_else(|| arguments.snapshot.clone()),
        workspace,
        into: match &arguments.into {
            Some(name) => RestoreTarget {
                new_workspace: Some(NewWorkspace { name: name.clone() }),
                ..RestoreTarget::default()
            },
            None => RestoreTarget {
                in_place: Some(InPlace {}),
                ..RestoreTarget::default()
            },
        },
        paths: arguments.paths.clone(),
        mode: RestoreMode::Plan,
        safety_snapshot: !arguments.no_safety_snapshot,
    })
}

/// The Snapshot that has this id.
async fn by_id(cluster: &Cluster, id: &str) -> Result<Option<Snapshot>, Failure> {
    if SnapshotId::parse(id).is_none() {
        return Ok(None);
    }
    let all = cluster.list::<Snapshot>(false, ListParams::default()).await?;
    let has = |snapshot: &Snapshot| {
        let status = snapshot.status.as_ref();
        status.and_then(|status| status.snapshot_id.as_deref()) == Some(id)
    };
    Ok(all.objects.into_iter().find(has))
}

/// Shows the plan and asks. Nothing: that was all that was asked for. Errors: there is no plan; nobody agreed.
async fn plan(
    session: &mut Session,
    cluster: &Cluster,
    name: &str,
    arguments: &RestoreArguments,
    cancellation: &mut Cancellation,
) -> Result<Option<Restore>, Failure> {
    let nothing = || "cancelled; nothing was restored".to_owned();
    let waited = wait::until(cluster, name, arguments.waiting.timeout, cancellation, planned).await;
    let planned = match waited {
        // One that cannot be planned may be run, and says so in the condition.
        Err(Ended::Failed(failure)) => match unplannable(cluster, name).await {
            Some(planned) => planned,
            None => return Err(failure),
        },
        other => ended(other, nothing)?,
    };
    if arguments.plan {
        let shown = Restored {
            restore: ShownRestore::from(&planned),
            done: false,
        };
        session
            .output
            .put(&shown, || what(&shown.restore) + "nothing was done\n")?;
        return Ok(None);
    }
    if arguments.yes {
        return Ok(Some(planned));
    }
    tell(what(&ShownRestore::from(&planned)).trim_end());
    let agreed = unless_cancelled(cancellation, system::agrees("Do it?"), nothing).await?;
    match agreed {
        true => Ok(Some(planned)),
        false => Err(Failure::usage("nothing was restored: it was not agreed to", "")),
    }
}

fn planned(restore: &Restore) -> Verdict {
    let Some(status) = &restore.status else {
        return wait::verdict(None);
    };
    wait::verdict(wait::ready(&status.conditions, restore.meta().generation))
}

/// The Restore, if its node cannot tell plans but can restore.
async fn unplannable(cluster: &Cluster, name: &str) -> Option<Restore> {
    let restore: Restore = cluster.find(name).await.ok()??;
    let status = restore.status.as_ref()?;
    let planned = conditions::find(&status.conditions, conditions::PLANNED)?;
    (planned.status == "False" && planned.reason == "FeatureUnsupported").then_some(restore)
}

fn completed(restore: &Restore) -> Verdict {
    let Some(status) = &restore.status else {
        return wait::verdict(None);
    };
    let ready = wait::ready(&status.conditions, restore.meta().generation);
    match (status.phase, wait::verdict(ready)) {
        (Some(RestorePhase::Completed), Verdict::Done) => Verdict::Done,
        // Ready as a plan.
        (_, Verdict::Done) => Verdict::Waits("it has not begun yet".to_owned()),
        (Some(RestorePhase::Failed), Verdict::Refused(why)) => Verdict::Failed(why),
        (_, other) => other,
    }
}

/// Makes the plan a run: of the very object that was agreed to.
async fn run_it(
    cluster: &Cluster,
    planned: &Restore,
    cancellation: &mut Cancellation,
) -> Result<(), Failure> {
    let name = planned.name_any();
    let patch = json!({"metadata": {"uid": planned.metadata.uid}, "spec": {"mode": "Run"}});
    let api = cluster.api::<Restore>();
    let parameters = PatchParams::default();
    let patch = Patch::Merge(&patch);
    let work = async {
        api.patch(&name, &parameters, &patch)
            .await
            .map_err(Failure::of(format!("run Restore {name}")))
    };
    unless_cancelled(cancellation, work, || {
        format!("cancelled; whether Restore {name} runs is not known: kubectl get restore {name} tells")
    })
    .await
    .map(drop)
}

/// Removes a Restore that nobody has run.
async fn remove(cluster: &Cluster, name: &str) {
    let api = cluster.api::<Restore>();
    let known = match cluster.find::<Restore>(name).await {
        Ok(None) => return,
        // Somebody else runs it: it is not ours any more.
        Ok(Some(found)) if found.spec.mode == RestoreMode::Run => return,
        Ok(Some(found)) => found,
        Err(_) => {
            tell(&format!(
                "Restore {name} stays: nobody answers. It is only a plan; to remove it: kubectl delete restore {name}"
            ));
            return;
        }
    };
    let parameters = DeleteParams::default().preconditions(Preconditions {
        uid: known.metadata.uid,
        resource_version: None,
    });
    if let Err(error) = api.delete(name, &parameters).await {
        tell(&format!(
            "Restore {name} stays: {error}. It is only a plan; to remove it: kubectl delete restore {name}"
        ));
    }
}

/// What would be done, for people.
fn what(restore: &ShownRestore) -> String {
    let ShownRestore {
        workspace, snapshot, ..
    } = restore;
    match (&restore.into, &restore.plan) {
        (Some(into), _) => {
            format!(
                "a new workspace {into} would be made that begins as snapshot {snapshot} of {workspace}\n"
            )
        }
        (None, Some(plan)) => format!(
            "workspace {workspace} would become as snapshot {snapshot}: {} entries come back, {} change, {} go; {} are written\n",
            plan.adds,
            plan.changes,
            plan.deletes,
            text::size(u64::try_from(plan.bytes).unwrap_or(0)),
        ),
        (None, None) => format!(
            "workspace {workspace} would become as snapshot {snapshot}; its node cannot tell beforehand what changes\n"
        ),
    }
}

fn said(restored: &Restored) -> String {
    let restore = &restored.restore;
    let name = &restore.name;
    if !restored.done {
        return format!("Restore {name} runs\nto see how it is: kubectl cairn explain restore/{name}\n");
    }
    match (&restore.into, &restore.safety_snapshot) {
        (Some(into), _) => format!("workspace {into} is there; pods mount the claim {into}\n"),
        (None, Some(safety)) => format!(
            "workspace {0} is as snapshot {1}\nto undo: kubectl cairn restore {safety} --workspace {0} --in-place\n",
            restore.workspace, restore.snapshot
        ),
        (None, None) => format!(
            "workspace {} is as snapshot {}\n",
            restore.workspace, restore.snapshot
        ),
    }
}
