//! Damaged files: each is told with its name and what to do, and harms nothing else.

use std::collections::BTreeSet;

use cairn_snapshot::directory::RelativePath;
use cairn_snapshot::repository::retention::{Facts, Policy, Protection, decide};
use cairn_snapshot::repository::{Intent, Outcome, Repository, RepositoryError, RequestKey, Verification};
use cairn_types::{ErrorKind, SnapshotId};

use crate::harness::{Site, parts};

/// Every flipped bit and every truncation of the file at `path`, one at a time; `look` must fail with its name each time.
fn each_damage(path: &std::path::Path, mut look: impl FnMut() -> RepositoryError) {
    let good = std::fs::read(path).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let mut try_bytes = |bytes: &[u8], what: String| {
        std::fs::write(path, bytes).unwrap();
        let error = look();
        let found = matches!(
            error,
            RepositoryError::Damaged { .. } | RepositoryError::Newer { .. }
        );
        assert!(found && error.to_string().contains(name), "{what}: {error}");
    };
    for at in 0..good.len() {
        let mut wrong = good.clone();
        wrong[at] ^= 1 << (at % 8);
        try_bytes(&wrong, format!("byte {at}"));
        try_bytes(&good[..at], format!("{at} bytes"));
    }
    std::fs::write(path, good).unwrap();
}

#[test]
fn a_damaged_descriptor_takes_only_its_snapshot() {
    let site = Site::new();
    let (bad, good) = (site.publish(|_| {}), site.publish(|_| {}));
    let path = site.control().join(format!("descriptors/{}.json", bad.id));
    each_damage(&path, || {
        assert_eq!(site.repository.descriptor(good.id).unwrap(), good);
        site.repository.descriptor(bad.id).unwrap_err()
    });
    assert_eq!(site.repository.descriptor(bad.id).unwrap(), bad);
    // A descriptor under another's name is none.
    std::fs::copy(
        site.control().join(format!("descriptors/{}.json", good.id)),
        &path,
    )
    .unwrap();
    let error = site.repository.descriptor(bad.id).unwrap_err();
    assert!(error.to_string().contains(&good.id.to_string()), "{error}");
    std::fs::write(&path, vec![b' '; (16 << 20) + 1]).unwrap();
    assert_eq!(
        site.repository.descriptor(bad.id).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

#[test]
fn a_damaged_state_or_identity_is_told_and_a_state_is_replaced() {
    let site = Site::new();
    each_damage(&site.control().join("state.json"), || {
        site.repository.state().unwrap_err()
    });
    each_damage(&site.control().join("repository.json"), || {
        Repository::discover(&site.path, parts()).unwrap_err()
    });
    std::fs::write(site.control().join("state.json"), "{}").unwrap();
    let lease = site.lease();
    site.repository.set_state(&lease, &Default::default()).unwrap();
    assert_eq!(site.repository.state().unwrap().fence, lease.token());
}

#[test]
fn every_other_document_is_guarded_in_the_same_way() {
    let site = Site::new();
    let repository = &site.repository;
    let snapshot = site.publish(|_| {});
    let lease = site.lease();
    repository
        .change_labels(&lease, snapshot.id, |labels| labels.note.push('!'))
        .unwrap();
    let key = RequestKey::new("key", b"request").unwrap();
    repository.remember_request(&lease, &key, snapshot.id).unwrap();
    let intent = Intent::Collect {
        snapshots: vec![snapshot.id],
    };
    let record = repository.begin(&lease, intent).unwrap();
    let reader = repository
        .read_lease("view", BTreeSet::from([snapshot.id]))
        .unwrap();
    let verification = Verification {
        snapshot: snapshot.id,
        verified: snapshot.created,
        tree_hash: snapshot.tree_hash,
        outcome: Outcome::Sound,
    };
    repository.set_verification(&verification).unwrap();
    assert_eq!(repository.verification(snapshot.id).unwrap(), Some(verification));

    let control = site.control();
    let id = snapshot.id;
    each_damage(&control.join(format!("labels/{id}.json")), || {
        repository.labels(&snapshot).unwrap_err()
    });
    each_damage(&control.join(format!("verified/{id}.json")), || {
        repository.verification(id).unwrap_err()
    });
    each_damage(&control.join(format!("keys/{}.json", key.key)), || {
        repository.known_request(&key).unwrap_err()
    });
    each_damage(
        &control.join(format!("journal/{}.json", record.operation)),
        || repository.journal().unwrap().remove(0).record.unwrap_err(),
    );
    // A copy: the reader itself writes its file anew all the time.
    let copy = control.join("readers/copy.json");
    let own = std::fs::read_dir(control.join("readers")).unwrap();
    let own = own
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension() == Some("json".as_ref()));
    std::fs::copy(own.unwrap(), &copy).unwrap();
    each_damage(&copy, || repository.readers().unwrap().unknown.remove(0).1);
    drop(reader);
    assert_eq!(repository.descriptor(id).unwrap(), snapshot);
}

#[test]
fn what_may_be_needed_is_protected() {
    let site = Site::new();
    let repository = &site.repository;
    let made: Vec<SnapshotId> = (0..6).map(|_| site.publish(|_| {}).id).collect();
    let lease = site.lease();
    let state = repository.state().unwrap().restored(made[0], None);
    let path = RelativePath::new(b"x").unwrap();
    repository
        .set_state(&lease, &state.restored(made[1], Some(&path)))
        .unwrap();
    let _reader = repository.read_lease("view", BTreeSet::from([made[2]])).unwrap();
    let intent = Intent::Fork {
        snapshot: made[3],
        target: b"/x".to_vec(),
    };
    repository.begin(&lease, intent).unwrap();
    let own = repository
        .begin(
            &lease,
            Intent::Fork {
                snapshot: made[4],
                target: b"/y".to_vec(),
            },
        )
        .unwrap();
    let facts = || {
        let listing = repository.list().unwrap();
        repository
            .retention_facts(&listing, Some(&own), |descriptor| descriptor.counts.bytes)
            .unwrap()
    };
    let of = |facts: &[Facts]| {
        facts
            .iter()
            .map(|facts| facts.protections.clone())
            .collect::<Vec<_>>()
    };
    let expected = [
        [Protection::Head].into(),
        [Protection::Head].into(),
        [Protection::Reader].into(),
        [Protection::Operation].into(),
        BTreeSet::new(),
        [Protection::Newest].into(),
    ];
    assert_eq!(of(&facts()), expected);
    assert_eq!(facts().iter().map(|facts| facts.id).collect::<Vec<_>>(), made);
    assert!(facts().iter().all(|facts| facts.bytes == 1000));
    let policy = Policy {
        keep_last: 1,
        ..Policy::default()
    };
    let decision = decide(
        &facts(),
        &policy,
        repository.parts().clock.now(),
        &jiff::tz::TimeZone::UTC,
    );
    assert_eq!(decision.removed().collect::<Vec<_>>(), [made[4]]);

    std::fs::write(site.control().join(format!("labels/{}.json", made[4])), "x").unwrap();
    assert_eq!(of(&facts())[4], [Protection::LabelsUnreadable].into());
    std::fs::write(site.control().join("readers/x.json"), "x").unwrap();
    std::fs::write(site.control().join("journal/x.json"), "x").unwrap();
    let all: BTreeSet<Protection> = [Protection::Reader, Protection::Operation].into();
    assert!(
        of(&facts())
            .iter()
            .all(|protections| protections.is_superset(&all))
    );
}
