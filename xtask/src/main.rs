//! `cargo run -p cairn-xtask -- tidy`: the house rules that neither rustc nor clippy can check.
//!
//! Each rule is a function of [`tidy`] over plain data, with tests on good and bad samples; `cargo test -p cairn-xtask`
//! applies all of them to the workspace too. Nothing here is linked into a product.

mod tidy;
mod workspace;

use std::process::ExitCode;

use crate::workspace::Workspace;

const USAGE: &str = "usage: cargo run -p cairn-xtask -- tidy";

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments != ["tidy"] {
        eprintln!("{USAGE}");
        return Ok(ExitCode::from(2));
    }
    let workspace = Workspace::load()?;
    let findings = tidy::run(&workspace);
    for finding in &findings {
        eprintln!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: {} files, nothing found", workspace.files.len());
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("tidy: {} findings", findings.len());
    Ok(ExitCode::FAILURE)
}
