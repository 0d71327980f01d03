//! There and back: every kind of entry, every kind of store, whole files and parts of them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_content::codec::Compression;
use cairn_snapshot::archive::{Progress, RepositoryParts, RepositorySettings};
use cairn_snapshot::directory::{Body, RelativePath, read};
use cairn_snapshot::engine::chunks::{ChunksError, ChunksPayload};
use cairn_snapshot::manifest::ManifestReader;

use crate::ground::{Ground, assert_holds, assert_same, fill, odd_things, things_in};
use crate::harness::{Place, id, verify};
use crate::model::Random;

/// Captures a tree, changes it, captures it again, and compares all with what the archives hold.
fn travel(place: &Place, compression: Compression) {
    let ground = Ground::new();
    let random = &mut Random::new(1);
    odd_things(&ground);
    fill(&ground, random, 60, 30_000);
    fill(&ground, random, 3, 900_000);
    let objects = place.objects();
    let sealing = cairn_snapshot::archive::sealing_of(
        &objects,
        place.runtime.handle(),
        place.key.as_ref(),
        std::sync::Arc::new(crate::harness::Chance),
    )
    .unwrap();
    let mut settings = RepositorySettings::default();
    settings.data.compression = compression;
    settings.tree.compression = compression;
    let parts = RepositoryParts {
        objects,
        runtime: place.runtime.handle().clone(),
        cache: place.root.path().join("cache"),
        clock: place.clock.clone(),
        owner: cairn_content::objects::Owner {
            id: cairn_content::objects::OwnerId::new([1; 16]),
            name: "node-1:/data".to_owned(),
        },
        sealing,
    };
    let repository = cairn_snapshot::archive::Repository::open(parts, settings).unwrap();
    let first = ground.things();
    let captured = ground.capture(&repository, 1, None);
    assert!(!captured.based && captured.reused_files == 0);
    assert_eq!(captured.manifest.counts.entries, first.len() as u64);
    assert_holds(&repository, 1, &first);

    fs::remove_file(ground.path("another name")).unwrap();
    fs::remove_file(ground.path("dangling")).unwrap();
    ground.write("a/b/new", b"new");
    ground.write("zeros", &[0; 20_001]);
    ground.write("d1/added", &random.bytes(400_000));
    let second = ground.things();
    let captured = ground.capture(&repository, 2, Some(1));
    assert!(captured.based && captured.reused_files > 60, "{captured:?}");
    // The two changed files, the new ones, and the file with one name less.
    assert!(captured.pushed.files_read <= 6, "{captured:?}");
    assert_holds(&repository, 1, &first);
    assert_holds(&repository, 2, &second);
    let (verified, damages) = verify(&repository, true);
    assert!(damages.is_empty(), "{damages:?}");
    assert_eq!((verified.archives, verified.archives_sound), (2, 2));
    // What is read without a snapshot before is the same tree.
    let whole = ground.capture(&repository, 3, None);
    assert_eq!(whole.manifest.tree_hash, captured.manifest.tree_hash);
    assert_eq!(whole.pushed.bytes_new, 0, "{whole:?}");
}

#[test]
fn every_kind_of_entry_comes_back() {
    travel(&Place::new(), Compression::default());
}

#[test]
fn from_an_encrypted_store_too() {
    travel(&Place::encrypted(), Compression::Zstd(3));
}

#[test]
fn with_gzip_and_without_compression() {
    travel(&Place::new(), Compression::Gzip(4));
    travel(&Place::new(), Compression::None);
}

