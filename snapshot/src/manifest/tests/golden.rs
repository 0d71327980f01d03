//! The bytes of version 1, as `docs/formats/manifest.md` draws them.

use std::path::Path;

use cairn_content::pipeline::Run;
use cairn_types::{ChunkId, FileKind, Timestamp, hexadecimal};

use super::{all, everything, file_body, path, record};
use crate::directory::{Body, Digest, Hole, Stamp, Xattr};
use crate::manifest::{BlockCutter, ManifestReader, TreeHasher};

fn fixture() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/manifest/version-1")
}

#[test]
fn a_manifest_written_by_the_first_version_is_read() {
    let reader = ManifestReader::open(std::fs::File::open(fixture()).unwrap()).unwrap();
    assert_eq!(all(&reader), everything());
    reader.check().unwrap();
    let file_hash = "9910eff0384d9dd1ed16677be277a30a38d97bc066097a5aaaeb82c349c4e8c2";
    assert_eq!(reader.summary().file_hash.to_string(), file_hash);
}

#[test]
fn the_bytes_of_a_block_are_these() {
    let stamp = |inode| Stamp {
        device: 300,
        inode,
        changed: Timestamp::new(100, 7),
    };
    let mut root = record("", FileKind::Directory);
    root.entry.attributes.modified = Timestamp::new(100, 7);
    root.stamp = Some(stamp(2));
    let mut file = record("ab", FileKind::Regular);
    file.entry.attributes.modified = Timestamp::new(99, 1);
    file.entry.attributes.size = 8195;
    file.entry.attributes.xattrs = vec![Xattr {
        name: b"user.a".to_vec(),
        value: b"v".to_vec(),
    }];
    file_body(&mut file).digest = Some(Digest([0xdd; 32]));
    file_body(&mut file).holes = vec![Hole {
        offset: 4096,
        length: 4096,
    }];
    file_body(&mut file).runs = vec![Run::Chunk(ChunkId([0xcc; 32]), 8190), Run::Zeros(5)];
    file.stamp = Some(stamp(5));
    let mut link = file.clone();
    link.entry.path = path("ac");
    link.entry.body = Body::Link(path("ab"));
    link.stamp = None;
    let mut way = record("way", FileKind::Symlink);
    way.entry.attributes.modified = Timestamp::new(-1, 0);
    way.entry.attributes.mode = 0o777;
    way.stamp = None;
    let mut cutter = BlockCutter::new(true);
    let mut hasher = TreeHasher::new();
    for record in [&root, &file, &link, &way] {
        cutter.push(record).unwrap();
        hasher.push(&record.entry);
    }
    cutter.finish().unwrap();
    let block = cutter.complete().unwrap();
    let expected = [
        // The root: type and flags, path, mode, owner, time, stamp.
        "0211",
        "0000",
        "ed03",
        "e807",
        "64",
        "c80107000000",
        "ac0204",
        // The file, with everything.
        "f10b",
        "00026162",
        "a403",
        "0101000000",
        "8340",
        "0106757365722e610176",
        "060207000000",
        &"dd".repeat(32),
        "0101",
        "8020",
        "02",
        "fd7f",
        &"cc".repeat(32),
        "0a",
        // Its other name.
        "8906",
        "010163",
        "0001000000",
        "8340",
        "0106757365722e610176",
        "010162",
        // The symbolic link.
        "0302",
        "0003776179",
        "ff03",
        "c70100000000",
        "03776179",
    ];
    assert_eq!(hexadecimal::text(&block.bytes), expected.concat());
    let tree_hash = "9d80b6b74ccfa3fbaaf0c59a55e2ed57d97d337e8d771f6ce541cda3504dec4f";
    assert_eq!(hasher.finish().unwrap().to_string(), tree_hash);
}
