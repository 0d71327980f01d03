//! What holds for all keys and values: reading back what was written, bearing damage without a panic, and the order of
//! keys, on which every scan rests.

use std::net::IpAddr;
use std::sync::Arc;

use cairn_types::{
    BranchId, ChunkId, ChunkSlice, DeviceNumber, Epoch, ExportPolicy, Extent, FileKind, InodeId, LogSlice,
    SegmentId, SnapshotId, Squash, Tag, Timestamp, VolumeId, WorkspaceName,
};
use ipnet::IpNet;
use proptest::arbitrary::any;
use proptest::array::uniform32;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy};
use proptest::sample::select;
use proptest::test_runner::TestCaseError;
use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::{DIRECTORY, chunk_extent, log_extent, some_inode, some_snapshot, some_volume};
use crate::engine::KEY_BYTES_MAX;
use crate::keyspace::branch::{self, BranchRecord, Point, Usage};
use crate::keyspace::cell::{self, NextIds};
use crate::keyspace::codec::DecodeError;
use crate::keyspace::dirent::{self, DirentRecord};
use crate::keyspace::extent::ExtentRecord;
use crate::keyspace::inode::{self, InodeRecord};
use crate::keyspace::snapshot::{self, Origin, PinRecord, SnapshotRecord};
use crate::keyspace::volume::{self, CapacityLimits, VolumeRecord};
use crate::keyspace::{Version, head_key, history_key, prefix_end, reply};

/// A kind of value.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Version,
    Inode,
    EntryByName,
    EntryByCookie,
    Extent,
    Branch,
    Usage,
    Format,
    Checkpoint,
    NextIds,
    Volume,
    Snapshot,
    Place,
}

const KINDS: [Kind; 13] = [
    Kind::Version,
    Kind::Inode,
    Kind::EntryByName,
    Kind::EntryByCookie,
    Kind::Extent,
    Kind::Branch,
    Kind::Usage,
    Kind::Format,
    Kind::Checkpoint,
    Kind::NextIds,
    Kind::Volume,
    Kind::Snapshot,
    Kind::Place,
];

/// Where the extents that are decoded here end: far enough for every length.
const EXTENT_END: u64 = 1 << 40;

/// Decodes a value and encodes what it meant.
fn recode(kind: Kind, bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    Ok(match kind {
        Kind::Version => Version::decode(bytes)?.encode(),
        Kind::Inode => InodeRecord::decode(bytes)?.encode(),
        Kind::EntryByName => {
            DirentRecord::decode_by_name(&dirent::name_body(DIRECTORY, b"n"), bytes)?.encode_by_name()
        }
        Kind::EntryByCookie => {
            DirentRecord::decode_by_cookie(&dirent::cookie_body(DIRECTORY, 3), bytes)?.encode_by_cookie()
        }
        Kind::Extent => ExtentRecord::decode(&ExtentRecord::body(DIRECTORY, EXTENT_END), bytes)?.encode(),
        Kind::Branch => BranchRecord::decode(bytes)?.encode(),
        Kind::Usage => Usage::decode(bytes)?.encode(),
        Kind::Format => cell::decode_format(bytes)?.to_le_bytes().to_vec(),
        Kind::Checkpoint => cell::decode_checkpoint(bytes)?.0.to_le_bytes().to_vec(),
        Kind::NextIds => NextIds::decode(bytes)?.encode(),
        Kind::Volume => VolumeRecord::decode(bytes)?.encode(),
        Kind::Snapshot => SnapshotRecord::decode(bytes)?.encode(),
        Kind::Place => {
            let (volume, sequence) = snapshot::decode_place(bytes)?;
            snapshot::encode_place(volume, sequence)
        }
    })
}

/// Whether a value may be followed by further bytes, which are then part of it.
fn is_open(kind: Kind) -> bool {
    matches!(kind, Kind::Version | Kind::EntryByCookie)
}

