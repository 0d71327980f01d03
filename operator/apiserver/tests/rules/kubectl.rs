//! The real `kubectl` against the server of this crate, over TLS on loopback, with its stand-ins working.

use std::process::{Command, Output};

use cairn_apiserver::{ApiServer, Controllers, Settings, User};

use crate::backend::definition;

struct Kubectl {
    directory: tempfile::TempDir,
}

impl Kubectl {
    /// Runs `kubectl` with these arguments and this input; the whole must succeed.
    #[track_caller]
    fn run(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input);
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn output(&self, arguments: &[&str], input: &str) -> Output {
        let file = self.directory.path().join("input.yaml");
        std::fs::write(&file, input).unwrap();
        let arguments = arguments
            .iter()
            .map(|argument| argument.replace("INPUT", &file.display().to_string()));
        Command::new("kubectl")
            .args(arguments)
            .env("KUBECONFIG", self.directory.path().join("config"))
            .env("HOME", self.directory.path())
            .output()
            .unwrap()
    }
}

const WIDGET: &str = r"
apiVersion: rules.cairn.dev/v1
kind: Widget
metadata: {name: a}
spec: {size: 1, parts: [{name: x, count: 1}]}
";

const DEPLOYMENT: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec:
  replicas: 2
  selector: {matchLabels: {app: d}}
  template: {metadata: {labels: {app: d}}, spec: {containers: [{name: c, image: 'x:1', env: [{name: A, value: '1'}]}]}}
";

/// What people do with `kubectl`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_works() {
    if Command::new("kubectl")
        .arg("version")
        .arg("--client")
        .output()
        .is_err()
    {
        assert!(std::env::var_os("CI").is_none(), "kubectl is not installed");
        eprintln!("SKIPPED: kubectl is not installed");
        return;
    }
    let server = ApiServer::new(Settings {
        controllers: Controllers::all(),
        ..Settings::default()
    });
    server.put(definition()).unwrap();
    let serving = server.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
    serving.add_user("secret", User::admin());
    let directory = tempfile::tempdir().unwrap();
    serving
        .write_kubeconfig(&directory.path().join("config"), "secret", "default")
        .unwrap();
    let background = server.background();
    let kubectl = Kubectl { directory };
    let worked = tokio::task::spawn_blocking(move || work(&kubectl)).await;
    background.stop().await;
    serving.stop().await;
    worked.unwrap();
}

