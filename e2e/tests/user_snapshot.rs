//! Snapshots, restores, forks and diffs of a real daemon, seen by the user-space client.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use cairn_e2e::client::procedures::{CreateMode, Stability};
use cairn_e2e::client::{Client, Handle, SetAttributes};
use cairn_e2e::control::DifferenceKind;
use cairn_e2e::fixture::{Fixture, assert_same};
use cairn_e2e::sample;
use cairn_e2e::tree::copy_in::copy_in;
use cairn_e2e::tree::{Tree, split};

const FILES: usize = 120;

async fn filled(workspace: &str) -> anyhow::Result<(Fixture, Tree)> {
    let fixture = Fixture::start(&[workspace]).await?;
    let tree = sample::many(&fixture.local("source")?, 3, FILES)?;
    let (client, root) = fixture.mount(workspace).await?;
    copy_in(&tree, &client, &root, &|_| {}).await?;
    Ok((fixture, tree))
}

/// Removes everything below the root.
async fn destroy(client: &Client, tree: &Tree) -> anyhow::Result<()> {
    for path in tree.nodes.keys().rev() {
        let Some((parent, name)) = split(path) else {
            continue;
        };
        let parent = tree.node(parent).and_then(|node| node.handle.as_ref()).unwrap();
        match tree.node(path).unwrap().kind() {
            cairn_e2e::client::attributes::Kind::Directory => client.rmdir(parent, name).await?,
            _ => client.remove(parent, name).await?,
        };
    }
    Ok(())
}

