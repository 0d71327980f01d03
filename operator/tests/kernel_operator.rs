//! A Workspace as a pod has it: the operator and a real daemon, and a Linux kernel that mounts exactly what the PersistentVolume says, as the kubelet would.
//!
//! The API server, the bench and the real daemons are those of the operator's other tests. The guest reaches the Service's address through a stand-in for kube-proxy,
//! which gives connections a source port of its choice, as a node that masquerades does.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect ends"
)]

#[allow(dead_code, reason = "shared with the other tests, which use all of it")]
#[path = "operator/bench.rs"]
mod bench;
#[allow(dead_code, reason = "shared with the other tests, which use all of it")]
#[path = "operator/double.rs"]
mod double;
#[allow(dead_code, reason = "shared with the other tests, which use all of it")]
#[path = "operator/real.rs"]
mod real;

use std::net::{Ipv4Addr, SocketAddr};

use bench::{Bench, NAMESPACE, TEAM};
use cairn_e2e::guest::{Guest, GuestSettings, Mount};
use cairn_e2e::kernel::{SCRIPT_TIMEOUT, start_guest, wanted};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The cluster's addresses of Services lie in loopback here, so that nothing of this machine's network has to be changed.
const SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 96, 0, 1);
/// Connections at once through the stand-in.
const CONNECTIONS_MAX: usize = 64;

/// Makes a tree, tells, breaks it, and sees what comes back.
const SCRIPT: &str = r#"
list() { find . -mindepth 1 -printf '%P %y %m %U %G %T@ %s %n %l\n' | LC_ALL=C sort; find . -type f -exec sha256sum {} + | LC_ALL=C sort; }
cp -a /usr/lib/git-core/mergetools tree
mkdir -p deep/er
for i in $(seq 100); do echo "file $i" >"deep/er/$i"; done
head -c 3000000 /dev/urandom >large
ln large deep/hard
ln -s large symbolic
sync
list >/tmp/before
tell filled
await taken
rm -r tree deep/er/2*
echo changed >deep/er/1
mv deep/er/4 renamed
truncate -s 1000 large
for i in $(seq 30); do echo new >"new-$i"; done
sync
list >/tmp/broken
if diff /tmp/before /tmp/broken >/dev/null; then fail "nothing was broken"; fi
tell broken
await restored
forget
list >/tmp/after
diff /tmp/before /tmp/after
"#;

/// What kube-proxy does, and masquerading besides: connections to the Service's address go to its endpoint, from any port.
async fn proxy(listener: TcpListener, to: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((mut from, _)) = listener.accept().await else {
            return;
        };
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        connections.spawn(async move {
            let Ok(mut onward) = TcpStream::connect(to).await else {
                return;
            };
            // Ends with either of the two.
            let _ = tokio::io::copy_bidirectional(&mut from, &mut onward).await;
        });
    }
}

/// Runs what blocks where it blocks nobody else.
async fn guest<T: Send + 'static>(
    guest: Guest,
    work: impl FnOnce(&mut Guest) -> T + Send + 'static,
) -> (Guest, T) {
    tokio::task::spawn_blocking(move || {
        let mut guest = guest;
        let result = work(&mut guest);
        (guest, result)
    })
    .await
    .unwrap()
}

/// A pod writes into a Workspace, a Snapshot is taken, files are deleted and changed, a Restore brings them back.
#[test]
fn a_pod_mounts_what_the_persistent_volume_says() -> anyhow::Result<()> {
    if !wanted("a_pod_mounts_what_the_persistent_volume_says")? {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(mounted())
}

async fn mounted() -> anyhow::Result<()> {
    let bench = Bench::real(&["a"]).await;
    let operator = bench.start();
    bench
        .until("the node has a Service", |bench| {
            !bench.server.list("v1", "Service", Some(NAMESPACE)).is_empty()
        })
        .await;
    let service = bench.server.list("v1", "Service", Some(NAMESPACE))[0]["metadata"]["name"].clone();
    bench
        .server
        .edit("v1", "Service", NAMESPACE, service.as_str().unwrap(), |service| {
            service["spec"]["clusterIP"] = json!(SERVICE_ADDRESS.to_string());
            service["spec"]["clusterIPs"] = json!([SERVICE_ADDRESS.to_string()]);
        });
    bench
        .until("the operator knows its address", |_| {
            let services = operator.handle.caches().services.all();
            services.iter().any(|service| {
                let spec = service.spec.as_ref();
                spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some(&SERVICE_ADDRESS.to_string())
            })
        })
        .await;
    // Attributes are asked for each time: the restore is seen at once, not when they would have expired.
    bench.make_workspace(
        "data",
        json!({"storage": "1Gi", "export": {"clients": ["127.0.0.0/8"], "squash": "none"},
            "mountOptions": ["actimeo=0"]}),
    );
    bench.ready("Workspace", "data").await;
    let volume = bench.volume(TEAM, "data");
    assert_eq!(volume.server, SERVICE_ADDRESS.to_string());
    let listener = TcpListener::bind((SERVICE_ADDRESS, volume.port)).await?;
    let proxy = tokio::spawn(proxy(listener, volume.at));

    let server = SocketAddr::from((SERVICE_ADDRESS, volume.port));
    let settings = GuestSettings {
        mounts: vec![Mount::exactly(
            server,
            volume.path.clone(),
            &volume.options.join(","),
        )],
        shares: Vec::new(),
        timeout: SCRIPT_TIMEOUT,
    };
    // Started here: it ends with the thread that starts it.
    let machine = start_guest(&settings, SCRIPT)?;
    let (machine, filled) = guest(machine, |guest| guest.wait_for("filled")).await;
    filled?;
    bench.make_snapshot("s", json!({"workspace": "data"}));
    bench.ready("Snapshot", "s").await;
    machine.tell("taken")?;
    let (machine, broken) = guest(machine, |guest| guest.wait_for("broken")).await;
    broken?;
    bench.make_restore(
        "back",
        json!({"workspace": "data", "snapshot": "s", "mode": "Run", "into": {"inPlace": {}}}),
    );
    bench.reason("Restore", "back", "Completed").await;
    machine.tell("restored")?;
    let output = tokio::task::spawn_blocking(move || machine.wait()).await??;
    output.expect_success();
    proxy.abort();
    operator.stop().await;
    bench.end().await;
    Ok(())
}
