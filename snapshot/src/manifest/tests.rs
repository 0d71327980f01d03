//! Manifests of made-up trees: what comes out is what went in, from any place on.

mod blocks;
mod changes;
mod damage;
mod forged;
mod golden;
mod order;
mod random;

use std::fs::File;
use std::os::unix::fs::FileExt;

use cairn_content::pipeline::Run;
use cairn_types::{ChunkId, DeviceNumber, FileKind, Timestamp};

use super::{ManifestOptions, ManifestReader, ManifestSummary, ManifestWriter};
use crate::directory::{Attributes, Body, Digest, Entry, FileBody, Hole, Record, RelativePath, Stamp, Xattr};

pub(super) fn path(text: &str) -> RelativePath {
    RelativePath::new(text.as_bytes()).unwrap()
}

/// A record with everything that its kind has by default.
pub(super) fn record(at: &str, kind: FileKind) -> Record {
    let hash = blake3::hash(at.as_bytes());
    let lot = u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap());
    let modified = Timestamp::new(1_790_000_000 + (lot % 1000) as i64, (lot % 1_000_000_000) as u32);
    Record {
        entry: Entry {
            path: path(at),
            attributes: Attributes {
                kind,
                mode: if kind == FileKind::Directory { 0o755 } else { 0o644 },
                uid: 1000,
                gid: 100,
                modified,
                size: match kind {
                    FileKind::Regular => lot % 100_000,
                    FileKind::Symlink => at.len() as u64,
                    _ => 0,
                },
                device: DeviceNumber::default(),
                xattrs: Vec::new(),
            },
            body: match kind {
                FileKind::Regular => Body::File(FileBody {
                    digest: Some(Digest(*hash.as_bytes())),
                    ..FileBody::default()
                }),
                FileKind::Symlink => Body::Symlink(at.as_bytes().to_vec()),
                _ => Body::None,
            },
        },
        stamp: Some(Stamp {
            device: 66,
            inode: 100_000 + lot % 5000,
            changed: modified,
        }),
    }
}

pub(super) fn file_body(record: &mut Record) -> &mut FileBody {
    match &mut record.entry.body {
        Body::File(file) => file,
        _ => panic!("no file"),
    }
}

/// One entry of every kind, with every attribute.
pub(super) fn everything() -> Vec<Record> {
    let mut root = record("", FileKind::Directory);
    root.entry.attributes.xattrs = vec![
        Xattr {
            name: b"system.posix_acl_default".to_vec(),
            value: vec![2, 0, 0, 0],
        },
        Xattr {
            name: b"user.note".to_vec(),
            value: Vec::new(),
        },
    ];
    let mut disk = record("dev/disk", FileKind::BlockDevice);
    disk.entry.attributes.device = DeviceNumber { major: 8, minor: 1 };
    let mut terminal = record("dev/tty", FileKind::CharacterDevice);
    terminal.entry.attributes.device = DeviceNumber { major: 4, minor: 300 };
    terminal.stamp = None;
    let mut sparse = record("dev/x/sparse", FileKind::Regular);
    sparse.entry.attributes.size = (1 << 40) + 5;
    file_body(&mut sparse).holes = vec![
        Hole {
            offset: 0,
            length: 1 << 30,
        },
        Hole {
            offset: 1 << 39,
            length: (1 << 39) + 5,
        },
    ];
    let mut chunked = record("dev/x/\u{ff}chunks", FileKind::Regular);
    chunked.entry.attributes.size = 100_000 + 4_000_000_000;
    chunked.entry.attributes.modified = Timestamp::new(-5, 999_999_999);
    file_body(&mut chunked).runs = vec![Run::Chunk(ChunkId([7; 32]), 100_000), Run::Zeros(4_000_000_000)];
    let mut link = chunked.clone();
    link.entry.path = path("other");
    link.entry.body = Body::Link(chunked.entry.path.clone());
    let mut unread = record("z", FileKind::Regular);
    file_body(&mut unread).digest = None;
    unread.entry.attributes.mode = 0o7777;
    unread.entry.attributes.uid = u32::MAX;
    let symlink = record("way", FileKind::Symlink);
    let mut symlink_link = symlink.clone();
    symlink_link.entry.path = path("way2");
    symlink_link.entry.body = Body::Link(path("way"));
    vec![
        root,
        record("dev", FileKind::Directory),
        disk,
        record("dev/fifo", FileKind::Fifo),
        record("dev/socket", FileKind::Socket),
        terminal,
        record("dev/x", FileKind::Directory),
        sparse,
        chunked,
        record("dev-empty", FileKind::Directory),
        link,
        symlink,
        symlink_link,
        unread,
    ]
}

