//! Golden bytes, and round trips against an independent implementation of the protocol's types (nfs3_types).

use bytes::BytesMut;
use cairn_types::{DeviceNumber, FileKind, InodeId, Timestamp, VolumeId};
use cairn_vfs::filesystem::{Attributes, Before, Change, ObjectId, SetTime};
use nfs3_types::nfs3 as foreign;
use nfs3_types::xdr_codec::{Pack, Unpack};
use proptest::prelude::{Strategy, any, prop_assert_eq, prop_oneof, proptest};

use super::{
    ATTRIBUTES_BYTES, ArgumentError, POST_ATTRIBUTES_BYTES, Procedure, directory_and_name, guard,
    put_attributes, put_change, put_no_change, put_post_attributes, set_attributes,
};
use crate::xdr::Decoder;

fn attributes() -> Attributes {
    Attributes {
        object: ObjectId {
            volume: VolumeId(7),
            inode: InodeId(8),
            generation: 9,
        },
        kind: FileKind::CharacterDevice,
        mode: 0o4755,
        links: 2,
        uid: 3,
        gid: 4,
        size: 5,
        used: 6,
        device: DeviceNumber { major: 10, minor: 11 },
        accessed: Timestamp::new(12, 13),
        modified: Timestamp::new(14, 15),
        changed: Timestamp::new(16, 17),
    }
}

fn unpack<T: Unpack>(bytes: &[u8]) -> T {
    let (value, length) = T::unpack(&mut &bytes[..]).unwrap();
    assert_eq!(length, bytes.len(), "all bytes belong to the item");
    value
}

fn pack(value: &impl Pack) -> Vec<u8> {
    let mut out = Vec::new();
    value.pack(&mut out).unwrap();
    out
}

#[test]
fn golden_attributes() {
    let mut out = BytesMut::new();
    put_attributes(&mut out, &attributes());
    let words = [
        4, 0o4755, 2, 3, 4, 0, 5, 0, 6, 10, 11, 0, 7, 0, 8, 12, 13, 14, 15, 16, 17,
    ];
    let expected: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
    assert_eq!(&out[..], expected);
    assert_eq!(out.len(), ATTRIBUTES_BYTES);
}

#[test]
fn times_outside_the_protocol_are_cut() {
    for (time, seconds, nanoseconds) in [
        (Timestamp::new(-1, 999_999_999), 0, 0),
        (Timestamp::new(i64::from(u32::MAX), 5), u32::MAX, 5),
        (Timestamp::new(i64::MAX, 5), u32::MAX, 5),
    ] {
        let mut out = BytesMut::new();
        put_attributes(
            &mut out,
            &Attributes {
                changed: time,
                ..attributes()
            },
        );
        let foreign: foreign::fattr3 = unpack(&out);
        assert_eq!(
            (foreign.ctime.seconds, foreign.ctime.nseconds),
            (seconds, nanoseconds)
        );
    }
}

#[test]
fn changes_are_weak_cache_consistency_data() {
    let after = attributes();
    let before = Before {
        size: 100,
        modified: Timestamp::new(1, 2),
        changed: Timestamp::new(3, 4),
    };
    let mut out = BytesMut::new();
    put_change(&mut out, &Change { before, after });
    let data: foreign::wcc_data = unpack(&out);
    let foreign::Nfs3Option::Some(before) = data.before else {
        panic!("no attributes before")
    };
    assert_eq!(
        (before.size, before.mtime.seconds, before.ctime.nseconds),
        (100, 1, 4)
    );
    assert!(data.after.is_some());
    out.clear();
    put_no_change(&mut out, None);
    let data: foreign::wcc_data = unpack(&out);
    assert!(data.before.is_none() && data.after.is_none());
    out.clear();
    put_post_attributes(&mut out, Some(&after));
    assert_eq!(out.len(), POST_ATTRIBUTES_BYTES);
}

#[test]
fn procedures_have_their_numbers() {
    for (number, procedure) in Procedure::ALL.iter().enumerate() {
        assert_eq!(*procedure as usize, number);
        assert_eq!(Procedure::from_number(number as u32), Some(*procedure));
    }
    assert_eq!(Procedure::from_number(22), None);
    assert_eq!(
        Procedure::ALL
            .iter()
            .filter(|procedure| procedure.is_recorded())
            .count(),
        9
    );
}

#[test]
fn nanoseconds_beyond_a_second_are_an_argument_error_of_their_own() {
    let bytes = [0, 0, 0, 1, 0, 0, 0, 1, 0x3b, 0x9a, 0xca, 0];
    assert_eq!(guard(&mut Decoder::new(&bytes)), Err(ArgumentError::Time));
}

fn foreign_time() -> impl Strategy<Value = foreign::nfstime3> {
    (any::<u32>(), 0..1_000_000_000u32)
        .prop_map(|(seconds, nseconds)| foreign::nfstime3 { seconds, nseconds })
}

