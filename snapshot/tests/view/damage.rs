//! What is damaged or missing is an error of its file, never zeros, and harms nothing else.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cairn_content::testing::random;
use cairn_fuse::Unmounted;
use cairn_snapshot::engine::EngineKind;

use crate::place::Place;
use crate::shown::{Shown, can_mount};

const EIO: i32 = 5;

/// Three files of 3 MiB that nothing can compress, and a small one.
fn planted(base: &Path) -> Place {
    let workspace = base.join("workspace");
    fs::create_dir_all(workspace.join("sub")).unwrap();
    for number in 0..3 {
        fs::write(workspace.join(format!("sub/{number}")), random(number, 3 << 20)).unwrap();
    }
    fs::write(workspace.join("small"), "small").unwrap();
    Place::new(base, false)
}

/// The packs of the place's own object store.
fn packs(place: &Place) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = vec![place.control.join("store/packs")];
    while let Some(directory) = next.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => next.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    found
}

#[test]
fn a_damaged_pack_harms_the_files_in_the_damage_only() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let place = planted(directory.path());
    let descriptor = place.save_with(EngineKind::Archive);
    // The largest pack has the data, in order: damage in its first bytes is in the first file.
    let pack = &packs(&place)[0];
    let file = fs::OpenOptions::new().write(true).open(pack).unwrap();
    file.write_all_at(&[0x55; 64], 100_000).unwrap();
    let shown = Shown::of(&place, &descriptor);
    let read: Vec<Result<Vec<u8>, Option<i32>>> = ["small", "sub/0", "sub/1", "sub/2"]
        .iter()
        .map(|name| fs::read(shown.path().join(name)).map_err(|error| error.raw_os_error()))
        .collect();
    let failed: Vec<_> = read.iter().filter_map(|read| read.as_ref().err()).collect();
    assert_eq!(failed, [&Some(EIO)], "one file is harmed, and its error is EIO");
    assert_eq!(read[3].as_deref(), Ok(&random(2, 3 << 20)[..]));
    // Attributes are those of a whole file.
    assert_eq!(fs::metadata(shown.path().join("sub/0")).unwrap().len(), 3 << 20);
    assert_eq!(shown.end(), Unmounted::Clean);
}

#[test]
fn without_its_packs_an_archive_is_listed_and_not_read() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let place = planted(directory.path());
    let descriptor = place.save_with(EngineKind::Archive);
    let shown = Shown::of(&place, &descriptor);
    let aside: Vec<(PathBuf, PathBuf)> = packs(&place)
        .into_iter()
        .enumerate()
        .map(|(number, pack)| (pack, directory.path().join(format!("aside-{number}"))))
        .collect();
    for (pack, aside) in &aside {
        fs::rename(pack, aside).unwrap();
    }
    // Nothing of the data was fetched, and nothing is needed to list it.
    assert_eq!(fs::read_dir(shown.path().join("sub")).unwrap().count(), 3);
    let error = fs::read(shown.path().join("sub/1")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(EIO));
    for (pack, aside) in &aside {
        fs::rename(aside, pack).unwrap();
    }
    // What failed is tried again, once packs may be looked for again.
    let deadline = Instant::now() + Duration::from_secs(60);
    let read = loop {
        match fs::read(shown.path().join("sub/1")) {
            Err(_) if Instant::now() < deadline => std::thread::yield_now(),
            read => break read.unwrap(),
        }
    };
    assert_eq!(read, random(1, 3 << 20));
    assert_eq!(shown.end(), Unmounted::Clean);
}

#[test]
fn a_kept_tree_that_was_cut_is_told() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let place = planted(directory.path());
    let descriptor = place.save_with(EngineKind::Copy);
    let tree = place.control.join("snapshots").join(descriptor.id.to_string());
    let cut = fs::OpenOptions::new()
        .write(true)
        .open(tree.join("sub/0"))
        .unwrap();
    cut.set_len(1000).unwrap();
    fs::remove_file(tree.join("small")).unwrap();
    let shown = Shown::of(&place, &descriptor);
    for harmed in ["sub/0", "small"] {
        let error = fs::read(shown.path().join(harmed)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(EIO), "{harmed}");
    }
    assert_eq!(fs::read(shown.path().join("sub/2")).unwrap(), random(2, 3 << 20));
    assert_eq!(shown.end(), Unmounted::Clean);
}
