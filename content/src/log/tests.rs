//! The log's contract on a sound disk: what is appended can be read and replayed, positions and numbers are in order,
//! and every refusal is the documented one. What a power cut, a faulty disk and a full one do is in the modules below.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use cairn_types::{ByteRange, ErrorKind, LogPosition, LogSlice, SegmentId};

use super::testing::{MemoryStore, Operation};
use super::{
    DirectoryStore, Log, LogError, LogParts, LogSettings, OpenError, ReplayStart, UNSYNCED_SEGMENTS_MAX,
};

mod crash;
mod damage;
mod threads;

const SMALL: LogSettings = LogSettings {
    segment_bytes: 64 << 10,
    payload_bytes_max: 16 << 10,
    open_segments_max: 2,
};

/// A record that was replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    context: Vec<u8>,
    payload: Vec<u8>,
    slice: LogSlice,
    end: LogPosition,
    sequence: u64,
}

fn open(store: &MemoryStore, start: ReplayStart) -> Result<(Log, Vec<Seen>), OpenError<Infallible>> {
    let parts = LogParts {
        store: Arc::new(store.clone()),
        settings: SMALL,
        new_identity: [7; 16],
    };
    let mut seen = Vec::new();
    let log = Log::open(parts, start, &mut |record| {
        seen.push(Seen {
            context: record.context.to_vec(),
            payload: record.payload.to_vec(),
            slice: record.slice,
            end: record.end,
            sequence: record.sequence,
        });
        Ok(())
    })?;
    Ok((log, seen))
}

fn bytes(length: usize, seed: usize) -> Vec<u8> {
    (0..length)
        .map(|i| ((i + seed).wrapping_mul(2_654_435_761) >> 7) as u8)
        .collect()
}

/// Appends payloads of many lengths, enough for several segments.
fn fill(log: &Log) -> Vec<Seen> {
    let lengths = [
        1,
        7,
        8,
        4095,
        4096,
        4097,
        16 << 10,
        12_345,
        16_383,
        5000,
        9000,
        16 << 10,
        16 << 10,
        3,
        700,
    ];
    let append = |(index, length): (usize, &usize)| {
        let payload = bytes(*length, index);
        let context = vec![index as u8; index * 9];
        let (a, b) = payload.split_at(length / 3);
        let appended = log.append(&context, &[a, b]).unwrap();
        assert_eq!(log.read(&appended.slice).unwrap(), payload);
        let (slice, end, sequence) = (appended.slice, appended.end, appended.sequence);
        Seen {
            context,
            payload,
            slice,
            end,
            sequence,
        }
    };
    lengths.iter().enumerate().map(append).collect()
}

#[test]
fn what_is_appended_is_read_and_replayed() {
    let store = MemoryStore::new();
    let (log, seen) = open(&store, ReplayStart::default()).unwrap();
    assert_eq!(seen, []);
    let written = fill(&log);
    assert!(
        written
            .windows(2)
            .all(|w| w[0].end < w[1].end && w[0].sequence + 1 == w[1].sequence)
    );
    assert!(log.segments().len() >= 2);
    assert_eq!(log.durable(), LogPosition(0));
    assert_eq!(log.sync().unwrap(), written.last().unwrap().end);
    assert_eq!(
        (log.durable(), log.end()),
        (written.last().unwrap().end, written.last().unwrap().end)
    );
    drop(log);

    let (log, seen) = open(&store, ReplayStart::default()).unwrap();
    assert_eq!(seen, written);
    assert_eq!(log.recovery().torn, None);
    for record in &written {
        let length = record.payload.len() as u64;
        let range = ByteRange::new(length / 3, length).unwrap();
        let part = record.slice.slice(range).unwrap();
        assert_eq!(log.read(&part).unwrap(), record.payload[range.start() as usize..]);
    }
    // It goes on where it ended, in a new segment.
    let more = log.append(b"more", &[b"bytes"]).unwrap();
    assert_eq!(more.sequence, written.last().unwrap().sequence + 1);
    log.sync().unwrap();
    drop(log);

    for from in [0, 3, 7, written.len()] {
        let start = match from {
            0 => LogPosition(0),
            _ => written[from - 1].end,
        };
        let start = ReplayStart {
            from: start,
            known_durable: more.end,
            expected_identity: Some([7; 16]),
        };
        let (_, seen) = open(&store.fork(), start).unwrap();
        assert_eq!(seen[..seen.len() - 1], written[from..]);
        assert_eq!(
            (&*seen.last().unwrap().payload, seen.last().unwrap().end),
            (&b"bytes"[..], more.end)
        );
    }
}

