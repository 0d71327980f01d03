//! Bits that flip, files that shrink, vanish or come from elsewhere: found, named, and never returned as data.

use std::sync::Arc;

use cairn_types::{ErrorKind, LogPosition, SegmentId};

use super::super::store::SegmentStore;
use super::super::testing::MemoryStore;
use super::super::{Log, LogError, LogParts, OpenError, RecordFault, ReplayStart, SegmentInfo};
use super::{SMALL, Seen, fill, open};

/// A log of three segments that was synced after each quarter, and what it holds.
fn sample() -> (MemoryStore, Vec<Seen>, Vec<SegmentInfo>) {
    let store = MemoryStore::new();
    let (log, _) = open(&store, ReplayStart::default()).unwrap();
    let mut written = Vec::new();
    while log.segments().len() < 3 {
        written.extend(fill(&log));
        log.sync().unwrap();
    }
    let segments = log.segments();
    (store, written, segments)
}

/// Bytes of a segment's header and records.
fn used_bytes(written: &[Seen], info: &SegmentInfo) -> usize {
    let ends = written
        .iter()
        .filter(|record| record.slice.segment() == info.id)
        .map(|record| record.end.0);
    (ends.max().unwrap() - info.start.0) as usize
}

fn known(written: &[Seen]) -> ReplayStart {
    ReplayStart {
        known_durable: written.last().unwrap().end,
        ..ReplayStart::default()
    }
}

