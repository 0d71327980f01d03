//! What generated sequences reach badly: limits, long listings, a clock that stands still.

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_types::{ExportPolicy, Tag, Timestamp};
use cairn_vfs::control::{ControlError, NewSnapshot, NewWorkspace, Snapshot};
use cairn_vfs::filesystem::{
    Attributes, CreateMode, FILE_BYTES_MAX, FileSystem, LINKS_MAX, ObjectId, SetAttributes, Stability,
};
use cairn_vfs::{Error, Pending};

use crate::compare::list;
use crate::execute::{bytes, caller, wait};
use crate::harness::workspace_name;
use crate::subject::{Stop, Subject, TestClock};
use crate::subjects::{Background, Memory, Real};

/// Volumes with one empty workspace.
fn volumes() -> Real<Memory> {
    let real = Real::new(Memory::default(), TestClock::new(), Background::Never);
    real.create_workspace(NewWorkspace {
        name: workspace_name(0),
        policy: ExportPolicy::default(),
        uid: 0,
        gid: 0,
        mode: 0o755,
    })
    .unwrap();
    real
}

fn root(files: &dyn FileSystem) -> ObjectId {
    files.mount(b"/w0").unwrap().object
}

fn durable<T>(pending: Result<Pending<T>, Error>) -> Result<T, Error> {
    pending.and_then(|pending| wait(pending.durable()))
}

fn create(files: &dyn FileSystem, name: &[u8]) -> Attributes {
    let mode = CreateMode::Guarded(SetAttributes::default());
    durable(files.create(&caller(0), root(files), name, mode, &|_| None))
        .unwrap()
        .attributes
}

fn set_size(files: &dyn FileSystem, object: ObjectId, size: u64) -> Result<Attributes, Error> {
    let set = SetAttributes {
        size: Some(size),
        ..SetAttributes::default()
    };
    durable(files.setattr(&caller(0), object, set, None, &|_| None)).map(|change| change.after)
}

fn write(
    files: &dyn FileSystem,
    object: ObjectId,
    offset: u64,
    data: &'static [u8],
) -> Result<Attributes, Error> {
    let written = durable(files.write(&caller(0), object, offset, data.into(), Stability::File))?;
    Ok(written.change.after)
}

#[test]
fn a_file_is_as_large_as_an_offset_can_say() {
    let mut real = volumes();
    let file = create(real.files(), b"file").object;
    assert!(matches!(
        set_size(real.files(), file, FILE_BYTES_MAX + 1),
        Err(Error::FileTooLarge)
    ));
    assert_eq!(
        set_size(real.files(), file, FILE_BYTES_MAX).unwrap().size,
        FILE_BYTES_MAX
    );
    assert!(matches!(
        write(real.files(), file, FILE_BYTES_MAX, b"x"),
        Err(Error::FileTooLarge)
    ));
    assert_eq!(
        write(real.files(), file, FILE_BYTES_MAX - 2, b"xy").unwrap().size,
        FILE_BYTES_MAX
    );
    assert!(real.restart(Stop::PowerCut));
    assert_eq!(real.files().getattr(file).unwrap().size, FILE_BYTES_MAX);
    assert_eq!(
        bytes(real.files(), file, FILE_BYTES_MAX - 4, 100).unwrap(),
        b"\0\0xy"
    );
    assert_eq!(set_size(real.files(), file, 3).unwrap().size, 3);
    assert_eq!(
        set_size(real.files(), file, FILE_BYTES_MAX).unwrap().size,
        FILE_BYTES_MAX
    );
    assert_eq!(
        bytes(real.files(), file, FILE_BYTES_MAX - 4, 100).unwrap(),
        [0; 4]
    );
}

#[test]
fn changes_are_told_apart_while_the_clock_stands_still() {
    let real = volumes();
    let files = real.files();
    let file = create(files, b"file");
    let mut last: Timestamp = file.changed;
    for step in 0..20u64 {
        let after = match step % 4 {
            0 => write(files, file.object, step, b"short").unwrap(),
            1 => write(files, file.object, step * 10_000, b"in the log").unwrap(),
            2 => set_size(files, file.object, step).unwrap(),
            _ => {
                let set = SetAttributes {
                    mode: Some(0o600),
                    ..SetAttributes::default()
                };
                durable(files.setattr(&caller(0), file.object, set, None, &|_| None))
                    .unwrap()
                    .after
            }
        };
        assert!(
            after.changed > last,
            "step {step}: {:?} after {last:?}",
            after.changed
        );
        last = after.changed;
    }
    let mut last = files.getattr(root(files)).unwrap().changed;
    for index in 0..5u8 {
        create(files, &[b'a' + index]);
        let directory = files.getattr(root(files)).unwrap();
        assert!(directory.changed > last && directory.modified == directory.changed);
        last = directory.changed;
    }
}