fn optional<T: Pack + Unpack>(value: Option<T>) -> foreign::Nfs3Option<T> {
    value.map_or(foreign::Nfs3Option::None, foreign::Nfs3Option::Some)
}

fn timestamp(time: foreign::nfstime3) -> Timestamp {
    Timestamp::new(i64::from(time.seconds), time.nseconds)
}

proptest! {
    #[test]
    fn attributes_round_trip(
        kind in 0usize..7, mode in 0u32..0o10000, words in any::<[u32; 5]>(), longs in any::<[u64; 4]>(),
        seconds in any::<[u32; 3]>(), nanoseconds in proptest::array::uniform3(0..1_000_000_000u32),
    ) {
        let kinds = [
            (FileKind::Regular, foreign::ftype3::NF3REG),
            (FileKind::Directory, foreign::ftype3::NF3DIR),
            (FileKind::Symlink, foreign::ftype3::NF3LNK),
            (FileKind::BlockDevice, foreign::ftype3::NF3BLK),
            (FileKind::CharacterDevice, foreign::ftype3::NF3CHR),
            (FileKind::Fifo, foreign::ftype3::NF3FIFO),
            (FileKind::Socket, foreign::ftype3::NF3SOCK),
        ];
        let times: [Timestamp; 3] =
            std::array::from_fn(|index| Timestamp::new(i64::from(seconds[index]), nanoseconds[index]));
        let ours = Attributes {
            object: ObjectId { volume: VolumeId(longs[2]), inode: InodeId(longs[3]), generation: 1 },
            kind: kinds[kind].0,
            mode,
            links: words[0],
            uid: words[1],
            gid: words[2],
            size: longs[0],
            used: longs[1],
            device: DeviceNumber { major: words[3], minor: words[4] },
            accessed: times[0],
            modified: times[1],
            changed: times[2],
        };
        let mut out = BytesMut::new();
        put_attributes(&mut out, &ours);
        let theirs: foreign::fattr3 = unpack(&out);
        prop_assert_eq!(theirs.type_, kinds[kind].1);
        prop_assert_eq!((theirs.mode, theirs.nlink, theirs.uid, theirs.gid), (mode, words[0], words[1], words[2]));
        prop_assert_eq!((theirs.size, theirs.used, theirs.fsid, theirs.fileid), (longs[0], longs[1], longs[2], longs[3]));
        prop_assert_eq!((theirs.rdev.specdata1, theirs.rdev.specdata2), (words[3], words[4]));
        prop_assert_eq!([theirs.atime, theirs.mtime, theirs.ctime].map(timestamp), times);
    }

    #[test]
    fn attributes_to_set_round_trip(
        mode: Option<u32>, uid: Option<u32>, gid: Option<u32>, size: Option<u64>,
        accessed in prop_oneof![
            proptest::strategy::Just(foreign::set_atime::DONT_CHANGE),
            proptest::strategy::Just(foreign::set_atime::SET_TO_SERVER_TIME),
            foreign_time().prop_map(foreign::set_atime::SET_TO_CLIENT_TIME),
        ],
        modified in foreign_time(),
    ) {
        let theirs = foreign::sattr3 {
            mode: optional(mode),
            uid: optional(uid),
            gid: optional(gid),
            size: optional(size),
            atime: accessed,
            mtime: foreign::set_mtime::SET_TO_CLIENT_TIME(modified),
        };
        let bytes = pack(&theirs);
        let mut decoder = Decoder::new(&bytes);
        let ours = set_attributes(&mut decoder).unwrap();
        prop_assert_eq!(decoder.finish(), Ok(()));
        prop_assert_eq!((ours.mode, ours.uid, ours.gid, ours.size), (mode, uid, gid, size));
        prop_assert_eq!(ours.modified, Some(SetTime::To(timestamp(modified))));
        prop_assert_eq!(ours.accessed, match accessed {
            foreign::set_atime::DONT_CHANGE => None,
            foreign::set_atime::SET_TO_SERVER_TIME => Some(SetTime::Now),
            foreign::set_atime::SET_TO_CLIENT_TIME(time) => Some(SetTime::To(timestamp(time))),
        });
    }

    #[test]
    fn directory_and_name_round_trip(
        handle in proptest::collection::vec(any::<u8>(), 0..=64),
        name in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let theirs = foreign::diropargs3 {
            dir: foreign::nfs_fh3 { data: nfs3_types::xdr_codec::Opaque::owned(handle.clone()) },
            name: name.clone().into(),
        };
        let bytes = pack(&theirs);
        prop_assert_eq!(directory_and_name(&mut Decoder::new(&bytes)), Ok((&handle[..], &name[..])));
    }

    #[test]
    fn any_bytes_give_an_answer(bytes: Vec<u8>) {
        let _ = set_attributes(&mut Decoder::new(&bytes));
        let _ = directory_and_name(&mut Decoder::new(&bytes));
    }
}
