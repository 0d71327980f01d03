//! The tree that the demo works on: real files of this machine, and a few objects that real trees rarely have.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::tree::copy_out::copy_out;
use crate::tree::{Tree, local};
use crate::{project, sample};

/// Directories of the project that are no sources.
const NO_SOURCES: [&[u8]; 3] = [b"target", b".cache", b".git"];

/// A local tree and the name of the directory that it is copied to.
#[derive(Debug)]
pub struct Part {
    /// The directory's name.
    pub name: String,
    /// What is copied.
    pub tree: Tree,
}

/// The parts: `sources`, or the project's sources and the Rust toolchain. What may change while the demo runs is copied
/// to `staging` first.
pub async fn parts(sources: &[PathBuf], staging: &Path) -> anyhow::Result<Vec<Part>> {
    let mut parts = vec![Part {
        name: "made".to_owned(),
        tree: sample::odd(&staging.join("made"))?,
    }];
    for (index, source) in sources.iter().enumerate() {
        let last = source.file_name().unwrap_or(OsStr::new("source"));
        parts.push(Part {
            name: format!("{index}-{}", last.to_string_lossy()),
            tree: local::list(source, &|_| true)?,
        });
    }
    if sources.is_empty() {
        if let Ok(project) = project::directory() {
            let tree = local::list(&project, &|path| !NO_SOURCES.contains(&path))?;
            let copy = staging.join("project");
            fs::create_dir(&copy)?;
            copy_out(&tree, &copy, false)
                .await
                .context("copying the project's sources")?;
            parts.push(Part {
                name: "project".to_owned(),
                tree: local::list(&copy, &|_| true)?,
            });
        }
        let toolchain = toolchain()?;
        for name in ["lib", "share"] {
            let directory = toolchain.join(name);
            if directory.is_dir() {
                let tree = local::list(&directory, &|_| true)?;
                let name = format!("rust-{name}");
                parts.push(Part { name, tree });
            }
        }
    }
    Ok(parts)
}

fn toolchain() -> anyhow::Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output();
    let output = output.context("asking rustc where the toolchain is (give --source DIR instead)")?;
    ensure!(
        output.status.success(),
        "rustc --print sysroot: {}",
        output.status
    );
    Ok(PathBuf::from(OsStr::from_bytes(output.stdout.trim_ascii())))
}
