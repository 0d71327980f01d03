//! Taking over what the Go tools made, of both lines: history, words, labels and bytes, and nothing changed where they come from.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_snapshot::archive::Progress;
use cairn_snapshot::directory::Entry;
use cairn_snapshot::engine::{EngineKind, Tools};
use cairn_snapshot::operations::OperationError;
use cairn_snapshot::operations::import::{ImportRequest, Imported, import, prepare};
use cairn_snapshot::operations::materialize::materialize;
use cairn_snapshot::operations::restore::Unsaved;
use cairn_snapshot::operations::save::{SaveRequest, save};
use cairn_snapshot::repository::import_jvs::JvsRepository;
use cairn_snapshot::repository::{Origin, Repository, RepositoryError};
use cairn_types::Timestamp;

use crate::kills::{can_kill, check, stride, strike};
use crate::place::{Place, entries, parts};
use crate::{replica, samples};

/// The samples, unpacked.
struct Samples {
    directory: tempfile::TempDir,
}

impl Samples {
    fn unpack() -> Self {
        let directory = samples::unpack();
        Samples { directory }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }

    fn control(&self) -> PathBuf {
        self.at("control")
    }

    /// Takes over what is at `name`.
    fn import(&self, name: &str, workspace: Option<&str>) -> (JvsRepository, Repository, Imported) {
        let from = JvsRepository::open(&self.at(name)).unwrap();
        let into = prepare(&from, workspace, &self.control(), parts()).unwrap();
        let done = run(&from, &into, workspace).unwrap();
        (from, into, done)
    }
}

fn request(workspace: Option<&str>) -> ImportRequest {
    ImportRequest {
        workspace: workspace.map(str::to_owned),
        engine: Some(EngineKind::Copy),
        wait: Duration::from_secs(10),
    }
}

pub fn run(
    from: &JvsRepository,
    into: &Repository,
    workspace: Option<&str>,
) -> Result<Imported, OperationError> {
    import(
        from,
        into,
        &Tools::default(),
        &request(workspace),
        &Progress::new(),
    )
}

/// What the victim of a kill does.
pub fn run_from(from: &Path, into: &Repository) {
    run(&JvsRepository::open(from).unwrap(), into, None).unwrap();
}

/// The entries of an old tree without the tools' own.
fn old_entries(from: &JvsRepository, note: &str) -> Vec<Entry> {
    let snapshot = from.snapshots().iter().find(|one| one.note == note).unwrap();
    let mut found = entries(&from.tree_path(snapshot));
    found.retain(|entry| entry.path.as_bytes() != b".READY");
    found
}

/// The entries of the snapshot whose note begins so, written elsewhere. The root has got its names later than the tree it comes from.
fn new_entries(into: &Repository, note: &str, beside: &Path) -> Vec<Entry> {
    let listing = into.list().unwrap();
    let snapshot = listing
        .snapshots
        .iter()
        .find(|one| one.labels.note.starts_with(note));
    let id = snapshot.unwrap().descriptor.id;
    let target = beside.join(id.to_string());
    materialize(into, id, &[], &target, &Progress::new()).unwrap();
    entries(&target)
}

#[track_caller]
fn assert_same(expected: &[Entry], found: &[Entry]) {
    assert!(!expected.is_empty());
    assert_eq!(replica::differences(expected, found), Vec::<String>::new());
}

/// Everything below the old control directory.
fn kept(root: &Path) -> Vec<Entry> {
    replica::entries(&fs::File::open(root.join(".jvs")).unwrap())
}

#[test]
fn the_old_line_comes_over_with_its_history() {
    let samples = Samples::unpack();
    let before = kept(&samples.at("old/repo"));
    let pins = samples.at("old/repo/.jvs/gc/pins");
    assert!(!pins.exists() || fs::read_dir(&pins).unwrap().next().is_none());
    let (from, into, done) = samples.import("old/repo", None);
    assert_same(&before, &kept(&samples.at("old/repo")));
    assert_eq!(into.workspace_path(), samples.at("old/repo/main"));
    assert_eq!((done.taken.len(), done.present, done.left.len()), (6, 0, 0));
    let listing = into.list().unwrap();
    assert_eq!(listing.snapshots.len(), 6);
    let ids: BTreeMap<String, _> = done
        .taken
        .iter()
        .map(|taken| (taken.from.to_string(), taken.id))
        .collect();
    for (old, new) in from.snapshots().iter().zip(&listing.snapshots) {
        let descriptor = &new.descriptor;
        assert_eq!(ids[old.id.as_str()], descriptor.id);
        let origin = Origin::Imported {
            line: "old".to_owned(),
            id: old.id.to_string(),
        };
        assert_eq!((&descriptor.origin, descriptor.created), (&origin, old.created));
        assert_eq!((&descriptor.note, &new.labels.note), (&old.note, &old.note));
        let tags: Vec<&str> = descriptor.tags.iter().map(|tag| tag.as_str()).collect();
        let mut given = old.tags.clone();
        given.sort();
        assert_eq!(tags, given);
        let parent = old.parent.as_ref().map(|parent| ids[parent.as_str()]);
        assert_eq!(descriptor.parent, parent, "{}", old.note);
        let partial = descriptor.paths.as_ref().map(|paths| paths.paths.len());
        assert_eq!(partial, (old.note == "partial").then_some(1));
    }
    for note in ["first", "second", "third", "on the fork"] {
        let old = from
            .snapshots()
            .iter()
            .find(|one| one.note.starts_with(note))
            .unwrap();
        assert_same(
            &old_entries(&from, &old.note),
            &new_entries(&into, note, &samples.at("")),
        );
    }
    // Compression had lost modes, times and links; a snapshot with the same hash has them all.
    let compressed = done.taken.iter().find(|taken| taken.files_of.is_some()).unwrap();
    assert_eq!(compressed.warnings, Vec::<String>::new());
    assert_same(
        &old_entries(&from, "third"),
        &new_entries(&into, "compressed", &samples.at("")),
    );
    // What the workspace's content comes from is known, and the first snapshot can be gone back to.
    assert_eq!(into.state().unwrap().head, done.head);
    assert_eq!(done.head, Some(done.taken[0].id));
    let place = Place {
        workspace: samples.at("old/repo/main"),
        control: samples.control(),
        repository: into,
    };
    place.restore(done.taken[2].id, &[], Unsaved::Save).unwrap();
    assert_same(&old_entries(&from, "third"), &place.entries());
}

