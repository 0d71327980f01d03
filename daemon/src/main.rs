//! The binary `cairnd`. Everything is in the library, so that tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    cairnd::main()
}
