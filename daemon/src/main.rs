//! The binary `cairnd`. Everything is in the library, so that tests reach it.

use std::process::ExitCode;

/// Of all threads, RocksDB's too. The system's allocator keeps what was freed in pieces; under pushes and pulls it held
/// half as much again.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cairnd::main()
}