#[test]
fn the_new_line_comes_over_and_its_control_directory_is_no_content() {
    let samples = Samples::unpack();
    let before = kept(&samples.at("new/repo"));
    let (from, into, done) = samples.import("new/repo", None);
    assert_eq!((done.taken.len(), done.left.len()), (3, 0));
    for note in ["baseline", "second", "on the other workspace"] {
        assert_same(
            &old_entries(&from, note),
            &new_entries(&into, note, &samples.at("")),
        );
    }
    let listing = into.list().unwrap();
    let (baseline, other) = (&listing.snapshots[0], &listing.snapshots[2]);
    assert_eq!(other.descriptor.parent, Some(baseline.descriptor.id));
    // The next save is of the folder without what the Go tools have in it.
    let request = SaveRequest::new("ours".to_owned());
    let (saved, _) = save(&into, &Tools::default(), &request, &Progress::new()).unwrap();
    assert!(saved.made().is_some());
    let ours = new_entries(&into, "ours", &samples.at(""));
    assert_same(&entries(&samples.at("new/repo")), &ours);
    assert!(
        ours.iter()
            .all(|entry| !entry.path.as_bytes().starts_with(b".jvs"))
    );
    assert_same(&before, &kept(&samples.at("new/repo")));
    // What is imported would come behind it.
    let error = run(&from, &into, None).unwrap_err();
    assert!(matches!(error, OperationError::NotImported { .. }), "{error}");
}

#[test]
fn a_second_call_goes_on_where_the_first_one_ended() {
    let samples = Samples::unpack();
    let from = JvsRepository::open(&samples.at("old/repo")).unwrap();
    let pinned = from.snapshots()[1].id.to_string();
    let pins = samples.at("old/repo/.jvs/gc/pins");
    fs::create_dir_all(&pins).unwrap();
    let pin = format!(
        r#"{{"snapshot_id":"{pinned}","reason":"published","created_at":"2026-01-01T00:00:00Z","expires_at":"2036-01-01T00:00:00Z"}}"#
    );
    fs::write(pins.join("pin.json"), pin).unwrap();
    // The files of a later one are elsewhere for a while: as if a kill had come before it.
    let third = from.tree_path(&from.snapshots()[2]);
    fs::rename(&third, samples.at("aside")).unwrap();
    let (_, into, done) = samples.import("old/repo", None);
    assert_eq!((done.present, done.pins), (0, 1));
    let left: Vec<_> = done.left.iter().map(|left| left.from.clone()).collect();
    assert_eq!(left, [from.snapshots()[2].id.clone()]);
    assert!(done.left[0].why.contains("missing"), "{}", done.left[0]);
    // Without its twin the compressed one comes with what is left of it.
    let listing = into.list().unwrap();
    let compressed = listing
        .snapshots
        .iter()
        .find(|one| one.labels.note.starts_with("compressed"));
    assert!(compressed.unwrap().labels.note.contains("compression has lost"));
    let unpacked = new_entries(&into, "compressed", &samples.at(""));
    fs::rename(samples.at("aside"), &third).unwrap();
    let whole = old_entries(&from, "third");
    assert_eq!(unpacked.len(), whole.len());
    for (found, saved) in unpacked.iter().zip(&whole) {
        assert_eq!(found.path, saved.path);
        if saved.path.as_bytes() != b"data/link" {
            assert_eq!(found.body, saved.body, "{}", found.path);
        }
    }
    let from = JvsRepository::open(&samples.at("old/repo")).unwrap();
    let again = run(&from, &into, None).unwrap();
    assert_eq!((again.taken.len(), again.present, again.pins), (1, 5, 0));
    let last = run(&from, &into, None).unwrap();
    assert_eq!((last.taken.len(), last.present, last.left.len()), (0, 6, 0));
    assert_eq!(into.list().unwrap().snapshots.len(), 6);
    let listing = into.list().unwrap();
    let pinned = &listing.snapshots[1].labels.pins;
    assert_eq!((pinned.len(), pinned[0].reason.as_str()), (1, "published"));
    assert_eq!(pinned[0].expires, Some(Timestamp::new(2_082_758_400, 0)));
}

