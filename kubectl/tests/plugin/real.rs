//! What the doubles of the operator's tests tell of themselves, under the name by which they know it there. Nothing here looks at it.

use std::collections::BTreeMap;

/// Everything that the daemons hold.
#[derive(Debug, Default)]
pub struct Held {
    pub workspaces: BTreeMap<String, Option<String>>,
    pub snapshots: Vec<HeldSnapshot>,
    pub safety: BTreeMap<String, usize>,
}

#[derive(Debug, Clone)]
pub struct HeldSnapshot {
    pub node: String,
    pub workspace: String,
    pub key: String,
    pub id: String,
}