#[test]
fn works_on_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let parts = || LogParts {
        store: Arc::new(DirectoryStore::open(directory.path()).unwrap()),
        settings: SMALL,
        new_identity: [7; 16],
    };
    let log = Log::open::<Infallible>(parts(), ReplayStart::default(), &mut |_| Ok(())).unwrap();
    let written = fill(&log);
    log.sync().unwrap();
    let unsynced = log
        .append(b"", &[b"not synced, but the process only ends"])
        .unwrap();
    assert!(log.free_bytes().unwrap() > 0);
    drop(log);
    let mut ends = Vec::new();
    let start = ReplayStart {
        from: written[4].end,
        ..ReplayStart::default()
    };
    let log = Log::open::<Infallible>(parts(), start, &mut |record| {
        ends.push(record.end);
        Ok(())
    })
    .unwrap();
    let expected: Vec<_> = written[5..].iter().map(|w| w.end).chain([unsynced.end]).collect();
    assert_eq!(ends, expected);
    assert_eq!(log.durable(), unsynced.end);
    for record in &written {
        assert_eq!(log.read(&record.slice).unwrap(), record.payload);
    }
}

#[test]
fn lengths_and_settings_have_bounds() {
    let (log, _) = open(&MemoryStore::new(), ReplayStart::default()).unwrap();
    for (context, payload) in [(0, 0), (129, 1), (0, SMALL.payload_bytes_max as usize + 1)] {
        let refused = log.append(&vec![0; context], &[&vec![0; payload]]).unwrap_err();
        assert!(matches!(refused, LogError::Length { .. }), "{refused:?}");
    }
    log.append(&[0; 128], &[&vec![0; SMALL.payload_bytes_max as usize]])
        .unwrap();
    let refused = |settings: LogSettings| {
        let parts = LogParts {
            store: Arc::new(MemoryStore::new()),
            settings,
            new_identity: [0; 16],
        };
        let opened = Log::open::<Infallible>(parts, ReplayStart::default(), &mut |_| Ok(()));
        matches!(opened, Err(OpenError::Log(LogError::Setting { .. })))
    };
    assert!(refused(LogSettings {
        segment_bytes: 20 << 10,
        ..SMALL
    }));
    assert!(refused(LogSettings {
        segment_bytes: 2 << 30,
        ..SMALL
    }));
    assert!(refused(LogSettings {
        payload_bytes_max: 0,
        ..SMALL
    }));
    assert!(refused(LogSettings {
        payload_bytes_max: (4 << 20) + 1,
        ..LogSettings::default()
    }));
    assert!(refused(LogSettings {
        open_segments_max: 0,
        ..SMALL
    }));
    assert!(!refused(LogSettings::default()));
    // A slice that no append has returned must not make the reader take gigabytes.
    let length = 8 << 20;
    let slice = LogSlice::new(SegmentId(1), 4096, length, 0, length, vec![0; 2048].into()).unwrap();
    assert!(matches!(log.read(&slice), Err(LogError::Length { .. })));
}

#[test]
fn the_size_of_new_segments_can_be_changed() {
    let store = MemoryStore::new();
    let (log, _) = open(&store, ReplayStart::default()).unwrap();
    let written = fill(&log);
    log.sync().unwrap();
    drop(log);
    let settings = LogSettings {
        segment_bytes: 24 << 10,
        ..SMALL
    };
    let parts = LogParts {
        store: Arc::new(store.clone()),
        settings,
        new_identity: [0; 16],
    };
    let log = Log::open::<Infallible>(parts, ReplayStart::default(), &mut |_| Ok(())).unwrap();
    assert_eq!(log.identity(), [7; 16]);
    let more = fill(&log);
    log.sync().unwrap();
    let infos = log.segments();
    assert!(
        infos
            .windows(2)
            .all(|w| w[0].end <= w[1].start && w[0].start < w[0].end)
    );
    drop(log);
    let (log, seen) = open(&store, ReplayStart::default()).unwrap();
    let payloads = |records: &[Seen]| records.iter().map(|r| r.payload.clone()).collect::<Vec<_>>();
    assert_eq!(payloads(&seen), [payloads(&written), payloads(&more)].concat());
    let without_sizes =
        |infos: Vec<super::SegmentInfo>| infos.iter().map(|i| (i.id, i.start)).collect::<Vec<_>>();
    assert_eq!(without_sizes(log.segments()), without_sizes(infos));
}

