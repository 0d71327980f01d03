//! Keys of requests are kept for a while, not for ever.

use std::fs;

use cairn_snapshot::archive::Progress;
use cairn_snapshot::engine::{EngineKind, Tools};
use cairn_snapshot::operations::save::{SaveRequest, save};
use cairn_snapshot::repository::{Repository, RequestKey};

use crate::place::{Place, parts, word};

#[test]
fn keys_of_old_saves_are_forgotten_by_gc() {
    let place = Place::repository();
    // One that was made long ago, as its clock says.
    let repository = Repository::discover(&place.work(), parts()).unwrap();
    let mut old = SaveRequest::new("old".to_owned());
    old.key = Some(RequestKey::new("old", b"").unwrap());
    old.engine = Some(EngineKind::Copy);
    let progress = Progress::new();
    save(&repository, &Tools::default(), &old, &progress).unwrap();
    let new = place.save(&["--key", "new"]);
    let keys = || fs::read_dir(place.work().join(".jvs/keys")).unwrap().count();
    assert_eq!(keys(), 2);
    let plan = word(&place.json(&["gc", "plan", "."])["plan"]);
    assert_eq!(keys(), 2);
    place.ok(&["gc", "run", ".", &plan]);
    assert_eq!(keys(), 1);
    let again = place.json(&["snapshot", ".", "--key", "new"]);
    assert_eq!(
        (&again["outcome"], word(&again["snapshot"]["id"])),
        (&"existing".into(), new)
    );
    let log = fs::read_to_string(place.work().join(".jvs/audit/log")).unwrap();
    let told = log.lines().last().unwrap();
    assert!(
        told.contains(r#""event":"collect""#) && told.contains(r#""keys":"1""#),
        "{told}"
    );
}