/// A tree of `files` files in directories of a hundred.
pub(super) fn wide(files: usize) -> Vec<Record> {
    let mut records = vec![record("", FileKind::Directory)];
    for at in 0..files {
        if at % 100 == 0 {
            records.push(record(&format!("directory-{:05}", at / 100), FileKind::Directory));
        }
        let name = format!("directory-{:05}/file-{at:07}.dat", at / 100);
        records.push(record(&name, FileKind::Regular));
    }
    records
}

pub(super) fn write(records: &[Record], options: ManifestOptions) -> (File, ManifestSummary) {
    let file = tempfile::tempfile().unwrap();
    let mut writer = ManifestWriter::create(file.try_clone().unwrap(), options).unwrap();
    for record in records {
        writer.push(record).unwrap();
    }
    (file, writer.finish().unwrap())
}

pub(super) fn open(records: &[Record]) -> ManifestReader {
    ManifestReader::open(write(records, ManifestOptions::default()).0).unwrap()
}

pub(super) fn all(reader: &ManifestReader) -> Vec<Record> {
    reader.records().collect::<Result<_, _>>().unwrap()
}

pub(super) fn bytes_of(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn every_kind_of_entry_comes_back_as_it_was() {
    let records = everything();
    let (file, summary) = write(&records, ManifestOptions::default());
    let reader = ManifestReader::open(file).unwrap();
    assert_eq!(all(&reader), records);
    assert_eq!(reader.summary(), &summary);
    assert!(reader.has_stamps());
    let counts = summary.counts;
    assert_eq!((counts.entries, counts.directories, counts.files), (14, 4, 3));
    assert_eq!((counts.symlinks, counts.special, counts.links), (1, 4, 2));
    assert_eq!((counts.unhashed, summary.tree_hash), (1, None));
    reader.check().unwrap();
}

#[test]
fn without_stamps_everything_else_comes_back() {
    let mut records = everything();
    let options = ManifestOptions {
        stamps: false,
        ..ManifestOptions::default()
    };
    let reader = ManifestReader::open(write(&records, options).0).unwrap();
    records.iter_mut().for_each(|record| record.stamp = None);
    assert_eq!(all(&reader), records);
    assert!(!reader.has_stamps());
}

#[test]
fn a_manifest_of_many_blocks_is_read_from_any_path_on() {
    let records = wide(20_000);
    let reader = open(&records);
    assert!(reader.hashes().count() > 10, "{} blocks", reader.hashes().count());
    assert_eq!(all(&reader), records);
    for at in (0..records.len()).step_by(777) {
        let from = &records[at].entry.path;
        assert_eq!(reader.find(from).unwrap().as_ref(), Some(&records[at]));
        let rest: Vec<_> = reader.records_from(from).take(300).map(Result::unwrap).collect();
        assert_eq!(rest, records[at..records.len().min(at + 300)]);
        let missing = RelativePath::new(&[from.as_bytes(), b"-"].concat()).unwrap();
        assert_eq!(reader.find(&missing).unwrap(), None);
    }
    let within: Vec<_> = reader
        .records_within(&path("directory-00100"))
        .map(Result::unwrap)
        .collect();
    assert_eq!(within.len(), 101);
    assert!(
        within
            .iter()
            .all(|record| record.entry.path.is_within(&path("directory-00100")))
    );
    assert_eq!(reader.records_within(&path("directory-001")).count(), 0);
    assert_eq!(reader.records_from(&path("z")).count(), 0);
}
