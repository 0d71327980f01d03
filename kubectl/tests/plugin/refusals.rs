//! Clusters that refuse, do not answer, or are not there; and `kubectl` that finds the program.

use std::process::Command;

use super::cluster::{Cluster, install};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_only_look_is_told_so() {
    let cluster = Cluster::new().await;
    cluster.furnish().await;
    cluster.run_as("reader", &["list", "notes"]).await.ended(0);
    let explained = cluster.run_as("reader", &["explain", "notes"]).await.ended(0);
    assert!(explained.out.contains("nothing is wrong"), "{}", explained.out);
    let refused = cluster.run_as("reader", &["snapshot", "notes"]).await.ended(20);
    assert!(
        refused.err.contains("cannot make Snapshot") && refused.err.contains("kubectl auth whoami"),
        "{}",
        refused.err
    );
    let refused = cluster
        .run_as("reader", &["list", "-A", "--json"])
        .await
        .ended(20);
    assert!(
        refused.err.starts_with("{\"error\":{\"reason\":\"DENIED\""),
        "{}",
        refused.err
    );
    let refused = cluster
        .run(&["snapshot", "notes", "--name", "Not A Name"])
        .await
        .ended(5);
    assert!(refused.err.contains("Not A Name"), "{}", refused.err);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_cluster_it_says_what_was_tried() {
    let cluster = Cluster::without_operator().await;
    let path = cluster.home.path().join("none");
    let path = path.to_str().unwrap();
    let missing = cluster.run(&["list", "--kubeconfig", path]).await.ended(6);
    assert!(
        missing.err.contains("no cluster to talk to") && missing.err.contains("--kubeconfig"),
        "{}",
        missing.err
    );
    let missing = cluster.run(&["list", "--context", "none"]).await.ended(6);
    assert!(missing.err.contains("get-contexts"), "{}", missing.err);
    // A port that nobody listens on.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let text = std::fs::read_to_string(cluster.home.path().join("admin")).unwrap();
    let server = text.lines().find(|line| line.contains("server:")).unwrap();
    let elsewhere = text.replace(server, &format!("    server: https://{address}"));
    std::fs::write(cluster.home.path().join("closed"), elsewhere).unwrap();
    let refused = cluster.run_as("closed", &["list", "--json"]).await.ended(6);
    assert!(refused.err.contains("\"UNREACHABLE\""), "{}", refused.err);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_finds_the_program() {
    if Command::new("kubectl")
        .args(["version", "--client"])
        .output()
        .is_err()
    {
        assert!(std::env::var_os("CI").is_none(), "kubectl is not installed");
        eprintln!("SKIPPED: kubectl is not installed");
        return;
    }
    let cluster = Cluster::new().await;
    cluster.furnish().await;
    let program = env!("CARGO_BIN_EXE_kubectl-cairn");
    install(
        &cluster.programs(),
        "kubectl-cairn",
        &format!("exec '{program}' \"$@\""),
    );
    let path = std::env::var("PATH").unwrap_or_default();
    let mut kubectl = Command::new("kubectl");
    kubectl
        .args(["cairn", "list", "notes", "--json"])
        .env("PATH", format!("{}:{path}", cluster.programs().display()))
        .env("HOME", cluster.home.path())
        .env("KUBECONFIG", cluster.home.path().join("admin"));
    let output = tokio::task::spawn_blocking(move || kubectl.output());
    let output = output.await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("\"name\":\"before\""),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    cluster.end().await;
}

#[tokio::test]
async fn help_has_the_exit_codes_and_examples() {
    for (arguments, expected) in [
        (&["--help"][..], "Exit codes:"),
        (&["list", "--help"], "kubectl cairn list -A"),
        (&["snapshot", "--help"], "--json prints"),
        (&["restore", "--help"], "--in-place --plan"),
        (&["view", "--help"], "-- tar c ."),
        (&["explain", "--help"], "explain dittoserver"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-cairn"))
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains(expected), "{text}");
        assert!(text.contains("kubectl cairn"), "{text}");
    }
}
