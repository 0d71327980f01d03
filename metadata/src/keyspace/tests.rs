//! Golden bytes of every key and value: what they pin is what existing stores hold, so a test that fails here means that
//! a new format version is needed, not a new expectation. `tests/properties.rs` checks what holds for all values.

use std::sync::Arc;

use bytes::Bytes;
use cairn_types::{
    BranchId, ChunkId, ChunkSlice, DeviceNumber, Epoch, ExportPolicy, Extent, FileKind, InodeId, LogPosition,
    LogSlice, SegmentId, SnapshotId, Squash, Tag, Timestamp, VolumeId, WorkspaceName,
};

use super::branch::{self, BranchRecord, Point, Usage};
use super::cell::{self, NextIds};
use super::codec::DecodeError;
use super::dirent::{self, DirentRecord};
use super::extent::ExtentRecord;
use super::import::ImportRecord;
use super::inode::{self, InodeRecord, kind_code, kind_of};
use super::snapshot::{self, KeyRecord, Origin, PinRecord, SnapshotRecord};
use super::volume::{self, CapacityLimits, VolumeRecord};
use super::{
    ObjectKind, Version, body, head_key, history_key, history_prefix, import, note, prefix_end, reply,
};
use crate::engine::memory::MemoryEngine;
use crate::engine::{Durability, Engine};
use crate::store::Store;
use crate::transaction::Transaction;
use crate::view::Lineage;

mod ledger;
mod properties;

/// The bytes that hexadecimal digits stand for; white space is free.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|digit| char::from(digit).to_digit(16).expect("a hexadecimal digit") as u8)
        .collect();
    assert!(digits.len().is_multiple_of(2), "an odd number of digits");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares as text, which shows where two values differ.
fn assert_bytes(found: &[u8], expected: &str) {
    assert_eq!(to_hex(found), to_hex(&hex(expected)));
}

const BRANCH: BranchId = BranchId(0x0102_0304_0506_0708);
const INODE: InodeId = InodeId(0x1112_1314_1516_1718);
const VOLUME: VolumeId = VolumeId(0x2122_2324_2526_2728);
const EPOCH: Epoch = Epoch(0x3132_3334_3536_3738);
/// A directory: it stands in keys only.
const DIRECTORY: InodeId = InodeId(5);

fn id(first: u8) -> SnapshotId {
    SnapshotId(std::array::from_fn(|index| first + index as u8))
}

#[test]
fn keys_of_the_catalogue() {
    assert_bytes(cell::FORMAT_KEY, "46 76");
    assert_bytes(cell::CHECKPOINT_KEY, "46 63");
    assert_bytes(cell::NEXT_IDS_KEY, "46 6e");
    assert_bytes(&volume::volume_key(VOLUME), "56 2122232425262728");
    let name = WorkspaceName::new("a.b").unwrap();
    assert_bytes(&volume::name_key(&name), "4e 612e62");
    assert_bytes(&branch::branch_key(BRANCH), "42 0102030405060708");
    assert_bytes(&branch::usage_key(BRANCH), "55 0102030405060708");
    assert_bytes(
        &branch::orphan_key(BRANCH, INODE),
        "4f 0102030405060708 1112131415161718",
    );
    assert_bytes(
        &note::note_key(BRANCH, EPOCH, INODE),
        "44 0102030405060708 3132333435363738 1112131415161718",
    );
    assert_bytes(
        &note::bound_key(BRANCH),
        "44 0102030405060708 0000000000000000 0000000000000000",
    );
    assert_bytes(&import::import_key(&name), "50 612e62");
    assert_bytes(
        &import::upward_key(BRANCH, INODE),
        "51 0102030405060708 1112131415161718",
    );
    let (from, to) = note::notes_range(BRANCH);
    assert_bytes(&from, "44 0102030405060708 0000000000000000 0000000000000000");
    assert_bytes(&to, "44 0102030405060709");
    assert_bytes(
        &snapshot::snapshot_key(VOLUME, 0x4142),
        "53 2122232425262728 0000000000004142",
    );
    assert_bytes(&snapshot::snapshots_prefix(VOLUME), "53 2122232425262728");
    assert_bytes(&snapshot::id_key(id(0x50)), "49 505152535455565758595a5b5c5d5e5f");
    assert_bytes(
        &reply::reply_key(0x6162, &id(0x70).0),
        "52 0000000000006162 707172737475767778797a7b7c7d7e7f",
    );
    assert_bytes(&reply::reply_range_start(0x6162), "52 0000000000006162");
}

