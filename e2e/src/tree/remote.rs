//! Directories of an export.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{IN_FLIGHT, Node, Side, Tree, TreeError, TreePath, join, remote_error};
use crate::client::attributes::Kind;
use crate::client::{Client, Handle};
use crate::parallel;

/// Lists the directory `root` and everything below it, level by level.
pub async fn list(client: &Arc<Client>, root: &Handle) -> Result<Tree, TreeError> {
    let attributes = client.getattr(root).await.map_err(remote_error(b""))?;
    let mut nodes = BTreeMap::new();
    nodes.insert(
        Vec::new(),
        Node {
            attributes,
            target: None,
            handle: Some(root.clone()),
        },
    );
    let mut level: Vec<(TreePath, Handle)> = vec![(Vec::new(), root.clone())];
    while !level.is_empty() {
        let listings = parallel::map(IN_FLIGHT, &level, |(path, handle)| async move {
            client.list(handle).await.map_err(remote_error(path))
        })
        .await?;
        let mut below = Vec::new();
        for ((parent, _), entries) in level.iter().zip(listings) {
            for entry in entries {
                let path = join(parent, &entry.name);
                if entry.attributes.kind == Kind::Directory {
                    below.push((path.clone(), entry.handle.clone()));
                }
                let node = Node {
                    attributes: entry.attributes,
                    target: None,
                    handle: Some(entry.handle),
                };
                if nodes.insert(path.clone(), node).is_some() {
                    let what = "listed twice";
                    return Err(TreeError::Inconsistent {
                        path: super::show(&path),
                        what,
                    });
                }
            }
        }
        level = below;
    }
    let links: Vec<(TreePath, Handle)> = nodes
        .iter()
        .filter(|(_, node)| node.kind() == Kind::Symlink)
        .filter_map(|(path, node)| Some((path.clone(), node.handle.clone()?)))
        .collect();
    let targets = parallel::map(IN_FLIGHT, &links, |(path, handle)| async move {
        client.readlink(handle).await.map_err(remote_error(path))
    })
    .await?;
    for ((path, _), target) in links.into_iter().zip(targets) {
        if let Some(node) = nodes.get_mut(&path) {
            node.target = Some(target);
        }
    }
    Ok(Tree {
        side: Side::Remote(client.clone()),
        nodes,
    })
}