fn failure(store: &MemoryStore, start: ReplayStart) -> LogError {
    match open(store, start) {
        Ok((_, seen)) => panic!("the log opened with {} records", seen.len()),
        Err(OpenError::Log(error)) => error,
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn a_flipped_bit_anywhere_is_found_or_was_in_bytes_without_meaning() {
    let (store, written, segments) = sample();
    let mut found = vec![0; segments.len()];
    for (index, info) in segments.iter().enumerate() {
        for offset in (0..used_bytes(&written, info)).step_by(61).chain(0..100) {
            let damaged = store.fork();
            assert!(damaged.damage(info.id, |bytes| bytes[offset] ^= 1 << (offset % 8)));
            match open(&damaged, known(&written)) {
                // Only the padding of records means nothing.
                Ok((_, seen)) => assert_eq!(seen, written),
                Err(OpenError::Log(error)) => {
                    found[index] += 1;
                    assert_eq!(
                        named(&error, offset as u64),
                        Some(info.id),
                        "offset {offset}: {error:?}"
                    );
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        assert!(found[index] > 300);
    }
}

/// The segment that an error names as damaged by a flipped bit at `place`.
fn named(error: &LogError, place: u64) -> Option<SegmentId> {
    match error {
        LogError::DamagedRecord {
            segment,
            offset,
            fault,
            ..
        } => (*offset <= place && *fault != RecordFault::Empty).then_some(*segment),
        LogError::DamagedHeader { segment, .. } => (place < 4096).then_some(*segment),
        LogError::Version { segment, .. } => (8..12).contains(&place).then_some(*segment),
        _ => None,
    }
}

#[test]
fn a_read_names_the_damaged_block() {
    let (store, written, _) = sample();
    let (log, _) = open(&store, known(&written)).unwrap();
    let record = written
        .iter()
        .find(|record| record.payload.len() > 12_288)
        .unwrap();
    let slice = &record.slice;
    for byte in [0, 4095, 4096, 10_000, record.payload.len() - 1] {
        let place = slice.offset() as usize + byte;
        assert!(store.damage(slice.segment(), |bytes| bytes[place] ^= 0x40));
        let error = log.read(slice).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let LogError::Checksum {
            segment,
            offset,
            expected,
            found,
        } = error
        else {
            panic!("{error:?}")
        };
        assert_eq!(
            (segment, offset),
            (slice.segment(), slice.offset() + (byte / 4096 * 4096) as u64)
        );
        assert_eq!(expected, slice.checksums()[byte / 4096]);
        assert_ne!(expected, found);
        assert!(store.damage(slice.segment(), |bytes| bytes[place] ^= 0x40));
    }
    let end = slice.offset() + record.payload.len() as u64;
    assert!(store.damage(slice.segment(), |bytes| bytes.truncate(end as usize - 1)));
    let error = log.read(slice).unwrap_err();
    assert!(matches!(error, LogError::ShortSegment { found, expected, .. } if found + 1 == expected));
}

#[test]
fn damage_before_a_later_record_is_found_without_the_caller_s_help() {
    let (store, written, _) = sample();
    // Every record but those of the last sync: later headers know that it was durable.
    let last_sync = written.len() - 15;
    for record in &written[..last_sync] {
        let damaged = store.fork();
        let place = record.slice.offset() as usize;
        assert!(damaged.damage(record.slice.segment(), |bytes| bytes[place] ^= 1));
        let error = failure(&damaged, ReplayStart::default());
        let LogError::DamagedRecord {
            segment,
            fault,
            durable,
            ..
        } = error
        else {
            panic!("{error:?}")
        };
        assert_eq!(segment, record.slice.segment());
        assert!(matches!(fault, RecordFault::Payload { offset, .. } if offset == record.slice.offset()));
        assert!(durable >= record.end);
    }
}

#[test]
fn damage_to_the_end_is_a_torn_tail_unless_the_caller_knows_better() {
    let (store, written, _) = sample();
    let last = written.last().unwrap();
    let place = last.slice.offset() as usize;
    assert!(store.damage(last.slice.segment(), |bytes| bytes[place] ^= 1));
    let error = failure(&store.fork(), known(&written));
    assert!(matches!(error, LogError::DamagedRecord { durable, .. } if durable == last.end));
    let (log, seen) = open(&store, ReplayStart::default()).unwrap();
    assert_eq!(seen[..], written[..written.len() - 1]);
    let torn = log.recovery().torn.clone().unwrap();
    assert!(matches!(torn, (segment, _, RecordFault::Payload { .. }) if segment == last.slice.segment()));
    // What comes next is not confused with what was cut.
    let next = log.append(b"", &[b"next"]).unwrap();
    assert_eq!(next.sequence, last.sequence);
    log.sync().unwrap();
    drop(log);
    let (_, seen) = open(&store, ReplayStart::default()).unwrap();
    assert_eq!(
        (seen.len(), &*seen.last().unwrap().payload),
        (written.len(), &b"next"[..])
    );
}

#[test]
fn a_file_that_shrank_or_vanished_is_found() {
    let (store, written, segments) = sample();
    for info in &segments {
        let used = written
            .iter()
            .filter(|w| w.slice.segment() == info.id)
            .map(|w| w.end.0 - info.start.0);
        let used = used.max().unwrap() as usize;
        for length in [0, 100, 4095, 4096, 4097, used / 2, used - 8] {
            let damaged = store.fork();
            assert!(damaged.damage(info.id, |bytes| bytes.truncate(length)));
            assert_eq!(
                failure(&damaged, known(&written)).kind(),
                ErrorKind::Corrupt,
                "{length}"
            );
        }
        let damaged = store.fork();
        damaged.remove(info.id).unwrap();
        assert_eq!(failure(&damaged, known(&written)).kind(), ErrorKind::Corrupt);
    }
    let nothing = failure(&MemoryStore::new(), known(&written));
    assert!(matches!(
        nothing,
        LogError::Shortened {
            end: LogPosition(0),
            ..
        }
    ));
}

#[test]
fn the_only_segment_is_not_thrown_away_for_its_header() {
    let store = MemoryStore::new();
    let (log, _) = open(&store, ReplayStart::default()).unwrap();
    log.append(b"", &[b"x"]).unwrap();
    drop(log);
    assert!(store.damage(SegmentId(1), |bytes| bytes[20] ^= 1));
    let error = failure(&store, ReplayStart::default());
    assert!(matches!(
        error,
        LogError::DamagedHeader {
            segment: SegmentId(1),
            ..
        }
    ));
}

#[test]
fn segments_of_other_logs_other_names_and_other_versions_are_refused() {
    let (store, written, segments) = sample();
    let parts = LogParts {
        store: Arc::new(MemoryStore::new()),
        settings: SMALL,
        new_identity: [8; 16],
    };
    let foreign_store = MemoryStore::new();
    let foreign = LogParts {
        store: Arc::new(foreign_store.clone()),
        ..parts
    };
    let log =
        Log::open::<std::convert::Infallible>(foreign, ReplayStart::default(), &mut |_| Ok(())).unwrap();
    fill(&log);
    drop(log);

    let copy = |from: &MemoryStore, id: SegmentId, to: &MemoryStore, name: SegmentId| {
        let mut copied = Vec::new();
        assert!(from.damage(id, |bytes| copied.clone_from(bytes)));
        if !to.damage(name, |bytes| bytes.clone_from(&copied)) {
            to.create(name).unwrap();
            assert!(to.damage(name, |bytes| bytes.clone_from(&copied)));
        }
    };
    let mixed = store.fork();
    copy(&foreign_store, SegmentId(1), &mixed, segments[1].id);
    let error = failure(&mixed, known(&written));
    assert!(
        matches!(error, LogError::Foreign { segment, .. } if segment == segments[1].id),
        "{error:?}"
    );
    let other = ReplayStart {
        expected_identity: Some([9; 16]),
        ..ReplayStart::default()
    };
    assert!(matches!(failure(&store.fork(), other), LogError::Foreign { found, .. } if found == [7; 16]));

    let renamed = store.fork();
    copy(&store, segments[0].id, &renamed, SegmentId(77));
    assert!(matches!(
        failure(&renamed, known(&written)),
        LogError::DamagedHeader {
            segment: SegmentId(77),
            ..
        }
    ));

    let newer = store.fork();
    assert!(newer.damage(segments[1].id, |bytes| bytes[8] = 2));
    let error = failure(&newer, known(&written));
    assert!(
        matches!(
            error,
            LogError::Version {
                found: 2,
                supported: 1,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn damage_is_found_by_what_a_later_record_of_the_same_segment_knows() {
    let store = MemoryStore::new();
    let (log, _) = open(&store, ReplayStart::default()).unwrap();
    let first = log.append(b"", &[b"first"]).unwrap();
    log.sync().unwrap();
    log.append(b"", &[b"second"]).unwrap();
    drop(log);
    assert!(store.damage(SegmentId(1), |bytes| bytes[first.start.0 as usize + 9] ^= 1));
    let error = failure(&store, ReplayStart::default());
    let LogError::DamagedRecord {
        segment,
        offset,
        fault,
        durable,
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(
        (segment, offset, fault),
        (SegmentId(1), 4096, RecordFault::Header)
    );
    assert_eq!(durable, first.end);
}

#[test]
fn segments_after_a_torn_tail_go() {
    let store = MemoryStore::new();
    let (log, _) = open(&store, ReplayStart::default()).unwrap();
    let mut written = Vec::new();
    while log.segments().len() < 3 {
        written.extend(fill(&log));
    }
    let segments = log.segments().len();
    drop(log);
    let torn = &written[3];
    assert!(store.damage(SegmentId(1), |bytes| bytes[torn.slice.offset() as usize] ^= 1));
    let (log, seen) = open(&store, ReplayStart::default()).unwrap();
    assert_eq!(seen[..], written[..3]);
    assert_eq!(log.recovery().removed_segments, segments as u64 - 1);
    assert_eq!(store.list().unwrap(), [SegmentId(1)]);
    assert_eq!(
        store.open(SegmentId(1)).unwrap().length().unwrap(),
        written[2].end.0
    );
    assert_eq!((log.segments().len(), log.disk_bytes()), (1, written[2].end.0));
    assert!(matches!(
        log.read(&written.last().unwrap().slice),
        Err(LogError::NoSegment { .. })
    ));
}

/// The bytes of the first records of a log with the identity of all logs of these tests: they claim that it was
/// durable up to the end of the second one.
fn three_records() -> Vec<u8> {
    let store = MemoryStore::new();
    let (log, _) = open(&store, ReplayStart::default()).unwrap();
    log.append(b"", &[b"first"]).unwrap();
    log.sync().unwrap();
    log.append(b"", &[b"second"]).unwrap();
    log.sync().unwrap();
    let third = log.append(b"", &[b"third"]).unwrap();
    let mut copied = Vec::new();
    let end = third.end.0 as usize;
    assert!(store.damage(SegmentId(1), |bytes| copied.extend_from_slice(&bytes[4096..end])));
    copied
}

#[test]
fn a_copy_of_the_log_stored_in_the_log_is_only_data() {
    let copied = three_records();
    let store = MemoryStore::new();
    let (log, _) = open(&store, ReplayStart::default()).unwrap();
    let first = log.append(b"", &[b"first"]).unwrap();
    let second = log.append(b"", &[b"second"]).unwrap();
    // At all alignments, so that copies of records begin at aligned offsets of the segment, too.
    for shift in 0..8 {
        log.append(b"", &[&vec![0; shift], &copied]).unwrap();
    }
    drop(log);
    assert_eq!(open(&store.fork(), ReplayStart::default()).unwrap().1.len(), 10);
    // The second record is lost: the copies behind it claim that such a one was durable, but at another place.
    let lost = first.end.0 as usize..second.end.0 as usize;
    assert!(store.damage(SegmentId(1), |bytes| bytes[lost].fill(0)));
    let (log, seen) = open(&store, ReplayStart::default()).unwrap();
    assert_eq!((seen.len(), log.end()), (1, first.end));
}

#[test]
fn a_record_at_another_place_than_its_own_is_none() {
    let copied = three_records();
    let third = &copied[copied.len() - 64..];
    assert_eq!(third[..4], *b"CREC");
    let store = MemoryStore::new();
    let (log, _) = open(&store, ReplayStart::default()).unwrap();
    log.append(b"", &[b"first"]).unwrap();
    let second = log.append(b"", &[b"a longer second one"]).unwrap();
    drop(log);
    let end = second.end.0 as usize;
    assert!(store.damage(SegmentId(1), |bytes| bytes[end..end + 64].copy_from_slice(third)));
    let (log, seen) = open(&store, ReplayStart::default()).unwrap();
    assert_eq!((seen.len(), log.end()), (2, second.end));
    assert_eq!(
        log.recovery().torn,
        Some((SegmentId(1), second.end.0, RecordFault::Header))
    );
}
