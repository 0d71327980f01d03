//! What helm makes of the chart, and the files that are made of that: comments stay, so that the files explain themselves.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};

use super::tools::output;

/// The namespace of everything that is rendered.
pub const NAMESPACE: &str = "cairn-system";
const CHART: &str = "deploy/helm/cairn";
const HEADER: &str = "# Rendered from deploy/helm/cairn by `make deploy`. Do not edit.\n";
/// The templates that make the base, in the order of its kustomization.
const BASE: [&str; 7] = [
    "service-accounts",
    "operator-rbac",
    "ditto-servers",
    "user-rbac",
    "operator",
    "daemon",
    "network-policies",
];

/// What helm makes with the values, without the definitions; the namespace is part of it. `extra` are arguments of helm.
fn template(root: &Path, helm: &Path, values: Option<&str>, extra: &[&str]) -> anyhow::Result<String> {
    let values = values.map(|file| root.join(CHART).join("ci").join(file).display().to_string());
    // helm's own idea of the cluster's version depends on how it was built.
    let mut arguments = vec!["template", "--kube-version", "1.34.0", "--namespace", NAMESPACE];
    arguments.extend(["--set", "namespace.create=true"]);
    if let Some(values) = &values {
        arguments.extend(["--values", values]);
    }
    arguments.extend(extra);
    arguments.push("cairn");
    output(helm, &arguments, &root.join(CHART))
}

/// What helm makes with the values, with the definitions.
pub fn everything(root: &Path, helm: &Path, values: Option<&str>) -> anyhow::Result<String> {
    template(root, helm, values, &["--include-crds"])
}

/// What `helm lint` has to say.
pub fn lint(root: &Path, helm: &Path) -> anyhow::Result<Vec<String>> {
    let chart = root.join(CHART);
    let said = output(
        helm,
        &["lint", "--strict", "--quiet", "--kube-version", "1.34.0"],
        &chart,
    );
    Ok(match said {
        Ok(_) => Vec::new(),
        Err(error) => vec![format!("{error:#}")],
    })
}

/// The documents of each template, by the template's name, in their order and with their comments.
pub fn by_template(text: &str) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for document in text.split("\n---\n") {
        let document = document.trim_start_matches("---\n");
        let Some((source, body)) = document.split_once('\n') else {
            continue;
        };
        let name = source
            .strip_prefix("# Source: cairn/templates/")
            .and_then(|file| file.strip_suffix(".yaml"))
            .with_context(|| format!("{source:?} does not tell the template"))?;
        // Lines of templates that leave nothing stay as blanks.
        let lines: Vec<&str> = body.trim().lines().map(str::trim_end).collect();
        found.entry(name.to_owned()).or_default().push(lines.join("\n"));
    }
    Ok(found)
}

fn joined(templates: &BTreeMap<String, Vec<String>>, name: &str) -> anyhow::Result<String> {
    let documents = templates
        .get(name)
        .with_context(|| format!("the chart renders no {name}.yaml"))?;
    Ok(format!("{}\n", documents.join("\n---\n")))
}

/// One document of a template: that of a kind.
fn of_kind(templates: &BTreeMap<String, Vec<String>>, name: &str, kind: &str) -> anyhow::Result<String> {
    let line = format!("kind: {kind}");
    let document = templates
        .get(name)
        .into_iter()
        .flatten()
        .find(|document| document.lines().any(|found| found == line))
        .with_context(|| format!("{name}.yaml renders no {kind}"))?;
    Ok(format!("{document}\n"))
}

/// All generated files of `deploy`: path from the root, text.
pub fn files(root: &Path, helm: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let kustomize = "deploy/kustomize";
    let mut files = Vec::new();
    let mut definitions = Vec::new();
    for name in definition_files(root)? {
        let path = root.join("crds").join(&name);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        definitions.push(text.clone());
        // Neither helm nor kustomize takes files from outside of its directory.
        files.push((format!("{kustomize}/crds/{name}"), text.clone()));
        files.push((format!("{CHART}/crds/{name}"), text));
    }
    let standard = by_template(&template(root, helm, None, &[])?)?;
    let mut install = vec![joined(&standard, "namespace")?];
    install.extend(definitions);
    files.push((
        format!("{kustomize}/namespace/namespace.yaml"),
        format!("{HEADER}{}", joined(&standard, "namespace")?),
    ));
    for name in BASE {
        let text = joined(&standard, name)?;
        files.push((format!("{kustomize}/base/{name}.yaml"), format!("{HEADER}{text}")));
        install.push(text);
    }
    for name in standard.keys() {
        if name != "namespace" && !BASE.contains(&name.as_str()) {
            bail!(
                "{name}.yaml is in no file of deploy/kustomize: add it to BASE in xtask/src/deploy/render.rs"
            );
        }
    }
    for (values, template_name) in [("cert-manager", "cert-manager"), ("monitoring", "monitoring")] {
        let rendered = by_template(&template(
            root,
            helm,
            Some(&format!("{values}-values.yaml")),
            &[],
        )?)?;
        let mut text = joined(&rendered, template_name)?;
        if template_name == "monitoring" {
            // The label by which Prometheus finds them is set by the overlay.
            text = text.replace("    release: prometheus\n", "");
        }
        let component = match values {
            "cert-manager" => "certificates",
            other => other,
        };
        let path = format!("{kustomize}/components/{component}/{template_name}.yaml");
        files.push((path, format!("{HEADER}{text}")));
    }
    let directories = by_template(&template(root, helm, Some("directories-values.yaml"), &[])?)?;
    for (file, kind) in [("configuration", "ConfigMap"), ("daemon", "DaemonSet")] {
        let text = of_kind(&directories, "daemon", kind)?;
        let path = format!("{kustomize}/components/directories/{file}.yaml");
        files.push((path, format!("{HEADER}{text}")));
    }
    files.push((
        "deploy/install.yaml".to_owned(),
        format!("{HEADER}{}", install.join("---\n")),
    ));
    Ok(files)
}

/// The manifests of the definitions, sorted.
fn definition_files(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root.join("crds"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".yaml") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
