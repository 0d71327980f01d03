//! What the demo says, and checks, when the disk is full.

use std::collections::HashSet;

use nfs3_types::nfs3::nfsstat3;

use super::cairn::CairnFailed;
use super::{Demo, FORK, TAG, WORKSPACE, size};
use crate::client::ClientError;
use crate::tree::compare::{Leniency, compare};
use crate::tree::{Tree, TreeError, TreePath, remote};

/// Whether a step failed because there was no room.
pub fn is_no_space(error: &anyhow::Error) -> bool {
    let client = |error: &ClientError| error.status() == Some(nfsstat3::NFS3ERR_NOSPC);
    error.chain().any(|cause| {
        cause
            .downcast_ref::<TreeError>()
            .and_then(TreeError::client)
            .is_some_and(client)
            || cause.downcast_ref::<ClientError>().is_some_and(client)
            || cause
                .downcast_ref::<CairnFailed>()
                .is_some_and(CairnFailed::no_space)
    })
}

/// Says what was not done, and checks that everything that was acknowledged is there, before and after a kill.
pub async fn explain(demo: &mut Demo, what: &str) -> anyhow::Result<()> {
    eprintln!("\ndemo: no space left: {what}");
    let (mut done, mut all) = (0, 0);
    for (part, acknowledged) in demo.parts.iter().zip(&demo.acknowledged) {
        done += acknowledged.lock().len();
        all += part.tree.nodes.len();
    }
    eprintln!("  {done} of {all} entries were copied and acknowledged; the steps after that were not done.");
    let Some(workspace) = intact(demo) else {
        eprintln!(
            "  The tree was being changed, and its snapshot cannot be forked without room: not compared."
        );
        return Ok(());
    };
    for when in ["now", "after a kill and a new start"] {
        let (files, bytes) = check(demo, workspace).await?;
        eprintln!(
            "  What was acknowledged is there {when}: {files} files, {}, compared byte by byte.",
            size(bytes)
        );
        if when == "now" {
            demo.node.kill()?;
            demo.node.restart(false).await?;
        }
    }
    eprintln!("  Nothing acknowledged was lost. Run the demo with --dir on a larger file system.");
    Ok(())
}

/// A workspace that must equal the source as far as it was copied: the one that was copied to, or, when the demo had
/// begun to change it, a fork of its snapshot.
fn intact(demo: &Demo) -> Option<&'static str> {
    if demo.intact {
        return Some(WORKSPACE);
    }
    demo.cairn.run(&["fork", WORKSPACE, TAG, FORK]).ok().map(|_| FORK)
}

/// Compares what was acknowledged with the source: files and bytes.
async fn check(demo: &Demo, workspace: &str) -> anyhow::Result<(u64, u64)> {
    let (client, root) = demo.mount(workspace).await?;
    let (mut files, mut bytes) = (0, 0);
    for (part, acknowledged) in demo.parts.iter().zip(&demo.acknowledged) {
        let acknowledged = acknowledged.lock().clone();
        if acknowledged.is_empty() {
            continue;
        }
        let directory = client.lookup(&root, part.name.as_bytes()).await?.handle;
        let found = only(remote::list(&client, &directory).await?, &acknowledged);
        let expected = only(part.tree.clone(), &acknowledged);
        let leniency = Leniency {
            links: true,
            ..Leniency::default()
        };
        let comparison = compare(&expected, &found, leniency).await?;
        anyhow::ensure!(
            comparison.equal(),
            "ACKNOWLEDGED DATA IS LOST: {}: {comparison}",
            part.name
        );
        files += comparison.totals.files;
        bytes += comparison.totals.bytes;
    }
    Ok((files, bytes))
}

fn only(mut tree: Tree, paths: &HashSet<TreePath>) -> Tree {
    tree.nodes.retain(|path, _| paths.contains(path));
    tree
}
