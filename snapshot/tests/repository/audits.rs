//! The audit log: chained, torn, damaged, rotated.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cairn_snapshot::repository::audit::{DETAIL_BYTES_MAX, ROTATE_BYTES};
use cairn_snapshot::repository::{AuditAnchor, AuditEntry, AuditEvent, AuditRecord, AuditReport};
use cairn_types::SnapshotId;

use crate::harness::Site;

fn entry(event: AuditEvent, note: &str) -> AuditEntry {
    AuditEntry {
        event,
        snapshot: Some(SnapshotId([3; 16])),
        details: BTreeMap::from([("note".to_owned(), note.to_owned())]),
    }
}

fn append(site: &Site, note: &str) -> AuditAnchor {
    let lease = site.lease();
    site.repository
        .audit(&lease, entry(AuditEvent::Save, note))
        .unwrap()
}

fn log(site: &Site) -> PathBuf {
    site.control().join("audit/log")
}

fn read(site: &Site) -> (Vec<AuditRecord>, AuditReport) {
    let mut records = Vec::new();
    let report = site
        .repository
        .read_audit(None, |record| records.push(record.clone()))
        .unwrap();
    (records, report)
}

#[test]
fn records_are_chained_and_numbered() {
    let site = Site::new();
    let anchors: Vec<AuditAnchor> = (0..5)
        .map(|number| append(&site, &format!("n\u{fc}mber {number}")))
        .collect();
    let (records, report) = read(&site);
    assert!(report.is_sound() && report.damage.is_empty());
    assert_eq!(
        (report.records, report.files, report.last),
        (5, 1, anchors.last().copied())
    );
    for (record, pair) in records[1..].iter().zip(anchors.windows(2)) {
        assert_eq!(
            (record.sequence, record.previous),
            (pair[1].sequence, pair[0].hash)
        );
        assert_eq!(
            (record.event, record.actor.as_str()),
            (AuditEvent::Save, "tester")
        );
    }
    assert_eq!(records[4].details["note"], "n\u{fc}mber 4");
    assert!(records.windows(2).all(|pair| pair[0].fence < pair[1].fence));
}

#[test]
fn long_notes_are_cut_and_break_nothing() {
    let site = Site::new();
    append(&site, &"\u{1}\u{2603}".repeat(64 << 10));
    append(&site, "short");
    let (records, report) = read(&site);
    assert!(report.damage.is_empty());
    let note = &records[0].details["note"];
    assert!(
        note.len() <= DETAIL_BYTES_MAX && note.ends_with("..."),
        "{}",
        note.len()
    );
    assert_eq!(records[1].details["note"], "short");
}

#[test]
fn a_torn_tail_is_passed_over_at_every_length() {
    let site = Site::new();
    let first = append(&site, "one");
    let whole = std::fs::read(log(&site)).unwrap();
    append(&site, "two");
    let both = std::fs::read(log(&site)).unwrap();
    for length in (whole.len() + 1..both.len())
        .step_by(7)
        .filter(|length| *length < both.len() - 1)
    {
        std::fs::write(log(&site), &both[..length]).unwrap();
        let (records, report) = read(&site);
        assert_eq!((records.len(), report.damage_count), (1, 1), "{length}");
        assert_eq!(report.damage[0].offset, whole.len() as u64);
        let last = append(&site, "three");
        let (records, report) = read(&site);
        assert!(
            report.is_sound() && report.damage.len() == 1,
            "{length}: {report:?}"
        );
        let events: Vec<AuditEvent> = records.iter().map(|record| record.event).collect();
        assert_eq!(events, [AuditEvent::Save, AuditEvent::Repaired, AuditEvent::Save]);
        assert_eq!(records[1].previous, first.hash);
        assert_eq!((records[2].sequence, report.last), (4, Some(last)));
        // Nothing was thrown away.
        assert!(std::fs::read(log(&site)).unwrap().starts_with(&both[..length]));
    }
}

