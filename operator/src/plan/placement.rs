//! On which node a new Workspace is put: nodes that cannot have it are filtered out, the others are ordered, the first wins. Why each of the others was
//! not taken is told.

use cairn_crds::workspace::{Placement, PlacementPolicy};

use super::size;

/// A node, as far as placing needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub node: String,
    /// Why its daemon takes nothing new now; nothing: it does.
    pub away: Option<String>,
    /// Somebody wants nothing new there.
    pub cordoned: bool,
    /// Whether the Workspace's node selector fits it.
    pub is_selected: bool,
    /// Free bytes.
    pub free: u64,
    /// Bytes that Workspaces may take that were put there and are not made yet.
    pub reserved: u64,
    /// Workspaces that it has.
    pub workspaces: u64,
}

/// Why no node can have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoNode {
    /// CamelCase, for the condition.
    pub reason: &'static str,
    /// Why, and what to do.
    pub message: String,
}

/// Nodes that are named in a message.
const NAMED_MAX: usize = 5;

/// Chooses. `bytes` is what the Workspace may take; `origin` the node that has the data it begins with; `uid` decides between equals. Errors: no node can
/// have it, and why each cannot.
pub fn choose(
    candidates: &[Candidate],
    placement: Option<&Placement>,
    bytes: u64,
    origin: Option<&str>,
    uid: &str,
) -> Result<String, NoNode> {
    let wanted = placement.and_then(|placement| placement.node_name.as_deref());
    if let (Some(wanted), Some(origin)) = (wanted, origin)
        && wanted != origin
    {
        return Err(NoNode {
            reason: "InitialSnapshotElsewhere",
            message: format!(
                "placement.nodeName is {wanted}, and the initial snapshot is on node {origin}: remove placement.nodeName, or make the Workspace without initialSnapshot and copy the data"
            ),
        });
    }
    if candidates.is_empty() {
        return Err(NoNode {
            reason: "NoStorageNodes",
            message: "no node runs a daemon: see whether the DaemonSet has pods (kubectl get storagenodes)"
                .to_owned(),
        });
    }
    let mut refused: Vec<(&str, String)> = Vec::new();
    let mut fit: Vec<&Candidate> = Vec::new();
    for candidate in candidates {
        match obstacle(candidate, wanted.or(origin), bytes) {
            Some(why) => refused.push((&candidate.node, why)),
            None => fit.push(candidate),
        }
    }
    let policy = placement.map(|placement| placement.policy).unwrap_or_default();
    let best = fit.into_iter().min_by_key(|candidate| {
        let free = candidate.free.saturating_sub(candidate.reserved);
        let score = match policy {
            PlacementPolicy::MostFree => u64::MAX - free,
            PlacementPolicy::Pack => free,
            PlacementPolicy::Spread => candidate.workspaces,
        };
        let draw = blake3::hash(format!("{uid}/{}", candidate.node).as_bytes());
        (score, *draw.as_bytes())
    });
    if let Some(best) = best {
        return Ok(best.node.clone());
    }
    if let Some(wanted) = wanted.or(origin)
        && !candidates.iter().any(|candidate| candidate.node == wanted)
    {
        return Err(NoNode {
            reason: "NodeUnknown",
            message: format!(
                "node {wanted} runs no daemon: see whether the DaemonSet has a pod there (kubectl get storagenodes)"
            ),
        });
    }
    refused.sort_by_key(|(node, why)| (why.starts_with("is not"), *node));
    let more = refused.len().saturating_sub(NAMED_MAX);
    let mut told: Vec<String> = refused
        .iter()
        .take(NAMED_MAX)
        .map(|(node, why)| format!("{node} {why}"))
        .collect();
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    Err(NoNode {
        reason: "NoNodeFits",
        message: format!(
            "no node can have it: {}; add room or a node, uncordon one, or ask for less",
            told.join(", ")
        ),
    })
}

