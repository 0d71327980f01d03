//! `cargo run -p cairn-xtask -- tidy`: the house rules that neither rustc nor clippy can check. `-- deploy`: whether what is installed into
//! clusters fits together, see [`deploy`].
//!
//! Each rule is a function of [`tidy`] over plain data, with tests on good and bad samples; `cargo test -p cairn-xtask`
//! applies all of them to the workspace too. Nothing here is linked into a product.

mod deploy;
mod tidy;
mod workspace;

use std::process::ExitCode;

use crate::workspace::Workspace;

const USAGE: &str = "usage: cargo run -p cairn-xtask -- tidy | deploy [--write]";

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => {
            let workspace = Workspace::load()?;
            let findings: Vec<String> = tidy::run(&workspace).iter().map(ToString::to_string).collect();
            let count = workspace.files.len();
            Ok(report(
                "tidy",
                &findings,
                &format!("{count} files, nothing found"),
            ))
        }
        ["deploy"] => {
            let findings = deploy::check(&deploy::root()?)?;
            Ok(report("deploy", &findings, "everything fits together"))
        }
        ["deploy", "--write"] => {
            deploy::write(&deploy::root()?)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprintln!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}

/// Tells what was found.
fn report(name: &str, findings: &[String], fine: &str) -> ExitCode {
    for finding in findings {
        eprintln!("{finding}");
    }
    if findings.is_empty() {
        println!("{name}: {fine}");
        return ExitCode::SUCCESS;
    }
    eprintln!("{name}: {} findings", findings.len());
    ExitCode::FAILURE
}
