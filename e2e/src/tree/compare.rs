//! Comparing two trees: names, attributes, links and every byte.

use std::collections::BTreeSet;
use std::fmt;

use super::{IN_FLIGHT, Node, Totals, Tree, TreeError, TreePath, show};
use crate::client::attributes::Kind;
use crate::client::files::{Run, runs};
use crate::parallel;

/// Differences that a comparison describes; more are only counted.
pub const DESCRIBED_MAX: usize = 20;

/// What a comparison leaves out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Leniency {
    /// Owners and groups of all objects.
    pub owners: bool,
    /// Owner, group, mode and time of the root.
    pub root: bool,
    /// Hard links: a part of a tree lacks some names.
    pub links: bool,
}

/// What a comparison found.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// What was compared.
    pub totals: Totals,
    /// Differences in all.
    pub differences: u64,
    /// The first of them, for people.
    pub described: Vec<String>,
}

impl Comparison {
    /// Whether nothing differs.
    pub fn equal(&self) -> bool {
        self.differences == 0
    }

    fn differ(&mut self, path: &[u8], what: impl fmt::Display) {
        self.differences += 1;
        if self.described.len() < DESCRIBED_MAX {
            self.described.push(format!("{}: {what}", show(path)));
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals {
            entries,
            files,
            bytes,
        } = self.totals;
        write!(
            f,
            "{entries} entries, {files} files, {bytes} bytes: {} differences",
            self.differences
        )?;
        self.described.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// Compares `expected` with `found`.
pub async fn compare(expected: &Tree, found: &Tree, leniency: Leniency) -> Result<Comparison, TreeError> {
    let mut comparison = Comparison {
        totals: expected.totals(),
        ..Comparison::default()
    };
    let mut reads: Vec<(&TreePath, &Node, &Node, Run)> = Vec::new();
    for (path, node) in &expected.nodes {
        let Some(other) = found.node(path) else {
            comparison.differ(path, format_args!("missing ({:?})", node.kind()));
            continue;
        };
        compare_nodes(&mut comparison, path, (node, other), leniency);
    }
    for (path, node) in found
        .nodes
        .iter()
        .filter(|(path, _)| !expected.nodes.contains_key(*path))
    {
        comparison.differ(path, format_args!("only in the second ({:?})", node.kind()));
    }
    if !leniency.links {
        compare_links(&mut comparison, expected, found);
    }
    for (path, node) in expected.regular_files() {
        if let Some(other) = found.node(path).filter(|other| other.kind() == Kind::Regular) {
            let common = node.attributes.size.min(other.attributes.size);
            reads.extend(runs(0, common).into_iter().map(|run| (path, node, other, run)));
        }
    }
    let unequal = parallel::map(IN_FLIGHT, &reads, |(path, node, other, run)| async move {
        let (a, b) = tokio::try_join!(expected.read(path, node, *run), found.read(path, other, *run))?;
        Ok::<_, TreeError>(a.iter().zip(&b).position(|(a, b)| a != b).filter(|_| a != b))
    })
    .await?;
    for ((path, _, _, run), unequal) in reads.iter().zip(unequal) {
        if let Some(at) = unequal {
            comparison.differ(path, format_args!("byte {}", run.offset + at as u64));
        }
    }
    Ok(comparison)
}

fn compare_nodes(
    comparison: &mut Comparison,
    path: &[u8],
    (node, other): (&Node, &Node),
    leniency: Leniency,
) {
    let (a, b) = (&node.attributes, &other.attributes);
    if a.kind != b.kind {
        comparison.differ(path, format_args!("{:?} became {:?}", a.kind, b.kind));
        return;
    }
    if node.target != other.target {
        comparison.differ(path, "link target");
    }
    if a.kind == Kind::Regular && a.size != b.size {
        comparison.differ(path, format_args!("size {} became {}", a.size, b.size));
    }
    if matches!(a.kind, Kind::BlockDevice | Kind::CharacterDevice) && a.device != b.device {
        comparison.differ(path, format_args!("device {:?} became {:?}", a.device, b.device));
    }
    if path.is_empty() && leniency.root {
        return;
    }
    if a.mode != b.mode {
        comparison.differ(path, format_args!("mode {:o} became {:o}", a.mode, b.mode));
    }
    if a.modified != b.modified {
        comparison.differ(
            path,
            format_args!("time {:?} became {:?}", a.modified, b.modified),
        );
    }
    if !leniency.owners && (a.uid, a.gid) != (b.uid, b.gid) {
        comparison.differ(
            path,
            format_args!("owner {}:{} became {}:{}", a.uid, a.gid, b.uid, b.gid),
        );
    }
}

/// Names of one object on one side must be names of one object on the other. Link counts must agree with the names,
/// unless the object has names outside of the expected tree.
fn compare_links(comparison: &mut Comparison, expected: &Tree, found: &Tree) {
    let groups = |tree: &Tree| -> BTreeSet<Vec<TreePath>> {
        tree.link_groups()
            .into_values()
            .map(|names| names.into_iter().cloned().collect())
            .collect()
    };
    let (before, after) = (groups(expected), groups(found));
    for names in before.symmetric_difference(&after) {
        let shown: Vec<String> = names.iter().map(|name| show(name)).collect();
        let side = if before.contains(names) {
            "not linked in the second"
        } else {
            "linked only in the second"
        };
        comparison.differ(&names[0], format_args!("{side}: {shown:?}"));
    }
    let names_of: std::collections::HashMap<u64, usize> = found
        .link_groups()
        .into_iter()
        .map(|(object, names)| (object, names.len()))
        .collect();
    for (path, node) in found
        .nodes
        .iter()
        .filter(|(_, node)| node.kind() != Kind::Directory)
    {
        let names = names_of.get(&node.attributes.fileid).copied().unwrap_or(1);
        if node.attributes.links as usize != names {
            comparison.differ(
                path,
                format_args!("{} links, {names} names", node.attributes.links),
            );
        }
    }
}