#[test]
fn a_record_that_lacks_only_its_line_feed_is_one() {
    let site = Site::new();
    append(&site, "one");
    append(&site, "two");
    let both = std::fs::read(log(&site)).unwrap();
    std::fs::write(log(&site), &both[..both.len() - 1]).unwrap();
    assert_eq!(read(&site).1.records, 2);
    append(&site, "three");
    let (records, report) = read(&site);
    assert_eq!(
        (records.len(), records[2].sequence, report.damage_count),
        (3, 3, 0)
    );
    assert!(std::fs::read(log(&site)).unwrap().starts_with(&both));
}

#[test]
fn a_flipped_byte_is_located_and_stops_no_append() {
    let site = Site::new();
    for note in ["one", "two", "three"] {
        append(&site, note);
    }
    let good = std::fs::read(log(&site)).unwrap();
    let starts: Vec<usize> = std::iter::once(0)
        .chain(
            good.iter()
                .enumerate()
                .filter(|(_, byte)| **byte == b'\n')
                .map(|(at, _)| at + 1),
        )
        .collect();
    for at in (0..good.len()).step_by(13) {
        let mut wrong = good.clone();
        wrong[at] ^= 0x04;
        std::fs::write(log(&site), &wrong).unwrap();
        append(&site, "four");
        append(&site, "five");
        let (records, report) = read(&site);
        let line = starts.iter().rposition(|start| *start <= at).unwrap();
        let place = report.damage[0].offset as usize;
        assert!(
            starts[line] == place || wrong[at] == b'\n' || good[at] == b'\n',
            "byte {at}: {report:?}"
        );
        let last = &records[records.len() - 1];
        assert_eq!(last.details["note"], "five", "byte {at}");
        // Damage in the middle breaks the chain behind it; that of the end is written down.
        let in_the_end = line == 2 || (line == 1 && good[at] == b'\n');
        assert_eq!(report.is_sound(), in_the_end, "byte {at}: {report:?}");
    }
}

#[test]
fn a_replaced_or_missing_record_and_a_lost_end_are_found() {
    let site = Site::new();
    let anchors: Vec<AuditAnchor> = ["one", "two", "three"]
        .iter()
        .map(|note| append(&site, note))
        .collect();
    let good = std::fs::read_to_string(log(&site)).unwrap();
    let lines: Vec<&str> = good.split_inclusive('\n').collect();
    std::fs::write(log(&site), [lines[0], lines[2]].concat()).unwrap();
    let (_, report) = read(&site);
    assert_eq!((report.damage_count, report.damage[0].line), (1, 2));
    assert!(!report.is_sound());

    std::fs::write(log(&site), lines[..2].concat()).unwrap();
    let sound = site.repository.read_audit(Some(anchors[1]), |_| {}).unwrap();
    assert!(sound.is_sound());
    let lost = site.repository.read_audit(Some(anchors[2]), |_| {}).unwrap();
    assert!(
        !lost.is_sound() && lost.damage[0].what.contains("end is missing"),
        "{lost:?}"
    );

    std::fs::write(log(&site), vec![b'x'; 3 << 20]).unwrap();
    append(&site, "after garbage");
    let (records, _) = read(&site);
    assert_eq!(records.last().unwrap().details["note"], "after garbage");
}

#[test]
fn the_log_goes_on_in_a_new_file() {
    let site = Site::new();
    append(&site, "one");
    // A whole record of a size that fills the file: padded by damage that an append passes over.
    let file = std::fs::OpenOptions::new().append(true).open(log(&site)).unwrap();
    file.set_len(ROTATE_BYTES + 100).unwrap();
    let before = append(&site, "still here");
    let after = append(&site, "new file");
    assert_eq!(after.sequence, before.sequence + 1);
    let closed = format!("audit/log-{:020}", before.sequence);
    assert!(site.control().join(closed).is_file());
    assert!(std::fs::metadata(log(&site)).unwrap().len() < 10_000);
    let (records, report) = read(&site);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.files, report.last), (2, Some(after)));
    assert_eq!(records.last().unwrap().previous, before.hash);
    // A kill right after the renaming leaves no log: the chain goes on from the closed file.
    std::fs::remove_file(log(&site)).unwrap();
    let again = append(&site, "once more");
    assert_eq!(again.sequence, before.sequence + 1);
    assert!(read(&site).1.is_sound());
}