#[test]
fn keys_of_the_catalogue_are_read_back() {
    assert_eq!(volume::decode_volume_key(&volume::volume_key(VOLUME)), Ok(VOLUME));
    assert_eq!(branch::decode_branch_key(&branch::branch_key(BRANCH)), Ok(BRANCH));
    assert_eq!(
        branch::decode_orphan_key(&branch::orphan_key(BRANCH, INODE)),
        Ok((BRANCH, INODE))
    );
    assert_eq!(
        note::decode_note_key(&note::note_key(BRANCH, EPOCH, INODE)),
        Ok(INODE)
    );
    assert_eq!(
        snapshot::decode_snapshot_key(&snapshot::snapshot_key(VOLUME, 7)),
        Ok((VOLUME, 7))
    );
    assert_eq!(
        reply::decode_reply_key(&reply::reply_key(9, &id(0x70).0)),
        Ok(id(0x70).0)
    );
}

#[test]
fn keys_of_objects() {
    let prefix = "0102030405060708 1112131415161718";
    for (object, rest) in [
        (InodeRecord::body(INODE), "61"),
        (dirent::cookie_body(INODE, 0x8182), "63 0000000000008182"),
        (dirent::name_body(INODE, b"x\xff"), "64 78ff 00"),
        (ExtentRecord::body(INODE, 0x9192), "65 0000000000009192"),
        (inode::inline_body(INODE), "69"),
        (inode::link_target_body(INODE), "6c"),
    ] {
        assert_bytes(&head_key(BRANCH, &object), &format!("48 {prefix} {rest}"));
        assert_bytes(
            &history_key(BRANCH, &object, EPOCH),
            &format!("68 {prefix} {rest} 3132333435363738"),
        );
        assert_bytes(&history_prefix(BRANCH, &object), &format!("68 {prefix} {rest}"));
    }
    assert_bytes(&body(INODE, ObjectKind::Attributes), "1112131415161718 61");
    assert_eq!(head_key(BRANCH, &[]).len(), super::HEAD_KEY_PREFIX);
}

#[test]
fn versions() {
    let present = Version {
        birth: EPOCH,
        value: Some(b"ab"),
    };
    assert_bytes(&present.encode(), "01 3837363534333231 6162");
    assert_eq!(Version::decode(&present.encode()), Ok(present));
    let empty = Version {
        birth: EPOCH,
        value: Some(b""),
    };
    assert_bytes(&empty.encode(), "01 3837363534333231");
    assert_eq!(Version::decode(&empty.encode()), Ok(empty));
    let removed = Version {
        birth: EPOCH,
        value: None,
    };
    assert_bytes(&removed.encode(), "00 3837363534333231");
    assert_eq!(Version::decode(&removed.encode()), Ok(removed));
    let malformed = |offset| {
        Err(DecodeError {
            what: "version",
            offset,
        })
    };
    assert_eq!(
        Version::decode(&hex("00 3837363534333231 61")),
        malformed(9),
        "a removed object has no bytes"
    );
    assert_eq!(Version::decode(&hex("02 3837363534333231")), malformed(0));
    assert_eq!(Version::decode(&hex("01 38373635343332")), malformed(1));
}

