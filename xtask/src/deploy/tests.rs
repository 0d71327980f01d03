//! Each check on good and bad samples, and on the project itself.

use serde_json::json;

use super::{check, compare, images, metrics, programs, render, root, security, values};

#[test]
fn what_is_installed_is_consistent() {
    let findings = check(&root().unwrap()).unwrap();
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn objects_are_compared_whatever_their_order() {
    let one = compare::objects("kind: A\napiVersion: v1\nmetadata: {name: x}\nn: 1\n---\nkind: B\napiVersion: v1\nmetadata: {name: x}\n").unwrap();
    let same = compare::objects("# c\napiVersion: v1\nkind: B\nmetadata: {name: x, labels: null}\n---\napiVersion: v1\nkind: A\nmetadata: {name: x}\nn: 1.0\n").unwrap();
    assert_eq!(compare::differences(&one, &same), Vec::<String>::new());
    let other = compare::objects("apiVersion: v1\nkind: A\nmetadata: {name: x}\nn: 2\nm: 1\n").unwrap();
    let found = compare::differences(&one, &other);
    assert_eq!(
        found,
        [
            "v1 A  x n: 1 and 2",
            "v1 A  x m is only in the second",
            "v1 B  x is missing in the second"
        ]
    );
}

#[test]
fn what_is_no_object_is_refused() {
    assert!(compare::objects("a: 1\n").is_err());
    let twice =
        "apiVersion: v1\nkind: A\nmetadata: {name: x}\n---\napiVersion: v1\nkind: A\nmetadata: {name: x}\n";
    assert!(compare::objects(twice).is_err());
    assert!(compare::objects("a: [").is_err());
}

#[test]
fn documents_are_put_to_their_templates() {
    let text = "---\n# Source: cairn/templates/a.yaml\n# why\nkind: A\n---\n# Source: cairn/templates/b.yaml\nkind: B\n---\n# Source: cairn/templates/a.yaml\nkind: C\n";
    let found = render::by_template(text).unwrap();
    assert_eq!(found["a"], ["# why\nkind: A", "kind: C"]);
    assert_eq!(found["b"], ["kind: B"]);
    assert!(render::by_template("---\n# Source: other/templates/a.yaml\nkind: A\n").is_err());
}

#[test]
fn names_of_metrics_are_found() {
    let found = metrics::names("rate(cairn_nfs_calls_total{a=\"b\"}[5m]) + cairn_ready - up");
    let found: Vec<&String> = found.iter().collect();
    assert_eq!(found, ["cairn_nfs_calls_total", "cairn_ready"]);
}

#[test]
fn a_dashboard_that_is_none_is_told() {
    assert_eq!(metrics::dashboard("d", "{").len(), 1);
    let empty = metrics::dashboard("d", "{}");
    assert_eq!(empty.len(), 4, "{empty:?}");
    let board = r#"{"uid":"u","title":"t","schemaVersion":1,"panels":[
        {"id":1,"title":"a","targets":[{"expr":"up"}]},{"id":1,"title":"b","targets":[]}]}"#;
    let found = metrics::dashboard("d", board);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn tags_that_move_are_found() {
    let text = "ARG BASE_IMAGE=debian:12.12-slim\nFROM ${BASE_IMAGE} AS build\nFROM build AS more\nFROM scratch:latest\n  - image: \"a/b\"\n";
    let found = images::images(text);
    assert_eq!(found, ["debian:12.12-slim", "scratch:latest", "a/b"]);
    let pinned: Vec<bool> = found.iter().map(|image| images::is_pinned(image)).collect();
    assert_eq!(pinned, [true, false, false]);
    assert!(images::is_pinned("host:5000/a@sha256:00"));
    assert!(!images::is_pinned("host:5000/a"));
}

#[test]
fn values_and_schema_must_agree() {
    let values = serde_json::json!({"a": {"b": 1}, "c": 2});
    let schema = serde_json::json!({"additionalProperties": false, "properties": {
        "a": {"description": "x", "properties": {"b": {"description": ""}}}, "d": {"description": "x"}}});
    let mut findings = Vec::new();
    values::compare(&values, &schema, "", &mut findings);
    assert_eq!(
        findings,
        [
            "values.schema.json takes any key in \".a\"",
            "values.schema.json does not describe .a.b",
            "values.yaml has no .d",
            "values.schema.json has no .c",
        ]
    );
}

#[test]
fn values_without_a_comment_are_found() {
    let text = "a:\n  # why\n  b: 1\n  c: 2\n  # why\n  labels:\n    x: y\n";
    assert_eq!(
        values::undocumented(text),
        ["values.yaml: c has no comment above it"]
    );
}

#[test]
fn roles_that_lead_to_more_are_found() {
    let role = json!({"kind": "ClusterRole", "rules": [
        {"apiGroups": [""], "resources": ["secrets", "pods/exec"], "verbs": ["get", "*"]},
        {"apiGroups": ["*"], "resources": ["roles"], "verbs": ["bind"]}]});
    let found = security::role("r", &role);
    let wanted = [
        "r: the verb *",
        "r: the resource pods/exec",
        "r: Secrets of all namespaces",
        "r: the verb bind",
        "r: every group",
    ];
    assert_eq!(found, wanted);
    let own = json!({"kind": "Role", "rules": [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"], "verbs": ["get"]}]});
    assert_eq!(security::role("r", &own), Vec::<String>::new());
    let any =
        json!({"kind": "Role", "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
    assert_eq!(security::role("r", &any), ["r: Secrets that are not named"]);
    // In all namespaces only by name, and never as a list.
    let everywhere = |verb: &str| {
        json!({"kind": "ClusterRole", "rules": [
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"], "verbs": [verb]}]})
    };
    assert!(security::role("r", &everywhere("create")).is_empty());
    assert_eq!(
        security::role("r", &everywhere("list")),
        ["r: Secrets of all namespaces"]
    );
}

#[test]
fn pods_that_ask_for_too_much_are_found() {
    let pod = json!({"spec": {"template": {"spec": {"hostNetwork": true, "containers": [
        {"name": "c", "securityContext": {"privileged": true}}]}}}});
    assert_eq!(security::workload("w", &pod).len(), 10);
}

#[test]
fn what_a_program_does_not_understand_is_found() {
    let object = json!({"spec": {"template": {"spec": {"containers": [
        {"args": ["run", "--log-json", "--nonsense=1"], "env": [{"name": "CAIRN_LOG"}, {"name": "CAIRN_X"}, {"name": "HOME"}]}]}}}});
    let source = "#[arg(long, env = \"CAIRN_LOG\")]\npub log_json: bool,\n";
    assert_eq!(
        programs::unknown("p", &object, source),
        ["p knows no --nonsense", "p knows no CAIRN_X"]
    );
}

#[test]
fn keys_of_configurations_are_found() {
    let text = "a = 1\n# Words = of a comment\n[t]\n#b = \"x\"\n#[[u.v]]\n#c_d = 2\n";
    let found: Vec<String> = programs::keys(text).into_iter().collect();
    assert_eq!(found, [".a", "t.b", "u.v.c_d"]);
}
