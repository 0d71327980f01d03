//! `make demo`: a real tree through a real daemon, and every byte compared. See `cairn_e2e::demo`.

use std::process::ExitCode;

use cairn_e2e::demo::{self, Arguments};
use clap::Parser;

fn main() -> ExitCode {
    demo::run(&Arguments::parse())
}