fn some_inode() -> InodeRecord {
    InodeRecord {
        kind: FileKind::Directory,
        mode: 0o1755,
        links: 0x0102_0304,
        uid: 0x1112_1314,
        gid: 0x2122_2324,
        generation: 0x3132_3334,
        size: 0x4142_4344_4546_4748,
        device: DeviceNumber {
            major: 0x5152_5354,
            minor: 0x6162_6364,
        },
        accessed: Timestamp::new(-2, 999_999_999),
        modified: Timestamp::new(0x7172_7374_7576_7778, 1),
        changed: Timestamp::new(3, 0x0102_0304),
        data_version: 0x8182_8384_8586_8788,
        log_sequence: 0x9192_9394_9596_9798,
        used: 0xa1a2_a3a4_a5a6_a7a8,
        parent: InodeId(0xb1b2_b3b4_b5b6_b7b8),
        next_cookie: 0xc1c2_c3c4_c5c6_c7c8,
        entries: 0xd1d2_d3d4_d5d6_d7d8,
        inline: true,
        verifier: Some([0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8]),
    }
}

#[test]
fn inodes() {
    let record = some_inode();
    assert_eq!(record.encode().len(), 142);
    let fixed = "01 02 ed03 04030201 14131211 24232221 34333231 4847464544434241 54535251 64636261
        feffffffffffffff ffc99a3b
        7877767574737271 01000000
        0300000000000000 04030201
        8887868584838281 9897969594939291 a8a7a6a5a4a3a2a1 b8b7b6b5b4b3b2b1 c8c7c6c5c4c3c2c1 d8d7d6d5d4d3d2d1";
    let zeros = "00".repeat(12);
    assert_bytes(
        &record.encode(),
        &format!("{fixed} 01 01 e1e2e3e4e5e6e7e8 {zeros}"),
    );
    assert_eq!(InodeRecord::decode(&record.encode()), Ok(record));
    let plain = InodeRecord {
        inline: false,
        verifier: None,
        ..record
    };
    assert_bytes(
        &plain.encode(),
        &format!("{fixed} 00 00 0000000000000000 {zeros}"),
    );
    assert_eq!(InodeRecord::decode(&plain.encode()), Ok(plain));
}

#[test]
fn an_inode_of_another_layout_or_time_is_refused() {
    let good = some_inode().encode();
    let with = |offset: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[offset..offset + bytes.len()].copy_from_slice(bytes);
        InodeRecord::decode(&bad).map_err(|error| error.offset)
    };
    assert_eq!(with(0, &[2]), Err(0));
    assert_eq!(with(1, &[0]), Err(1));
    assert_eq!(with(1, &[8]), Err(1));
    for time in [36, 48, 60] {
        assert_eq!(
            with(time + 8, &1_000_000_000u32.to_le_bytes()),
            Err(time + 8),
            "a second of nanoseconds"
        );
    }
    assert_eq!(with(120, &[2]), Err(120));
    assert_eq!(with(121, &[2]), Err(121));
}

#[test]
fn codes_of_file_kinds() {
    let kinds = [
        FileKind::Regular,
        FileKind::Directory,
        FileKind::Symlink,
        FileKind::BlockDevice,
        FileKind::CharacterDevice,
        FileKind::Fifo,
        FileKind::Socket,
    ];
    for (index, kind) in kinds.into_iter().enumerate() {
        let code = index as u8 + 1;
        assert_eq!((kind_code(kind), kind_of(code)), (code, Some(kind)));
    }
    assert_eq!((kind_of(0), kind_of(8)), (None, None));
}

