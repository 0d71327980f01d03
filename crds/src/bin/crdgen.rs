//! `cargo run -p cairn-crds --bin crdgen [-- --check]`: writes the manifests of the resources beside the crate, or tells which are stale.
//!
//! Exit codes: 0 done or fresh, 1 something is stale or cannot be written, 2 wrong command line.

use std::path::Path;
use std::process::ExitCode;

use cairn_crds::manifests;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => manifests::write(directory),
        ["--check"] => manifests::check(directory),
        _ => {
            eprintln!("usage: crdgen [--check]");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("crdgen: {message}");
            ExitCode::FAILURE
        }
    }
}
