//! `kubectl cairn view`: a pod that looks into a snapshot.
//!
//! The daemons serve workspaces, not snapshots; so a read-only workspace is made that begins as the snapshot, which copies nothing, and the pod mounts its claim: only a claim
//! carries the mount options that NFS needs here. The pod is made first and owns the workspace. So there is one object to remove, whoever does it and whenever this
//! process ends.

mod manifests;

use std::process::{Command, ExitStatus};

use cairn_crds::{Snapshot, Workspace, yaml};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::sync::oneshot;

use self::manifests::PATH;
use super::snapshot::judge as snapshot_verdict;
use super::{Session, ended, unless_cancelled};
use crate::arguments::ViewArguments;
use crate::cluster::Cluster;
use crate::failure::{Exit, Failure};
use crate::output::tell;
use crate::system::{self, Cancellation, new_name};
use crate::text::shell_word;
use crate::wait::{self, Verdict};

#[derive(Serialize)]
struct Viewed {
    view: Shown,
}

#[derive(Serialize)]
struct Shown {
    namespace: String,
    pod: String,
    workspace: String,
    path: &'static str,
    command: Vec<String>,
    remove: Vec<String>,
}

pub(super) async fn run(session: &mut Session, arguments: ViewArguments) -> Result<(), Failure> {
    let is_asked = arguments.keep || arguments.print;
    if !is_asked && session.output.is_json() {
        return Err(Failure::usage(
            "--json has nothing to print of a shell",
            "give --keep or --print",
        ));
    }
    if !is_asked && arguments.command.is_empty() && !system::has_terminal() {
        return Err(Failure::usage(
            "there is no terminal for a shell",
            "name a COMMAND after --, or give --keep",
        ));
    }
    let mut cancellation = Cancellation::listen()?;
    let cluster = session.cluster().await?;
    let of = source(&cluster, &arguments.snapshot).await?;
    let name = new_name(&format!("view-{}", arguments.snapshot))?;
    let pod = manifests::pod(&name, &cluster.namespace, &arguments);
    if arguments.print {
        return print(session, &of, &name, &arguments.snapshot, &pod);
    }
    let unknown = || {
        format!(
            "cancelled; if the pod was made, this removes it: {}",
            line(&cluster.kubectl(&["delete", "pod", &name, "--ignore-not-found"]))
        )
    };
    let pod = unless_cancelled(&mut cancellation, cluster.create(&pod, true), unknown).await?;
    let outcome = look(session, &cluster, &arguments, &of, &pod, &mut cancellation).await;
    match (arguments.keep, &outcome) {
        (true, Ok(())) => {}
        _ => remove(&cluster, &name, &mut cancellation).await,
    }
    outcome
}

/// The workspace of the snapshot. Errors: there is none; the snapshot is not there yet; its data is not in a volume.
async fn source(cluster: &Cluster, name: &str) -> Result<Workspace, Failure> {
    let snapshot: Snapshot = cluster.get(name).await?;
    if let Verdict::Waits(why) | Verdict::Refused(why) | Verdict::Failed(why) = snapshot_verdict(&snapshot) {
        return Err(Failure::told(
            Exit::NotReady,
            "NOT_READY",
            format!("Snapshot {name} is not there: {why}"),
            format!("kubectl cairn explain snapshot/{name} tells more"),
        ));
    }
    let workspace: Workspace = cluster.get(&snapshot.spec.workspace).await?;
    if workspace.spec.backing.volume.is_none() {
        let id = snapshot
            .status
            .and_then(|status| status.snapshot_id)
            .unwrap_or_default();
        return Err(Failure::told(
            Exit::Conflict,
            "VIEW_UNSUPPORTED",
            format!(
                "the data of workspace {} is in a claim or directory of its own, and no workspace can begin as a snapshot of that",
                snapshot.spec.workspace
            ),
            format!(
                "where the directory is mounted, on its node or in a pod with the image of cairn: `cairn view DIRECTORY {id} MOUNT_POINT`, or \
                 `cairn restore DIRECTORY {id} --to OTHER_DIRECTORY`"
            ),
        ));
    }
    Ok(workspace)
}

fn print(
    session: &mut Session,
    of: &Workspace,
    name: &str,
    snapshot: &str,
    pod: &Pod,
) -> Result<(), Failure> {
    let workspace = manifests::workspace(of, snapshot, name, None);
    let value = |value: serde_json::Result<serde_json::Value>| {
        value.map_err(|error| {
            Failure::told(
                Exit::Internal,
                "INTERNAL",
                format!("cannot write it: {error}"),
                "",
            )
        })
    };
    let documents = [
        value(serde_json::to_value(&workspace))?,
        value(serde_json::to_value(pod))?,
    ];
    session.output.put(&documents, || {
        let texts: Vec<String> = documents.iter().map(yaml::document).collect();
        texts.join("---\n")
    })?;
    Ok(())
}

