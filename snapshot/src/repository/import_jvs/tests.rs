//! Repositories that the Go tools made, sound and spoiled.

mod hashing;
#[path = "../../../tests/common/samples.rs"]
mod samples;

use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use cairn_types::{ErrorKind, Timestamp};

use super::{Finding, ImportError, JvsLine, JvsRepository, JvsSnapshot, JvsSnapshotId, Payload, Verified};
use crate::archive::Progress;
use crate::directory::RelativePath;

/// The samples, unpacked.
struct Samples {
    directory: tempfile::TempDir,
}

impl Samples {
    fn unpack() -> Self {
        let directory = samples::unpack();
        Samples { directory }
    }

    fn old_line(&self) -> PathBuf {
        self.directory.path().join("old/repo")
    }

    fn new_line(&self) -> PathBuf {
        self.directory.path().join("new/repo")
    }
}

fn open(path: &Path) -> JvsRepository {
    JvsRepository::open(path).unwrap()
}

fn verify(repository: &JvsRepository, snapshot: &JvsSnapshot) -> Verified {
    repository.verify(snapshot, &Progress::new()).unwrap()
}

fn noted<'a>(repository: &'a JvsRepository, note: &str) -> &'a JvsSnapshot {
    repository
        .snapshots()
        .iter()
        .find(|snapshot| snapshot.note == note)
        .unwrap()
}

fn id(text: &str) -> JvsSnapshotId {
    JvsSnapshotId::parse(text).unwrap()
}

fn below(text: &str) -> RelativePath {
    RelativePath::new(text.as_bytes()).unwrap()
}

