//! Generated operations: few names, few workspaces, sizes around the boundaries of blocks and of inline data, so that
//! short sequences meet often enough to go wrong together.
//!
//! An operation names its objects by what they are at the time when it runs ([`Target`]), not by what was made before it:
//! so most of a random sequence succeeds, and a sequence stays meaningful when proptest takes operations out of it.

use cairn_vfs::filesystem::Stability;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;

use crate::subject::Stop;

/// Which caller: an index into [`crate::execute::callers`].
pub type CallerIndex = u8;

/// Which of the objects that fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// A directory.
    Directory(u8),
    /// A regular file.
    File(u8),
    /// Anything.
    Any(u8),
    /// Something that is gone, if anything is.
    Gone(u8),
}

/// An object of a workspace. Numbers count the objects that fit, in the order of their inode numbers, round and round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Index into the workspaces that exist, round and round.
    pub workspace: u8,
    pub pick: Pick,
}

/// A name of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// One of a few ordinary names.
    Plain(u8),
    /// Bytes that are no UTF-8.
    Raw,
    /// As long as a name can be.
    Long,
    /// A byte longer.
    TooLong,
    Empty,
    Dot,
    DotDot,
    Slash,
    Nul,
}

impl Name {
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Name::Plain(index) => vec![b'a' + index],
            Name::Raw => b"\xff\xfe-".to_vec(),
            Name::Long => vec![b'n'; 255],
            Name::TooLong => vec![b'n'; 256],
            Name::Empty => Vec::new(),
            Name::Dot => b".".to_vec(),
            Name::DotDot => b"..".to_vec(),
            Name::Slash => b"a/b".to_vec(),
            Name::Nul => b"a\0".to_vec(),
        }
    }
}

/// How a regular file is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Unchecked {
        size: Option<u64>,
    },
    Guarded {
        size: Option<u64>,
    },
    /// And once more with the same verifier, and with another.
    Exclusive,
}

/// What mknod makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    Fifo,
    Socket,
    Block,
    Character,
}

/// A time to set: a number of seconds, or the present.
pub type Time = Option<Option<i64>>;

/// A snapshot of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    Latest,
    /// One of three tags.
    Tagged(u8),
    /// One of all snapshots that were ever taken, by its whole id.
    Id(u8),
    /// The same by twelve digits of it.
    Short(u8),
    Unknown,
}

/// One step of a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    Lookup {
        caller: CallerIndex,
        directory: Target,
        name: Name,
    },
    Getattr {
        object: Target,
    },
    SetMode {
        caller: CallerIndex,
        object: Target,
        mode: u32,
        guard: Option<bool>,
    },
    SetOwner {
        caller: CallerIndex,
        object: Target,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    SetSize {
        caller: CallerIndex,
        object: Target,
        size: u64,
    },
    SetTimes {
        caller: CallerIndex,
        object: Target,
        accessed: Time,
        modified: Time,
    },
    Read {
        caller: CallerIndex,
        object: Target,
        offset: u64,
        count: u32,
    },
    Readlink {
        caller: CallerIndex,
        object: Target,
    },
    Write {
        caller: CallerIndex,
        object: Target,
        offset: u64,
        length: u32,
        seed: u8,
        stability: Stability,
    },
    Commit {
        object: Target,
    },
    Create {
        caller: CallerIndex,
        directory: Target,
        name: Name,
        how: How,
        mode: u32,
    },
    Mkdir {
        caller: CallerIndex,
        directory: Target,
        name: Name,
        mode: u32,
    },
    Symlink {
        caller: CallerIndex,
        directory: Target,
        name: Name,
        length: u16,
    },
    Mknod {
        caller: CallerIndex,
        directory: Target,
        name: Name,
        special: Special,
    },
    Remove {
        caller: CallerIndex,
        directory: Target,
        name: Name,
    },
    Rmdir {
        caller: CallerIndex,
        directory: Target,
        name: Name,
    },
    Rename {
        caller: CallerIndex,
        from: (Target, Name),
        to: (Target, Name),
    },
    Link {
        caller: CallerIndex,
        object: Target,
        directory: Target,
        name: Name,
    },
    /// Lists some entries and remembers where it stopped.
    List {
        caller: CallerIndex,
        directory: Target,
        entries: u8,
    },
    /// Goes on with that listing.
    ListOn {
        entries: u8,
    },
    Snapshot {
        workspace: u8,
        tag: Option<u8>,
    },
    Restore {
        workspace: u8,
        reference: Reference,
    },
    Fork {
        workspace: u8,
        reference: Reference,
        new: u8,
    },
    Diff {
        workspace: u8,
        from: Reference,
        to: Option<Reference>,
    },
    Resolve {
        workspace: u8,
        reference: Reference,
    },
    Delete {
        workspace: u8,
        with_snapshots: bool,
    },
    DeleteSnapshot {
        workspace: u8,
        reference: Reference,
    },
    /// Limits as so much more (or, if negative, less) than there is.
    SetCapacity {
        workspace: u8,
        bytes: Option<i64>,
        inodes: Option<i64>,
    },
    Restart {
        stop: Stop,
    },
}