/// Makes the workspace, waits for both, and runs what was asked for.
async fn look(
    session: &mut Session,
    cluster: &Cluster,
    arguments: &ViewArguments,
    of: &Workspace,
    pod: &Pod,
    cancellation: &mut Cancellation,
) -> Result<(), Failure> {
    let name = pod.name_any();
    let cancelled = || "cancelled".to_owned();
    let workspace = manifests::workspace(of, &arguments.snapshot, &name, Some(pod));
    let made = cluster.create(&workspace, true);
    unless_cancelled(cancellation, made, cancelled).await?;
    let timeout = arguments.waiting.timeout;
    let ready = |workspace: &Workspace| {
        let status = workspace.status.as_ref();
        let conditions = status.map(|status| &status.conditions[..]).unwrap_or_default();
        wait::verdict(wait::ready(conditions, workspace.metadata.generation))
    };
    let waited = wait::until(cluster, &name, timeout, cancellation, ready).await;
    ended(waited, cancelled)?;
    let waited = wait::until(cluster, &name, timeout, cancellation, runs).await;
    ended(waited, cancelled)?;
    if arguments.keep {
        let shown = shown(cluster, arguments, &name);
        session.output.put(&Viewed { view: shown }, || {
            let shown = self::shown(cluster, arguments, &name);
            format!(
                "snapshot {} is at {PATH} of the pod {name}\nto look: {}\nto remove it: {}\n",
                arguments.snapshot,
                line(&shown.command),
                line(&shown.remove)
            )
        })?;
        return Ok(());
    }
    execute(cluster, arguments, &name, cancellation).await
}

fn shown(cluster: &Cluster, arguments: &ViewArguments, name: &str) -> Shown {
    Shown {
        namespace: cluster.namespace.clone(),
        pod: name.to_owned(),
        workspace: name.to_owned(),
        path: PATH,
        command: exec(cluster, arguments, name, true),
        remove: cluster.kubectl(&["delete", "pod", name]),
    }
}

/// The command that runs in the pod what was asked for, or a shell.
fn exec(cluster: &Cluster, arguments: &ViewArguments, name: &str, has_terminal: bool) -> Vec<String> {
    let is_shell = arguments.command.is_empty();
    let mut words = cluster.kubectl(&["exec", "-i"]);
    if is_shell && has_terminal {
        words.push("-t".to_owned());
    }
    words.extend([name.to_owned(), "--".to_owned()]);
    match is_shell {
        true => words.push("sh".to_owned()),
        false => words.extend(arguments.command.iter().cloned()),
    }
    words
}

fn line(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
    words.join(" ")
}

/// Whether the pod runs.
fn runs(pod: &Pod) -> Verdict {
    let status = pod.status.clone().unwrap_or_default();
    let condition = |type_: &str| {
        let mut all = status.conditions.iter().flatten();
        all.find(|condition| condition.type_ == type_).cloned()
    };
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .find_map(|container| container.state.as_ref()?.waiting.clone());
    match status.phase.as_deref() {
        Some("Running") if condition("Ready").is_none_or(|ready| ready.status == "True") => {
            return Verdict::Done;
        }
        Some(phase @ ("Failed" | "Succeeded")) => {
            let message = status.message.unwrap_or_default();
            return Verdict::Failed(format!("the pod has ended ({phase}): {message}"));
        }
        _ => {}
    }
    if let Some(waiting) = waiting {
        let (reason, message) = (
            waiting.reason.unwrap_or_default(),
            waiting.message.unwrap_or_default(),
        );
        let text = format!("{reason}: {message}");
        return match reason.as_str() {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "CreateContainerError" => {
                Verdict::Refused(format!("{text}; name another --image"))
            }
            _ => Verdict::Waits(text),
        };
    }
    match condition("PodScheduled").filter(|scheduled| scheduled.status == "False") {
        Some(scheduled) => Verdict::Waits(scheduled.message.unwrap_or_default()),
        None => Verdict::Waits("it is being started".to_owned()),
    }
}

/// Runs it through `kubectl`, which has the terminal meanwhile.
async fn execute(
    cluster: &Cluster,
    arguments: &ViewArguments,
    name: &str,
    cancellation: &mut Cancellation,
) -> Result<(), Failure> {
    let words = exec(cluster, arguments, name, system::has_terminal());
    let Some((program, rest)) = words.split_first() else {
        return Ok(());
    };
    let failed = |error: std::io::Error| {
        Failure::told(
            Exit::Internal,
            "PROGRAM",
            format!("cannot run {program}: {error}"),
            "install kubectl, or give --keep and use another program",
        )
    };
    let mut child = Command::new(program).args(rest).spawn().map_err(failed)?;
    let process = Pid::from_child(&child);
    let (send, mut ended) = oneshot::channel();
    // It ends when the program does, which the signal below sees to.
    std::thread::Builder::new()
        .name("program".to_owned())
        .spawn(move || {
            let _ = send.send(child.wait());
        })
        .map_err(failed)?;
    let (status, is_cancelled) = tokio::select! {
        status = &mut ended => (status, false),
        () = cancellation.wait() => {
            // One that has ended by the same signal needs no other.
            let _ = kill_process(process, Signal::TERM);
            (ended.await, true)
        }
    };
    let status: ExitStatus = status.map_err(std::io::Error::other).flatten().map_err(failed)?;
    if is_cancelled {
        return Err(Failure::told(Exit::Cancelled, "CANCELLED", "cancelled", ""));
    }
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(Failure::Program(
            u8::try_from(code).unwrap_or(Exit::Internal as u8),
        )),
        None => Err(Failure::told(
            Exit::Internal,
            "PROGRAM",
            format!("{program} was ended by a signal"),
            "",
        )),
    }
}

/// Removes the pod, and with it the workspace.
async fn remove(cluster: &Cluster, name: &str, cancellation: &mut Cancellation) {
    let api = cluster.api::<Pod>();
    let parameters = DeleteParams::background();
    let by_hand = line(&cluster.kubectl(&["delete", "pod", name]));
    let result = tokio::select! {
        result = api.delete(name, &parameters) => result.map(drop),
        () = cancellation.wait() => {
            tell(&format!("the pod {name} may still be there; to remove it: {by_hand}"));
            return;
        }
    };
    match result {
        Ok(()) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => tell(&format!(
            "the pod {name} stays: {error}; to remove it and its workspace: {by_hand}"
        )),
    }
}