/// Values of each kind, with every optional part there and not there.
fn samples() -> Vec<(Kind, Vec<u8>)> {
    let entry = DirentRecord {
        name: b"name".to_vec(),
        inode: InodeId(77),
        kind: FileKind::Regular,
        cookie: 9,
    };
    let branch = BranchRecord {
        volume: VolumeId(1),
        epoch: Epoch(5),
        depth: 1,
        parent: Some(Point {
            branch: BranchId(4),
            epoch: Epoch(3),
        }),
    };
    let version = Version {
        birth: Epoch(5),
        value: Some(b"value"),
    };
    vec![
        (Kind::Version, version.encode()),
        (
            Kind::Version,
            Version {
                value: None,
                ..version
            }
            .encode(),
        ),
        (Kind::Inode, some_inode().encode()),
        (
            Kind::Inode,
            InodeRecord {
                verifier: None,
                ..some_inode()
            }
            .encode(),
        ),
        (Kind::EntryByName, entry.encode_by_name()),
        (Kind::EntryByCookie, entry.encode_by_cookie()),
        (Kind::Extent, log_extent().encode()),
        (Kind::Extent, chunk_extent().encode()),
        (Kind::Branch, branch.encode()),
        (
            Kind::Branch,
            BranchRecord {
                parent: None,
                ..branch
            }
            .encode(),
        ),
        (Kind::Usage, Usage { inodes: 3, bytes: 4 }.encode()),
        (Kind::Format, vec![1, 0, 0, 0]),
        (Kind::Checkpoint, vec![8; 8]),
        (Kind::NextIds, NextIds::FIRST.encode()),
        (Kind::Volume, some_volume().encode()),
        (Kind::Snapshot, some_snapshot().encode()),
        (
            Kind::Snapshot,
            SnapshotRecord {
                parent: None,
                ..some_snapshot()
            }
            .encode(),
        ),
        (Kind::Place, snapshot::encode_place(VolumeId(6), 7)),
    ]
}

/// Damaged bytes are refused, or they are another value, which then can be written and read.
fn error_or_value(kind: Kind, bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(again) = recode(kind, bytes) {
        prop_assert_eq!(recode(kind, &again), Ok(again), "{:?} of {:02x?}", kind, bytes);
    }
    Ok(())
}

#[test]
fn every_cut_is_an_error_or_a_shorter_value() {
    for (kind, bytes) in samples() {
        assert_eq!(recode(kind, &bytes).as_deref(), Ok(bytes.as_slice()), "{kind:?}");
        for length in 0..bytes.len() {
            let cut = recode(kind, &bytes[..length]);
            if is_open(kind) {
                assert!(cut.is_err() || cut.as_deref() == Ok(&bytes[..length]), "{kind:?}");
            } else {
                assert!(cut.is_err(), "{kind:?} of {length} bytes");
            }
        }
    }
}

#[test]
fn every_extension_is_an_error_or_a_longer_value() {
    for (kind, bytes) in samples() {
        for more in [&[0][..], &[0; 4], &[0; 5], &[0xff; 64]] {
            let longer = [&bytes, more].concat();
            let found = recode(kind, &longer);
            if is_open(kind) && bytes[0] != 0 {
                assert_eq!(found.as_deref(), Ok(longer.as_slice()), "{kind:?}");
            } else {
                assert!(found.is_err(), "{kind:?} with {more:02x?} behind it");
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_an_error_or_another_value() {
    for (kind, bytes) in samples() {
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            error_or_value(kind, &damaged).unwrap();
        }
    }
}

fn time() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0u32..1_000_000_000)
        .prop_map(|(seconds, nanoseconds)| Timestamp::new(seconds, nanoseconds))
}

fn kind() -> impl Strategy<Value = FileKind> {
    select(vec![
        FileKind::Regular,
        FileKind::Directory,
        FileKind::Symlink,
        FileKind::BlockDevice,
        FileKind::CharacterDevice,
        FileKind::Fifo,
        FileKind::Socket,
    ])
}

fn inode_record() -> impl Strategy<Value = InodeRecord> {
    let numbers = (any::<[u32; 6]>(), any::<[u64; 7]>());
    let rest = (any::<bool>(), option::of(any::<[u8; 8]>()));
    (kind(), any::<u16>(), numbers, [time(), time(), time()], rest).prop_map(
        |(kind, mode, (short, long), [accessed, modified, changed], (inline, verifier))| InodeRecord {
            kind,
            mode,
            links: short[0],
            uid: short[1],
            gid: short[2],
            generation: short[3],
            size: long[0],
            device: DeviceNumber {
                major: short[4],
                minor: short[5],
            },
            accessed,
            modified,
            changed,
            data_version: long[1],
            log_sequence: long[2],
            used: long[3],
            parent: InodeId(long[4]),
            next_cookie: long[5],
            entries: long[6],
            inline,
            verifier,
        },
    )
}

/// Names of few kinds of bytes, so that some are the start of others.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let letters = select(vec![0x01u8, b'a', b'b', 0xff]);
    prop_oneof![
        4 => vec(letters, 1..5),
        1 => vec(1u8..=255, 1..=255),
        1 => Just(vec![0xff; 255]),
    ]
}

