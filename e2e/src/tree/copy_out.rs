//! Copying a tree from a server to a local directory.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::{IN_FLIGHT, Node, Totals, Tree, TreeError, TreePath, local, local_error, show};
use crate::client::attributes::Kind;
use crate::client::files::runs;
use crate::parallel;

/// Makes the local directory `destination`, which must be there and should be empty, equal to `tree`. Owners are set only
/// if `owners`, which needs root. Sockets and devices are refused.
pub async fn copy_out(tree: &Tree, destination: &Path, owners: bool) -> Result<Totals, TreeError> {
    for (path, node) in tree
        .nodes
        .iter()
        .filter(|(_, node)| node.kind() == Kind::Directory)
    {
        if !path.is_empty() {
            std::fs::create_dir(local::place(destination, path)).map_err(local_error(path))?;
        }
        // Left writable until its entries are made.
        let open = Permissions::from_mode(node.attributes.mode | 0o700);
        std::fs::set_permissions(local::place(destination, path), open).map_err(local_error(path))?;
    }
    let files: Vec<_> = tree.regular_files().collect();
    parallel::map(IN_FLIGHT / 4, &files, |(path, node)| {
        file(tree, path, node, destination)
    })
    .await?;
    for names in tree.link_groups().into_values() {
        for name in names.iter().skip(1) {
            std::fs::hard_link(
                local::place(destination, names[0]),
                local::place(destination, name),
            )
            .map_err(local_error(name))?;
        }
    }
    // Children before their directories, whose times they change.
    for (path, node) in tree.nodes.iter().rev() {
        let here = local::place(destination, path);
        match (node.kind(), &node.target) {
            (Kind::Symlink, Some(target)) => {
                let target: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(target.as_slice());
                symlink(target, &here).map_err(local_error(path))?;
            }
            (Kind::Fifo, _) => {
                rustix::fs::mknodat(CWD, &here, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
                    .map_err(|error| local_error(path)(error.into()))?;
            }
            (Kind::Directory | Kind::Regular, _) => {}
            _ => {
                return Err(TreeError::Inconsistent {
                    path: show(path),
                    what: "is not copied out",
                });
            }
        }
        finish(&here, node, owners).map_err(local_error(path))?;
    }
    Ok(tree.totals())
}

async fn file(tree: &Tree, path: &TreePath, node: &Node, destination: &Path) -> Result<(), TreeError> {
    let here = local::place(destination, path);
    let file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(here)
        .map_err(local_error(path))?;
    file.set_len(node.attributes.size).map_err(local_error(path))?;
    for run in runs(0, node.attributes.size) {
        let data = tree.read(path, node, run).await?;
        if data.iter().any(|byte| *byte != 0) {
            file.write_all_at(&data, run.offset).map_err(local_error(path))?;
        }
    }
    Ok(())
}

fn finish(here: &Path, node: &Node, owners: bool) -> std::io::Result<()> {
    if owners {
        lchown(here, Some(node.attributes.uid), Some(node.attributes.gid))?;
    }
    if node.kind() != Kind::Symlink {
        std::fs::set_permissions(here, Permissions::from_mode(node.attributes.mode))?;
    }
    let time = |time: crate::client::attributes::Time| Timespec {
        tv_sec: i64::from(time.seconds),
        tv_nsec: i64::from(time.nanoseconds),
    };
    let times = Timestamps {
        last_access: time(node.attributes.accessed),
        last_modification: time(node.attributes.modified),
    };
    utimensat(CWD, here, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}
