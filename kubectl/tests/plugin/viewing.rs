//! Looking into snapshots. The test is the kubelet of the pods, and `kubectl` a script that says how it was called.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::cluster::{Cluster, JVS, TEAM, ended, install, signal};

/// Waits for the one pod, and runs it when its claim is bound.
async fn run_pod(cluster: &Cluster) -> String {
    let name = cluster
        .until("there is a pod", || {
            let pods = cluster.server.list("v1", "Pod", Some(TEAM));
            pods.first()
                .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
        })
        .await;
    cluster
        .until("its claim is bound", || {
            let claim = cluster.server.get("v1", "PersistentVolumeClaim", TEAM, &name)?;
            (claim["status"]["phase"] == "Bound").then_some(())
        })
        .await;
    cluster.server.edit("v1", "Pod", TEAM, &name, |pod| {
        pod["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    });
    name
}

async fn nothing_is_left(cluster: &Cluster) {
    cluster
        .until("pod and workspace are gone", || {
            let pods = cluster.server.list("v1", "Pod", Some(TEAM));
            (pods.is_empty() && cluster.list("Workspace").len() == 1).then_some(())
        })
        .await;
    assert_eq!(cluster.double.workspace_names(), ["team.notes"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_runs_in_a_pod_that_goes_with_its_workspace() {
    let cluster = Cluster::new().await;
    cluster.furnish().await;
    let record = cluster.home.path().join("called");
    install(
        &cluster.programs(),
        "kubectl",
        &format!("echo \"$@\" > {}\necho found\nexit 7", record.display()),
    );
    let child = cluster.spawn(&[
        "view",
        "before",
        "--context",
        "cairn",
        "--uid",
        "1000",
        "--",
        "ls",
        "a b",
    ]);
    let name = run_pod(&cluster).await;
    let pod = cluster.server.get("v1", "Pod", TEAM, &name).unwrap();
    assert_eq!(
        pod["spec"]["volumes"][0]["persistentVolumeClaim"],
        json!({"claimName": name, "readOnly": true})
    );
    assert_eq!(
        pod["spec"]["containers"][0]["securityContext"]["runAsNonRoot"],
        true
    );
    let workspace = cluster.get("Workspace", &name).unwrap();
    assert_eq!(
        workspace["metadata"]["ownerReferences"][0]["uid"],
        pod["metadata"]["uid"]
    );
    let request = cluster.double.with("a", |node| {
        node.workspaces[&format!("team.{name}")].request.clone()
    });
    assert!(request.export.unwrap().read_only);
    assert_eq!(request.source.unwrap().workspace, "team.notes");
    // The code is the command's own.
    let ran = ended(child).await.ended(7);
    assert_eq!(ran.out, "found\n");
    let called = std::fs::read_to_string(record).unwrap();
    assert_eq!(
        called,
        format!("--context=cairn --namespace=team exec -i {name} -- ls a b\n")
    );
    nothing_is_left(&cluster).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_is_kept_says_how_to_use_and_to_remove_it() {
    let cluster = Cluster::new().await;
    cluster.furnish().await;
    let child = cluster.spawn(&["view", "before", "--keep", "--json"]);
    let name = run_pod(&cluster).await;
    let ran = ended(child).await.ended(0);
    let view: Value = ran.json()["view"].clone();
    assert_eq!(view["pod"], name);
    assert_eq!(view["path"], "/snapshot");
    assert_eq!(
        view["remove"],
        json!(["kubectl", "--namespace=team", "delete", "pod", name])
    );
    assert!(cluster.get("Workspace", &name).is_some());
    // Whoever removes the pod removes everything.
    assert!(cluster.server.delete("v1", "Pod", TEAM, &name).unwrap());
    nothing_is_left(&cluster).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_come_about_is_removed() {
    let cluster = Cluster::new().await;
    cluster.furnish().await;
    // The pod is never run.
    let late = cluster
        .run(&["view", "before", "--timeout", "2s", "--", "ls"])
        .await
        .ended(24);
    assert!(late.err.contains("Pod view-before-"), "{}", late.err);
    nothing_is_left(&cluster).await;
    // A signal on the way.
    let child = cluster.spawn(&["view", "before", "--keep"]);
    cluster
        .until("there is a workspace", || {
            (cluster.list("Workspace").len() == 2).then_some(())
        })
        .await;
    signal(&child, Signal::TERM);
    ended(child).await.ended(13);
    nothing_is_left(&cluster).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_are_printed_and_can_be_applied() {
    let cluster = Cluster::new().await;
    cluster.furnish().await;
    let printed = cluster.run(&["view", "before", "--print"]).await.ended(0);
    assert!(cluster.server.list("v1", "Pod", Some(TEAM)).is_empty());
    assert_eq!(cluster.server.load(&printed.out).unwrap(), 2);
    run_pod(&cluster).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_shown_is_refused_with_another_way() {
    let cluster = Cluster::new().await;
    cluster.furnish().await;
    cluster.server.edit(JVS, "Workspace", TEAM, "notes", |workspace| {
        workspace["spec"]["backing"] = json!({"pvc": {"claimName": "other"}});
    });
    let refused = cluster.run(&["view", "before", "--", "ls"]).await.ended(4);
    assert!(refused.err.contains("cairn view DIRECTORY"), "{}", refused.err);
    cluster.run(&["view", "none", "--", "ls"]).await.ended(3);
    // No terminal, no command.
    cluster.run(&["view", "before"]).await.ended(2);
    cluster
        .run(&["view", "before", "--json", "--", "ls"])
        .await
        .ended(2);
    assert!(cluster.server.list("v1", "Pod", Some(TEAM)).is_empty());
    cluster.end().await;
}
