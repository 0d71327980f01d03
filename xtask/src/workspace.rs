//! What the rules look at: the project's text files and what cargo knows about its crates.
//!
//! Files are those that git tracks or would track (ignored ones are left out), so that a rule speaks before a commit and
//! not after it. Files that are not UTF-8 are left out: no rule is about them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

/// A text file of the project.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Path from the workspace's root, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// What cargo says about one package of the dependency graph.
#[derive(Debug, Clone, Default)]
pub struct Package {
    /// The package's name.
    pub name: String,
    /// Its manifest's directory from the workspace's root; `None` outside the workspace.
    pub member: Option<String>,
    /// Identities of what it links: normal dependencies, without development and build ones.
    pub links: Vec<String>,
}

/// The project as the rules see it.
#[derive(Debug, Default)]
pub struct Workspace {
    /// All text files, sorted by path.
    pub files: Vec<SourceFile>,
    /// All packages by cargo's package identity.
    pub packages: BTreeMap<String, Package>,
}

impl Workspace {
    /// Reads the workspace that `cargo run` runs this program in, which need not be the one that it was built in.
    pub fn load() -> anyhow::Result<Self> {
        let package = std::env::var_os("CARGO_MANIFEST_DIR").context("run this with cargo run")?;
        let root = Path::new(&package)
            .parent()
            .context("xtask lies in a workspace")?;
        Ok(Workspace {
            files: files(root)?,
            packages: packages(root)?,
        })
    }

    /// The text of one file.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files
            .iter()
            .find(|file| file.path == path)
            .map(|file| file.text.as_str())
    }

    /// The packages that are members of the workspace.
    pub fn members(&self) -> impl Iterator<Item = (&String, &Package)> {
        self.packages
            .iter()
            .filter(|(_, package)| package.member.is_some())
    }
}

fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let output = command
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output.stdout)
}

fn files(root: &Path) -> anyhow::Result<Vec<SourceFile>> {
    let listed = output(Command::new("git").arg("-C").arg(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let mut paths: Vec<&str> = std::str::from_utf8(&listed)?
        .split('\0')
        .filter(|path| !path.is_empty())
        .collect();
    paths.sort_unstable();
    paths.dedup();
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        // Deleted and not yet committed, or not text: neither is a finding.
        let Ok(bytes) = std::fs::read(root.join(path)) else {
            continue;
        };
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        files.push(SourceFile {
            path: path.to_owned(),
            text,
        });
    }
    Ok(files)
}

fn packages(root: &Path) -> anyhow::Result<BTreeMap<String, Package>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let json = output(
        Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--manifest-path"])
            .arg(root.join("Cargo.toml")),
    )?;
    graph(&serde_json::from_slice(&json)?, root)
}

/// Makes the graph of `cargo metadata`'s answer.
fn graph(metadata: &Value, root: &Path) -> anyhow::Result<BTreeMap<String, Package>> {
    let members: Vec<&str> = array(metadata, "workspace_members")?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let mut packages = BTreeMap::new();
    for package in array(metadata, "packages")? {
        let id = string(package, "id")?;
        let manifest = PathBuf::from(string(package, "manifest_path")?);
        let member = members.contains(&id).then(|| {
            let directory = manifest.parent().unwrap_or(Path::new(""));
            directory
                .strip_prefix(root)
                .unwrap_or(directory)
                .display()
                .to_string()
        });
        let package = Package {
            name: string(package, "name")?.to_owned(),
            member,
            links: Vec::new(),
        };
        packages.insert(id.to_owned(), package);
    }
    let resolve = metadata.get("resolve").context("cargo metadata: no resolve")?;
    for node in array(resolve, "nodes")? {
        let mut links = Vec::new();
        for dependency in array(node, "deps")? {
            let kinds = array(dependency, "dep_kinds")?;
            if kinds
                .iter()
                .any(|kind| kind.get("kind").is_none_or(Value::is_null))
            {
                links.push(string(dependency, "pkg")?.to_owned());
            }
        }
        if let Some(package) = packages.get_mut(string(node, "id")?) {
            package.links = links;
        }
    }
    Ok(packages)
}

fn array<'a>(value: &'a Value, key: &str) -> anyhow::Result<&'a Vec<Value>> {
    value
        .get(key)
        .and_then(Value::as_array)
        .with_context(|| format!("cargo metadata: no array {key}"))
}

fn string<'a>(value: &'a Value, key: &str) -> anyhow::Result<&'a str> {
    value
        .get(key)
        .and_then(Value::as_str)
        .with_context(|| format!("cargo metadata: no string {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_normal_dependencies_are_links() {
        let metadata = serde_json::json!({
            "workspace_members": ["a"],
            "packages": [
                { "id": "a", "name": "cairn-a", "manifest_path": "/w/a/Cargo.toml" },
                { "id": "b", "name": "b", "manifest_path": "/registry/b/Cargo.toml" },
                { "id": "c", "name": "c", "manifest_path": "/registry/c/Cargo.toml" },
            ],
            "resolve": { "nodes": [
                { "id": "a", "deps": [
                    { "pkg": "b", "dep_kinds": [{ "kind": null }, { "kind": "dev" }] },
                    { "pkg": "c", "dep_kinds": [{ "kind": "dev" }, { "kind": "build" }] },
                ] },
            ] },
        });
        let packages = graph(&metadata, Path::new("/w")).unwrap();
        assert_eq!(packages["a"].links, ["b"]);
        assert_eq!(packages["a"].member.as_deref(), Some("a"));
        assert_eq!(packages["b"].member, None);
    }

    #[test]
    fn a_metadata_answer_without_packages_is_an_error() {
        assert!(graph(&serde_json::json!({ "workspace_members": [] }), Path::new("/")).is_err());
    }
}
