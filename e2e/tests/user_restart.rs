//! A client carries on while the daemon is killed and started again under it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicU64, Ordering};

use cairn_e2e::fixture::Fixture;
use cairn_e2e::sample;
use cairn_e2e::tree::copy_in::copy_in;

/// Files of the tree.
const FILES: usize = 600;
/// Restarts while it is copied.
const RESTARTS: u64 = 6;

/// A copy that is interrupted by kills and orderly stops ends without an error, and complete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_survives_restarts() -> anyhow::Result<()> {
    let mut fixture = Fixture::start(&["w"]).await?;
    let tree = sample::many(&fixture.local("source")?, 11, FILES)?;
    let (client, root) = fixture.mount("w").await?;
    let done = std::sync::Arc::new(AtomicU64::new(0));
    let progress = tokio::sync::Notify::new();
    let note = |_: &Vec<u8>| {
        done.fetch_add(1, Ordering::Relaxed);
        progress.notify_one();
    };
    let copy = copy_in(&tree, &client, &root, &note);
    let disturb = async {
        for restart in 1..=RESTARTS {
            while done.load(Ordering::Relaxed) < restart * FILES as u64 / (RESTARTS + 1) {
                progress.notified().await;
            }
            match restart % 3 {
                0 => fixture.stop_and_restart().await?,
                _ => fixture.kill_and_restart().await?,
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    let (copied, disturbed) = tokio::join!(copy, disturb);
    disturbed?;
    copied?;
    fixture.assert_equal(&tree, "w", "after the restarts").await?;
    fixture.kill_and_restart().await?;
    fixture.assert_equal(&tree, "w", "after the last kill").await
}
