//! `cargo run -p cairn-xtask -- deploy [--write]`: what is installed into clusters has one source, the Helm chart. The manifests of
//! `deploy/kustomize` and `deploy/install.yaml` are rendered from it (`--write`), and this checks that they are fresh, that helm, kustomize,
//! kubectl and install.yaml give the same objects, that dashboards and alerts name only metrics that the code has, that programs understand what they are told, that no image's tag moves, and that nothing asks for rights that it must not have.
//!
//! The programs come from `xtask/scripts/deps.sh deploy`. Where one is missing, what needs it is left out, loudly; with `CI=true` that is a
//! failure. Nothing here talks to a cluster.

mod compare;
mod images;
mod metrics;
mod programs;
mod render;
mod security;
#[cfg(test)]
mod tests;
mod tools;
mod values;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use tools::Tools;

/// An overlay, and the chart's values that make the same.
struct Overlay {
    /// Its directory below `deploy/kustomize/overlays`.
    name: &'static str,
    /// The file of values below `deploy/helm/cairn/ci`; `None`: the defaults.
    values: Option<&'static str>,
}

const OVERLAYS: [Overlay; 4] = [
    Overlay {
        name: "default",
        values: None,
    },
    Overlay {
        name: "cert-manager",
        values: Some("cert-manager-values.yaml"),
    },
    Overlay {
        name: "directories",
        values: Some("directories-values.yaml"),
    },
    Overlay {
        name: "monitoring",
        values: Some("monitoring-values.yaml"),
    },
];

/// The repository that `cargo run` runs this program in.
pub fn root() -> anyhow::Result<PathBuf> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").context("run this with cargo run")?;
    let root = Path::new(&package)
        .parent()
        .context("xtask lies in a workspace")?;
    Ok(root.to_owned())
}

/// Renders everything anew. Errors: helm is missing or fails, a file cannot be written.
pub fn write(root: &Path) -> anyhow::Result<()> {
    let tools = Tools::find();
    let Some(helm) = &tools.helm else {
        bail!("helm is missing: xtask/scripts/deps.sh deploy");
    };
    let files = render::files(root, helm)?;
    for (path, text) in &files {
        let path = root.join(path);
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    println!("deploy: {} files written", files.len());
    Ok(())
}

/// Everything that is wrong. Errors: a program fails in a way that is nobody's finding.
pub fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let tools = Tools::find();
    let mut findings = tools.findings(std::env::var("CI").is_ok_and(|value| value == "true"));
    findings.extend(metrics::check(root)?);
    findings.extend(images::check(root)?);
    findings.extend(values::check(root)?);
    findings.extend(security::check(root)?);
    if let Some(helm) = &tools.helm {
        findings.extend(fresh(root, &render::files(root, helm)?));
        findings.extend(render::lint(root, helm)?);
        // Every option at once: whatever it renders must be objects.
        let everything = render::everything(root, helm, Some("everything-values.yaml"))?;
        let objects = compare::objects(&everything).context("everything-values.yaml")?;
        findings.extend(programs::check(root, &objects)?);
    }
    for overlay in &OVERLAYS {
        findings.extend(same_objects(root, &tools, overlay)?);
    }
    Ok(findings)
}

/// Which generated files differ from what they would be now.
fn fresh(root: &Path, files: &[(String, String)]) -> Vec<String> {
    files
        .iter()
        .filter(|(path, text)| std::fs::read_to_string(root.join(path)).ok().as_deref() != Some(text))
        .map(|(path, _)| format!("{path} is stale: make deploy"))
        .collect()
}

/// Compares what the programs make of one overlay, with each other and, for the default, with install.yaml.
fn same_objects(root: &Path, tools: &Tools, overlay: &Overlay) -> anyhow::Result<Vec<String>> {
    let directory = root.join("deploy/kustomize/overlays").join(overlay.name);
    let mut views = Vec::new();
    if let Some(kustomize) = &tools.kustomize {
        views.push(("kustomize", tools::output(kustomize, &["build"], &directory)?));
    }
    if let Some(kubectl) = &tools.kubectl {
        views.push((
            "kubectl kustomize",
            tools::output(kubectl, &["kustomize"], &directory)?,
        ));
    }
    if let Some(helm) = &tools.helm {
        views.push(("helm", render::everything(root, helm, overlay.values)?));
    }
    if overlay.values.is_none() {
        let path = root.join("deploy/install.yaml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        views.push(("install.yaml", text));
    }
    let mut parsed = Vec::new();
    for (name, text) in views {
        let objects = compare::objects(&text).with_context(|| format!("{}: {name}", overlay.name))?;
        parsed.push((name, objects));
    }
    let Some(((first, wanted), others)) = parsed.split_first() else {
        return Ok(Vec::new());
    };
    let mut findings = Vec::new();
    for (name, found) in others {
        for difference in compare::differences(wanted, found) {
            findings.push(format!(
                "overlay {}: {first} and {name} differ: {difference}",
                overlay.name
            ));
        }
    }
    Ok(findings)
}
