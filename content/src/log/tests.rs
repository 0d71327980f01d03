//! The log's contract on a sound disk: what is appended can be read and replayed, positions and numbers are in order,
//! and every refusal is the documented one.

use std::convert::Infallible;
use std::sync::Arc;

use super::testing::MemoryStore;
use super::{DirectoryStore, Log, LogParts, LogSettings, OpenError, ReplayStart};
use cairn_types::{ByteRange, LogPosition, LogSlice};

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
