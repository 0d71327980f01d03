//! Copying a local tree to a server.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::{
    IN_FLIGHT, Node, Side, Totals, Tree, TreeError, TreePath, local, local_error, remote_error, show, split,
};
use crate::client::attributes::Kind;
use crate::client::procedures::CreateMode;
use crate::client::{Client, Handle, SetAttributes};
use crate::parallel;

/// Called with the path of every object as soon as it is durable with its final attributes. Directories come last.
pub type Acknowledged<'a> = &'a (dyn Fn(&TreePath) + Sync);

/// Makes the directory `destination`, which should be empty, equal to the local `tree`. Durable on return.
/// Contents come before times, objects before further names of them, and the times of directories last, because every
/// name made in a directory changes them.
pub async fn copy_in(
    tree: &Tree,
    client: &Arc<Client>,
    destination: &Handle,
    acknowledged: Acknowledged<'_>,
) -> Result<Totals, TreeError> {
    let Side::Local(root) = &tree.side else {
        return Err(TreeError::Inconsistent {
            path: show(b""),
            what: "not a local tree",
        });
    };
    let copy = Copy { client, root };
    let mut directories: HashMap<&[u8], Handle> = HashMap::from([(&b""[..], destination.clone())]);
    for level in levels(tree) {
        let made = parallel::map(IN_FLIGHT, &level, |(path, node)| {
            copy.directory(path, node, &directories)
        })
        .await?;
        directories.extend(level.iter().map(|(path, _)| path.as_slice()).zip(made));
    }

    let groups = tree.link_groups();
    let further = |path: &TreePath, node: &Node| {
        groups
            .get(&node.attributes.fileid)
            .and_then(|names| names.first())
            .is_some_and(|first| *first != path)
    };
    let others = |(_, node): &(&TreePath, &Node)| node.kind() != Kind::Directory;
    let objects: Vec<_> = tree
        .nodes
        .iter()
        .filter(others)
        .filter(|(path, node)| !further(path, node))
        .collect();
    let (directories, copy) = (&directories, &copy);
    let made = parallel::map(IN_FLIGHT, &objects, |(path, node)| async move {
        let handle = copy.object(path, node, directories).await?;
        acknowledged(path);
        Ok(handle)
    })
    .await?;
    let made: HashMap<&TreePath, Handle> = objects.iter().map(|(path, _)| *path).zip(made).collect();

    let names: Vec<(&TreePath, &TreePath)> = groups
        .values()
        .flat_map(|names| names.iter().skip(1).map(|name| (names[0], *name)))
        .collect();
    parallel::map(IN_FLIGHT, &names, |(first, path)| {
        let object = made.get(first);
        async move {
            let (directory, name) = parent(path, directories)?;
            let object = object.ok_or_else(|| inconsistent(path, "its first name was not copied"))?;
            client
                .link(object, directory, name)
                .await
                .map_err(remote_error(path))?;
            acknowledged(path);
            Ok(())
        }
    })
    .await?;

    let all: Vec<_> = tree
        .nodes
        .iter()
        .filter(|(_, node)| node.kind() == Kind::Directory)
        .collect();
    parallel::map(IN_FLIGHT, &all, |(path, node)| async move {
        let handle = directories
            .get(path.as_slice())
            .ok_or_else(|| inconsistent(path, "was not made"))?;
        let mut set = owner_and_mode(node);
        set.modified = Some(node.attributes.modified);
        client.setattr(handle, set).await.map_err(remote_error(path))?;
        acknowledged(path);
        Ok(())
    })
    .await?;
    Ok(tree.totals())
}

/// Directories other than the root by their depth.
fn levels(tree: &Tree) -> Vec<Vec<(&TreePath, &Node)>> {
    let mut levels: Vec<Vec<(&TreePath, &Node)>> = Vec::new();
    for (path, node) in &tree.nodes {
        if node.kind() == Kind::Directory && !path.is_empty() {
            let depth = path.iter().filter(|byte| **byte == b'/').count();
            levels.resize_with(levels.len().max(depth + 1), Vec::new);
            levels[depth].push((path, node));
        }
    }
    levels
}

fn inconsistent(path: &[u8], what: &'static str) -> TreeError {
    TreeError::Inconsistent {
        path: show(path),
        what,
    }
}

fn parent<'a>(
    path: &'a [u8],
    directories: &'a HashMap<&[u8], Handle>,
) -> Result<(&'a Handle, &'a [u8]), TreeError> {
    let (parent, name) = split(path).ok_or_else(|| inconsistent(path, "has no parent"))?;
    let parent = directories
        .get(parent)
        .ok_or_else(|| inconsistent(path, "its directory was not made"))?;
    Ok((parent, name))
}

fn owner_and_mode(node: &Node) -> SetAttributes {
    let attributes = &node.attributes;
    SetAttributes {
        mode: Some(attributes.mode),
        uid: Some(attributes.uid),
        gid: Some(attributes.gid),
        ..SetAttributes::default()
    }
}

struct Copy<'a> {
    client: &'a Arc<Client>,
    root: &'a Path,
}

impl Copy<'_> {
    async fn directory(
        &self,
        path: &[u8],
        node: &Node,
        directories: &HashMap<&[u8], Handle>,
    ) -> Result<Handle, TreeError> {
        let (directory, name) = parent(path, directories)?;
        let made = self
            .client
            .mkdir(directory, name, owner_and_mode(node))
            .await
            .map_err(remote_error(path))?;
        Ok(made.handle)
    }

    async fn object(
        &self,
        path: &[u8],
        node: &Node,
        directories: &HashMap<&[u8], Handle>,
    ) -> Result<Handle, TreeError> {
        let (directory, name) = parent(path, directories)?;
        let set = owner_and_mode(node);
        let error = || remote_error(path);
        let handle = match (node.kind(), &node.target) {
            (Kind::Symlink, Some(target)) => {
                self.client
                    .symlink(directory, name, target, set)
                    .await
                    .map_err(error())?
                    .handle
            }
            (Kind::Regular, _) => {
                let made = self
                    .client
                    .create(directory, name, CreateMode::Guarded(set))
                    .await
                    .map_err(error())?;
                self.contents(path, node, &made.handle).await?;
                made.handle
            }
            (kind, _) => {
                let what = (kind, node.attributes.device);
                self.client
                    .mknod(directory, name, what, set)
                    .await
                    .map_err(error())?
                    .handle
            }
        };
        // Writing and changing the owner may have cleared the set-id bits, so that a mode with them is set again.
        let special = node.kind() != Kind::Symlink && node.attributes.mode & 0o6000 != 0;
        let set = SetAttributes {
            mode: special.then_some(node.attributes.mode),
            modified: Some(node.attributes.modified),
            ..SetAttributes::default()
        };
        self.client.setattr(&handle, set).await.map_err(error())?;
        Ok(handle)
    }

    async fn contents(&self, path: &[u8], node: &Node, handle: &Handle) -> Result<(), TreeError> {
        let size = node.attributes.size;
        let runs = local::data_runs(self.root, path, size).map_err(local_error(path))?;
        if runs.last().map_or(0, |last| last.offset + u64::from(last.length)) < size {
            let set = SetAttributes {
                size: Some(size),
                ..SetAttributes::default()
            };
            self.client
                .setattr(handle, set)
                .await
                .map_err(remote_error(path))?;
        }
        if !runs.is_empty() {
            let source = |run| local::read(self.root, path, run);
            self.client
                .write_runs(handle, &runs, source)
                .await
                .map_err(remote_error(path))?;
        }
        Ok(())
    }
}
