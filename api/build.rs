//! Compiles the protobuf contract in pure Rust: no `protoc` binary is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 4] = [
        "cairn/v1/common.proto",
        "cairn/v1/workspaces.proto",
        "cairn/v1/snapshots.proto",
        "cairn/v1/node.proto",
    ];
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
