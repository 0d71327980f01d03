//! Snapshots that travel: from one daemon into an object store, and into another daemon, through the command line, with kills.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use cairn_e2e::fixture::Fixture;
use cairn_e2e::random::Random;
use cairn_e2e::sample;
use cairn_e2e::tree::copy_in::copy_in;
use cairn_e2e::tree::{Tree, local};
use serde_json::Value;

/// Kills of pushes, and of pulls; each is then done again. `CAIRN_KILLS` asks for more.
const KILLS: u64 = 12;
/// A push or a pull is killed within so long of its beginning.
const KILLED_WITHIN_MS: u64 = 150;
/// Rounds of kills; at the end of each everything is pushed.
const ROUNDS: u64 = 4;
/// Files of a tree.
const FILES: usize = 300;
/// New files before each kill of a push.
const FILES_PER_KILL: usize = 40;

fn cairn(fixture: &Fixture, arguments: &[&str]) -> anyhow::Result<Value> {
    tokio::task::block_in_place(|| fixture.node.cairn(arguments))
}

fn kills() -> u64 {
    let asked = std::env::var("CAIRN_KILLS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(KILLS)
}

async fn fill(
    fixture: &Fixture,
    workspace: &str,
    source: &str,
    seed: u64,
    files: usize,
) -> anyhow::Result<Tree> {
    let outer = fixture.local(source)?;
    let inner = outer.join(source);
    std::fs::create_dir(&inner)?;
    sample::many(&inner, seed, files)?;
    let tree = local::list(&outer, &|_| true)?;
    let (client, root) = fixture.mount(workspace).await?;
    copy_in(&tree, &client, &root, &|_: &Vec<u8>| {}).await?;
    Ok(tree)
}

/// What is pushed from one daemon comes back in another, equal in every respect; what has not changed is not read again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_travels_to_another_daemon() -> anyhow::Result<()> {
    let here = Fixture::start(&["w"]).await?;
    let there = Fixture::start(&["other"]).await?;
    let url = format!("file://{}", here.local("store")?.display());
    let odd = sample::odd(&here.local("odd")?)?;
    let (client, root) = here.mount("w").await?;
    copy_in(&odd, &client, &root, &|_: &Vec<u8>| {}).await?;
    cairn(&here, &["snapshot", "w", "--tag", "one"])?;
    cairn(&here, &["push", "w@one", &url])?;

    let many = fill(&here, "w", "many", 7, FILES).await?;
    cairn(&here, &["snapshot", "w", "--tag", "two"])?;
    let whole = here.tree("w").await?;
    let pushed = cairn(&here, &["push", "w@two", &url])?;
    assert!(pushed["result"]["archive"]["base"].is_string(), "{pushed}");
    assert!(
        pushed["result"]["files_read"].as_u64().unwrap() <= many.nodes.len() as u64,
        "{pushed}"
    );
    // Nothing has changed: nothing is read.
    cairn(&here, &["snapshot", "w", "--tag", "three"])?;
    let pushed = cairn(&here, &["push", "w@three", &url])?;
    assert_eq!(
        (
            pushed["result"]["files_read"].as_u64(),
            pushed["result"]["packs"].as_u64()
        ),
        (Some(0), Some(0)),
        "{pushed}"
    );

    // The first into a new workspace, the second into that.
    cairn(&there, &["pull", &format!("{url}@one"), "copy", "--any-port"])?;
    there.assert_equal(&odd, "copy", "after the first pull").await?;
    cairn(
        &there,
        &["pull", &format!("{url}@two"), "copy", "--into-existing"],
    )?;
    there
        .assert_equal(&whole, "copy", "after the second pull")
        .await?;
    let history = cairn(&there, &["history", "copy"])?;
    assert!(history["snapshots"].as_array().unwrap().len() >= 2, "{history}");

    let verified = cairn(&there, &["archive", "verify", &url, "--deep"])?;
    assert_eq!(verified["result"]["damages"].as_u64(), Some(0), "{verified}");
    let listed = cairn(&there, &["archive", "list", &url])?;
    assert_eq!(listed["archives"].as_array().unwrap().len(), 3);
    for tag in ["one", "two", "three"] {
        cairn(&here, &["archive", "delete", &url, tag, "--yes"])?;
    }
    cairn(&here, &["archive", "reclaim", &url, "--grace", "0s"])?;
    let left: Vec<_> = walk(&here.directory().join("store"))?;
    assert_eq!(left, ["fence"], "{left:?}");
    Ok(())
}

fn walk(directory: &std::path::Path) -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(walk(&entry.path())?);
        } else {
            files.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    files.retain(|file| !file.contains('#'));
    Ok(files)
}

fn exists(fixture: &Fixture, workspace: &str) -> anyhow::Result<bool> {
    let listed = cairn(fixture, &["workspace", "list"])?;
    let workspaces = listed["workspaces"].as_array();
    Ok(workspaces.is_some_and(|all| all.iter().any(|one| one["name"] == workspace)))
}

/// Pushes and pulls that are killed are done again, and then everything is there, equal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_and_pulls_survive_kills() -> anyhow::Result<()> {
    let mut here = Fixture::start(&["w"]).await?;
    let mut there = Fixture::start(&["other"]).await?;
    let url = format!("file://{}", here.local("store")?.display());
    let mut random = Random::new(3);
    let mut trees = Vec::new();
    for round in 0..ROUNDS {
        // Each kill hits a push of its own, of something new.
        for kill in 0..kills() / ROUNDS {
            let name = format!("source {round}.{kill}");
            fill(&here, "w", &name, round * 1000 + kill, FILES_PER_KILL).await?;
            let tag = format!("kill-{round}.{kill}");
            cairn(&here, &["snapshot", "w", "--tag", &tag])?;
            cairn(&here, &["push", &format!("w@{tag}"), &url, "--detach"])?;
            tokio::time::sleep(Duration::from_millis(random.below(KILLED_WITHIN_MS))).await;
            here.kill_and_restart().await?;
        }
        let tag = format!("round-{round}");
        cairn(&here, &["snapshot", "w", "--tag", &tag])?;
        cairn(&here, &["push", &format!("w@{tag}"), &url])?;
        trees.push((tag, here.tree("w").await?));
    }
    let verified = cairn(&here, &["archive", "verify", &url, "--deep"])?;
    assert_eq!(verified["result"]["damages"].as_u64(), Some(0), "{verified}");
    cairn(&here, &["archive", "reclaim", &url, "--grace", "0s"])?;
    for (number, (tag, tree)) in trees.iter().enumerate() {
        let workspace = format!("copy-{number}");
        let source = format!("{url}@{tag}");
        let pull = ["pull", &source, &workspace, "--any-port"];
        for _ in 0..kills() / ROUNDS {
            if exists(&there, &workspace)? {
                // It was faster than the kill.
                let delete = ["workspace", "delete", &workspace, "--with-snapshots", "--yes"];
                cairn(&there, &delete)?;
            }
            cairn(&there, &[&pull[..], &["--detach"]].concat())?;
            tokio::time::sleep(Duration::from_millis(random.below(KILLED_WITHIN_MS))).await;
            there.kill_and_restart().await?;
        }
        if !exists(&there, &workspace)? {
            cairn(&there, &pull)?;
        }
        there.assert_equal(tree, &workspace, tag).await?;
    }
    Ok(())
}
