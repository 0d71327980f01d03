//! Labels, references, idempotency keys, the journal and the leases of readers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cairn_snapshot::repository::{Intent, Origin, Phase, Reference, Repository, RepositoryError, RequestKey};
use cairn_types::{ErrorKind, SnapshotId, Tag, Timestamp};

use crate::harness::{Site, TestClock, parts, parts_with};

fn tag(text: &str) -> Tag {
    Tag::new(text).unwrap()
}

#[test]
fn labels_are_changed_after_the_fact() {
    let site = Site::new();
    let first = site.publish(|descriptor| descriptor.tags = [tag("a")].into());
    let labels = site.repository.labels(&first).unwrap();
    assert_eq!(
        (labels.revision, labels.tags.len(), labels.note.as_str()),
        (0, 1, "number 1")
    );
    let lease = site.lease();
    let until = Timestamp::new(TestClock::START + 60, 0);
    let change = |labels: &mut cairn_snapshot::repository::Labels| {
        labels.tags = [tag("b"), tag("c")].into();
        labels.note = "new\n".to_owned();
        assert_eq!(
            labels.pin(
                "audit",
                "tester",
                Timestamp::new(TestClock::START, 0),
                Some(until)
            ),
            1
        );
        assert_eq!(
            labels.pin("for ever", "tester", Timestamp::new(TestClock::START, 0), None),
            2
        );
        assert!(labels.unpin(2) && !labels.unpin(7));
        assert_eq!(
            labels.pin("again", "tester", Timestamp::new(TestClock::START, 0), None),
            2
        );
    };
    let changed = site.repository.change_labels(&lease, first.id, change).unwrap();
    assert_eq!(site.repository.labels(&first).unwrap(), changed);
    assert_eq!((changed.revision, changed.pins.len()), (1, 2));
    assert!(changed.pins[0].holds(Timestamp::new(TestClock::START + 59, 999_999_999)));
    assert!(!changed.pins[0].holds(until) && changed.pins[1].holds(until));
    assert_eq!(site.repository.descriptor(first.id).unwrap(), first);

    let too_long = site
        .repository
        .change_labels(&lease, first.id, |labels| labels.note = "x".repeat(65_537));
    assert_eq!(too_long.unwrap_err().kind(), ErrorKind::Invalid);
    let too_many = site.repository.change_labels(&lease, first.id, |labels| {
        labels.tags = (0..65).map(|number| tag(&format!("t{number}"))).collect();
    });
    assert_eq!(too_many.unwrap_err().kind(), ErrorKind::Invalid);
    let missing = site.repository.change_labels(&lease, SnapshotId([1; 16]), |_| {});
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(site.repository.labels(&first).unwrap(), changed);
    site.repository.remove_labels(&lease, first.id).unwrap();
    assert_eq!(site.repository.labels(&first).unwrap().revision, 0);
}