/// Sizes and offsets at which implementations change their minds.
const BOUNDARIES: [u64; 14] = [
    0,
    1,
    7,
    100,
    4095,
    4096,
    4097,
    8192,
    12_288,
    16_384,
    65_535,
    65_536,
    65_537,
    (1 << 20) + 1,
];

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![8 => select(&BOUNDARIES[..12]), 1 => select(&BOUNDARIES[..]), 4 => 0..20_000u64]
}

fn huge() -> impl Strategy<Value = u64> {
    select(&[(1 << 31) - 1, 1 << 32, (1 << 40) + 7, 1 << 60, 1 << 63, u64::MAX][..])
}

fn caller() -> impl Strategy<Value = CallerIndex> {
    prop_oneof![5 => Just(0u8), 3 => Just(1u8), 2 => Just(2u8)]
}

fn name() -> impl Strategy<Value = Name> {
    prop_oneof![
        60 => (0..5u8).prop_map(Name::Plain),
        1 => Just(Name::Raw),
        1 => Just(Name::Long),
        1 => select(&[Name::TooLong, Name::Empty, Name::Dot, Name::DotDot, Name::Slash, Name::Nul][..]),
    ]
}

fn workspace() -> impl Strategy<Value = u8> {
    prop_oneof![5 => Just(0u8), 2 => 0..3u8]
}

fn target(pick: impl Strategy<Value = Pick>) -> impl Strategy<Value = Target> {
    (workspace(), pick).prop_map(|(workspace, pick)| Target { workspace, pick })
}

fn directory() -> impl Strategy<Value = Target> {
    target(prop_oneof![
        10 => Just(Pick::Directory(0)),
        20 => (0..4u8).prop_map(Pick::Directory),
        1 => any::<u8>().prop_map(Pick::Any),
        1 => any::<u8>().prop_map(Pick::Gone),
    ])
}

fn file() -> impl Strategy<Value = Target> {
    target(prop_oneof![
        20 => (0..3u8).prop_map(Pick::File),
        10 => any::<u8>().prop_map(Pick::File),
        2 => any::<u8>().prop_map(Pick::Any),
        1 => any::<u8>().prop_map(Pick::Gone),
    ])
}

fn object() -> impl Strategy<Value = Target> {
    target(prop_oneof![15 => any::<u8>().prop_map(Pick::Any), 1 => any::<u8>().prop_map(Pick::Gone)])
}

fn mode() -> impl Strategy<Value = u32> {
    let usual = [
        0o777, 0o755, 0o1777, 0o2777, 0o2775, 0o700, 0o644, 0o666, 0o600, 0o4755, 0o6755, 0o2644,
    ];
    prop_oneof![6 => select(usual.to_vec()), 1 => 0..0o10000u32]
}

/// Modes to make objects with: what set-id bits mean then differs between systems, and chmod covers them.
fn making_mode() -> impl Strategy<Value = u32> {
    select(&[0o777, 0o755, 0o700, 0o644, 0o666, 0o600, 0o1777, 0o711, 0o000][..])
}

fn time() -> impl Strategy<Value = Time> {
    prop_oneof![
        Just(None),
        Just(Some(None)),
        select(&[0, 1, -1, -86_400, 1_600_000_000, 1_700_000_000, 4_102_444_800][..])
            .prop_map(|t| Some(Some(t))),
    ]
}

