//! Damage is found, named, and harms nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use cairn_snapshot::archive::Progress;
use cairn_snapshot::engine::EngineKind;
use cairn_snapshot::operations::restore::Unsaved;
use cairn_snapshot::operations::verify::{Integrity, VerifyRequest, integrity, verify};

use crate::place::Place;

#[test]
fn what_is_verified_once_is_known_to_be_damaged_later() {
    let directory = tempfile::tempdir().unwrap();
    let workspace = directory.path().join("workspace");
    fs::create_dir_all(workspace.join("sub")).unwrap();
    for number in 0..20 {
        fs::write(workspace.join(format!("sub/{number}")), vec![number; 5000]).unwrap();
    }
    let place = Place::new(directory.path(), false);
    let (first, second) = (place.save(), place.save());
    let repository = &place.repository;
    assert_eq!(integrity(repository, &first).unwrap(), Integrity::Unverified);
    let found = verify(repository, first.id, VerifyRequest::default(), &Progress::new()).unwrap();
    assert_eq!((found.files, found.first_read, found.damaged), (20, 20, 0));
    let tree_hash = found.tree_hash.unwrap();
    assert!(matches!(
        integrity(repository, &first).unwrap(),
        Integrity::Verified(_)
    ));
    let again = verify(repository, first.id, VerifyRequest::default(), &Progress::new()).unwrap();
    assert_eq!((again.first_read, again.tree_hash), (0, Some(tree_hash)));

    let tree = place.control.join("snapshots").join(first.id.to_string());
    let changed = tree.join("sub/7");
    let permissions = fs::metadata(&changed).unwrap().permissions();
    fs::write(&changed, vec![99; 5000]).unwrap();
    fs::set_permissions(&changed, permissions).unwrap();
    fs::remove_file(tree.join("sub/8")).unwrap();
    let found = verify(repository, first.id, VerifyRequest::default(), &Progress::new()).unwrap();
    let paths: Vec<String> = found
        .damage
        .iter()
        .map(|damage| damage.path.to_string())
        .collect();
    assert_eq!(
        (found.damaged, paths),
        (2, vec!["sub/7".to_owned(), "sub/8".to_owned()])
    );
    assert!(matches!(
        integrity(repository, &first).unwrap(),
        Integrity::Damaged(_, 2)
    ));
    // What was found does not become the truth.
    let again = verify(repository, first.id, VerifyRequest::default(), &Progress::new()).unwrap();
    assert_eq!((again.damaged, again.first_read, again.tree_hash), (2, 0, None));
    // The other snapshot is as good as ever, and the workspace can be saved.
    let found = verify(repository, second.id, VerifyRequest::default(), &Progress::new()).unwrap();
    assert_eq!((found.damaged, found.tree_hash), (0, Some(tree_hash)));
    place.restore(second.id, &[], Unsaved::Save).unwrap();
    place.save();
}

/// All packs of a store, with the range of their frames: behind the header, before the index and the trailer (docs/formats/pack.md).
fn packs(store: &Path) -> Vec<(PathBuf, std::ops::Range<usize>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(store).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(packs(&path));
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        if bytes.starts_with(b"CAIRNPAK") {
            let trailer = bytes.len() - 32;
            let index = u32::from_le_bytes(bytes[trailer + 4..trailer + 8].try_into().unwrap());
            found.push((path, 32..trailer - index as usize));
        }
    }
    found
}

#[test]
fn every_byte_that_an_archive_needs_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let workspace = directory.path().join("workspace");
    fs::create_dir_all(workspace.join("sub")).unwrap();
    for number in 0..200 {
        fs::write(
            workspace.join(format!("sub/{number}")),
            format!("the file {number}"),
        )
        .unwrap();
    }
    let place = Place::new(directory.path(), false);
    let snapshot = place.save_with(EngineKind::Archive);
    let check = || {
        let repository = Place::open(&place.control);
        let found = verify(
            &repository,
            snapshot.id,
            VerifyRequest::default(),
            &Progress::new(),
        )
        .unwrap();
        let told: Vec<String> = found.damage.iter().map(|damage| damage.what.clone()).collect();
        assert_eq!((found.files, found.damaged), (found.files, told.len() as u64));
        told
    };
    assert_eq!(check(), [] as [String; 0]);
    let mut of_lists = 0;
    let packs = packs(&place.control.join("store"));
    assert!(packs.len() > 1, "data and list are in packs of their own");
    for (path, frames) in packs {
        let sound = fs::read(&path).unwrap();
        let permissions = fs::metadata(&path).unwrap().permissions();
        for at in [frames.start, frames.start + frames.len() / 2, frames.end - 1] {
            let mut damaged = sound.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, damaged).unwrap();
            let told = check();
            assert!(!told.is_empty(), "byte {at} of {}", path.display());
            of_lists += usize::from(told.iter().any(|what| what.contains("own list of entries")));
        }
        fs::write(&path, &sound).unwrap();
        fs::set_permissions(&path, permissions).unwrap();
    }
    assert!(of_lists >= 3, "{of_lists}");
    assert_eq!(check(), [] as [String; 0]);
    assert!(matches!(
        integrity(&place.repository, &snapshot).unwrap(),
        Integrity::Verified(_)
    ));
}
