//! Whole trees through a real daemon with the user-space client: what goes in comes out, in every respect.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use cairn_e2e::client::SetAttributes;
use cairn_e2e::client::procedures::CreateMode;
use cairn_e2e::fixture::{Fixture, assert_same};
use cairn_e2e::tree::copy_in::copy_in;
use cairn_e2e::tree::copy_out::copy_out;
use cairn_e2e::tree::{join, local};
use cairn_e2e::{crash, parallel, sample};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trees_come_out_as_they_went_in() -> anyhow::Result<()> {
    let mut fixture = Fixture::start(&["odd", "many"]).await?;
    let odd = sample::odd(&fixture.directory().join("odd"))?;
    let many = sample::many(&fixture.local("many")?, 7, 400)?;
    for (tree, workspace) in [(&odd, "odd"), (&many, "many")] {
        let (client, root) = fixture.mount(workspace).await?;
        copy_in(tree, &client, &root, &|_| {}).await?;
        fixture.assert_equal(tree, workspace, "after the copy").await?;
        let out = fixture.local(&format!("{workspace}-out"))?;
        copy_out(
            &fixture.tree(workspace).await?,
            &out,
            rustix::process::geteuid().is_root(),
        )
        .await?;
        let out = local::list(&out, &|_| true)?;
        if rustix::process::geteuid().is_root() {
            assert_same(tree, &out, "copied out again").await?;
        }
    }
    // A hole stays a hole.
    let sparse = fixture.tree("odd").await?.node(b"sparse").unwrap().attributes;
    assert!(
        sparse.used < sparse.size / 10,
        "{} of {} bytes used",
        sparse.used,
        sparse.size
    );

    fixture.kill_and_restart().await?;
    fixture.assert_equal(&odd, "odd", "after a kill").await?;
    fixture.stop_and_restart().await?;
    fixture
        .assert_equal(&many, "many", "after an orderly restart")
        .await
}

/// Two clients work in one directory at the same time; both see everything, and no name is lost or twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_share_a_directory() -> anyhow::Result<()> {
    const FILES: u32 = 300;
    let fixture = Fixture::start(&["shared"]).await?;
    let (a, root) = fixture.mount("shared").await?;
    let (b, same_root) = fixture.mount("shared").await?;
    assert_eq!(root, same_root);
    let numbers: Vec<u32> = (0..FILES).collect();
    let (root, a, b) = (&root, &a, &b);
    let create = |client, prefix: &'static str| {
        parallel::map(16, &numbers, move |number: &u32| {
            let name = format!("{prefix}{number}");
            async move {
                let set = SetAttributes {
                    mode: Some(0o600),
                    ..SetAttributes::default()
                };
                let client: &std::sync::Arc<cairn_e2e::client::Client> = client;
                let made = client
                    .create(root, name.as_bytes(), CreateMode::Guarded(set))
                    .await?;
                let stable = cairn_e2e::client::procedures::Stability::FILE_SYNC;
                client.write(&made.handle, 0, name.as_bytes(), stable).await?;
                Ok::<_, cairn_e2e::client::ClientError>(())
            }
        })
    };
    tokio::try_join!(create(a, "a"), create(b, "b"))?;
    // Each removes half of what the other made, and renames the rest, while the other lists.
    let half = |client, prefix: &'static str| {
        parallel::map(16, &numbers, move |number: &u32| {
            let (name, renamed) = (format!("{prefix}{number}"), format!("{prefix}{number}-renamed"));
            let number = *number;
            async move {
                let client: &std::sync::Arc<cairn_e2e::client::Client> = client;
                match number % 2 {
                    0 => drop(client.remove(root, name.as_bytes()).await?),
                    _ => {
                        client
                            .rename((root, name.as_bytes()), (root, renamed.as_bytes()))
                            .await?
                    }
                }
                Ok::<_, cairn_e2e::client::ClientError>(())
            }
        })
    };
    tokio::try_join!(half(a, "b"), half(b, "a"), async {
        for _ in 0..20 {
            a.list(root).await?;
        }
        Ok(())
    })?;
    for client in [a, b] {
        let mut names: Vec<String> = Vec::new();
        for entry in client.list(root).await? {
            let name = String::from_utf8(entry.name)?;
            let data = client.read_all(&entry.handle).await?;
            assert_eq!(format!("{}-renamed", String::from_utf8(data)?), name);
            names.push(name);
        }
        names.sort();
        let mut expected: Vec<String> = (1..FILES)
            .step_by(2)
            .flat_map(|number| ["a", "b"].map(|prefix| format!("{prefix}{number}-renamed")))
            .collect();
        expected.sort();
        assert_eq!(names, expected);
    }
    Ok(())
}

/// Random operations of several clients, each in its own directory, end as a model says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_do_what_they_say() -> anyhow::Result<()> {
    let fixture = Fixture::start(&["random"]).await?;
    let (client, root) = fixture.mount("random").await?;
    let mut running = tokio::task::JoinSet::new();
    for seed in 0..4 {
        let set = SetAttributes {
            mode: Some(0o755),
            ..SetAttributes::default()
        };
        let name = join(b"", format!("seed {seed}").as_bytes());
        let directory = client.mkdir(&root, &name, set).await?.handle;
        let client = client.clone();
        running.spawn(async move { crash::rehearse(&client, &directory, seed, 1000).await });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}