#[test]
fn directory_entries() {
    let entry = DirentRecord {
        name: b"x\xff".to_vec(),
        inode: INODE,
        kind: FileKind::Socket,
        cookie: 0x8182,
    };
    let by_name = dirent::name_body(DIRECTORY, &entry.name);
    assert_bytes(&entry.encode_by_name(), "1817161514131211 07 8281000000000000");
    assert_eq!(
        DirentRecord::decode_by_name(&by_name, &entry.encode_by_name()),
        Ok(entry.clone())
    );
    let by_cookie = dirent::cookie_body(DIRECTORY, entry.cookie);
    assert_bytes(&entry.encode_by_cookie(), "1817161514131211 07 78ff");
    assert_eq!(
        DirentRecord::decode_by_cookie(&by_cookie, &entry.encode_by_cookie()),
        Ok(entry.clone())
    );

    let nameless = dirent::name_body(DIRECTORY, b"");
    assert!(DirentRecord::decode_by_name(&nameless, &entry.encode_by_name()).is_err());
    let unterminated = &by_name[..by_name.len() - 1];
    assert!(DirentRecord::decode_by_name(unterminated, &entry.encode_by_name()).is_err());
    assert!(DirentRecord::decode_by_cookie(&by_cookie, &hex("1817161514131211 07")).is_err());
}

fn log_extent() -> ExtentRecord {
    let checksums: Arc<[u32]> = [0x0102_0304, 0x1112_1314].into();
    let slice = LogSlice::new(SegmentId(0x2122), 0x3132_3334, 8000, 7, 7000, checksums).unwrap();
    ExtentRecord {
        start: 4096,
        extent: Extent::Log(slice),
    }
}

fn chunk_extent() -> ExtentRecord {
    ExtentRecord {
        start: 0,
        extent: Extent::Chunk(ChunkSlice {
            chunk: ChunkId(std::array::from_fn(|index| index as u8)),
            offset: 0x4142_4344,
            length: 0x5152_5354,
        }),
    }
}

#[test]
fn extents_in_both_homes() {
    let record = log_extent();
    let key = ExtentRecord::body(INODE, 4096 + 7000);
    assert_bytes(&key, "1112131415161718 65 0000000000002b58");
    assert_bytes(
        &record.encode(),
        "01 581b0000 2221000000000000 3433323100000000 401f0000 07000000 04030201 14131211",
    );
    assert_eq!(ExtentRecord::decode(&key, &record.encode()), Ok(record));

    let record = chunk_extent();
    let key = ExtentRecord::body(INODE, 0x5152_5354);
    assert_bytes(
        &record.encode(),
        "02 54535251 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 44434241",
    );
    assert_eq!(ExtentRecord::decode(&key, &record.encode()), Ok(record));
}

#[test]
fn extents_that_cannot_be_are_refused() {
    let good = log_extent().encode();
    let end = 4096 + 7000;
    let decode = |end, bytes: &[u8]| ExtentRecord::decode(&ExtentRecord::body(INODE, end), bytes);
    assert!(decode(6999, &good).is_err(), "longer than the file up to its end");
    assert_eq!(decode(7000, &good).unwrap().start, 0);
    let mut bad = good.clone();
    bad[0] = 3;
    assert!(decode(end, &bad).is_err(), "an unknown home");
    let mut bad = good.clone();
    bad[1..5].fill(0);
    assert!(decode(end, &bad).is_err(), "no length");
    assert!(
        decode(end, &good[..good.len() - 4]).is_err(),
        "a block without a checksum"
    );
    let mut chunk = chunk_extent().encode();
    chunk.push(0);
    assert!(decode(u64::MAX, &chunk).is_err(), "bytes behind a chunk");
}

#[test]
fn data_and_link_targets_are_stored_as_they_are() {
    assert_bytes(&note::encode_bound(EPOCH), "3837363534333231");
    assert_eq!(note::decode_bound(&note::encode_bound(EPOCH)), Ok(EPOCH));

    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let store = Store::open(engine.clone()).unwrap();
    let volume = store
        .create_volume(some_volume(), &some_inode())
        .unwrap()
        .unwrap();
    let lineage = Lineage::live(&*engine, volume.record.head).unwrap();
    let mut transaction = Transaction::new(&*engine, &lineage, volume.branch.epoch);
    transaction.put_inline_data(INODE, b"data");
    transaction.insert_link_target(INODE, b"../to");
    transaction.orphan(INODE);
    transaction.record_reply(5, &id(0x70).0, &Bytes::from_static(b"reply"));
    transaction.commit(Durability::Process).unwrap();
    let value = |key: &[u8]| to_hex(&engine.get(key).unwrap().unwrap());
    let head = BranchId(1);
    assert_eq!(
        value(&head_key(head, &inode::inline_body(INODE))),
        to_hex(&hex("01 0100000000000000 64617461"))
    );
    assert_eq!(
        value(&head_key(head, &inode::link_target_body(INODE))),
        to_hex(&hex("01 0100000000000000 2e2e2f746f"))
    );
    assert_eq!(value(&branch::orphan_key(head, INODE)), "");
    assert_eq!(value(&reply::reply_key(5, &id(0x70).0)), to_hex(b"reply"));
}

