//! The comparer notices every aspect, alone, and nothing else.

use std::convert::Infallible;

use cairn_types::{DeviceNumber, FileKind, Timestamp};

use super::{Aspect, Aspects, CompareError, Difference, aspects, compare};
use crate::directory::{Attributes, Body, Digest, Entry, FileBody, Hole, Record, RelativePath, Stamp, Xattr};

fn path(text: &str) -> RelativePath {
    RelativePath::new(text.as_bytes()).unwrap()
}

fn entry(name: &str, kind: FileKind, body: Body) -> Entry {
    let attributes = Attributes {
        kind,
        mode: 0o644,
        uid: 1,
        gid: 2,
        modified: Timestamp::new(5, 6),
        size: 10,
        device: DeviceNumber::default(),
        xattrs: Vec::new(),
    };
    Entry {
        path: path(name),
        attributes,
        body,
    }
}

fn file(name: &str, digest: Option<u8>) -> Entry {
    let digest = digest.map(|byte| Digest([byte; 32]));
    entry(
        name,
        FileKind::Regular,
        Body::File(FileBody {
            digest,
            ..FileBody::default()
        }),
    )
}

#[test]
fn each_aspect_alone() {
    let xattr = Xattr {
        name: b"user.x".to_vec(),
        value: Vec::new(),
    };
    let change = |aspect: Aspect, changed: &dyn Fn(&mut Entry)| {
        let before = file("f", Some(1));
        let mut after = before.clone();
        changed(&mut after);
        let expected: Aspects = [aspect].into_iter().collect();
        assert_eq!(aspects(&before, &after), expected);
        assert_eq!(aspects(&after, &before), expected);
    };
    change(Aspect::Kind, &|e| e.attributes.kind = FileKind::Fifo);
    change(Aspect::Mode, &|e| e.attributes.mode = 0o600);
    change(Aspect::Owner, &|e| e.attributes.uid = 7);
    change(Aspect::Owner, &|e| e.attributes.gid = 7);
    change(Aspect::Times, &|e| e.attributes.modified = Timestamp::new(5, 7));
    change(Aspect::Size, &|e| e.attributes.size = 11);
    change(Aspect::Data, &|e| e.body = file("f", Some(2)).body);
    change(Aspect::Unread, &|e| e.body = file("f", None).body);
    change(Aspect::Xattrs, &|e| e.attributes.xattrs.push(xattr.clone()));
    change(Aspect::Links, &|e| e.body = Body::Link(path("e")));
    change(Aspect::Device, &|e| e.attributes.device.major = 1);
    change(Aspect::Holes, &|e| {
        let holes = vec![Hole {
            offset: 0,
            length: 10,
        }];
        e.body = Body::File(FileBody {
            digest: Some(Digest([1; 32])),
            holes,
            ..FileBody::default()
        });
    });
    let link = |target: &[u8]| entry("l", FileKind::Symlink, Body::Symlink(target.to_vec()));
    assert_eq!(aspects(&link(b"a"), &link(b"b")).to_string(), "target");
    assert!(aspects(&link(b"a"), &link(b"a")).is_empty());
}

#[test]
fn a_stamp_stands_for_data_that_was_not_read() {
    let stamp = |inode| {
        Some(Stamp {
            device: 1,
            inode,
            changed: Timestamp::new(1, 1),
        })
    };
    let record = |stamp| Record {
        entry: file("f", None),
        stamp,
    };
    assert!(aspects(&record(stamp(1)), &record(stamp(1))).is_empty());
    assert!(aspects(&record(stamp(1)), &record(stamp(2))).contains(Aspect::Unread));
    assert!(aspects(&record(None), &record(None)).contains(Aspect::Unread));
}

#[test]
fn streams_are_merged_in_path_order() {
    let ok = |names: &[&str]| -> Vec<Result<Entry, Infallible>> {
        names.iter().map(|name| Ok(file(name, Some(1)))).collect()
    };
    let mut after = ok(&["a", "a/b", "a.b", "c"]);
    after[3].as_mut().unwrap().attributes.mode = 0;
    let told: Vec<String> = compare(ok(&["a", "a/x", "a.b", "b", "c"]), after)
        .map(|difference| match difference.unwrap() {
            Difference::Added(entry) => format!("+{}", entry.path),
            Difference::Removed(entry) => format!("-{}", entry.path),
            Difference::Changed { after, aspects, .. } => format!("{} {aspects}", after.path),
        })
        .collect();
    assert_eq!(told, ["+a/b", "-a/x", "-b", "c mode"]);

    let mut unordered = compare(ok(&["b", "a"]), ok(&["b"]));
    assert!(matches!(unordered.next(), Some(Err(CompareError::Order { .. }))));
    assert!(unordered.next().is_none());
}

#[test]
fn an_error_takes_the_place_of_its_entry() {
    let before: Vec<Result<Entry, &str>> = vec![Ok(file("a", Some(1))), Err("lost"), Ok(file("c", Some(1)))];
    let after: Vec<Result<Entry, Infallible>> = vec![Ok(file("a", Some(1))), Ok(file("c", Some(2)))];
    let told: Vec<_> = compare(before, after).collect();
    assert!(matches!(told[0], Err(CompareError::Before("lost"))));
    assert!(matches!(&told[1], Ok(Difference::Changed { .. })));
    assert_eq!(told.len(), 2);
}