#[test]
fn references_name_one_snapshot_or_none() {
    let site = Site::new();
    let id = |first: u8, rest: u8| {
        let mut bytes = [rest; 16];
        bytes[..2].copy_from_slice(&[0xab, first]);
        SnapshotId(bytes)
    };
    let one = site.publish(|descriptor| descriptor.id = id(0xcd, 1));
    let two = site.publish(|descriptor| {
        descriptor.id = id(0xcd, 2);
        descriptor.tags = [tag("nightly"), tag("feed")].into();
    });
    let three = site.publish(|descriptor| {
        descriptor.id = SnapshotId([0xfe; 16]);
        descriptor.tags = [tag("nightly")].into();
    });
    let safety = site.publish(|descriptor| descriptor.origin = Origin::Safety { restoring: two.id });
    let resolve = |text: &str| site.repository.resolve(text);
    for (text, expected) in [
        ("latest", three.id),
        ("latest~0", three.id),
        ("latest~1", two.id),
        ("latest~2", one.id),
        ("nightly", three.id),
        ("abcd01", one.id),
        ("abcd02", two.id),
        ("fefefe", three.id),
        (&safety.id.to_string(), safety.id),
        (&safety.id.to_string()[..12], safety.id),
    ] {
        assert_eq!(resolve(text).unwrap(), expected, "{text}");
    }
    let error = resolve("abcd").unwrap_err();
    assert!(
        matches!(&error, RepositoryError::Ambiguous { candidates, .. } if *candidates == [one.id, two.id])
    );
    for text in [
        "latest~3",
        "nothing",
        "abce",
        "fef",
        &SnapshotId([7; 16]).to_string(),
    ] {
        let error = resolve(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{text}: {error}");
    }
    for text in [
        "",
        "latest~",
        "latest~x",
        "latest~+1",
        "latest~99999999999999999999",
        "../x",
        "a b",
        "-x",
    ] {
        let error = resolve(text).unwrap_err();
        assert!(
            matches!(error, RepositoryError::Reference { .. }),
            "{text}: {error}"
        );
    }
    // Tags follow their labels, and no tag takes the place of a whole id.
    let lease = site.lease();
    let other = one.id.to_string();
    let change = |labels: &mut cairn_snapshot::repository::Labels| labels.tags = [tag(&other)].into();
    site.repository.change_labels(&lease, three.id, change).unwrap();
    assert_eq!(resolve("nightly").unwrap(), two.id);
    assert_eq!(resolve(&other).unwrap(), one.id);
    // What is damaged is found by its digits, and is never replaced by another one.
    std::fs::write(site.control().join(format!("descriptors/{}.json", three.id)), "{").unwrap();
    assert_eq!(resolve("fefefe").unwrap(), three.id);
    assert_eq!(resolve("latest").unwrap(), three.id);
    let listing = site.repository.list().unwrap();
    assert_eq!((listing.snapshots.len(), listing.damaged.len()), (3, 1));
    assert_eq!(Reference::parse("latest~5").unwrap().to_string(), "latest~5");
}

#[test]
fn a_damaged_label_file_hides_no_snapshot() {
    let site = Site::new();
    let first = site.publish(|_| {});
    let path = site.control().join(format!("labels/{}.json", first.id));
    std::fs::write(&path, "{}").unwrap();
    let listing = site.repository.list().unwrap();
    let snapshot = &listing.snapshots[0];
    let error = snapshot.labels_error.as_ref().unwrap();
    assert!(error.to_string().contains("cairn tag"), "{error}");
    assert_eq!(snapshot.labels.note, first.note);
    let lease = site.lease();
    site.repository
        .change_labels(&lease, first.id, |labels| labels.note.push('!'))
        .unwrap();
    assert!(
        site.repository.list().unwrap().snapshots[0]
            .labels_error
            .is_none()
    );
}

#[test]
fn a_repeated_request_gives_the_same_snapshot() {
    let site = Site::new();
    let key = RequestKey::new("job 7", b"save everything").unwrap();
    assert_eq!(site.repository.known_request(&key).unwrap(), None);
    let id = site.repository.new_snapshot_id();
    let lease = site.lease();
    site.repository.remember_request(&lease, &key, id).unwrap();
    lease.release().unwrap();
    // Interrupted before the descriptor: nothing was made.
    assert_eq!(site.repository.known_request(&key).unwrap(), None);
    site.publish(|descriptor| descriptor.id = id);
    assert_eq!(site.repository.known_request(&key).unwrap(), Some(id));
    let other = RequestKey::new("job 7", b"save something else").unwrap();
    let error = site.repository.known_request(&other).unwrap_err();
    assert!(
        matches!(error, RepositoryError::KeyReused { snapshot } if snapshot == id),
        "{error}"
    );
    assert!(RequestKey::new("", b"").is_err() && RequestKey::new(&"x".repeat(1025), b"").is_err());
}

#[test]
fn requests_are_forgotten_when_they_are_old_or_have_made_nothing() {
    let site = Site::new();
    let repository = &site.repository;
    let key = |name: &str| RequestKey::new(name, b"").unwrap();
    let lease = site.lease();
    let (id, never) = (repository.new_snapshot_id(), repository.new_snapshot_id());
    repository.remember_request(&lease, &key("used"), id).unwrap();
    repository
        .remember_request(&lease, &key("unused"), never)
        .unwrap();
    lease.release().unwrap();
    site.publish(|descriptor| descriptor.id = id);
    let lease = site.lease();
    let damaged = site.control().join("keys/damaged.json");
    std::fs::write(&damaged, "x").unwrap();
    let keys = || std::fs::read_dir(site.control().join("keys")).unwrap().count();
    assert_eq!(keys(), 3);
    let day = Duration::from_secs(24 * 60 * 60);
    let created = repository.descriptor(id).unwrap().created.seconds();
    // Neither what was used nor what cannot be read is old; what was never used up is of no use.
    let forget = |seconds, age| {
        let before = Timestamp::new(created + seconds, 0);
        repository.forget_requests(&lease, before, age).unwrap()
    };
    assert_eq!((forget(0, day), keys()), (1, 2));
    assert_eq!(repository.known_request(&key("used")).unwrap(), Some(id));
    let old = std::fs::File::options().append(true).open(&damaged).unwrap();
    let week_ago = old.metadata().unwrap().modified().unwrap() - 7 * day;
    old.set_modified(week_ago).unwrap();
    assert_eq!((forget(0, day), keys()), (1, 1));
    assert_eq!((forget(1, day), keys()), (1, 0));
    assert_eq!(repository.known_request(&key("used")).unwrap(), None);
}

#[test]
fn the_journal_outlives_who_wrote_it() {
    let site = Site::new();
    let lease = site.lease();
    let intent = Intent::Fork {
        snapshot: SnapshotId([2; 16]),
        target: b"/tmp/\xff".to_vec(),
    };
    let mut record = site.repository.begin(&lease, intent).unwrap();
    record.phase = Phase::Publishing;
    site.repository.advance(&lease, &mut record).unwrap();
    let collect = Intent::Collect {
        snapshots: vec![SnapshotId([4; 16])],
    };
    let done = site.repository.begin(&lease, collect).unwrap();
    site.repository.finish(&lease, done.operation).unwrap();
    drop(lease);
    std::fs::write(site.control().join("journal/x.json"), "x").unwrap();
    let found = Repository::discover(&site.path, parts())
        .unwrap()
        .journal()
        .unwrap();
    assert_eq!(found.len(), 2);
    let whole: Vec<_> = found
        .iter()
        .filter_map(|file| file.record.as_ref().ok())
        .collect();
    assert_eq!(whole, [&record]);
    assert!(
        found
            .iter()
            .any(|file| file.name == "x.json" && file.record.is_err())
    );
}

#[test]
fn readers_are_seen_until_they_end() {
    let site = Site::new();
    let some = SnapshotId([5; 16]);
    let reader = site
        .repository
        .read_lease("view", BTreeSet::from([some]))
        .unwrap();
    let seen = site.repository.readers().unwrap();
    assert_eq!(seen.snapshots, BTreeSet::from([some]));
    assert_eq!(seen.records[0].1.operation, "view");
    // A process that has ended counts no more; one elsewhere does until its file is old.
    let mut ended = parts();
    ended.host.started += 1;
    let ended = Repository::open(&site.control(), ended).unwrap();
    let other = ended
        .read_lease("verify", BTreeSet::from([SnapshotId([6; 16])]))
        .unwrap();
    let seen = site.repository.readers().unwrap();
    assert_eq!((seen.snapshots.len(), seen.ended.len()), (1, 1));
    let mut away = parts();
    away.host.boot = "another boot".to_owned();
    let away = Repository::open(&site.control(), away).unwrap();
    assert_eq!(away.readers().unwrap().snapshots.len(), 2);
    drop((reader, other));
    assert!(site.repository.readers().unwrap().records.is_empty());
}

#[test]
fn an_unreadable_reader_counts_until_it_is_old() {
    let site = Site::new();
    let path = site.control().join("readers/x.json");
    std::fs::write(&path, "x").unwrap();
    assert_eq!(site.repository.readers().unwrap().unknown.len(), 1);
    let old = std::fs::metadata(&path).unwrap().modified().unwrap() - std::time::Duration::from_secs(400);
    std::fs::File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .set_modified(old)
        .unwrap();
    let seen = site.repository.readers().unwrap();
    assert_eq!(
        (seen.unknown.len(), &seen.ended[..]),
        (0, &["x.json".to_owned()][..])
    );
    let lease = site.lease();
    site.repository.remove_ended_readers(&lease, &seen).unwrap();
    assert!(!path.exists());
}

#[test]
fn wall_clocks_that_go_back_do_not_change_the_order() {
    let site = Site::new();
    let clock = Arc::new(TestClock(AtomicI64::new(TestClock::START)));
    let repository = Repository::open(&site.control(), parts_with(clock.clone())).unwrap();
    for step in [0, -5000, 30] {
        clock.0.store(TestClock::START + step, Ordering::Relaxed);
        let now = repository.parts().clock.now();
        site.publish(|descriptor| descriptor.created = now);
    }
    let sequences: Vec<u64> = repository
        .list()
        .unwrap()
        .snapshots
        .iter()
        .map(|snapshot| snapshot.descriptor.sequence)
        .collect();
    assert_eq!(sequences, [1, 2, 3]);
    let third = repository.resolve("latest").unwrap();
    assert_eq!(repository.descriptor(third).unwrap().sequence, 3);
}
