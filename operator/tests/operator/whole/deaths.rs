//! The same life, while the daemon is killed (SIGKILL) in the middle of each kind of call, and comes back.

use std::time::Duration;

use super::leaders::life;
use crate::bench::Bench;
use crate::crashes::{Doom, Fuse, fused};

/// Calls of an operator whose own life is not in danger.
const MANY: i64 = 1 << 40;
/// The calls that change something, each of which is made in a life.
const METHODS: [&str; 6] = [
    "EnsureWorkspace",
    "EnsureSnapshot",
    "EnsureRestore",
    "ForgetRestore",
    "DeleteSnapshot",
    "DeleteWorkspace",
];
/// Moments of the kill after the call was sent, in microseconds: before it arrives, while it is carried out, when it is answered or just was.
const MOMENTS: [u64; 4] = [0, 400, 1500, 5000];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_may_die_in_the_middle_of_any_call() {
    let bench = Bench::real(&["a"]).await;
    let mut generation = 0;
    for (number, method) in METHODS.into_iter().enumerate() {
        for moment in MOMENTS {
            generation += 1;
            let fuse = Fuse::new(MANY);
            fuse.doom(Doom {
                node: "a".to_owned(),
                process: bench.real_ones().process("a"),
                method: Some(method),
                calls: 0,
                delay: Duration::from_micros(moment),
            });
            let operator = bench.start_with(fused(&bench, &fuse, generation));
            let name = format!("d{number}-{moment}");
            let mut life = std::pin::pin!(life(&bench, &name));
            tokio::select! {
                () = &mut life => panic!("{method} was never called, or its daemon survived"),
                () = fuse.struck() => {
                    let victim = fuse.victim().unwrap();
                    bench.replace_daemon(&victim).await;
                    life.await;
                }
            }
            operator.stop().await;
        }
    }
    bench.end().await;
}