#[test]
fn branches_and_usage() {
    let root = BranchRecord {
        volume: VOLUME,
        epoch: EPOCH,
        depth: 0,
        parent: None,
    };
    assert_bytes(&root.encode(), "01 2827262524232221 3837363534333231 00000000 00");
    assert_eq!(BranchRecord::decode(&root.encode()), Ok(root));
    let child = BranchRecord {
        depth: 0x4142_4344,
        parent: Some(Point {
            branch: BRANCH,
            epoch: Epoch(0x51),
        }),
        ..root
    };
    assert_bytes(
        &child.encode(),
        "01 2827262524232221 3837363534333231 44434241 01 0807060504030201 5100000000000000",
    );
    assert_eq!(BranchRecord::decode(&child.encode()), Ok(child));
    let usage = Usage {
        inodes: 0x0102,
        bytes: 0x0304,
    };
    assert_bytes(&usage.encode(), "0201000000000000 0403000000000000");
    assert_eq!(Usage::decode(&usage.encode()), Ok(usage));
}

#[test]
fn cells() {
    assert_eq!(cell::FORMAT_VERSION, 3);
    assert_eq!(cell::decode_format(&hex("04030201")), Ok(0x0102_0304));
    assert_eq!(
        cell::decode_checkpoint(&hex("0807060504030201")),
        Ok(LogPosition(0x0102_0304_0506_0708))
    );
    let ids = NextIds {
        volume: 0x0102,
        branch: 0x0304,
    };
    assert_bytes(&ids.encode(), "0201000000000000 0403000000000000");
    assert_eq!(NextIds::decode(&ids.encode()), Ok(ids));

    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let store = Store::open(engine.clone()).unwrap();
    let position = LogPosition(0x0102_0304_0506_0708);
    store.set_checkpoint(position, Durability::Process).unwrap();
    let pairs = engine.scan(&[0], &[0xff], 10).unwrap();
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(key, value)| (to_hex(key), to_hex(value)))
        .collect();
    assert_eq!(
        pairs,
        [
            ("4663".to_owned(), "0807060504030201".to_owned()),
            ("4676".to_owned(), "03000000".to_owned())
        ]
    );
}

fn some_volume() -> VolumeRecord {
    VolumeRecord {
        name: WorkspaceName::new("a.b-c_1").unwrap(),
        head: BRANCH,
        inodes_reserved: INODE,
        next_snapshot: 0x0102,
        snapshots: 0x0304,
        created: Timestamp::new(-1, 0x0506_0708),
        last_snapshot: Some(id(0x10)),
        forked_from: Some(id(0x30)),
        policy: ExportPolicy {
            squash: Squash::Root,
            anonymous_uid: 0x5152_5354,
            anonymous_gid: 0x6162_6364,
            allow: vec!["10.1.2.0/24".parse().unwrap(), "2001:db8::/33".parse().unwrap()],
            read_only: true,
            privileged_port: false,
        },
        limits: CapacityLimits {
            bytes: Some(0x7172_7374),
            inodes: Some(0x8182),
        },
    }
}