/// The directory of a snapshot's files.
fn files(repository: &Path, snapshot: &JvsSnapshot) -> PathBuf {
    repository.join(".jvs/snapshots").join(snapshot.id.as_str())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_repository_of_the_old_line_is_read_and_verified() {
    let samples = Samples::unpack();
    let repository = open(&samples.old_line());
    assert_eq!((repository.line(), repository.id().len()), (JvsLine::Old, 36));
    assert_eq!(repository.findings(), []);
    let notes: Vec<_> = repository
        .snapshots()
        .iter()
        .map(|snapshot| snapshot.note.as_str())
        .collect();
    let expected = [
        "first",
        "second: longer note, with \u{fc}n\u{ef}code",
        "third",
        "on the fork",
        "compressed",
        "partial",
    ];
    assert_eq!(notes, expected);
    let third = noted(&repository, "third");
    assert_eq!(
        (third.tags.as_slice(), third.workspace.as_str()),
        (&["release".to_owned()][..], "main")
    );
    assert_eq!(third.created, Timestamp::new(1_795_225_687, 722_988_932));
    assert_eq!(third.parent, Some(id("1795225687682-3f48121b")));
    let partial = noted(&repository, "partial");
    assert_eq!(partial.partial_paths, ["src"]);
    for snapshot in repository.snapshots() {
        let verified = verify(&repository, snapshot);
        assert!(verified.descriptor && verified.marker, "{}", snapshot.note);
        match snapshot.note.as_str() {
            "compressed" => assert!(matches!(verified.payload, Payload::Unknowable { .. })),
            _ => assert_eq!(verified.payload, Payload::Matches, "{}", snapshot.note),
        }
        assert!(verified.files > 0 && verified.bytes > 0);
    }
    let main = &repository.workspaces()[1];
    assert_eq!(
        (main.name.as_str(), &main.directory),
        ("main", &repository.path().join("main"))
    );
    assert_eq!(main.head.as_ref(), Some(&noted(&repository, "first").id));
    assert_eq!(main.latest.as_ref(), Some(&partial.id));
    let fork = &repository.workspaces()[0];
    assert_eq!(fork.directory, repository.path().join("worktrees/experiment"));
    assert_eq!(fork.started_from.as_ref(), Some(&noted(&repository, "first").id));
}

#[test]
fn a_repository_of_the_new_line_is_read_and_verified() {
    let samples = Samples::unpack();
    // By its control directory as well.
    let repository = open(&samples.new_line().join(".jvs"));
    assert_eq!(repository.line(), JvsLine::New);
    assert_eq!(repository.path(), samples.new_line().canonicalize().unwrap());
    assert_eq!(repository.findings(), []);
    let notes: Vec<_> = repository
        .snapshots()
        .iter()
        .map(|snapshot| snapshot.note.as_str())
        .collect();
    assert_eq!(notes, ["baseline", "second", "on the other workspace"]);
    for snapshot in repository.snapshots() {
        let verified = verify(&repository, snapshot);
        assert!(verified.descriptor && verified.marker);
        assert_eq!(verified.payload, Payload::Matches, "{}", snapshot.note);
    }
    let baseline = noted(&repository, "baseline");
    let other = noted(&repository, "on the other workspace");
    assert_eq!(
        (other.started_from.as_ref(), other.parent.as_ref()),
        (Some(&baseline.id), None)
    );
    let [main, further] = repository.workspaces() else {
        panic!("two workspaces")
    };
    assert_eq!(
        (main.directory.as_path(), further.directory.as_path()),
        (repository.path(), Path::new("/data/new/repo-exp"))
    );
    assert_eq!(further.started_from.as_ref(), Some(&baseline.id));
    let error = JvsRepository::open(&samples.directory.path().join("new/repo-exp")).unwrap_err();
    assert!(
        matches!(&error, ImportError::Locator { repository, .. } if repository == "/data/new/repo"),
        "{error}"
    );
}

#[test]
fn what_the_old_line_compressed_is_given_back_and_its_losses_are_told() {
    let samples = Samples::unpack();
    let repository = open(&samples.old_line());
    let compressed = noted(&repository, "compressed");
    // What a user has compressed stays what it is, also if a program of Go did it.
    let mut own = flate2::GzBuilder::new()
        .filename("own")
        .mtime(7)
        .write(Vec::new(), flate2::Compression::fast());
    own.write_all(b"own").unwrap();
    let own = own.finish().unwrap();
    let at = files(&samples.old_line(), compressed);
    std::fs::write(at.join("own.gz"), &own).unwrap();
    std::fs::write(at.join("other.gz"), gzip(b"other")).unwrap();
    for (name, mode) in [("own.gz", 0o600), ("other.gz", 0o644)] {
        std::fs::set_permissions(at.join(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    let tree = repository.tree(compressed).unwrap();
    assert!(!tree.faithful);
    assert_eq!(tree.reserved, [below(".READY"), below(".READY.gz")]);
    let found: Vec<_> = tree
        .compressed
        .values()
        .map(|file| file.original.to_string())
        .collect();
    let expected = [
        "data/a.bin",
        "data/link",
        "deep/\u{e4}/b c/odd name.txt",
        "empty",
        "src/main.py",
    ];
    assert_eq!(found, expected);
    let twin = repository.twin(compressed).unwrap();
    assert_eq!(twin.note, "third");
    let plain = repository.tree(twin).unwrap();
    for (path, file) in &tree.compressed {
        if file.original == below("data/link") {
            continue;
        }
        let read = |tree: &super::JvsTree, path: &RelativePath| {
            let mut bytes = Vec::new();
            tree.open_file(path).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(read(&tree, path), read(&plain, &file.original), "{path}");
    }
    // A compressed file that ends too early is no file.
    let cut = at.join("data/a.bin.gz");
    let bytes = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let error = repository.verify(compressed, &Progress::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    // Where the original is still there, it is the original.
    std::fs::write(at.join("data/a.bin"), b"whole").unwrap();
    assert!(
        !repository
            .tree(compressed)
            .unwrap()
            .compressed
            .contains_key(&below("data/a.bin.gz"))
    );
}

#[test]
fn what_the_new_line_compressed_is_verified_by_its_list() {
    let samples = Samples::unpack();
    let repository = open(&samples.new_line());
    let snapshot = noted(&repository, "baseline");
    let at = files(&samples.new_line(), snapshot);
    let plain = std::fs::read(at.join("data/a.bin")).unwrap();
    let mode = std::fs::metadata(at.join("data/a.bin")).unwrap().permissions();
    std::fs::remove_file(at.join("data/a.bin")).unwrap();
    std::fs::write(at.join("data/a.bin.gz"), gzip(&plain)).unwrap();
    std::fs::set_permissions(at.join("data/a.bin.gz"), mode).unwrap();
    let marker: serde_json::Value =
        serde_json::from_slice(&std::fs::read(at.join(".READY")).unwrap()).unwrap();
    let list = |size: usize, found: &str| {
        let mut marker = marker.clone();
        marker["compression_manifest"] = serde_json::json!({"version": 1, "type": "gzip", "files": [
            {"path": "data/a.bin", "compressed_path": found, "original_size": size}]});
        std::fs::write(at.join(".READY"), marker.to_string()).unwrap();
    };
    list(plain.len(), "data/a.bin.gz");
    let verified = verify(&repository, snapshot);
    assert_eq!((verified.payload, verified.marker), (Payload::Matches, true));
    assert!(repository.tree(snapshot).unwrap().faithful);
    // More data than the list says is not read to its end.
    list(plain.len() - 10, "data/a.bin.gz");
    let verified = verify(&repository, snapshot);
    assert!(matches!(verified.payload, Payload::Differs { .. }));
    for wrong in ["../a.gz", "elsewhere.gz", "/etc/passwd.gz"] {
        list(plain.len(), wrong);
        let error = repository.tree(snapshot).unwrap_err();
        assert!(matches!(error, ImportError::Damaged { .. }), "{wrong}: {error}");
    }
}

#[test]
fn every_change_that_the_hash_covers_is_found() {
    type Spoil = fn(&Path);
    let spoils: &[(&str, Spoil)] = &[
        ("data", |at| {
            std::fs::write(at.join("src/main.py"), "hello 8\n").unwrap()
        }),
        ("size", |at| {
            std::fs::write(at.join("src/main.py"), "hello").unwrap()
        }),
        ("permissions", |at| {
            std::fs::set_permissions(at.join("src/main.py"), PermissionsExt::from_mode(0o600)).unwrap()
        }),
        ("permissions of a directory", |at| {
            std::fs::set_permissions(at.join("src"), PermissionsExt::from_mode(0o700)).unwrap()
        }),
        ("a new file", |at| std::fs::write(at.join("new"), "").unwrap()),
        ("a new directory", |at| {
            std::fs::create_dir(at.join("new")).unwrap()
        }),
        ("a file gone", |at| {
            std::fs::remove_file(at.join("empty")).unwrap()
        }),
        ("a target", |at| {
            std::fs::remove_file(at.join("data/link")).unwrap();
            symlink("elsewhere", at.join("data/link")).unwrap();
        }),
        ("a type", |at| {
            std::fs::remove_file(at.join("data/link")).unwrap();
            std::fs::write(at.join("data/link"), "../src/main.py").unwrap();
        }),
        ("a name", |at| {
            std::fs::rename(at.join("empty"), at.join("full")).unwrap()
        }),
    ];
    let samples = Samples::unpack();
    for root in [samples.old_line(), samples.new_line()] {
        let repository = open(&root);
        let snapshot = &repository.snapshots()[0];
        let at = files(&root, snapshot);
        let kept = at.with_extension("kept");
        for (what, spoil) in spoils {
            assert!(
                Command::new("cp")
                    .arg("-a")
                    .args([&at, &kept])
                    .status()
                    .unwrap()
                    .success()
            );
            spoil(&at);
            let verified = verify(&repository, snapshot);
            assert!(matches!(verified.payload, Payload::Differs { .. }), "{what}");
            std::fs::remove_dir_all(&at).unwrap();
            std::fs::rename(&kept, &at).unwrap();
        }
        assert_eq!(verify(&repository, snapshot).payload, Payload::Matches);
        // A fifo is not opened, which would wait for ever.
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at.join("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert!(matches!(
            verify(&repository, snapshot).payload,
            Payload::Unknowable { .. }
        ));
    }
}

#[test]
fn markers_below_the_root_are_hashed_by_the_new_line_alone() {
    let samples = Samples::unpack();
    for (root, told) in [(samples.old_line(), false), (samples.new_line(), true)] {
        let repository = open(&root);
        let snapshot = &repository.snapshots()[0];
        std::fs::write(files(&root, snapshot).join("data/.READY"), "mine").unwrap();
        let differs = matches!(verify(&repository, snapshot).payload, Payload::Differs { .. });
        assert_eq!(differs, told, "{}", root.display());
    }
}

#[test]
fn a_changed_descriptor_is_told_and_a_damaged_one_hides_nothing_else() {
    let samples = Samples::unpack();
    let descriptors = samples.old_line().join(".jvs/descriptors");
    let third = descriptors.join("1795225687707-8b7da60c.json");
    let text = std::fs::read_to_string(&third).unwrap();
    std::fs::write(&third, text.replace("release", "retract")).unwrap();
    std::fs::write(descriptors.join("1795225687682-3f48121b.json"), "{").unwrap();
    std::fs::rename(
        descriptors.join("1795225687755-57183c94.json"),
        descriptors.join("1795225687755-57183c95.json"),
    )
    .unwrap();
    std::fs::remove_dir_all(samples.old_line().join(".jvs/snapshots/1795225687827-e147c4b2")).unwrap();
    std::fs::create_dir(
        samples
            .old_line()
            .join(".jvs/snapshots/1795225687999-00000000.tmp"),
    )
    .unwrap();
    std::fs::create_dir_all(samples.old_line().join(".jvs/pins")).unwrap();
    let pin = r#"{"snapshot_id":"1795225687613-aac771dd","pinned_at":"2026-11-21T00:00:00Z","reason":"r","expires_at":"2027-01-01T00:00:00+01:00"}"#;
    std::fs::write(samples.old_line().join(".jvs/pins/p.json"), pin).unwrap();
    let repository = open(&samples.old_line());
    assert_eq!(repository.snapshots().len(), 4);
    let third = noted(&repository, "third");
    assert!(!third.checksum_matches && !verify(&repository, third).descriptor);
    let damaged: Vec<_> = repository
        .findings()
        .iter()
        .filter_map(|finding| match finding {
            Finding::Damaged { file, .. } => Some(file.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(
        damaged,
        [
            "descriptors/1795225687682-3f48121b.json",
            "descriptors/1795225687755-57183c95.json"
        ]
    );
    for expected in [
        Finding::TreeMissing(id("1795225687827-e147c4b2")),
        Finding::DescriptorMissing(id("1795225687755-57183c94")),
        Finding::Unfinished(id("1795225687999-00000000")),
        Finding::ParentMissing {
            snapshot: id("1795225687707-8b7da60c"),
            parent: id("1795225687682-3f48121b"),
        },
    ] {
        assert!(
            repository.findings().contains(&expected),
            "{expected:?}: {:?}",
            repository.findings()
        );
    }
    let error = repository.tree(noted(&repository, "partial")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        repository.pins()[0].expires,
        Some(Timestamp::new(1_798_758_000, 0))
    );
}

#[test]
fn what_cannot_be_imported_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let open = || JvsRepository::open(directory.path()).unwrap_err();
    assert!(matches!(open(), ImportError::NotARepository { .. }));
    let control = directory.path().join(".jvs");
    std::fs::create_dir(&control).unwrap();
    assert!(matches!(open(), ImportError::NotARepository { .. }));
    std::fs::write(control.join("format_version"), "2\n").unwrap();
    assert!(matches!(open(), ImportError::Ours { .. }));
    std::fs::write(control.join("format_version"), "3").unwrap();
    assert!(matches!(open(), ImportError::Version { found, .. } if found == "3"));
    std::fs::remove_dir_all(&control).unwrap();
    symlink("/", &control).unwrap();
    assert!(matches!(open(), ImportError::NotARepository { .. }));
    std::fs::remove_file(&control).unwrap();
    std::fs::write(&control, "no json").unwrap();
    assert!(matches!(open(), ImportError::NotARepository { .. }));
}

#[test]
fn links_in_the_place_of_trees_and_descriptors_are_not_followed() {
    let samples = Samples::unpack();
    let repository = open(&samples.old_line());
    let snapshot = &repository.snapshots()[0];
    let at = files(&samples.old_line(), snapshot);
    std::fs::rename(&at, samples.directory.path().join("elsewhere")).unwrap();
    symlink(samples.directory.path().join("elsewhere"), &at).unwrap();
    assert!(matches!(repository.tree(snapshot), Err(ImportError::Io { .. })));
    let descriptor = samples
        .old_line()
        .join(".jvs/descriptors")
        .join(format!("{}.json", snapshot.id));
    std::fs::rename(&descriptor, samples.directory.path().join("descriptor")).unwrap();
    symlink(samples.directory.path().join("descriptor"), &descriptor).unwrap();
    let again = open(&samples.old_line());
    assert_eq!(again.snapshots().len(), 5);
    assert!(
        again
            .findings()
            .iter()
            .any(|finding| matches!(finding, Finding::Damaged { .. }))
    );
}
