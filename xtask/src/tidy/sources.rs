//! Rules about Rust files.

use super::Finding;
use super::strip::code_only;
use crate::workspace::SourceFile;

/// Lines that a file may have. Past it, it is two rooms with one door.
const LINES_MAX: usize = 800;

/// Lines at a file's beginning in which a generator says that it wrote it.
const GENERATED_WITHIN: usize = 5;

/// Whether a generator wrote the file (and said so as generators do). Nobody reads it from its first line.
pub fn is_generated(file: &SourceFile) -> bool {
    let mark = concat!("@gener", "ated");
    file.text
        .lines()
        .take(GENERATED_WITHIN)
        .any(|line| line.starts_with("//") && line.contains(mark))
}

/// Every file opens with `//!`: what it owns, its invariants, what it does not do.
pub fn opens_with_module_docs(file: &SourceFile) -> Option<Finding> {
    let docs = file.text.lines().next().and_then(|line| line.strip_prefix("//!"));
    match docs {
        Some(text) if !text.trim().is_empty() => None,
        _ => Some(Finding::new(
            &file.path,
            1,
            "opens without `//!` and a sentence on what the file owns",
        )),
    }
}

/// No file has more than [`LINES_MAX`] lines.
pub fn is_not_too_long(file: &SourceFile) -> Option<Finding> {
    let lines = file.text.lines().count();
    (lines > LINES_MAX)
        .then(|| Finding::new(&file.path, 0, format!("has {lines} lines; {LINES_MAX} at most")))
}

/// `foo.rs` beside `foo/`, never `foo/mod.rs`.
pub fn is_not_mod_rs(file: &SourceFile) -> Option<Finding> {
    let is = file.path == "mod.rs" || file.path.ends_with("/mod.rs");
    is.then(|| {
        Finding::new(
            &file.path,
            0,
            "is a mod.rs: name it after its module, beside the directory",
        )
    })
}

/// No stub and no test that never runs.
pub fn nothing_left_undone(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in code_only(&file.text).lines().enumerate() {
        let code: String = line.split_whitespace().collect();
        for mark in ["todo!", "unimplemented!", "#[ignore"] {
            if stands_alone(&code, mark) {
                findings.push(Finding::new(&file.path, index + 1, format!("`{mark}` is left")));
            }
        }
    }
    findings
}

/// Whether `mark` stands in `code` and is not the end of a longer name.
fn stands_alone(code: &str, mark: &str) -> bool {
    code.match_indices(mark).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn module_docs() {
        assert_eq!(
            opens_with_module_docs(&file("a.rs", "//! Owns a.\n\nfn a() {}\n")),
            None
        );
        for bad in [
            "",
            "fn a() {}\n",
            "// Owns a.\n",
            "//!\n//! Owns a.\n",
            "\n//! Owns a.\n",
            "#![x]\n//! Owns a.\n",
        ] {
            assert!(opens_with_module_docs(&file("a.rs", bad)).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn generated_files_say_so_in_a_comment_at_their_beginning() {
        let mark = concat!("// This file is @gener", "ated by a tool.\n");
        assert!(is_generated(&file("a.rs", mark)));
        assert!(!is_generated(&file(
            "a.rs",
            &format!("{}{mark}", "fn a() {}\n".repeat(GENERATED_WITHIN))
        )));
        assert!(!is_generated(&file(
            "a.rs",
            concat!("let a = \"@gener", "ated\";\n")
        )));
    }

    #[test]
    fn length() {
        assert_eq!(is_not_too_long(&file("a.rs", &"x\n".repeat(LINES_MAX))), None);
        assert!(is_not_too_long(&file("a.rs", &"x\n".repeat(LINES_MAX + 1))).is_some());
    }

    #[test]
    fn module_files() {
        assert_eq!(is_not_mod_rs(&file("a/src/foo.rs", "")), None);
        assert_eq!(is_not_mod_rs(&file("a/src/amod.rs", "")), None);
        assert!(is_not_mod_rs(&file("a/src/foo/mod.rs", "")).is_some());
    }

    #[test]
    fn stubs_and_sleeping_tests() {
        let good =
            "//! About todo!().\nlet a = \"unimplemented!()\"; // #[ignore]\nmy_todo!();\n#[must_use]\n";
        assert_eq!(nothing_left_undone(&file("a.rs", good)), []);
        let bad =
            "fn a() { todo!() }\nfn b() { unimplemented!(\"later\") }\n#[ignore = \"slow\"]\n# [ignore]\n";
        let lines: Vec<usize> = nothing_left_undone(&file("a.rs", bad))
            .iter()
            .map(|finding| finding.line)
            .collect();
        assert_eq!(lines, [1, 2, 3, 4]);
    }
}
