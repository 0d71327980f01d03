//! Where helm, kustomize and kubectl are, and how they are run.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// The directories below `~/.cache/cairn/tools` into which `xtask/scripts/deps.sh deploy` installs, with the versions.
const INSTALLED: [(&str, &str); 2] = [("helm", "helm-3.20.2"), ("kustomize", "kustomize-5.8.1")];

/// The programs that were found.
#[derive(Debug, Default)]
pub struct Tools {
    /// Helm, version 3.
    pub helm: Option<PathBuf>,
    /// kustomize, version 5.
    pub kustomize: Option<PathBuf>,
    /// kubectl.
    pub kubectl: Option<PathBuf>,
}

impl Tools {
    /// Looks where the script installs, then in PATH.
    pub fn find() -> Tools {
        Tools {
            helm: find("helm"),
            kustomize: find("kustomize"),
            kubectl: find("kubectl"),
        }
    }

    /// What is missing, as findings if that must not be.
    pub fn findings(&self, must: bool) -> Vec<String> {
        let programs = [
            ("helm", &self.helm),
            ("kustomize", &self.kustomize),
            ("kubectl", &self.kubectl),
        ];
        let missing: Vec<String> = programs
            .iter()
            .filter(|(_, path)| path.is_none())
            .map(|(name, _)| {
                format!("{name} is missing, what needs it is not checked: xtask/scripts/deps.sh deploy")
            })
            .collect();
        if must {
            return missing;
        }
        for line in missing {
            eprintln!("deploy: SKIPPED: {line}");
        }
        Vec::new()
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/cairn/tools"));
    let installed = INSTALLED
        .iter()
        .filter(|(program, _)| *program == name)
        .filter_map(|(program, directory)| Some(cache.as_ref()?.join(directory).join(program)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path: Vec<PathBuf> = std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .collect();
    installed.chain(in_path).find(|candidate| candidate.is_file())
}

/// Standard output of a program that is run with `arguments` and a directory at their end. Errors: it cannot be run, or says that it failed.
pub fn output(program: &Path, arguments: &[&str], directory: &Path) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .arg(directory)
        .output()
        .with_context(|| program.display().to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} {} {}: {said}",
            program.display(),
            arguments.join(" "),
            directory.display()
        );
    }
    String::from_utf8(output.stdout).context("not UTF-8")
}
