//! Rules about what no tracked file says: paths of the machine it was written on, and talk about who was told to write it.
//!
//! The samples are put together from halves, so that this file passes its own rule.

use super::Finding;
use crate::workspace::SourceFile;

/// Directories of one machine. They are looked for where a path begins.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// Phrases about the making of a text instead of its subject. (NFSv4.1 has sessions too: only phrases that are about
/// work are listed.)
const PHRASES: &[&str] = &[
    concat!("this ses", "sion"),
    concat!("last ses", "sion"),
    concat!("next ses", "sion"),
    concat!("previous ses", "sion"),
    concat!("earlier ses", "sion"),
    concat!("another ses", "sion"),
    concat!("collea", "gue"),
    concat!("the bri", "ef "),
    concat!("in the bri", "ef"),
    concat!("assign", "ment says"),
    concat!("as instr", "ucted"),
    concat!("my ta", "sk"),
    concat!("the task sa", "ys"),
    concat!("under constr", "uction"),
];

/// No path that exists on one machine only.
pub fn no_machine_paths(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for path in MACHINE_PATHS {
            if line.match_indices(path).any(|(at, _)| begins_a_path(&line[..at])) {
                let what = format!("names {path}, a path of one machine");
                findings.push(Finding::new(&file.path, index + 1, what));
            }
        }
    }
    findings
}

/// Whether a path that follows `before` begins there, and does not go on with what is in `before`.
fn begins_a_path(before: &str) -> bool {
    !before.chars().next_back().is_some_and(|last| {
        last.is_alphanumeric() || matches!(last, '_' | '-' | '.' | '}' | ')' | '/' | '~' | '*')
    })
}

/// No sentence about the work instead of the thing.
pub fn no_talk_about_the_work(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let line = line.to_lowercase();
        for phrase in PHRASES.iter().filter(|phrase| line.contains(**phrase)) {
            let what = format!(
                "says \"{}\": write about the thing, not about the work on it",
                phrase.trim()
            );
            findings.push(Finding::new(&file.path, index + 1, what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> SourceFile {
        SourceFile {
            path: "a.md".to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn machine_paths_are_found() {
        for before in ["", "see ", "\"", "`", "(", "=", "PATH:"] {
            for path in MACHINE_PATHS {
                assert_eq!(
                    no_machine_paths(&file(&format!("{before}{path}x"))).len(),
                    1,
                    "{before}{path}"
                );
            }
        }
    }

    #[test]
    fn other_paths_pass() {
        for good in [
            "a/work/b",
            "$HOME/work/x",
            "~/work/",
            "../work/",
            "/workspace/",
            "network/",
            "/var/lib/cairn",
        ] {
            assert_eq!(no_machine_paths(&file(good)), [], "{good}");
        }
    }

    #[test]
    fn talk_is_found_whatever_its_case() {
        for phrase in PHRASES {
            assert!(
                !no_talk_about_the_work(&file(&phrase.to_uppercase())).is_empty(),
                "{phrase}"
            );
        }
        assert_eq!(
            no_talk_about_the_work(&file("An NFSv4.1 session holds slots. In brief: no.")),
            []
        );
    }
}