#[test]
fn volumes() {
    let record = some_volume();
    let start =
        "02 0807060504030201 1817161514131211 0201000000000000 0403000000000000 ffffffffffffffff 08070605";
    assert_bytes(
        &record.encode(),
        &format!(
            "{start}
            01 101112131415161718191a1b1c1d1e1f
            01 303132333435363738393a3b3c3d3e3f
            01 54535251 64636261 01 00
            0200 04 18 0a010200 06 21 20010db8000000000000000000000000
            0700 612e622d635f31 7473727100000000 8281000000000000"
        ),
    );
    assert_eq!(VolumeRecord::decode(&record.encode()), Ok(record.clone()));
    let mut layout_1 = record.encode();
    layout_1[0] = 1;
    layout_1.truncate(layout_1.len() - 16);
    let unlimited = VolumeRecord {
        limits: CapacityLimits::default(),
        ..record.clone()
    };
    assert_eq!(VolumeRecord::decode(&layout_1), Ok(unlimited));

    let plain = VolumeRecord {
        name: WorkspaceName::new("w").unwrap(),
        last_snapshot: None,
        forked_from: None,
        policy: ExportPolicy {
            squash: Squash::All,
            allow: Vec::new(),
            read_only: false,
            privileged_port: true,
            ..record.policy.clone()
        },
        limits: CapacityLimits::default(),
        ..record
    };
    let no_id = format!("00 {}", "00".repeat(16));
    assert_bytes(
        &plain.encode(),
        &format!(
            "{start} {no_id} {no_id} 02 54535251 64636261 00 01 0000 0100 77 ffffffffffffffff ffffffffffffffff"
        ),
    );
    assert_eq!(VolumeRecord::decode(&plain.encode()), Ok(plain.clone()));
    let squash_none = VolumeRecord {
        policy: ExportPolicy {
            squash: Squash::None,
            ..plain.policy.clone()
        },
        ..plain
    };
    assert_eq!(squash_none.encode()[79], 0);
    assert_eq!(VolumeRecord::decode(&squash_none.encode()), Ok(squash_none));
}

fn some_snapshot() -> SnapshotRecord {
    SnapshotRecord {
        id: id(0x10),
        point: Point {
            branch: BRANCH,
            epoch: EPOCH,
        },
        origin: Origin::Safety,
        created: Timestamp::new(-1, 0x0506_0708),
        usage: Usage {
            inodes: 0x0102,
            bytes: 0x0304,
        },
        parent: Some(id(0x30)),
        note: "é".to_owned(),
        tags: vec![Tag::new("a").unwrap(), Tag::new("b:c").unwrap()],
        pins: vec![
            PinRecord {
                number: 1,
                created: Timestamp::new(0x51, 1),
                expires: None,
                reason: String::new(),
            },
            PinRecord {
                number: 7,
                created: Timestamp::new(0x52, 2),
                expires: Some(Timestamp::new(0x53, 3)),
                reason: "é".to_owned(),
            },
        ],
        key: Some("k".to_owned()),
    }
}

#[test]
fn snapshots() {
    let record = some_snapshot();
    let start = "02 101112131415161718191a1b1c1d1e1f 0807060504030201 3837363534333231";
    let middle = "ffffffffffffffff 08070605 0201000000000000 0403000000000000";
    assert_bytes(
        &record.encode(),
        &format!(
            "{start} 02 {middle} 01 303132333435363738393a3b3c3d3e3f
            0200 c3a9 0200 0100 61 0300 623a63
            0200 0100000000000000 5100000000000000 01000000 00 000000000000000000000000 0000
            0700000000000000 5200000000000000 02000000 01 530000000000000003000000 0200 c3a9
            01 0100 6b"
        ),
    );
    assert_eq!(SnapshotRecord::decode(&record.encode()), Ok(record.clone()));
    let plain = SnapshotRecord {
        pins: Vec::new(),
        key: None,
        origin: Origin::Requested,
        parent: None,
        note: String::new(),
        tags: Vec::new(),
        ..record
    };
    assert_bytes(
        &plain.encode(),
        &format!(
            "{start} 01 {middle} 00 {} 0000 0000 0000 00 0000",
            "00".repeat(16)
        ),
    );
    assert_eq!(SnapshotRecord::decode(&plain.encode()), Ok(plain.clone()));
    let mut layout_1 = plain.encode();
    layout_1[0] = 1;
    layout_1.truncate(layout_1.len() - 5);
    assert_eq!(SnapshotRecord::decode(&layout_1), Ok(plain));

    let key = KeyRecord {
        sequence: 0x4142,
        digest: id(0x60).0,
    };
    assert_bytes(&snapshot::request_key(VOLUME, "ab"), "4b 2122232425262728 6162");
    assert_bytes(&key.encode(), "4241000000000000 606162636465666768696a6b6c6d6e6f");
    assert_eq!(KeyRecord::decode(&key.encode()), Ok(key));

    let place = snapshot::encode_place(VOLUME, 0x4142);
    assert_bytes(&place, "2827262524232221 4241000000000000");
    assert_eq!(snapshot::decode_place(&place), Ok((VOLUME, 0x4142)));
}