#[test]
fn what_is_damaged_stays_behind_and_is_told() {
    let samples = Samples::unpack();
    let from = JvsRepository::open(&samples.at("new/repo")).unwrap();
    let spoiled = &from.snapshots()[0];
    let file = from.tree_path(spoiled).join("src/main.py");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(&file, "something else").unwrap();
    let marker = from.tree_path(&from.snapshots()[1]).join(".READY");
    fs::write(marker, "{}").unwrap();
    let (_, into, done) = samples.import("new/repo", None);
    assert_eq!((done.taken.len(), done.left.len()), (2, 1));
    assert_eq!(done.left[0].from, spoiled.id);
    assert!(done.left[0].why.contains("hash"), "{}", done.left[0]);
    assert!(done.taken[0].warnings[0].contains("marker"));
    let listing = into.list().unwrap();
    let note = &listing.snapshots[0].descriptor.note;
    assert!(
        note.starts_with("second\nimported with a warning: the marker"),
        "{note}"
    );
    assert_eq!(listing.snapshots[0].descriptor.parent, None);
}

#[test]
fn one_workspace_comes_with_what_it_comes_from() {
    let samples = Samples::unpack();
    let (_, into, done) = samples.import("old/repo", Some("experiment"));
    assert_eq!(into.workspace_path(), samples.at("old/repo/worktrees/experiment"));
    let listing = into.list().unwrap();
    let notes: Vec<&str> = listing
        .snapshots
        .iter()
        .map(|one| one.labels.note.as_str())
        .collect();
    assert_eq!(notes, ["first", "on the fork"]);
    assert_eq!(done.head, Some(done.taken[1].id));
}

#[test]
fn what_cannot_be_is_refused() {
    let samples = Samples::unpack();
    let from = JvsRepository::open(&samples.at("old/repo")).unwrap();
    let refused = |name: Option<&str>, control: &Path| prepare(&from, name, control, parts()).unwrap_err();
    let error = refused(Some("nobody"), &samples.control());
    assert!(matches!(error, OperationError::NoWorkspace { .. }), "{error}");
    let error = refused(None, &samples.at("old/repo/.jvs/ours"));
    assert!(
        matches!(
            error,
            OperationError::Repository(RepositoryError::Occupied { .. })
        ),
        "{error}"
    );
    let error = refused(None, &samples.at("old/repo/.jvs"));
    assert!(
        matches!(error, OperationError::Repository(RepositoryError::GoTools { .. })),
        "{error}"
    );
    let error = refused(None, &samples.at("old/repo/main/.control"));
    assert!(
        matches!(error, OperationError::Repository(RepositoryError::Overlap { .. })),
        "{error}"
    );
    assert!(!samples.control().exists());
    prepare(&from, None, &samples.control(), parts()).unwrap();
    let error = refused(Some("experiment"), &samples.control());
    assert!(matches!(error, OperationError::OtherWorkspace { .. }), "{error}");
    // Without an import such a directory is no place for a repository.
    let workspace = samples.at("new/repo");
    let error = Repository::init(&workspace, Some(&samples.at("other")), parts()).unwrap_err();
    assert!(matches!(error, RepositoryError::Occupied { .. }), "{error}");
}

#[test]
fn an_import_that_is_killed_again_and_again_ends_whole() {
    if !can_kill() {
        return;
    }
    let samples = Samples::unpack();
    let before = kept(&samples.at("old/repo"));
    let from = JvsRepository::open(&samples.at("old/repo")).unwrap();
    let repository = prepare(&from, None, &samples.control(), parts()).unwrap();
    let place = Place {
        workspace: samples.at("old/repo/main"),
        control: samples.control(),
        repository,
    };
    let order = format!("import {}", samples.at("old/repo").display());
    let mut kills = 0;
    for call in (5..).step_by(6 * stride() + 1) {
        if strike(&samples.control(), &order, call) {
            break;
        }
        kills += 1;
    }
    assert!(kills > 2, "{kills} kills");
    check(&place, &[]);
    let again = run(&from, &place.repository, None).unwrap();
    assert_eq!((again.taken.len(), again.present), (0, 6));
    for note in ["first", "second", "third", "on the fork"] {
        let old = from
            .snapshots()
            .iter()
            .find(|one| one.note.starts_with(note))
            .unwrap();
        assert_same(
            &old_entries(&from, &old.note),
            &new_entries(&place.repository, note, &samples.at("")),
        );
    }
    assert_same(&before, &kept(&samples.at("old/repo")));
}
