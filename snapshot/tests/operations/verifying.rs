//! Damage is found, named, and harms nothing else.

use std::fs;

use cairn_snapshot::archive::Progress;
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
