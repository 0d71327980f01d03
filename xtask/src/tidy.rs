//! The rules: which there are, and what a finding is. A rule looks and reports; it changes nothing.

mod documents;
mod layering;
mod manifests;
mod sources;
mod strip;
mod words;

use std::fmt;

use crate::workspace::Workspace;

/// One place that breaks one rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// File (from the workspace's root) or crate.
    pub place: String,
    /// Line, from 1; 0 if the whole file or crate is meant.
    pub line: usize,
    /// What is wrong and what is wanted.
    pub what: String,
}

impl Finding {
    fn new(place: impl Into<String>, line: usize, what: impl Into<String>) -> Self {
        Finding {
            place: place.into(),
            line,
            what: what.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.place, self.what),
            line => write!(f, "{}:{line}: {}", self.place, self.what),
        }
    }
}

/// Applies every rule.
pub fn run(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(layering::crates_follow_the_table(workspace));
    findings.extend(layering::forbidden_links(workspace));
    findings.extend(documents::table_matches_the_page(workspace));
    findings.extend(documents::links_lead_somewhere(workspace));
    findings.extend(manifests::members_inherit_lints(workspace));
    for file in &workspace.files {
        if file.path.ends_with(".rs") {
            if !sources::is_generated(file) {
                findings.extend(sources::opens_with_module_docs(file));
                findings.extend(sources::is_not_too_long(file));
            }
            findings.extend(sources::is_not_mod_rs(file));
            findings.extend(sources::nothing_left_undone(file));
        }
        findings.extend(words::no_machine_paths(file));
        findings.extend(words::no_talk_about_the_work(file));
    }
    findings.sort();
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let findings = run(&Workspace::load().unwrap());
        let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
        assert!(lines.is_empty(), "\n{}", lines.join("\n"));
    }
}