fn stability() -> impl Strategy<Value = Stability> {
    prop_oneof![3 => Just(Stability::Unstable), 1 => Just(Stability::Data), 2 => Just(Stability::File)]
}

fn reference() -> impl Strategy<Value = Reference> {
    prop_oneof![
        4 => Just(Reference::Latest),
        2 => (0..3u8).prop_map(Reference::Tagged),
        6 => any::<u8>().prop_map(Reference::Id),
        1 => any::<u8>().prop_map(Reference::Short),
        1 => Just(Reference::Unknown),
    ]
}

fn attributes() -> impl Strategy<Value = Operation> {
    let owner = || prop_oneof![Just(None), select(&[0u32, 1001, 1002][..]).prop_map(Some)];
    let group = || prop_oneof![Just(None), select(&[0u32, 100, 200, 300][..]).prop_map(Some)];
    let guard = prop_oneof![6 => Just(None), 1 => any::<bool>().prop_map(Some)];
    let extent = prop_oneof![12 => size(), 1 => huge()];
    prop_oneof![
        2 => object().prop_map(|object| Operation::Getattr { object }),
        5 => (caller(), object(), mode(), guard)
            .prop_map(|(caller, object, mode, guard)| Operation::SetMode { caller, object, mode, guard }),
        4 => (caller(), object(), owner(), group())
            .prop_map(|(caller, object, uid, gid)| Operation::SetOwner { caller, object, uid, gid }),
        8 => (caller(), file(), extent)
            .prop_map(|(caller, object, size)| Operation::SetSize { caller, object, size }),
        4 => (caller(), object(), time(), time()).prop_map(|(caller, object, accessed, modified)| {
            Operation::SetTimes { caller, object, accessed, modified }
        }),
    ]
}

fn data() -> impl Strategy<Value = Operation> {
    // Beyond what a model can hold only where nothing may be written.
    let offset = || prop_oneof![14 => size(), 1 => 0..3_000_000u64];
    let beyond = select(&[i64::MAX as u64, 1 << 63, u64::MAX][..]);
    // At most what an NFS client sends at once; more may be several changes, each with a time of its own.
    let length = || {
        prop_oneof![
            1 => Just(0u32),
            12 => select(&[1u32, 10, 100, 4095, 4096, 4097, 8192][..]),
            2 => select(&[65_536u32, 65_537, 1 << 20][..]),
            4 => 1..10_000u32,
        ]
    };
    let write = |(caller, object, offset, length, seed, stability)| Operation::Write {
        caller,
        object,
        offset,
        length,
        seed,
        stability,
    };
    prop_oneof![
        16 => (caller(), file(), offset(), length(), any::<u8>(), stability()).prop_map(write),
        1 => (caller(), file(), beyond, length(), any::<u8>(), stability()).prop_map(write),
        5 => file().prop_map(|object| Operation::Commit { object }),
        6 => (caller(), file(), prop_oneof![9 => offset(), 1 => huge()], length())
            .prop_map(|(caller, object, offset, count)| Operation::Read { caller, object, offset, count }),
        1 => (caller(), object()).prop_map(|(caller, object)| Operation::Readlink { caller, object }),
    ]
}