fn entry() -> impl Strategy<Value = DirentRecord> {
    (name(), any::<u64>(), kind(), any::<u64>()).prop_map(|(name, inode, kind, cookie)| DirentRecord {
        name,
        inode: InodeId(inode),
        kind,
        cookie,
    })
}

fn log_slice() -> impl Strategy<Value = LogSlice> {
    (any::<[u32; 2]>(), 0u32..4096, 1u32..40_000, 0u32..4096).prop_map(|(place, skip, length, behind)| {
        let covered = skip + length + behind;
        let checksums: Arc<[u32]> = (0..covered.div_ceil(4096))
            .map(|block| block ^ place[1])
            .collect();
        LogSlice::new(
            SegmentId(u64::from(place[0])),
            u64::from(place[1]),
            covered,
            skip,
            length,
            checksums,
        )
        .expect("the invariants hold")
    })
}

fn extent() -> impl Strategy<Value = ExtentRecord> {
    let chunk = (uniform32(any::<u8>()), any::<u32>(), 1..=u32::MAX).prop_map(|(chunk, offset, length)| {
        Extent::Chunk(ChunkSlice {
            chunk: ChunkId(chunk),
            offset,
            length,
        })
    });
    let extent = prop_oneof![log_slice().prop_map(Extent::Log), chunk];
    (0..u64::MAX - u64::from(u32::MAX), extent).prop_map(|(start, extent)| ExtentRecord { start, extent })
}

fn snapshot_id() -> impl Strategy<Value = SnapshotId> {
    any::<[u8; 16]>().prop_map(SnapshotId)
}

fn text_of(letters: &'static [u8], length: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = String> {
    vec(select(letters), length)
        .prop_map(|bytes| bytes.into_iter().map(char::from).collect::<String>())
        .prop_filter("a word with a meaning of its own", |text| {
            text != "latest" && !text.contains("..")
        })
}

fn network() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<[u8; 4]>(), 0u8..=32).prop_map(|(address, length)| (IpAddr::from(address), length)),
        (any::<[u8; 16]>(), 0u8..=128).prop_map(|(address, length)| (IpAddr::from(address), length)),
    ]
    .prop_map(|(address, length)| IpNet::new(address, length).expect("the length fits"))
}

fn policy() -> impl Strategy<Value = ExportPolicy> {
    let squash = select(vec![Squash::None, Squash::Root, Squash::All]);
    (
        squash,
        any::<[u32; 2]>(),
        vec(network(), 0..6),
        any::<[bool; 2]>(),
    )
        .prop_map(|(squash, ids, allow, flags)| ExportPolicy {
            squash,
            anonymous_uid: ids[0],
            anonymous_gid: ids[1],
            allow,
            read_only: flags[0],
            privileged_port: flags[1],
        })
}

fn volume_record() -> impl Strategy<Value = VolumeRecord> {
    let name = text_of(b"ab.-_9", 0..=127).prop_map(|rest| format!("x{rest}"));
    let ids = (option::of(snapshot_id()), option::of(snapshot_id()));
    let limit = || option::of(0..u64::MAX);
    let limits = (limit(), limit()).prop_map(|(bytes, inodes)| CapacityLimits { bytes, inodes });
    (name, any::<[u64; 4]>(), time(), ids, policy(), limits).prop_map(
        |(name, numbers, created, ids, policy, limits)| VolumeRecord {
            name: WorkspaceName::new(&name).expect("a valid name"),
            head: BranchId(numbers[0]),
            inodes_reserved: InodeId(numbers[1]),
            next_snapshot: numbers[2],
            snapshots: numbers[3],
            created,
            last_snapshot: ids.0,
            forked_from: ids.1,
            policy,
            limits,
        },
    )
}

fn snapshot_record() -> impl Strategy<Value = SnapshotRecord> {
    let tag = text_of(b"abAB09.:=_-", 0..=63).prop_map(|rest| Tag::new(&format!("t{rest}")));
    let tags = vec(tag.prop_map(|tag| tag.expect("a valid tag")), 0..5);
    let note = vec(any::<char>(), 0..50).prop_map(|letters| letters.into_iter().collect::<String>());
    let origin = select(vec![Origin::Requested, Origin::Safety]);
    let ids = (snapshot_id(), option::of(snapshot_id()));
    let pin = (any::<u64>(), time(), option::of(time()), text_of(b"ab ", 0..=9)).prop_map(
        |(number, created, expires, reason)| PinRecord {
            number,
            created,
            expires,
            reason,
        },
    );
    let extra = (vec(pin, 0..4), option::of(text_of(b"ab-", 1..=9)));
    (ids, any::<[u64; 4]>(), origin, time(), note, tags, extra).prop_map(
        |((id, parent), numbers, origin, created, note, tags, (pins, key))| SnapshotRecord {
            id,
            point: Point {
                branch: BranchId(numbers[0]),
                epoch: Epoch(numbers[1]),
            },
            origin,
            created,
            usage: Usage {
                inodes: numbers[2],
                bytes: numbers[3],
            },
            parent,
            note,
            tags,
            pins,
            key,
        },
    )
}

