//! Which crate may depend on which. The table here and the one in `docs/architecture.md` are the same; a dependency that
//! neither allows is a design decision, to be made there first.
//!
//! Development dependencies are exempt: a test may use whatever it needs.

use std::collections::BTreeSet;

use super::Finding;
use crate::workspace::Workspace;

/// Crates that anything may be linked into, but what runs in no product.
pub const ANYTHING: &str = "anything but operator and crds";

/// Crate directories in layering order, and what of ours each may depend on.
pub const TABLE: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("content", &["types"]),
    ("metadata", &["types"]),
    ("vfs", &["types", "content", "metadata"]),
    ("fuse", &["types"]),
    ("snapshot", &["types", "content", "fuse"]),
    ("nfs", &["types", "vfs"]),
    ("api", &["types"]),
    (
        "daemon",
        &["types", "content", "metadata", "vfs", "snapshot", "nfs", "api"],
    ),
    ("cli", &["types", "fuse", "snapshot", "api"]),
    ("crds", &["types"]),
    ("operator/apiserver", &[]),
    ("operator", &["types", "api", "crds"]),
    ("kubectl", &["types", "crds"]),
    ("e2e", &[ANYTHING]),
    ("benches", &[ANYTHING]),
    ("benches/compare", &[ANYTHING]),
    ("xtask", &[]),
];

/// Crate directories, and packages that must not be linked into them by any way round.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("daemon", &["kube", "kube-client", "kube-core", "k8s-openapi"]),
    (
        "operator",
        &[
            "cairn-content",
            "cairn-metadata",
            "cairn-vfs",
            "cairn-nfs",
            "cairn-snapshot",
            "rocksdb",
            "librocksdb-sys",
        ],
    ),
    ("cli", &["cairn-vfs", "cairn-nfs"]),
    // It talks to API servers only.
    ("kubectl", &["tonic", "cairn-api", "cairn-operator"]),
];

/// Every member stands in the table and depends on nothing of ours that the table does not allow.
pub fn crates_follow_the_table(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (_, package) in workspace.members() {
        let Some(directory) = package.member.as_deref() else {
            continue;
        };
        let Some((_, allowed)) = TABLE.iter().find(|(name, _)| *name == directory) else {
            findings.push(Finding::new(
                directory,
                0,
                "is in no row of the dependency table of xtask",
            ));
            continue;
        };
        for link in &package.links {
            let Some(used) = workspace
                .packages
                .get(link)
                .and_then(|package| package.member.as_deref())
            else {
                continue;
            };
            let allowed = match allowed.contains(&ANYTHING) {
                true => used != "operator" && used != "crds",
                false => allowed.contains(&used),
            };
            if !allowed {
                findings.push(Finding::new(
                    directory,
                    0,
                    format!("depends on {used}, which the dependency table does not allow"),
                ));
            }
        }
    }
    findings
}

/// The node's daemon links no Kubernetes client, the operator links no engine, and so on.
pub fn forbidden_links(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (id, package) in workspace.members() {
        let Some((directory, forbidden)) = FORBIDDEN
            .iter()
            .find(|(name, _)| Some(*name) == package.member.as_deref())
        else {
            continue;
        };
        for name in linked_names(workspace, id) {
            if forbidden.contains(&name) {
                findings.push(Finding::new(
                    *directory,
                    0,
                    format!("links {name}, which it must not"),
                ));
            }
        }
    }
    findings
}

/// Names of all packages that are linked into the package `id`.
fn linked_names<'a>(workspace: &'a Workspace, id: &'a str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut next = vec![id];
    let mut names = BTreeSet::new();
    while let Some(id) = next.pop() {
        let Some(package) = workspace.packages.get(id) else {
            continue;
        };
        for link in &package.links {
            if seen.insert(link.as_str()) {
                next.push(link);
                names.extend(workspace.packages.get(link).map(|package| package.name.as_str()));
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Package;

    /// A workspace of packages (name, directory or nothing, names it links).
    fn workspace(packages: &[(&str, Option<&str>, &[&str])]) -> Workspace {
        let packages = packages
            .iter()
            .map(|(name, member, links)| {
                let package = Package {
                    name: (*name).to_owned(),
                    member: member.map(str::to_owned),
                    links: links.iter().map(|link| (*link).to_owned()).collect(),
                };
                ((*name).to_owned(), package)
            })
            .collect();
        Workspace {
            files: Vec::new(),
            packages,
        }
    }

    #[test]
    fn allowed_edges_pass() {
        let good = workspace(&[
            ("cairn-types", Some("types"), &["serde"]),
            ("cairn-vfs", Some("vfs"), &["cairn-types"]),
            ("cairn-e2e", Some("e2e"), &["cairn-types", "cairn-vfs"]),
            ("serde", None, &[]),
        ]);
        assert_eq!(crates_follow_the_table(&good), []);
    }

    #[test]
    fn an_upward_edge_is_found() {
        let bad = workspace(&[
            ("cairn-types", Some("types"), &["cairn-vfs"]),
            ("cairn-vfs", Some("vfs"), &[]),
        ]);
        let findings = crates_follow_the_table(&bad);
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].to_string().contains("types: depends on vfs"),
            "{}",
            findings[0]
        );
    }

    #[test]
    fn a_member_outside_the_table_is_found() {
        let bad = workspace(&[("cairn-utils", Some("utils"), &[])]);
        assert_eq!(crates_follow_the_table(&bad).len(), 1);
    }

    #[test]
    fn end_to_end_tests_do_not_link_the_operator() {
        let bad = workspace(&[
            ("cairn-e2e", Some("e2e"), &["cairn-operator"]),
            ("cairn-operator", Some("operator"), &[]),
        ]);
        assert!(
            crates_follow_the_table(&bad)
                .iter()
                .any(|finding| finding.place == "e2e")
        );
    }

    #[test]
    fn forbidden_packages_are_found_through_others() {
        let bad = workspace(&[
            ("cairnd", Some("daemon"), &["helpful"]),
            ("helpful", None, &["kube-client"]),
            ("kube-client", None, &[]),
            ("cairn-operator", Some("operator"), &["cairn-api"]),
            ("cairn-api", Some("api"), &["rocksdb"]),
            ("rocksdb", None, &[]),
        ]);
        let places: Vec<String> = forbidden_links(&bad)
            .into_iter()
            .map(|finding| finding.place)
            .collect();
        assert_eq!(places, ["operator", "daemon"]);
    }

    #[test]
    fn what_is_not_forbidden_passes() {
        let good = workspace(&[("cairnd", Some("daemon"), &["rocksdb"]), ("rocksdb", None, &[])]);
        assert_eq!(forbidden_links(&good), []);
    }

    #[test]
    fn rows_name_only_what_stands_above_them() {
        for (index, (name, allowed)) in TABLE.iter().enumerate() {
            for other in allowed.iter().filter(|other| **other != ANYTHING) {
                let row = TABLE.iter().position(|(name, _)| name == other);
                assert!(row.is_some_and(|row| row < index), "{name} may depend on {other}");
            }
        }
    }
}