fn work(kubectl: &Kubectl) {
    let run = |arguments: &[&str]| kubectl.run(arguments, "");
    assert!(run(&["version"]).contains("Server Version: v1.34"));
    assert!(run(&["api-resources"]).contains("wdg"));
    // Custom resources.
    assert_eq!(
        kubectl.run(&["create", "-f", "INPUT"], WIDGET),
        "widget.rules.cairn.dev/a created\n"
    );
    let table = run(&["get", "widgets"]);
    assert!(
        table.starts_with("NAME   SIZE   READY   AGE\na      1"),
        "{table}"
    );
    assert!(run(&["get", "wdg", "-o", "wide"]).contains("COLOUR"));
    assert!(run(&["get", "storage", "-o", "name"]).contains("widget.rules.cairn.dev/a"));
    assert!(run(&["get", "widget", "a", "-o", "yaml"]).contains("colour: red"));
    assert!(run(&["describe", "widget", "a"]).contains("Colour:  red"));
    assert!(run(&["explain", "widget.spec.parts"]).contains("count"));
    assert!(run(&["explain", "pod.spec.containers.image"]).contains("Container image name"));
    run(&["label", "widget", "a", "tier=one"]);
    run(&["annotate", "widget", "a", "rules.cairn.dev/note=x"]);
    assert!(run(&["get", "widgets", "-l", "tier=one", "-o", "name"]).contains("/a"));
    run(&[
        "patch",
        "widget",
        "a",
        "--type",
        "merge",
        "-p",
        r#"{"spec":{"size":2}}"#,
    ]);
    run(&[
        "patch",
        "widget",
        "a",
        "--type",
        "json",
        "-p",
        r#"[{"op":"replace","path":"/spec/size","value":3}]"#,
    ]);
    run(&[
        "patch",
        "widget",
        "a",
        "--subresource",
        "status",
        "--type",
        "merge",
        "-p",
        r#"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#,
    ]);
    run(&["wait", "widget/a", "--for=condition=Ready", "--timeout=20s"]);
    assert!(run(&["get", "widgets"]).contains("True"));
    let refused = kubectl.output(
        &["create", "-f", "INPUT"],
        &WIDGET
            .replace("size: 1", "size: 0")
            .replace("name: a}", "name: b}"),
    );
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(
        message
            .contains("spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        "{message}"
    );
    let unknown = kubectl.output(
        &["create", "-f", "INPUT"],
        &WIDGET
            .replace("size: 1", "size: 1, zz: 1")
            .replace("name: a}", "name: b}"),
    );
    let message = String::from_utf8(unknown.stderr).unwrap();
    assert!(message.contains("unknown field \"spec.zz\""), "{message}");
    // Applying on the client's side and on the server's.
    kubectl.run(&["apply", "-f", "INPUT"], DEPLOYMENT);
    assert_eq!(
        kubectl.run(&["apply", "-f", "INPUT"], DEPLOYMENT),
        "deployment.apps/d unchanged\n"
    );
    kubectl.run(
        &["apply", "-f", "INPUT"],
        &DEPLOYMENT.replace("name: A, value: '1'", "name: B, value: '2'"),
    );
    let env = run(&[
        "get",
        "deployment",
        "d",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].env}",
    ]);
    assert_eq!(env, r#"[{"name":"B","value":"2"}]"#);
    run(&["rollout", "status", "deployment/d", "--timeout=20s"]);
    run(&[
        "wait",
        "deployment/d",
        "--for=condition=Available",
        "--timeout=20s",
    ]);
    assert!(run(&["get", "deployments"]).contains("2/2"));
    assert!(run(&["get", "pods", "-o", "wide"]).contains("Running"));
    assert!(run(&["describe", "deployment", "d"]).contains("2 desired"));
    assert!(run(&["describe", "pod", "d-0"]).contains("Running"));
    let widget = WIDGET.replace("name: a}", "name: s}");
    assert_eq!(
        kubectl.run(&["apply", "--server-side", "-f", "INPUT"], &widget),
        "widget.rules.cairn.dev/s serverside-applied\n"
    );
    let conflict = kubectl.output(
        &[
            "apply",
            "--server-side",
            "--field-manager",
            "other",
            "-f",
            "INPUT",
        ],
        &widget.replace("size: 1", "size: 5"),
    );
    assert!(
        String::from_utf8(conflict.stderr)
            .unwrap()
            .contains("conflict with \"kubectl\"")
    );
    let difference = kubectl.output(
        &["diff", "-f", "INPUT"],
        &DEPLOYMENT.replace("replicas: 2", "replicas: 3"),
    );
    let shown = String::from_utf8(difference.stdout).unwrap();
    assert!(
        shown.contains("+  replicas: 3"),
        "{shown}{}",
        String::from_utf8_lossy(&difference.stderr)
    );
    kubectl.run(&["apply", "-f", "INPUT"], &WIDGET.replace("size: 1", "size: 9"));
    assert!(run(&["get", "all"]).contains("deployment.apps/d"));
    // Deleting.
    run(&["delete", "deployment", "d"]);
    run(&["wait", "pod/d-0", "--for=delete", "--timeout=20s"]);
    run(&["delete", "widgets", "--all"]);
    kubectl.run(
        &["create", "-f", "INPUT"],
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: other\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n  namespace: other\ndata:\n  a: b\n",
    );
    assert!(run(&["get", "configmap", "-n", "other"]).contains("c      1"));
    run(&["delete", "namespace", "other", "--timeout=20s"]);
    let gone = kubectl.output(&["get", "namespace", "other"], "");
    assert!(String::from_utf8(gone.stderr).unwrap().contains("not found"));
}
