//! What a directory holds now, with all contents.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::client::attributes::Kind;
use crate::client::{Client, Handle};
use crate::parallel;
use crate::tree::{IN_FLIGHT, Node, TreeError, TreePath, remote, remote_error};

/// A directory as it was read.
#[derive(Debug)]
pub struct Observed {
    /// What has which path.
    pub nodes: BTreeMap<TreePath, Node>,
    /// The data of the regular files by their `fileid`.
    pub contents: HashMap<u64, Vec<u8>>,
}

/// Reads a directory and everything below it.
pub async fn observe(client: &Arc<Client>, directory: &Handle) -> Result<Observed, TreeError> {
    let tree = remote::list(client, directory).await?;
    let mut files: HashMap<u64, (&TreePath, &Handle)> = HashMap::new();
    for (path, node) in &tree.nodes {
        if let (Kind::Regular, Some(handle)) = (node.kind(), &node.handle) {
            files.insert(node.attributes.fileid, (path, handle));
        }
    }
    let files: Vec<_> = files.into_iter().collect();
    let contents = parallel::map(IN_FLIGHT, &files, |(fileid, (path, handle))| async move {
        let data = client.read_all(handle).await.map_err(remote_error(path))?;
        Ok::<_, TreeError>((*fileid, data))
    })
    .await?;
    Ok(Observed {
        nodes: tree.nodes,
        contents: contents.into_iter().collect(),
    })
}
