//! What install.yaml must never ask for: rights that lead to more rights, Secrets of the whole cluster, privileged or unbounded containers.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use super::compare;

/// Verbs that give rights to others or take their identity.
const VERBS: [&str; 4] = ["*", "escalate", "bind", "impersonate"];
/// Resources that lead into other pods.
const RESOURCES: [&str; 4] = ["*", "pods/exec", "pods/attach", "pods/portforward"];

/// What is wrong with the objects of install.yaml.
pub fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let path = root.join("deploy/install.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut findings = Vec::new();
    for (name, object) in compare::objects(&text)? {
        match object["kind"].as_str() {
            Some("ClusterRole" | "Role") => findings.extend(role(&name, &object)),
            Some("Deployment" | "DaemonSet" | "StatefulSet") => findings.extend(workload(&name, &object)),
            _ => {}
        }
    }
    Ok(findings)
}

fn words<'a>(value: &'a Value, key: &str) -> Vec<&'a str> {
    value[key]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// What is wrong with a role.
pub fn role(name: &str, role: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        let resources = words(rule, "resources");
        let verbs = words(rule, "verbs");
        for verb in verbs.iter().filter(|verb| VERBS.contains(*verb)) {
            findings.push(format!("{name}: the verb {verb}"));
        }
        for resource in resources.iter().filter(|resource| RESOURCES.contains(*resource)) {
            findings.push(format!("{name}: the resource {resource}"));
        }
        if words(rule, "apiGroups").contains(&"*") {
            findings.push(format!("{name}: every group"));
        }
        if resources.contains(&"secrets") {
            let reads = verbs.iter().any(|verb| *verb != "create");
            let is_named = !words(rule, "resourceNames").is_empty();
            let lists = verbs
                .iter()
                .any(|verb| ["list", "watch", "deletecollection"].contains(verb));
            if role["kind"] == "ClusterRole" && (!is_named || lists) {
                findings.push(format!("{name}: Secrets of all namespaces"));
            } else if reads && !is_named {
                findings.push(format!("{name}: Secrets that are not named"));
            }
        }
    }
    findings
}

/// What is wrong with the pods of a workload.
pub fn workload(name: &str, object: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    let pod = &object["spec"]["template"]["spec"];
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        if pod[key] == true {
            findings.push(format!("{name}: {key}"));
        }
    }
    if pod["securityContext"]["seccompProfile"]["type"] != "RuntimeDefault" {
        findings.push(format!("{name}: no seccomp profile"));
    }
    let containers = ["containers", "initContainers"];
    for container in containers
        .iter()
        .flat_map(|key| pod[*key].as_array().into_iter().flatten())
    {
        let security = &container["securityContext"];
        let wrong = [
            (security["privileged"] == true, "privileged"),
            (
                security["allowPrivilegeEscalation"] != false,
                "may gain privileges",
            ),
            (
                security["readOnlyRootFilesystem"] != true,
                "its image can be written to",
            ),
            (
                !words(&security["capabilities"], "drop").contains(&"ALL"),
                "keeps capabilities that nobody has named",
            ),
            (
                container["resources"]["limits"]["memory"].is_null(),
                "has no limit of memory",
            ),
            (container["resources"]["requests"].is_null(), "requests nothing"),
            (container["livenessProbe"].is_null(), "has no liveness probe"),
            (container["readinessProbe"].is_null(), "has no readiness probe"),
        ];
        let is =
            |(wrong, what): &(bool, &str)| wrong.then(|| format!("{name} {}: {what}", container["name"]));
        findings.extend(wrong.iter().filter_map(is));
    }
    findings
}