#[test]
fn segments_go_as_a_whole_but_never_what_is_needed() {
    let store = MemoryStore::new();
    let (log, _) = open(&store, ReplayStart::default()).unwrap();
    let mut written = Vec::new();
    while log.segments().len() < 3 {
        written.extend(fill(&log));
    }
    let infos = log.segments();
    let newest = infos.last().unwrap().id;
    let in_use = |id| matches!(log.remove_segment(id), Err(LogError::SegmentInUse { .. }));
    assert!(infos.iter().all(|info| in_use(info.id)), "nothing is durable yet");
    log.sync().unwrap();
    assert_eq!(
        log.disk_bytes(),
        log.segments().iter().map(|info| info.disk_bytes).sum::<u64>()
    );
    let before = log.disk_bytes();
    assert!(in_use(newest), "the newest");
    log.remove_segment(infos[0].id).unwrap();
    assert!(matches!(
        log.remove_segment(infos[0].id),
        Err(LogError::NoSegment { .. })
    ));
    assert!(log.disk_bytes() < before);
    let gone = log.read(&written[0].slice).unwrap_err();
    assert!(matches!(gone, LogError::NoSegment { segment } if segment == infos[0].id));
    assert_eq!(gone.kind(), ErrorKind::Corrupt);
    let kept: Vec<Seen> = written.iter().filter(|w| w.end > infos[0].end).cloned().collect();
    assert!(kept.iter().all(|w| log.read(&w.slice).unwrap() == w.payload));
    drop(log);

    let missing = open(&store, ReplayStart::default()).map(|_| ()).unwrap_err();
    assert!(
        matches!(missing, OpenError::Log(LogError::MissingSegment { segment, .. }) if segment == infos[1].id)
    );
    let start = ReplayStart {
        from: infos[0].end,
        ..ReplayStart::default()
    };
    let (log, seen) = open(&store, start).unwrap();
    assert_eq!(seen, kept);
    assert!(matches!(
        log.remove_segment(newest),
        Err(LogError::SegmentInUse { .. })
    ));
    log.remove_segment(infos[1].id).unwrap();
}

#[test]
fn the_position_to_replay_from_must_be_the_end_of_a_record() {
    let store = MemoryStore::new();
    let (log, _) = open(&store, ReplayStart::default()).unwrap();
    let written = fill(&log);
    log.sync().unwrap();
    let infos = log.segments();
    drop(log);
    let try_from = |from: u64| {
        let start = ReplayStart {
            from: LogPosition(from),
            ..ReplayStart::default()
        };
        open(&store.fork(), start).map(|(_, seen)| seen.len())
    };
    let between = infos[0].end.0 + 8;
    for wrong in [
        written[3].end.0 + 8,
        written[3].end.0 - 8,
        8,
        between,
        infos[1].start.0,
        infos[1].start.0 + 4096,
    ] {
        let error = try_from(wrong).unwrap_err();
        assert!(
            matches!(error, OpenError::Log(LogError::NotABoundary { .. })),
            "{wrong}: {error:?}"
        );
    }
    let end = written.last().unwrap().end.0;
    assert_eq!(try_from(end).unwrap(), 0);
    for beyond in [end + 8, end + (1 << 30)] {
        let error = try_from(beyond).unwrap_err();
        assert!(
            matches!(&error, OpenError::Log(error) if error.kind() == ErrorKind::Corrupt),
            "{error:?}"
        );
    }
}

#[test]
fn the_visitor_s_error_stops_the_opening_and_changes_nothing() {
    #[derive(Debug, thiserror::Error)]
    #[error("no")]
    struct No;
    let store = MemoryStore::new();
    let (log, _) = open(&store, ReplayStart::default()).unwrap();
    let written = fill(&log);
    drop(log);
    let parts = LogParts {
        store: Arc::new(store.clone()),
        settings: SMALL,
        new_identity: [7; 16],
    };
    let refused = Log::open(parts, ReplayStart::default(), &mut |record| {
        if record.sequence == 4 { Err(No) } else { Ok(()) }
    });
    assert!(matches!(refused, Err(OpenError::Visit { end, .. }) if end == written[3].end));
    assert_eq!(open(&store, ReplayStart::default()).unwrap().1, written);
}

