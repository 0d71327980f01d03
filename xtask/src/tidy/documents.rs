//! Rules about the pages: the architecture page holds the very table that the layering rule uses, and links between files
//! of the project lead somewhere.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use super::Finding;
use super::layering::TABLE;
use crate::workspace::{SourceFile, Workspace};

/// The page with the dependency table.
const PAGE: &str = "docs/architecture.md";
/// The table's first line.
const TABLE_HEADER: &str = "| crate | may depend on (ours) |";

/// `docs/architecture.md` shows the table of [`super::layering`], row by row.
pub fn table_matches_the_page(workspace: &Workspace) -> Vec<Finding> {
    let Some(page) = workspace.text(PAGE) else {
        return vec![Finding::new(PAGE, 0, "is missing")];
    };
    compare_rows(&rows_of(page), &wanted_rows())
}

fn wanted_rows() -> Vec<String> {
    TABLE
        .iter()
        .map(|(name, allowed)| match allowed.is_empty() {
            true => format!("| {name} | nothing |"),
            false => format!("| {name} | {} |", allowed.join(", ")),
        })
        .collect()
}

/// The rows below the header, with the line each stands in.
fn rows_of(page: &str) -> Vec<(usize, String)> {
    let lines = page
        .lines()
        .enumerate()
        .skip_while(|(_, line)| line.trim() != TABLE_HEADER);
    lines
        .skip(2)
        .map_while(|(index, line)| line.starts_with('|').then(|| (index + 1, line.trim().to_owned())))
        .collect()
}

fn compare_rows(found: &[(usize, String)], wanted: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, row) in found.iter().filter(|(_, row)| !wanted.contains(row)) {
        findings.push(Finding::new(
            PAGE,
            *line,
            format!("row {row} is not in xtask's table"),
        ));
    }
    for row in wanted
        .iter()
        .filter(|row| !found.iter().any(|(_, found)| found == *row))
    {
        findings.push(Finding::new(PAGE, 0, format!("row {row} is missing")));
    }
    findings
}

/// Links of Markdown pages to files of the project name files that exist.
pub fn links_lead_somewhere(workspace: &Workspace) -> Vec<Finding> {
    let mut known = BTreeSet::new();
    for file in &workspace.files {
        let mut path = Path::new(&file.path);
        known.insert(path.to_path_buf());
        while let Some(parent) = path.parent() {
            known.insert(parent.to_path_buf());
            path = parent;
        }
    }
    let pages = workspace.files.iter().filter(|file| file.path.ends_with(".md"));
    pages
        .flat_map(|page| {
            let links = links_of(page);
            links
                .into_iter()
                .filter(|(_, link)| !known.contains(&resolved(&page.path, link)))
                .map(|(line, link)| {
                    Finding::new(&page.path, line, format!("links to {link}, which is not there"))
                })
        })
        .collect()
}

/// Targets of the page's inline links that are files of the project, with their lines; what is fenced is left out.
fn links_of(page: &SourceFile) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut fenced = false;
    for (index, line) in page.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for part in line.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            let target = target.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') {
                links.push((index + 1, target.to_owned()));
            }
        }
    }
    links
}

/// The path from the root that `link` in `page` names.
fn resolved(page: &str, link: &str) -> std::path::PathBuf {
    let directory = Path::new(page).parent().unwrap_or(Path::new(""));
    let mut path = std::path::PathBuf::new();
    for component in directory.join(link).components() {
        match component {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(files: &[(&str, &str)]) -> Workspace {
        let files = files
            .iter()
            .map(|(path, text)| SourceFile {
                path: (*path).to_owned(),
                text: (*text).to_owned(),
            })
            .collect();
        Workspace {
            files,
            ..Workspace::default()
        }
    }

    fn page(rows: &[String]) -> String {
        format!(
            "# Page\n\n{TABLE_HEADER}\n| --- | --- |\n{}\n\nText.\n",
            rows.join("\n")
        )
    }

    #[test]
    fn the_same_table_passes() {
        let page = page(&wanted_rows());
        assert_eq!(table_matches_the_page(&workspace(&[(PAGE, &page)])), []);
    }

    #[test]
    fn a_missing_page_row_or_table_is_found() {
        assert_eq!(table_matches_the_page(&workspace(&[])).len(), 1);
        let fewer = page(&wanted_rows()[1..]);
        assert_eq!(table_matches_the_page(&workspace(&[(PAGE, &fewer)])).len(), 1);
        assert_eq!(
            table_matches_the_page(&workspace(&[(PAGE, "# Page\n")])).len(),
            TABLE.len()
        );
    }

    #[test]
    fn a_changed_row_is_found_with_its_line() {
        let mut rows = wanted_rows();
        rows[0] = "| types | content |".to_owned();
        let findings = table_matches_the_page(&workspace(&[(PAGE, &page(&rows))]));
        assert_eq!(findings.len(), 2);
        assert!(findings.iter().any(|finding| finding.line == 5));
    }

    #[test]
    fn links_to_files_directories_and_elsewhere_pass() {
        let text = "[a](formats/a.md) [b](../README.md#top) [c](formats/) [d](https://e.org) [f](#g)\n```\n[x](y)\n```\n";
        let good = workspace(&[
            ("docs/page.md", text),
            ("docs/formats/a.md", ""),
            ("README.md", ""),
        ]);
        assert_eq!(links_lead_somewhere(&good), []);
    }

    #[test]
    fn a_dead_link_is_found() {
        let bad = workspace(&[("docs/page.md", "\n[a](formats/a.md)\n")]);
        let findings = links_lead_somewhere(&bad);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, 2);
    }
}
