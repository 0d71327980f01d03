//! The generated code of package `cairn.v1`. The protobuf files document it; `api/generate` writes it.
#![allow(missing_docs)]
#![allow(clippy::all)]

include!("proto/cairn.v1.rs");

#[cfg(test)]
mod tests {
    /// The protobuf files, in the order in which the generator's checksum covers them.
    const FILES: [&[u8]; 9] = [
        include_bytes!("../proto/cairn/v1/archives.proto"),
        include_bytes!("../proto/cairn/v1/common.proto"),
        include_bytes!("../proto/cairn/v1/control.proto"),
        include_bytes!("../proto/cairn/v1/directories.proto"),
        include_bytes!("../proto/cairn/v1/directory_types.proto"),
        include_bytes!("../proto/cairn/v1/node.proto"),
        include_bytes!("../proto/cairn/v1/operations.proto"),
        include_bytes!("../proto/cairn/v1/snapshots.proto"),
        include_bytes!("../proto/cairn/v1/workspaces.proto"),
    ];

    /// The pages of documentation, in the same order.
    const PAGES: [&str; FILES.len()] = [
        include_str!("../../docs/api/archives.md"),
        include_str!("../../docs/api/common.md"),
        include_str!("../../docs/api/control.md"),
        include_str!("../../docs/api/directories.md"),
        include_str!("../../docs/api/directory_types.md"),
        include_str!("../../docs/api/node.md"),
        include_str!("../../docs/api/operations.md"),
        include_str!("../../docs/api/snapshots.md"),
        include_str!("../../docs/api/workspaces.md"),
    ];

    #[test]
    fn the_documentation_is_of_these_protobuf_files() {
        let checksum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &FILES.concat());
        for page in PAGES {
            let first = page.lines().next().unwrap();
            assert!(
                first.ends_with(&format!("CRC-32C {checksum:08x}. -->")),
                "the protobuf files have changed: cargo run --release --manifest-path api/generate/Cargo.toml"
            );
        }
    }

    #[test]
    fn the_generated_code_is_of_these_protobuf_files() {
        let checksum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &FILES.concat());
        let first = include_str!("proto/cairn.v1.rs").lines().next().unwrap();
        assert!(
            first.ends_with(&format!("CRC-32C {checksum:08x}.")),
            "the protobuf files have changed: cargo run --release --manifest-path api/generate/Cargo.toml"
        );
    }
}
