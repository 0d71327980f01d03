//! `cairn-operator`: parses the command line and runs the operator until it is asked to stop.
//!
//! Exit codes: 0 stopped in order; 1 it could not start (the log says why); 2 wrong command line.

use std::process::ExitCode;

use cairn_operator::arguments::{Arguments, Command};
use cairn_operator::run;
use clap::Parser;

fn main() -> ExitCode {
    let Command::Run(arguments) = Arguments::parse().command;
    match run::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cairn-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