fn names() -> impl Strategy<Value = Operation> {
    let optional = || prop_oneof![4 => Just(None), 1 => size().prop_map(Some)];
    let how = prop_oneof![
        3 => optional().prop_map(|size| How::Unchecked { size }),
        3 => optional().prop_map(|size| How::Guarded { size }),
        1 => Just(How::Exclusive),
    ];
    let special = select(&[Special::Fifo, Special::Socket, Special::Block, Special::Character][..]);
    let target = select(&[1u16, 20, 59, 60, 61, 1000, 4096, 4097, 0][..]);
    let place = || (directory(), name());
    prop_oneof![
        3 => (caller(), place())
            .prop_map(|(caller, (directory, name))| Operation::Lookup { caller, directory, name }),
        12 => (caller(), place(), how, making_mode()).prop_map(|(caller, (directory, name), how, mode)| {
            Operation::Create { caller, directory, name, how, mode }
        }),
        9 => (caller(), place(), making_mode()).prop_map(|(caller, (directory, name), mode)| {
            Operation::Mkdir { caller, directory, name, mode }
        }),
        2 => (caller(), place(), target).prop_map(|(caller, (directory, name), length)| {
            Operation::Symlink { caller, directory, name, length }
        }),
        2 => (caller(), place(), special).prop_map(|(caller, (directory, name), special)| {
            Operation::Mknod { caller, directory, name, special }
        }),
        6 => (caller(), place())
            .prop_map(|(caller, (directory, name))| Operation::Remove { caller, directory, name }),
        4 => (caller(), place())
            .prop_map(|(caller, (directory, name))| Operation::Rmdir { caller, directory, name }),
        14 => (caller(), place(), place())
            .prop_map(|(caller, from, to)| Operation::Rename { caller, from, to }),
        5 => (caller(), object(), place()).prop_map(|(caller, object, (directory, name))| {
            Operation::Link { caller, object, directory, name }
        }),
        3 => (caller(), directory(), 0..6u8).prop_map(|(caller, directory, entries)| {
            Operation::List { caller, directory, entries }
        }),
        3 => (0..6u8).prop_map(|entries| Operation::ListOn { entries }),
    ]
}

fn administration() -> impl Strategy<Value = Operation> {
    let tag = prop_oneof![Just(None), (0..3u8).prop_map(Some)];
    let to = prop_oneof![Just(None), reference().prop_map(Some)];
    let bytes = select(&[-1i64, 0, 1, 100, 5000, 70_000, 2_000_000][..]);
    let limits = (option::weighted(0.7, bytes), option::weighted(0.4, -1..8i64));
    prop_oneof![
        4 => (workspace(), reference())
            .prop_map(|(workspace, reference)| Operation::DeleteSnapshot { workspace, reference }),
        2 => (workspace(), limits)
            .prop_map(|(workspace, (bytes, inodes))| Operation::SetCapacity { workspace, bytes, inodes }),
        10 => (workspace(), tag).prop_map(|(workspace, tag)| Operation::Snapshot { workspace, tag }),
        5 => (workspace(), reference())
            .prop_map(|(workspace, reference)| Operation::Restore { workspace, reference }),
        4 => (workspace(), reference(), 0..4u8)
            .prop_map(|(workspace, reference, new)| Operation::Fork { workspace, reference, new }),
        5 => (workspace(), reference(), to)
            .prop_map(|(workspace, from, to)| Operation::Diff { workspace, from, to }),
        2 => (workspace(), reference())
            .prop_map(|(workspace, reference)| Operation::Resolve { workspace, reference }),
        1 => (1..4u8, any::<bool>())
            .prop_map(|(workspace, with_snapshots)| Operation::Delete { workspace, with_snapshots }),
    ]
}

/// What a sequence is mostly about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Everything.
    Even,
    /// The bytes of a few files, through snapshots, forks and stops.
    Bytes,
    /// Names and permissions.
    Names,
}

/// Any operation; `stops` are the ways in which the subject can end.
fn operation(mix: Mix, stops: &'static [Stop]) -> impl Strategy<Value = Operation> {
    let stop = select(stops).prop_map(|stop| Operation::Restart { stop });
    let (of_names, of_data, of_attributes, of_administration, of_stop) = match mix {
        Mix::Even => (40, 30, 18, 11, 2),
        Mix::Bytes => (12, 50, 10, 22, 6),
        Mix::Names => (65, 5, 24, 5, 1),
    };
    prop_oneof![
        of_names => names().boxed(),
        of_data => data().boxed(),
        of_attributes => attributes().boxed(),
        of_administration => administration().boxed(),
        of_stop => stop.boxed(),
    ]
}

/// A sequence of up to `length` operations.
pub fn sequence(length: usize, stops: &'static [Stop]) -> impl Strategy<Value = Vec<Operation>> {
    let of = |mix| proptest::collection::vec(operation(mix, stops), 1..=length);
    prop_oneof![2 => of(Mix::Even), 1 => of(Mix::Bytes), 1 => of(Mix::Names)]
}