#[test]
fn a_full_disk_refuses_appends_and_nothing_else() {
    let store = MemoryStore::new();
    let (log, _) = open(&store, ReplayStart::default()).unwrap();
    store.set_room(0);
    assert!(matches!(log.append(b"", &[b"x"]), Err(LogError::NoSpace(_))));
    store.set_room(SMALL.segment_bytes);
    let large = bytes(16 << 10, 1);
    let mut written = Vec::new();
    let error = loop {
        match log.append(b"", &[&large]) {
            Ok(appended) => written.push(appended),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert_eq!(written.len(), 3);
    // The room that is reserved can still be used, what is there can be read, and a sync makes it durable.
    written.push(log.append(b"", &[b"small"]).unwrap());
    assert_eq!(log.read(&written[0].slice).unwrap(), large);
    assert_eq!(log.sync().unwrap(), written[3].end);
    drop(log);
    let (log, seen) = open(&store, ReplayStart::default()).unwrap();
    assert_eq!(seen.len(), 4);
    assert!(matches!(log.append(b"", &[&large]), Err(LogError::NoSpace(_))));
    assert_eq!(log.read(&written[0].slice).unwrap(), large);
    store.set_room(u64::MAX);
    assert_eq!(log.append(b"", &[&large]).unwrap().sequence, 5);
    log.sync().unwrap();
    drop(log);
    assert_eq!(open(&store, ReplayStart::default()).unwrap().1.len(), 5);
}

#[test]
fn a_write_without_room_is_taken_back() {
    let store = MemoryStore::new();
    let (log, _) = open(&store, ReplayStart::default()).unwrap();
    let first = log.append(b"", &[b"first"]).unwrap();
    store.fail_next(Operation::Write, io::ErrorKind::StorageFull);
    assert!(matches!(
        log.append(b"", &[&bytes(5000, 1)]),
        Err(LogError::NoSpace(_))
    ));
    assert_eq!(log.end(), first.end);
    let second = log.append(b"", &[b"second"]).unwrap();
    assert_eq!((second.sequence, second.start), (2, first.end));
    assert_eq!(log.sync().unwrap(), second.end);
    drop(log);
    let (_, seen) = open(&store, ReplayStart::default()).unwrap();
    assert_eq!(
        seen.iter().map(|s| &*s.payload).collect::<Vec<_>>(),
        [&b"first"[..], b"second"]
    );
}

#[test]
fn a_failed_write_stops_the_log_for_good() {
    let store = MemoryStore::new();
    let (log, _) = open(&store, ReplayStart::default()).unwrap();
    let first = log.append(b"", &[b"first"]).unwrap();
    store.fail_next(Operation::Write, io::ErrorKind::BrokenPipe);
    let failed = log.append(b"", &[b"second"]).unwrap_err();
    assert!(matches!(&failed, LogError::Poisoned { cause } if cause.contains("segment 0000000000000001")));
    assert!(matches!(
        log.append(b"", &[b"third"]),
        Err(LogError::Poisoned { .. })
    ));
    assert!(matches!(log.sync(), Err(LogError::Poisoned { .. })));
    assert_eq!(log.poisoned().unwrap(), log.poisoned().unwrap());
    assert_eq!(log.read(&first.slice).unwrap(), &b"first"[..]);
    drop(log);
    let (log, seen) = open(&store, ReplayStart::default()).unwrap();
    assert_eq!(seen.len(), 1);
    assert!(log.poisoned().is_none());
}

#[test]
fn what_a_failed_sync_left_in_the_cache_only_is_not_taken_for_durable() {
    let store = MemoryStore::new();
    let (log, _) = open(&store, ReplayStart::default()).unwrap();
    let durable = log.append(b"", &[b"durable"]).unwrap();
    log.sync().unwrap();
    log.append(b"", &[b"in the cache"]).unwrap();
    store.fail_next(Operation::SyncData, io::ErrorKind::BrokenPipe);
    assert!(matches!(log.sync(), Err(LogError::Poisoned { .. })));
    assert!(
        matches!(log.sync(), Err(LogError::Poisoned { .. })),
        "a sync is never tried again"
    );
    assert_eq!(log.durable(), durable.end);
    drop(log);
    let (_, seen) = open(
        &store,
        ReplayStart {
            known_durable: durable.end,
            ..ReplayStart::default()
        },
    )
    .unwrap();
    assert_eq!(seen.iter().map(|s| &*s.payload).collect::<Vec<_>>(), [b"durable"]);
}

#[test]
fn an_append_that_needs_too_many_unsynced_segments_syncs_first() {
    let store = MemoryStore::new();
    let (log, _) = open(&store, ReplayStart::default()).unwrap();
    let payload = bytes(16 << 10, 3);
    while log.segments().len() <= UNSYNCED_SEGMENTS_MAX {
        assert_eq!(log.durable(), LogPosition(0));
        log.append(b"", &[&payload]).unwrap();
    }
    assert!(log.durable() > LogPosition(0));
    let all = log.sync().unwrap();
    drop(log);
    let start = ReplayStart {
        known_durable: all,
        ..ReplayStart::default()
    };
    assert_eq!(
        open(&store.power_cut(1), start).unwrap().1.last().unwrap().end,
        all
    );
}
