//! Rules about `Cargo.toml` files.

use super::Finding;
use crate::workspace::Workspace;

/// Every member takes the workspace's lints; without the two lines none of them would apply to it.
pub fn members_inherit_lints(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (_, package) in workspace.members() {
        let Some(directory) = package.member.as_deref() else {
            continue;
        };
        let path = format!("{directory}/Cargo.toml");
        if !workspace.text(&path).is_some_and(inherits_lints) {
            findings.push(Finding::new(
                path,
                0,
                "wants the section [lints] with workspace = true",
            ));
        }
    }
    findings
}

fn inherits_lints(manifest: &str) -> bool {
    let mut section = "";
    manifest.lines().map(str::trim).any(|line| {
        if line.starts_with('[') {
            section = line;
        }
        section == "[lints]" && line.split_whitespace().collect::<String>() == "workspace=true"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_with_the_line_passes() {
        assert!(inherits_lints(
            "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"
        ));
        assert!(inherits_lints("[lints]\nworkspace  =  true\n[dependencies]\n"));
    }

    #[test]
    fn anything_else_does_not() {
        assert!(!inherits_lints("[package]\nname = \"a\"\n"));
        assert!(!inherits_lints("[lints]\n[dependencies]\nworkspace = true\n"));
        assert!(!inherits_lints("[lints]\nworkspace = false\n"));
        assert!(!inherits_lints("[lints]\n# workspace = true\n"));
    }
}