async fn file(client: &Client, root: &Handle, name: &str, data: &[u8]) -> anyhow::Result<Handle> {
    let set = SetAttributes {
        mode: Some(0o644),
        ..SetAttributes::default()
    };
    let made = client
        .create(root, name.as_bytes(), CreateMode::Guarded(set))
        .await?;
    if !data.is_empty() {
        client.write(&made.handle, 0, data, Stability::FILE_SYNC).await?;
    }
    Ok(made.handle)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_destroyed_comes_back() -> anyhow::Result<()> {
    let (mut fixture, tree) = filled("w").await?;
    fixture.control.snapshot("w", "", &["good"]).await?;
    let (client, root) = fixture.mount("w").await?;
    destroy(&client, &fixture.tree("w").await?).await?;
    file(&client, &root, "left", b"behind").await?;
    assert_eq!(fixture.tree("w").await?.nodes.len(), 2);
    let wreck = fixture.tree("w").await?;

    let safety = fixture.control.restore("w", "good").await?;
    fixture.assert_equal(&tree, "w", "restored").await?;
    // The client that saw the destruction carries on, with the handle that it had.
    assert!(client.lookup(&root, b"left").await.is_err());
    client.lookup(&root, b"directory 0").await?;
    fixture.kill_and_restart().await?;
    fixture.assert_equal(&tree, "w", "restored, after a kill").await?;

    // The restore can be undone.
    fixture.control.restore("w", &safety.id).await?;
    fixture.assert_equal(&wreck, "w", "as destroyed").await?;
    fixture.control.restore("w", "good").await?;
    fixture.assert_equal(&tree, "w", "restored again").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_and_its_origin_do_not_see_each_other() -> anyhow::Result<()> {
    let (mut fixture, tree) = filled("w").await?;
    let snapshot = fixture.control.snapshot("w", "", &[]).await?;
    fixture.control.fork("w", &snapshot.id, "fork").await?;
    fixture.assert_equal(&tree, "fork", "just forked").await?;

    let (client, root) = fixture.mount("fork").await?;
    let big = client
        .lookup(&client.lookup(&root, b"directory 0").await?.handle, b"file 9")
        .await?;
    client
        .write(&big.handle, 5000, b"only in the fork", Stability::FILE_SYNC)
        .await?;
    file(&client, &root, "new in the fork", b"1").await?;
    fixture
        .assert_equal(&tree, "w", "after a change of the fork")
        .await?;
    let fork = fixture.tree("fork").await?;

    let (client, root) = fixture.mount("w").await?;
    destroy(&client, &fixture.tree("w").await?).await?;
    file(&client, &root, "new in the origin", b"2").await?;
    fixture
        .assert_equal(&fork, "fork", "after the origin was destroyed")
        .await?;

    // A fork of the fork, of a state that its origin never had; and it outlives the workspaces that it came from.
    let second = fixture.control.snapshot("fork", "", &[]).await?;
    fixture.control.fork("fork", &second.id, "fork-2").await?;
    fixture.control.delete("w").await?;
    let listed = fixture.tree("fork-2").await?;
    assert_same(&fork, &listed, "a fork of the fork").await?;
    fixture.control.delete("fork").await?;
    fixture.kill_and_restart().await?;
    let (client, root) = fixture.mount("fork-2").await?;
    let data = client
        .read_all(&client.lookup(&root, b"new in the fork").await?.handle)
        .await?;
    assert_eq!(data, b"1");
    let directory = client.lookup(&root, b"directory 0").await?.handle;
    let big = client.lookup(&directory, b"file 9").await?.handle;
    assert_eq!(client.read_exact(&big, 5000, 16).await?, b"only in the fork");
    assert!(fixture.mount("w").await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diff_tells_what_was_done_and_nothing_else() -> anyhow::Result<()> {
    let fixture = Fixture::start(&["w"]).await?;
    let (client, root) = fixture.mount("w").await?;
    for name in [
        "same", "written", "cut", "chmod", "moved", "gone", "linked", "retyped", "touched",
    ] {
        file(&client, &root, name, &[b'x'; 100]).await?;
    }
    let set = SetAttributes {
        mode: Some(0o755),
        ..SetAttributes::default()
    };
    let directory = client.mkdir(&root, b"directory", set).await?.handle;
    file(&client, &directory, "inner", b"inner").await?;
    client.symlink(&root, b"link", b"a", set).await?;
    fixture.control.snapshot("w", "", &["one"]).await?;
    assert_eq!(fixture.control.diff("w", "one", None).await?, []);

    let handle = |name: &'static str| {
        let (client, root) = (client.clone(), root.clone());
        async move {
            client
                .lookup(&root, name.as_bytes())
                .await
                .map(|found| found.handle)
        }
    };
    client
        .write(&handle("written").await?, 50, b"Y", Stability::FILE_SYNC)
        .await?;
    let size = SetAttributes {
        size: Some(10),
        ..SetAttributes::default()
    };
    client.setattr(&handle("cut").await?, size).await?;
    let mode = SetAttributes {
        mode: Some(0o600),
        ..SetAttributes::default()
    };
    client.setattr(&handle("chmod").await?, mode).await?;
    client.rename((&root, b"moved"), (&directory, b"moved")).await?;
    client.remove(&root, b"gone").await?;
    client
        .link(&handle("linked").await?, &root, b"linked too")
        .await?;
    client.remove(&root, b"retyped").await?;
    client.mkdir(&root, b"retyped", set).await?;
    client.remove(&root, b"link").await?;
    client.symlink(&root, b"link", b"b", set).await?;
    file(&client, &root, "new \u{e4}", b"123").await?;
    // Changed and changed back: nothing differs but the time.
    client.read_all(&handle("same").await?).await?;
    fixture.control.snapshot("w", "", &["two"]).await?;
    file(&client, &root, "after the second", b"").await?;

    let differences = fixture.control.diff("w", "one", Some("two")).await?;
    let told: BTreeMap<String, DifferenceKind> = differences
        .iter()
        .map(|difference| {
            (
                String::from_utf8_lossy(&difference.path).into_owned(),
                difference.kind(),
            )
        })
        .collect();
    assert_eq!(told.len(), differences.len(), "a path is told twice");
    let expected = [
        ("chmod", DifferenceKind::Attributes),
        ("cut", DifferenceKind::Modified),
        ("directory/moved", DifferenceKind::Added),
        ("gone", DifferenceKind::Removed),
        ("link", DifferenceKind::Modified),
        ("linked", DifferenceKind::Attributes),
        ("linked too", DifferenceKind::Added),
        ("moved", DifferenceKind::Removed),
        ("new \u{e4}", DifferenceKind::Added),
        ("retyped", DifferenceKind::Retyped),
        ("written", DifferenceKind::Modified),
    ];
    let expected: BTreeMap<String, DifferenceKind> = expected
        .into_iter()
        .map(|(path, kind)| (path.to_owned(), kind))
        .collect();
    assert_eq!(told, expected);
    let cut = differences
        .iter()
        .find(|difference| difference.path == b"cut")
        .unwrap();
    assert_eq!(
        (cut.bytes_before, cut.bytes_after, cut.directory),
        (Some(100), Some(10), false)
    );

    // To the live tree, and backwards.
    let live = fixture.control.diff("w", "two", None).await?;
    assert_eq!(
        live.iter().map(|one| one.path.as_slice()).collect::<Vec<_>>(),
        [b"after the second"]
    );
    let backwards = fixture.control.diff("w", "two", Some("one")).await?;
    assert_eq!(backwards.len(), differences.len());
    Ok(())
}