#[test]
fn a_lost_manifest_is_made_again() {
    let (place, ground) = (Place::new(), Ground::new());
    odd_things(&ground);
    fill(&ground, &mut Random::new(2), 200, 9_000);
    let repository = place.open(1);
    let captured = ground.capture(&repository, 1, None);
    let payload = ChunksPayload::open(&repository, id(1), &Progress::new()).unwrap();
    assert_eq!(payload.tree_hash(), captured.manifest.tree_hash);
    assert_eq!(payload.counts(), captured.manifest.counts);
    let again = payload
        .write_manifest(ground.new_manifest(9, false), &Progress::new())
        .unwrap();
    assert_eq!(again.tree_hash, captured.manifest.tree_hash);
    let without_stamps = |manifest: &ManifestReader| -> Vec<_> {
        let entries = manifest.records().map(|record| record.unwrap().entry);
        entries.collect()
    };
    assert_eq!(
        without_stamps(&ground.manifest(1)),
        without_stamps(&ground.manifest(9))
    );
    // From any path on.
    let all: Vec<_> = payload
        .records(RelativePath::root())
        .map(|record| record.unwrap().entry.path)
        .collect();
    for from in all.iter().step_by(17) {
        let found: Vec<_> = payload
            .records(from.clone())
            .map(|record| record.unwrap().entry.path)
            .collect();
        let begin = all.binary_search(from).unwrap();
        assert_eq!(found, all[begin..]);
    }
}

