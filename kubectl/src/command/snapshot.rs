//! `kubectl cairn snapshot`: makes a Snapshot, and waits for it.

use cairn_crds::{Snapshot, SnapshotSpec, Workspace};
use kube::Resource;
use serde::Serialize;

use super::{Session, ended, unless_cancelled};
use crate::arguments::SnapshotArguments;
use crate::failure::{Exit, Failure};
use crate::json::ShownSnapshot;
use crate::system::{Cancellation, new_name};
use crate::text;
use crate::wait::{self, Verdict};

#[derive(Serialize)]
struct Taken {
    snapshot: ShownSnapshot,
}

pub(super) async fn run(session: &mut Session, arguments: SnapshotArguments) -> Result<(), Failure> {
    let mut cancellation = Cancellation::listen()?;
    let cluster = session.cluster().await?;
    // A Snapshot may be made before its Workspace; who types a name wants to hear that there is none.
    let workspace: Workspace = cluster.get(&arguments.workspace).await?;
    if workspace.metadata.deletion_timestamp.is_some() {
        return Err(Failure::told(
            Exit::Conflict,
            "DELETING",
            format!("workspace {} is being deleted", arguments.workspace),
            "no snapshots are taken of it any more",
        ));
    }
    let is_new = arguments.name.is_none();
    let name = match arguments.name {
        Some(name) => name,
        None => new_name(&arguments.workspace)?,
    };
    let spec = SnapshotSpec {
        workspace: arguments.workspace.clone(),
        note: arguments.note,
        tags: arguments.tags,
        template: arguments.template,
        verify: arguments.verify,
        ..SnapshotSpec::default()
    };
    let wanted = Snapshot::new(&name, spec);
    let unknown = || {
        format!(
            "cancelled; whether Snapshot {name} was made is not known: kubectl cairn list {} tells",
            arguments.workspace
        )
    };
    let made = unless_cancelled(&mut cancellation, cluster.create(&wanted, is_new), unknown).await?;
    let shown = match arguments.wait {
        false => made,
        true => {
            let timeout = arguments.waiting.timeout;
            let waited = wait::until(&cluster, &name, timeout, &mut cancellation, judge).await;
            ended(waited, || {
                format!("no longer waiting; Snapshot {name} goes on being taken")
            })?
        }
    };
    let taken = Taken {
        snapshot: ShownSnapshot::from(&shown),
    };
    session
        .output
        .put(&taken, || said(&taken.snapshot, arguments.wait))?;
    Ok(())
}

pub(super) fn judge(snapshot: &Snapshot) -> Verdict {
    let Some(status) = &snapshot.status else {
        return wait::verdict(None);
    };
    wait::verdict(wait::ready(&status.conditions, snapshot.meta().generation))
}

fn said(snapshot: &ShownSnapshot, is_there: bool) -> String {
    let ShownSnapshot { name, workspace, .. } = snapshot;
    if !is_there {
        return format!(
            "Snapshot {name} of workspace {workspace} is being taken\nto see how it is: kubectl cairn explain snapshot/{name}\n"
        );
    }
    let size = snapshot.bytes.and_then(|bytes| u64::try_from(bytes).ok());
    let size = size.map(|size| format!(", {}", text::size(size)));
    format!(
        "Snapshot {name} of workspace {workspace} is there{}\nto go back to it: kubectl cairn restore {name} --in-place\n",
        size.unwrap_or_default()
    )
}
