//! Archives in a store are found by the tags that their snapshots were saved with.

use std::fs;

use cairn_snapshot::engine::EngineKind;
use cairn_snapshot::operations::save::SaveRequest;
use cairn_snapshot::operations::store::store;
use cairn_types::Tag;

use crate::place::Place;

#[test]
fn an_archive_is_found_by_its_tag() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("workspace")).unwrap();
    fs::write(directory.path().join("workspace/a"), "one").unwrap();
    let place = Place::new(directory.path(), false);
    let save = |tag: &str, note: String| {
        let mut request = SaveRequest::new(note);
        request.engine = Some(EngineKind::Archive);
        request.tags.insert(Tag::new(tag).unwrap());
        place.try_save(&request).unwrap().id
    };
    let first = save("v1", "in short".to_owned());
    // A note may be longer than a root of an archive.
    let long = "ä".repeat(32 << 10);
    let second = save("v2", long.clone());
    let archives = store(&place.repository).unwrap();
    let found = archives.find(Some("v1")).unwrap().description;
    assert_eq!((found.snapshot, found.note.as_str()), (first, "in short"));
    let found = archives.find(Some("v2")).unwrap().description;
    assert_eq!(found.snapshot, second);
    assert!(long.starts_with(&found.note) && found.note.len() == 1024);
    assert_eq!(archives.find(None).unwrap().description.snapshot, second);
    assert!(archives.find(Some("v3")).is_err());
}