#[test]
fn parts_of_files_and_some_of_them() {
    let (place, ground) = (Place::new(), Ground::new());
    let random = &mut Random::new(3);
    odd_things(&ground);
    fill(&ground, random, 20, 700_000);
    let repository = place.open(1);
    ground.capture(&repository, 1, None);
    let expected = ground.things();
    let payload = ChunksPayload::open(&repository, id(1), &Progress::new()).unwrap();
    let files: Vec<_> = ground
        .manifest(1)
        .records()
        .map(|record| record.unwrap().entry)
        .filter(|entry| matches!(entry.body, Body::File(_)))
        .collect();
    for entry in &files {
        let data = &expected[&entry.path].data;
        let content = payload.content(entry).unwrap();
        assert_eq!(content.size(), data.len() as u64);
        for _ in 0..6 {
            let offset = random.below(data.len() as u64 + 2) as usize;
            let mut buffer = vec![9; random.below(300_000) as usize];
            let read = content.read(offset as u64, &mut buffer).unwrap();
            let rest = data.get(offset..).unwrap_or_default();
            assert_eq!(
                buffer[..read],
                rest[..buffer.len().min(rest.len())],
                "{}",
                entry.path
            );
        }
        let mut byte = [0; 1];
        assert_eq!(payload.read(entry, u64::MAX, &mut byte).unwrap(), 0);
    }
    // Every third file, of which every second is not taken.
    let wanted: Vec<_> = files.iter().step_by(3).cloned().collect();
    let mut found = Vec::new();
    let mut stream = payload.files(wanted.clone().into_iter().map(Ok)).unwrap();
    let mut number = 0;
    while let Some(file) = stream.next_file().unwrap() {
        let path = file.entry.path.clone();
        number += 1;
        if number % 2 == 0 {
            continue;
        }
        let mut data = vec![0; file.entry.attributes.size as usize];
        file.data(|at, bytes| {
            data[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
            Ok(())
        })
        .unwrap();
        assert!(data == expected[&path].data, "{path}");
        found.push(path);
    }
    assert!(found.len() > 3);
    // Who wants cannot say any more; who writes cannot.
    let failing = wanted
        .into_iter()
        .map(Ok)
        .take(2)
        .chain(std::iter::once_with(|| Err("no more".into())));
    let mut stream = payload.files(failing).unwrap();
    let error = loop {
        match stream.next_file() {
            Ok(Some(file)) => {
                let error = file.data(|_, _| Err(std::io::Error::other("full")));
                assert!(matches!(error, Err(ChunksError::Write { .. })));
            }
            Ok(None) => panic!("the end came without the error"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ChunksError::Wanted(_)), "{error:?}");
}

#[test]
fn a_file_without_chunks_in_the_store_is_told() {
    let (place, ground) = (Place::new(), Ground::new());
    ground.write("file", &[5; 5000]);
    let repository = place.open(1);
    ground.capture(&repository, 1, None);
    let path = RelativePath::new(b"file").unwrap();
    let mut entry = ground.manifest(1).find(&path).unwrap().unwrap().entry;
    if let Body::File(file) = &mut entry.body {
        file.runs.clear();
    }
    let payload = ChunksPayload::open(&repository, id(1), &Progress::new()).unwrap();
    let error = payload.read(&entry, 0, &mut [0; 9]).unwrap_err();
    assert!(matches!(error, ChunksError::NoRuns { .. }), "{error:?}");
    let mut files = payload.files(std::iter::once(Ok(entry))).unwrap();
    assert!(matches!(files.next_file(), Err(ChunksError::NoRuns { .. })));
}

#[test]
fn a_file_that_changes_is_one_of_its_states_or_torn() {
    let (place, ground) = (Place::new(), Ground::new());
    let random = &mut Random::new(4);
    fill(&ground, random, 300, 9_000);
    ground.write("d3/log", &random.bytes(150_000));
    ground.write("d4/long log", &random.bytes(2_000_000));
    let repository = place.open(1);
    let stop = AtomicBool::new(false);
    let mut torn = 0;
    std::thread::scope(|scope| {
        for name in ["d3/log", "d4/long log"] {
            let (path, stop) = (ground.path(name), &stop);
            scope.spawn(move || {
                let mut file = OpenOptions::new().append(true).open(path).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    file.write_all(b"more").unwrap();
                }
            });
        }
        // A writer that gets no time to write tears nothing: then once more.
        for number in 1..=200 {
            if torn > 0 {
                break;
            }
            let captured = ground.try_capture(&repository, number, None);
            let payload = captured.map(|captured| {
                torn += captured.torn_files;
                assert_eq!(captured.torn.len() as u64, captured.torn_files);
                ChunksPayload::open(&repository, id(number), &Progress::new()).unwrap()
            });
            let found = payload.and_then(|payload| things_in(&payload));
            // Its data has its digest and its length, whatever they are.
            let sound = found.as_ref().is_ok_and(|things| things.len() == 310);
            stop.fetch_or(!sound, Ordering::Relaxed);
            assert!(sound, "{:?}", found.map(|things| things.len()));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(torn > 0, "no file was torn");
    let things = ground.things();
    let captured = ground.capture(&repository, 201, Some(1));
    assert_eq!(captured.torn_files, 0);
    let payload = ChunksPayload::open(&repository, id(201), &Progress::new()).unwrap();
    assert_same(&things_in(&payload).unwrap(), &things);
}

#[test]
fn holes_are_told_as_the_file_system_tells_them() {
    let (place, ground) = (Place::new(), Ground::new());
    odd_things(&ground);
    // Room behind the end, and room that was never written.
    let keep = rustix::fs::FallocateFlags::KEEP_SIZE;
    for (name, length) in [("sparse", 30 << 20), ("small with a hole", 1 << 20)] {
        let file = OpenOptions::new().write(true).open(ground.path(name)).unwrap();
        rustix::fs::fallocate(&file, keep, 12 << 20, length).unwrap();
    }
    let reserved = fs::File::create(ground.path("reserved")).unwrap();
    rustix::fs::fallocate(&reserved, rustix::fs::FallocateFlags::empty(), 0, 300_000).unwrap();
    let repository = place.open(1);
    ground.capture(&repository, 1, None);
    let mut sparse = 0;
    for record in ground.manifest(1).records() {
        let entry = record.unwrap().entry;
        if let Body::File(file) = &entry.body {
            let path = ground.work().join(entry.path.as_path());
            let expected = read::holes(fs::File::open(path).unwrap(), entry.attributes.size).unwrap();
            assert_eq!(file.holes, expected, "{}", entry.path);
            sparse += usize::from(!expected.is_empty());
        }
    }
    assert!(sparse >= 3, "{sparse}");
    assert_holds(&repository, 1, &ground.things());
}