fn obstacle(candidate: &Candidate, wanted: Option<&str>, bytes: u64) -> Option<String> {
    if wanted.is_some_and(|wanted| wanted != candidate.node) {
        return Some("is not the node that is asked for".to_owned());
    }
    if !candidate.is_selected {
        return Some("is not selected by placement.nodeSelector".to_owned());
    }
    if candidate.cordoned {
        return Some("is cordoned".to_owned());
    }
    if candidate.away.is_some() {
        return Some("does not answer".to_owned());
    }
    let free = candidate.free.saturating_sub(candidate.reserved);
    (free < bytes).then(|| {
        format!(
            "has {} free of the {} that are asked for",
            size(free),
            size(bytes)
        )
    })
}

#[cfg(test)]
mod tests {
    use cairn_crds::workspace::{Placement, PlacementPolicy};

    use super::{Candidate, choose};

    const GIB: u64 = 1 << 30;

    fn node(name: &str, free: u64, workspaces: u64) -> Candidate {
        Candidate {
            node: name.to_owned(),
            away: None,
            cordoned: false,
            is_selected: true,
            free: free * GIB,
            reserved: 0,
            workspaces,
        }
    }

    fn by(policy: PlacementPolicy) -> Option<Placement> {
        Some(Placement {
            policy,
            ..Placement::default()
        })
    }

    #[test]
    fn the_policy_decides_among_those_that_fit() {
        let nodes = [
            node("a", 100, 3),
            node("b", 50, 1),
            node("c", 20, 2),
            node("d", 5, 0),
        ];
        let chosen = |policy| choose(&nodes, by(policy).as_ref(), 10 * GIB, None, "u").unwrap();
        assert_eq!(chosen(PlacementPolicy::MostFree), "a");
        assert_eq!(chosen(PlacementPolicy::Pack), "c");
        assert_eq!(chosen(PlacementPolicy::Spread), "b");
    }

    #[test]
    fn what_is_on_its_way_counts() {
        let mut nodes = [node("a", 100, 0), node("b", 50, 0)];
        nodes[0].reserved = 60 * GIB;
        assert_eq!(choose(&nodes, None, 10 * GIB, None, "u").unwrap(), "b");
    }

    #[test]
    fn equals_are_spread_by_chance_that_is_always_the_same() {
        let nodes: Vec<Candidate> = (0..4).map(|n| node(&format!("n{n}"), 10, 0)).collect();
        let chosen: std::collections::BTreeSet<String> = (0..64)
            .map(|n| {
                let uid = format!("u{n}");
                let first = choose(&nodes, None, GIB, None, &uid).unwrap();
                assert_eq!(first, choose(&nodes, None, GIB, None, &uid).unwrap());
                first
            })
            .collect();
        assert_eq!(chosen.len(), 4);
    }

    #[test]
    fn the_data_that_it_begins_with_decides() {
        let nodes = [node("a", 100, 0), node("b", 50, 0)];
        assert_eq!(choose(&nodes, None, GIB, Some("b"), "u").unwrap(), "b");
        let elsewhere = Placement {
            node_name: Some("a".to_owned()),
            ..Placement::default()
        };
        let error = choose(&nodes, Some(&elsewhere), GIB, Some("b"), "u").unwrap_err();
        assert_eq!(error.reason, "InitialSnapshotElsewhere");
    }

    #[test]
    fn why_nobody_can_have_it_is_told() {
        assert_eq!(
            choose(&[], None, 1, None, "u").unwrap_err().reason,
            "NoStorageNodes"
        );
        let mut nodes = [
            node("a", 1, 0),
            node("b", 90, 0),
            node("c", 90, 0),
            node("d", 90, 0),
        ];
        nodes[1].cordoned = true;
        nodes[2].away = Some("refused".to_owned());
        nodes[3].is_selected = false;
        let error = choose(&nodes, None, 2 * GIB, None, "u").unwrap_err();
        assert_eq!(error.reason, "NoNodeFits");
        for part in [
            "a has 1Gi free of the 2Gi",
            "b is cordoned",
            "c does not answer",
            "d is not selected",
        ] {
            assert!(error.message.contains(part), "{}", error.message);
        }
        let wanted = Placement {
            node_name: Some("z".to_owned()),
            ..Placement::default()
        };
        let error = choose(&nodes, Some(&wanted), 1, None, "u").unwrap_err();
        assert_eq!(error.reason, "NodeUnknown");
    }
}