#[test]
fn imports() {
    let import = ImportRecord {
        identity: std::array::from_fn(|index| 0x10 + index as u8),
        branch: BRANCH,
        same_origin: true,
        secret: id(0x50).0,
        started: Timestamp::new(0x61, 1),
        progressed: Timestamp::new(0x62, 2),
        last: INODE,
        usage: Usage {
            inodes: 0x71,
            bytes: 0x72,
        },
        links_sum: 0x81,
        entries_sum: 0x82 << 120,
    };
    assert_bytes(
        &import.encode(),
        "01 101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f 0807060504030201 01
        505152535455565758595a5b5c5d5e5f 6100000000000000 01000000 6200000000000000 02000000
        1817161514131211 7100000000000000 7200000000000000
        81000000000000000000000000000000 00000000000000000000000000000082",
    );
    assert_eq!(ImportRecord::decode(&import.encode()), Ok(import));
    for change in [(0, 2), (41, 2), (70, 0xff)] {
        let mut bytes = import.encode();
        bytes[change.0] = change.1;
        if change.0 == 70 {
            bytes.truncate(137);
        }
        assert!(ImportRecord::decode(&bytes).is_err(), "{change:?}");
    }
}

#[test]
fn times_in_volumes_and_snapshots_have_less_than_a_second_of_nanoseconds() {
    let second = 1_000_000_000u32.to_le_bytes();
    let mut volume = some_volume().encode();
    volume[41..45].copy_from_slice(&second);
    assert_eq!(
        VolumeRecord::decode(&volume).map_err(|error| error.offset),
        Err(41)
    );
    let mut snapshot = some_snapshot().encode();
    snapshot[42..46].copy_from_slice(&second);
    assert_eq!(
        SnapshotRecord::decode(&snapshot).map_err(|error| error.offset),
        Err(42)
    );
}

#[test]
fn text_in_values_is_checked() {
    let mut volume = some_volume().encode();
    let last = volume.len() - 17;
    volume[last] = b'/';
    assert!(VolumeRecord::decode(&volume).is_err(), "no name of a workspace");
    let plain = SnapshotRecord {
        pins: Vec::new(),
        key: None,
        ..some_snapshot()
    };
    let mut snapshot = plain.encode();
    let last = snapshot.len() - 6;
    snapshot[last] = b' ';
    assert!(SnapshotRecord::decode(&snapshot).is_err(), "no tag");
    let note = last - 11;
    snapshot[last] = b'c';
    assert_eq!(snapshot[note], 0xc3);
    snapshot[note] = 0xff;
    assert!(SnapshotRecord::decode(&snapshot).is_err(), "no UTF-8");
}

#[test]
fn a_prefix_ends_where_no_key_starts_with_it() {
    assert_bytes(&prefix_end(&hex("48 01")), "48 02");
    assert_bytes(&prefix_end(&hex("48 01 ff ff")), "48 02");
    assert_bytes(&prefix_end(&hex("48")), "49");
}