#[test]
fn a_large_directory_is_listed_once_while_it_shrinks() {
    const ENTRIES: usize = 3000;
    const PIECE: usize = 70;
    let real = volumes();
    let files = real.files();
    let names: Vec<Vec<u8>> = (0..ENTRIES)
        .map(|index| format!("entry-{index}").into_bytes())
        .collect();
    for name in &names {
        create(files, name);
    }
    let (mut cookie, mut seen, mut removed) = (0, BTreeSet::new(), BTreeSet::new());
    loop {
        let (rows, end) = list(files, root(files), cookie, false, PIECE).unwrap();
        for row in &rows {
            cookie = row.cookie;
            assert!(
                !removed.contains(&row.name),
                "{:?} was removed before",
                row.name.escape_ascii()
            );
            assert!(
                seen.insert(row.name.clone()),
                "{:?} is listed twice",
                row.name.escape_ascii()
            );
        }
        if end {
            break;
        }
        // What a listing has shown is removed, as rm does, with the entry that the cookie is of.
        for row in rows
            .iter()
            .filter(|row| row.name.starts_with(b"entry"))
            .skip(1)
            .step_by(2)
            .chain(rows.last())
        {
            if removed.insert(row.name.clone()) && row.name.starts_with(b"entry") {
                durable(files.remove(&caller(0), root(files), &row.name, &|_| None)).unwrap();
            }
        }
    }
    assert!(names.iter().all(|name| seen.contains(name)));
    let left = list(files, root(files), 0, true, usize::MAX).unwrap().0.len();
    let gone = removed.iter().filter(|name| name.starts_with(b"entry")).count();
    assert_eq!(left, 2 + ENTRIES - gone);
}

#[test]
fn an_object_has_no_more_links_than_it_can_count() {
    let real = volumes();
    let files = real.files();
    let file = create(files, b"file").object;
    let link = |name: u32| {
        let name = name.to_string();
        let linked = files.link(&caller(0), file, root(files), name.as_bytes(), &|_| None);
        linked.map(Pending::without_durability)
    };
    for name in 1..LINKS_MAX {
        assert_eq!(link(name).unwrap().attributes.links, name + 1);
    }
    assert!(matches!(link(LINKS_MAX), Err(Error::TooManyLinks)));
    durable(files.remove(&caller(0), root(files), b"7", &|_| None)).unwrap();
    assert_eq!(link(LINKS_MAX).unwrap().attributes.links, LINKS_MAX);
}

#[test]
fn notes_and_tags_of_snapshots_are_limited() {
    let real = volumes();
    let take = |note: usize, tags: usize| {
        let tag = |index: usize| Tag::new(&format!("t{index}")).unwrap();
        let new = NewSnapshot {
            note: "n".repeat(note),
            tags: (0..tags).map(tag).collect(),
        };
        real.snapshot(&workspace_name(0), new)
    };
    let most = take(Snapshot::NOTE_BYTES_MAX, Snapshot::TAGS_MAX).unwrap();
    assert_eq!(
        (most.note.len(), most.tags.len()),
        (Snapshot::NOTE_BYTES_MAX, Snapshot::TAGS_MAX)
    );
    for (note, tags) in [(Snapshot::NOTE_BYTES_MAX + 1, 0), (0, Snapshot::TAGS_MAX + 1)] {
        assert!(matches!(
            take(note, tags),
            Err(ControlError::LimitExceeded { .. })
        ));
    }
    assert_eq!(real.history(&workspace_name(0)).unwrap(), [most]);
}

#[test]
fn directories_below_an_export_can_be_mounted() {
    let real = volumes();
    let files = real.files();
    let made = files.mkdir(
        &caller(0),
        root(files),
        b"below",
        SetAttributes::default(),
        &|_| None,
    );
    let below = durable(made).unwrap().attributes;
    create(files, b"file");
    assert_eq!(files.mount(b"/w0/below").unwrap(), below);
    assert_eq!(files.mount(b"/w0").unwrap().links, 3);
    assert!(matches!(files.mount(b"/w0/file"), Err(Error::NotDirectory)));
    assert!(matches!(files.mount(b"/w0/nothing"), Err(Error::NotFound)));
    assert!(matches!(files.mount(b"/w1"), Err(Error::NotFound)));
}

#[test]
fn capacity_adds_up() {
    let real = volumes();
    let files = real.files();
    let capacity = files.capacity(root(files)).unwrap();
    assert!(capacity.bytes_available <= capacity.bytes_free && capacity.bytes_free <= capacity.bytes_total);
    assert!(capacity.inodes_free <= capacity.inodes_total);
}

#[test]
fn a_policy_that_is_read_only_is_told() {
    let real = volumes();
    let policy = ExportPolicy {
        read_only: true,
        ..ExportPolicy::default()
    };
    let new = NewWorkspace {
        name: workspace_name(1),
        policy: policy.clone(),
        uid: 7,
        gid: 8,
        mode: 0o750,
    };
    let made = real.create_workspace(new).unwrap();
    assert_eq!(real.files().export(made.volume).unwrap().policy, Arc::new(policy));
    let root = real.files().mount(b"/w1").unwrap();
    assert_eq!((root.uid, root.gid, root.mode, root.links), (7, 8, 0o750, 2));
}