fn branch_record() -> impl Strategy<Value = BranchRecord> {
    let parent = option::of(any::<[u64; 2]>());
    (any::<[u64; 2]>(), any::<u32>(), parent).prop_map(|(numbers, depth, parent)| BranchRecord {
        volume: VolumeId(numbers[0]),
        epoch: Epoch(numbers[1]),
        depth,
        parent: parent.map(|[branch, epoch]| Point {
            branch: BranchId(branch),
            epoch: Epoch(epoch),
        }),
    })
}

proptest! {
    #[test]
    fn inodes_are_read_as_written(record in inode_record()) {
        prop_assert_eq!(InodeRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn entries_are_read_as_written(record in entry()) {
        let key = dirent::name_body(DIRECTORY, &record.name);
        prop_assert_eq!(DirentRecord::decode_by_name(&key, &record.encode_by_name()), Ok(record.clone()));
        let key = dirent::cookie_body(DIRECTORY, record.cookie);
        prop_assert_eq!(DirentRecord::decode_by_cookie(&key, &record.encode_by_cookie()), Ok(record));
    }

    #[test]
    fn extents_are_read_as_written(record in extent()) {
        let key = ExtentRecord::body(DIRECTORY, record.range().end());
        prop_assert_eq!(ExtentRecord::decode(&key, &record.encode()), Ok(record));
    }

    #[test]
    fn volumes_are_read_as_written(record in volume_record()) {
        prop_assert_eq!(VolumeRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn snapshots_are_read_as_written(record in snapshot_record()) {
        prop_assert_eq!(SnapshotRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn branches_and_usage_are_read_as_written(record in branch_record(), numbers in any::<[u64; 2]>()) {
        prop_assert_eq!(BranchRecord::decode(&record.encode()), Ok(record));
        let usage = Usage { inodes: numbers[0], bytes: numbers[1] };
        prop_assert_eq!(Usage::decode(&usage.encode()), Ok(usage));
        let ids = NextIds { volume: numbers[0], branch: numbers[1] };
        prop_assert_eq!(NextIds::decode(&ids.encode()), Ok(ids));
        let place = (VolumeId(numbers[0]), numbers[1]);
        prop_assert_eq!(snapshot::decode_place(&snapshot::encode_place(place.0, place.1)), Ok(place));
    }

    #[test]
    fn versions_are_read_as_written(birth in any::<u64>(), value in option::of(vec(any::<u8>(), 0..40))) {
        let version = Version { birth: Epoch(birth), value: value.as_deref() };
        let bytes = version.encode();
        prop_assert_eq!(Version::decode(&bytes), Ok(version));
    }

    #[test]
    fn any_bytes_are_an_error_or_a_value(bytes in vec(any::<u8>(), 0..200), first in 0u8..8) {
        for kind in KINDS {
            error_or_value(kind, &bytes)?;
            // Most kinds begin with a small number.
            let mut likely = bytes.clone();
            if let Some(byte) = likely.first_mut() {
                *byte = first;
            }
            error_or_value(kind, &likely)?;
        }
    }

    #[test]
    fn damage_in_several_places_is_an_error_or_a_value(
        sample in 0usize..18,
        changes in vec((any::<u16>(), any::<u8>()), 1..6),
        cut in option::of(any::<u16>()),
    ) {
        let samples = samples();
        prop_assert_eq!(samples.len(), 18);
        let (kind, mut bytes) = samples[sample].clone();
        for (place, byte) in changes {
            let place = usize::from(place) % bytes.len();
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(usize::from(cut) % bytes.len());
        }
        error_or_value(kind, &bytes)?;
    }

    #[test]
    fn any_bytes_are_an_error_or_a_key(bytes in vec(any::<u8>(), 0..40)) {
        // Keys of a fixed length are read if and only if they have it.
        prop_assert_eq!(volume::decode_volume_key(&bytes).is_ok(), bytes.len() == 9);
        prop_assert_eq!(branch::decode_branch_key(&bytes).is_ok(), bytes.len() == 9);
        prop_assert_eq!(branch::decode_orphan_key(&bytes).is_ok(), bytes.len() == 17);
        prop_assert_eq!(snapshot::decode_snapshot_key(&bytes).is_ok(), bytes.len() == 17);
        prop_assert_eq!(reply::decode_reply_key(&bytes).is_ok(), bytes.len() == 25);
        let entry = DirentRecord { name: b"n".to_vec(), inode: InodeId(1), kind: FileKind::Regular, cookie: 1 };
        let cookie = DirentRecord::decode_by_cookie(&bytes, &entry.encode_by_cookie());
        prop_assert_eq!(cookie.is_ok(), bytes.len() == 17);
        let by_name = DirentRecord::decode_by_name(&bytes, &entry.encode_by_name());
        prop_assert_eq!(by_name.is_ok(), bytes.len() > 10 && bytes.ends_with(&[0]));
        if let Ok(extent) = ExtentRecord::decode(&bytes, &log_extent().encode()) {
            prop_assert_eq!(ExtentRecord::body(DIRECTORY, extent.range().end())[8..].to_vec(), [b"e", &bytes[9..]].concat());
        }
    }
}

/// What names an object, in the order of bodies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Attributes,
    Cookie(u64),
    Name(Vec<u8>),
    Extent(u64),
    Inline,
    LinkTarget,
}

type Object = (u64, Part);

/// Objects of few inodes with few names and numbers, so that they meet.
fn object() -> impl Strategy<Value = Object> {
    let number = || prop_oneof![0u64..4, any::<u64>(), Just(u64::MAX), Just(0x6161_0000_0000_0000)];
    let part = prop_oneof![
        Just(Part::Attributes),
        number().prop_map(Part::Cookie),
        name().prop_map(Part::Name),
        number().prop_map(Part::Extent),
        Just(Part::Inline),
        Just(Part::LinkTarget),
    ];
    (number(), part)
}

fn body_of((inode, part): &Object) -> Vec<u8> {
    let inode = InodeId(*inode);
    match part {
        Part::Attributes => InodeRecord::body(inode),
        Part::Cookie(cookie) => dirent::cookie_body(inode, *cookie),
        Part::Name(name) => dirent::name_body(inode, name),
        Part::Extent(end) => ExtentRecord::body(inode, *end),
        Part::Inline => inode::inline_body(inode),
        Part::LinkTarget => inode::link_target_body(inode),
    }
}

proptest! {
    /// Inodes by number; within one, cookies and extents by number, names by bytes.
    #[test]
    fn bodies_sort_as_what_they_name(a in object(), b in object()) {
        prop_assert_eq!(body_of(&a).cmp(&body_of(&b)), a.cmp(&b));
    }

    #[test]
    fn no_body_is_the_start_of_another(a in object(), b in object()) {
        prop_assert_eq!(body_of(&a).starts_with(&body_of(&b)), a == b);
    }

    /// Heads sort by branch, then body; history by branch, then body, then epoch. So the old versions of one object are
    /// neighbours, whatever else there is.
    #[test]
    fn history_sorts_by_body_then_epoch(
        a in (1u64..3, object(), any::<u64>()),
        b in (1u64..3, object(), any::<u64>()),
    ) {
        let head = |(branch, object, _): &(u64, Object, u64)| head_key(BranchId(*branch), &body_of(object));
        prop_assert_eq!(head(&a).cmp(&head(&b)), (a.0, &a.1).cmp(&(b.0, &b.1)));
        let history = |(branch, object, last): &(u64, Object, u64)| {
            history_key(BranchId(*branch), &body_of(object), Epoch(*last))
        };
        prop_assert_eq!(history(&a).cmp(&history(&b)), a.cmp(&b));
    }

    #[test]
    fn keys_fit_the_engine(object in object(), branch in any::<u64>(), last in any::<u64>()) {
        let key = history_key(BranchId(branch), &body_of(&object), Epoch(last));
        prop_assert!(key.len() <= KEY_BYTES_MAX, "{} bytes", key.len());
    }

    #[test]
    fn exactly_the_keys_with_a_prefix_lie_before_its_end(
        prefix in vec(select(vec![0u8, 1, 0xfe, 0xff]), 1..5),
        key in vec(select(vec![0u8, 1, 0xfe, 0xff]), 0..7),
    ) {
        let prefix = [&[0x48], prefix.as_slice()].concat();
        let key = [&[0x48], key.as_slice()].concat();
        let inside = key >= prefix && key < prefix_end(&prefix);
        prop_assert_eq!(inside, key.starts_with(&prefix));
    }
}
