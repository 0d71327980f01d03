//! Opening: finding the log's segments, replaying what the caller has not yet applied, and telling a torn tail, which
//! is cut, from damage, which is an error.
//!
//! A power cut may keep or drop every write since the last sync, in any order and torn. So the first record that does
//! not verify ends the log if nothing shows that it was durable once, whatever valid records follow it. What shows it:
//! the caller knows (`known_durable`, and `from` itself), or some valid header further on says so (its field
//! `durable`). What no header and no caller knows cannot be told apart: damage to records of the last sync before a
//! crash looks like a torn tail.
//!
//! The chain. Each segment's header says where the records before it end. Going back from the newest header by
//! these ends gives the segments that the log consists of; whatever lies between two of them was cut by an earlier
//! opening and only lacks its removal. If a segment on the way is missing or its header is invalid, then the chain ends
//! before it: no sync had reached it when the power was cut, or else what follows knows and it is damage.
//!
//! What replay reads comes from the disk, not from the page cache: segments are synced and evicted first. So records
//! that were in the cache only (after `kill -9`) are durable before the visitor sees them, and records that a failed
//! sync has left in the cache, and nowhere else, are not taken for durable ones.

use std::collections::BTreeMap;
use std::io;

use cairn_types::{LogPosition, LogSlice, SegmentId};

use super::error::{LogError, OpenError, RecordFault};
use super::format::{RecordKey, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::store::SegmentStore;
use super::{ReplayStart, SegmentInfo};

mod chain;
mod records;

use chain::{Chain, Found};
use records::{Walk, Window};

/// A record as replay hands it to the visitor.
#[derive(Debug)]
pub struct ReplayedRecord<'a> {
    /// What the appender gave as context.
    pub context: &'a [u8],
    /// Where the payload is.
    pub slice: LogSlice,
    /// The payload, verified.
    pub payload: &'a [u8],
    /// Where the record begins.
    pub start: LogPosition,
    /// Where the record ends.
    pub end: LogPosition,
    /// The record's number.
    pub sequence: u64,
}

/// What an opening found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Records handed to the visitor.
    pub records: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Where the tail was torn: the segment, the byte offset in it, and what stands there. `None` after a clean end.
    pub torn: Option<(SegmentId, u64, RecordFault)>,
    /// Segments that were removed because all that they held came after the end of the log.
    pub removed_segments: u64,
}

/// What the log needs to go on.
pub(super) struct Recovered {
    pub identity: [u8; 16],
    pub end: LogPosition,
    pub next_sequence: u64,
    pub next_segment: SegmentId,
    pub next_base: LogPosition,
    /// The newest segment that is certainly on the disk.
    pub anchor: Option<SegmentId>,
    pub catalog: BTreeMap<SegmentId, SegmentInfo>,
    pub recovery: Recovery,
}

type Visit<'a, E> = &'a mut dyn FnMut(ReplayedRecord<'_>) -> Result<(), E>;

/// Opens what is in `store`.
pub(super) fn recover<E: std::error::Error + 'static>(
    store: &dyn SegmentStore,
    new_identity: [u8; 16],
    start: &ReplayStart,
    visit: Visit<'_, E>,
) -> Result<Recovered, OpenError<E>> {
    let found = chain::find(store, start.expected_identity)?;
    let chain = Chain::of(&found, start.from)?;
    let identity = chain.links.first().map(|header| header.identity);
    let identity = identity.or(start.expected_identity).unwrap_or(new_identity);
    let mut replay = Replay {
        store,
        key: RecordKey::new(&identity),
        known_durable: start.known_durable.max(start.from),
        begun_at: 0,
        cursor: Cursor {
            link: 0,
            offset: SEGMENT_HEADER_BYTES,
            end: start.from,
            sequence: 1,
        },
        recovery: Recovery::default(),
        chain,
    };
    if replay.chain.links.is_empty() {
        replay.check_no_segment()?;
    } else {
        replay.begin(start.from)?;
        replay.run(visit)?;
        replay.check_end()?;
    }
    let cut = replay.cut()?;
    let Replay {
        chain,
        cursor,
        mut recovery,
        ..
    } = replay;
    recovery.removed_segments = cut.removed.len() as u64;

    let limits = found
        .iter()
        .filter_map(|found| found.header.as_ref().ok().map(SegmentHeader::limit));
    let next_base = limits.max().unwrap_or_default();
    let next_segment = SegmentId(found.last().map_or(1, |last| last.id.0 + 1));
    let stays = |id: &SegmentId| !cut.removed.contains(id);
    let mut kept: Vec<Found> = found.into_iter().filter(|found| stays(&found.id)).collect();
    for found in &mut kept {
        found.disk_bytes = cut.resized.get(&found.id).copied().unwrap_or(found.disk_bytes);
    }
    Ok(Recovered {
        identity,
        end: cursor.end,
        next_sequence: cursor.sequence,
        next_segment,
        next_base,
        anchor: chain.links.iter().rev().map(|header| header.id).find(stays),
        catalog: chain::catalog(&kept, cursor.end),
        recovery,
    })
}

/// Where replay has got to.
struct Cursor {
    /// Index of the link that is read.
    link: usize,
    /// Byte offset in it of the next record.
    offset: u64,
    /// Where the last record ends.
    end: LogPosition,
    /// The number that the next record must have.
    sequence: u64,
}

/// What an opening took away.
#[derive(Default)]
struct Cut {
    removed: Vec<SegmentId>,
    /// Bytes on disk of files that were cut.
    resized: BTreeMap<SegmentId, u64>,
}

struct Replay<'a> {
    store: &'a dyn SegmentStore,
    key: RecordKey,
    chain: Chain,
    /// The log was durable up to here, as far as anybody knows.
    known_durable: LogPosition,
    /// Index of the link that replay began in.
    begun_at: usize,
    cursor: Cursor,
    recovery: Recovery,
}

impl Replay<'_> {
    fn io(&self, operation: &str, id: SegmentId) -> impl Fn(io::Error) -> LogError + use<> {
        let operation = format!("{operation} segment {:016x}", id.0);
        move |error| LogError::io(operation.clone(), error)
    }

    fn window(&self, id: SegmentId) -> Result<Window, LogError> {
        Ok(Window::new(self.store.open(id).map_err(self.io("open", id))?))
    }

    /// Without any valid header there must be no sign that there ever was a log. The first segment's header is
    /// durable before the first record is written, so a record shows it.
    fn check_no_segment(&mut self) -> Result<(), LogError> {
        for (id, _) in self.chain.later.clone() {
            let mut records = 0;
            let scan = self
                .window(id)?
                .scan(SEGMENT_HEADER_BYTES, None, |_, _| records += 1);
            scan.map_err(self.io("read", id))?;
            if records > 0 {
                let reason = "it is invalid, but records follow it";
                return Err(LogError::DamagedHeader { segment: id, reason });
            }
        }
        if self.known_durable > LogPosition(0) {
            return Err(LogError::Shortened {
                end: LogPosition(0),
                durable: self.known_durable,
            });
        }
        Ok(())
    }

    /// Puts the cursor where the records after `from` begin.
    fn begin(&mut self, from: LogPosition) -> Result<(), LogError> {
        let links = &self.chain.links;
        let Some(link) = links.iter().rposition(|header| header.base < from) else {
            let first = &links[0];
            self.cursor = Cursor {
                link: 0,
                offset: SEGMENT_HEADER_BYTES,
                end: from,
                sequence: first.first_sequence,
            };
            if first.previous_end > from {
                let previous_end = first.previous_end;
                return Err(LogError::MissingSegment {
                    segment: first.id,
                    previous_end,
                });
            }
            if first.previous_end < from {
                return Err(LogError::NotABoundary { position: from });
            }
            return self.refresh(0);
        };
        if from.0 <= links[link].base.0 + SEGMENT_HEADER_BYTES {
            return Err(LogError::NotABoundary { position: from });
        }
        if from > self.chain.limit(link) {
            let end = self.chain.limit(link);
            return Err(if link + 1 == links.len() {
                LogError::Shortened { end, durable: from }
            } else {
                LogError::NotABoundary { position: from }
            });
        }
        self.refresh(link)?;
        let SegmentHeader {
            id,
            base,
            first_sequence,
            ..
        } = self.chain.links[link];
        let offset = from.0 - base.0;
        let walk = self
            .window(id)?
            .walk(SEGMENT_HEADER_BYTES, offset, base, first_sequence, &self.key);
        match walk.map_err(self.io("read", id))? {
            Walk::Arrived { sequence } => {
                self.cursor = Cursor {
                    link,
                    offset,
                    end: from,
                    sequence,
                };
                self.begun_at = link;
                Ok(())
            }
            Walk::Missed => Err(LogError::NotABoundary { position: from }),
            Walk::Broken { offset, fault } => Err(LogError::DamagedRecord {
                segment: id,
                offset,
                fault,
                durable: self.known_durable,
            }),
        }
    }

    /// Syncs the links from `first` on and evicts them from the cache, so that what is read is what the disk has.
    fn refresh(&self, first: usize) -> Result<(), LogError> {
        for header in &self.chain.links[first..] {
            let file = self.store.open(header.id).map_err(self.io("open", header.id))?;
            file.sync_data().map_err(self.io("sync", header.id))?;
            file.evict().map_err(self.io("evict", header.id))?;
            let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
            let count = file.read_at(&mut bytes, 0).map_err(self.io("read", header.id))?;
            if SegmentHeader::decode(&bytes[..count]).as_ref() != Ok(header) {
                let reason = "what was in the cache is not what is on the disk";
                return Err(LogError::DamagedHeader {
                    segment: header.id,
                    reason,
                });
            }
        }
        self.sync_directory()
    }

    fn sync_directory(&self) -> Result<(), LogError> {
        self.store
            .sync_directory()
            .map_err(|error| LogError::io("sync the log directory".to_owned(), error))
    }

    /// Visits the records from the cursor on, up to the first that does not verify.
    fn run<E: std::error::Error + 'static>(&mut self, visit: Visit<'_, E>) -> Result<(), OpenError<E>> {
        loop {
            let link = self.cursor.link;
            let SegmentHeader { id, base, .. } = self.chain.links[link];
            let limit = self.chain.limit(link).0.saturating_sub(base.0);
            let mut window = self.window(id)?;
            while self.cursor.offset < limit {
                let Cursor { offset, sequence, .. } = self.cursor;
                let record = window.record(offset, limit, base, sequence, &self.key);
                let record = match record.map_err(self.io("read", id))? {
                    Ok(record) => record,
                    Err(fault) => {
                        let clean = fault == RecordFault::Empty;
                        self.recovery.torn = Some((id, offset, fault)).filter(|_| !clean);
                        return Ok(());
                    }
                };
                self.cursor.offset += u64::from(record.header.record_length);
                self.cursor.end = LogPosition(base.0 + self.cursor.offset);
                self.cursor.sequence += 1;
                self.recovery.records += 1;
                self.recovery.payload_bytes += u64::from(record.header.payload_length);
                let end = self.cursor.end;
                let replayed = ReplayedRecord {
                    context: record.context,
                    slice: record.slice(id, offset),
                    payload: record.payload,
                    start: record.header.position,
                    end,
                    sequence,
                };
                visit(replayed).map_err(|source| OpenError::Visit { end, source })?;
            }
            let Some(next) = self.chain.links.get(link + 1) else {
                return Ok(());
            };
            if next.first_sequence != self.cursor.sequence || self.cursor.end != next.previous_end {
                let reason = "its first record is not the one after the last record before it";
                return Err(LogError::DamagedHeader {
                    segment: next.id,
                    reason,
                }
                .into());
            }
            self.cursor = Cursor {
                link: link + 1,
                offset: SEGMENT_HEADER_BYTES,
                ..self.cursor
            };
        }
    }

    /// Asks everything after the cursor whether it knows of records that were durable and are not there.
    fn check_end(&mut self) -> Result<(), LogError> {
        let Cursor {
            link, offset, end, ..
        } = self.cursor;
        let current = &self.chain.links[link];
        let linked = self.chain.links[link + 1..]
            .iter()
            .map(|header| (header.id, Some(header)));
        let later = self.chain.later.iter().map(|(id, header)| (*id, header.as_ref()));
        let later: Vec<(SegmentId, Option<&SegmentHeader>)> = linked.chain(later).collect();

        let claimed = later
            .iter()
            .filter_map(|(_, header)| header.map(|header| header.durable));
        let mut durable = claimed.fold(self.known_durable, LogPosition::max);
        let here = (current.id, Some(current.base), offset);
        let there = later
            .iter()
            .map(|(id, header)| (*id, header.map(|header| header.base), SEGMENT_HEADER_BYTES));
        for (id, base, from) in std::iter::once(here).chain(there) {
            let claims = self.window(id)?.scan(from, Some(&self.key), |offset, header| {
                // A copy of a record, stored as a payload, says where it belongs.
                if base.is_none_or(|base| header.position.0 == base.0 + offset) {
                    durable = durable.max(header.durable);
                }
            });
            claims.map_err(self.io("read", id))?;
        }
        if durable <= end {
            return Ok(());
        }
        Err(match (&self.recovery.torn, self.chain.later.first()) {
            (Some((segment, offset, fault)), _) => LogError::DamagedRecord {
                segment: *segment,
                offset: *offset,
                fault: fault.clone(),
                durable,
            },
            _ if link + 1 < self.chain.links.len() || offset < current.bytes && later.is_empty() => {
                LogError::DamagedRecord {
                    segment: current.id,
                    offset,
                    fault: RecordFault::Empty,
                    durable,
                }
            }
            (None, Some((segment, None))) => LogError::DamagedHeader {
                segment: *segment,
                reason: "it is invalid, but the segment is needed",
            },
            (None, Some((segment, Some(header)))) => LogError::MissingSegment {
                segment: *segment,
                previous_end: header.previous_end,
            },
            (None, None) => LogError::Shortened { end, durable },
        })
    }

    /// Removes what comes after the end of the log and gives back the room behind it. The newest segments go first, so
    /// that what an interruption leaves is still a log with the same end.
    fn cut(&self) -> Result<Cut, LogError> {
        let mut cut = Cut::default();
        let links = &self.chain.links;
        let mut kept = links.len().min(self.cursor.link + 1);
        // A segment in which no record was ever found would only lie about; but one must stay to carry the identity.
        if kept > 1 && self.cursor.offset == SEGMENT_HEADER_BYTES {
            kept -= 1;
        }
        let mut remove: Vec<SegmentId> = links[kept..].iter().map(|header| header.id).collect();
        remove.extend(
            self.chain
                .superseded
                .iter()
                .copied()
                .chain(self.chain.later.iter().map(|(id, _)| *id)),
        );
        remove.sort_unstable();
        for id in remove.iter().rev() {
            self.store.remove(*id).map_err(self.io("remove", *id))?;
        }
        if !remove.is_empty() {
            self.sync_directory()?;
        }
        cut.removed = remove;
        for (index, header) in links[..kept].iter().enumerate().skip(self.begun_at) {
            let end = if index == self.cursor.link {
                self.cursor.offset
            } else {
                self.chain.limit(index).0 - header.base.0
            };
            let file = self.store.open(header.id).map_err(self.io("open", header.id))?;
            let io = self.io("trim", header.id);
            if file.length().map_err(&io)? > end {
                file.truncate(end).and_then(|()| file.sync_data()).map_err(&io)?;
                cut.resized.insert(header.id, file.disk_bytes().map_err(&io)?);
            }
        }
        Ok(cut)
    }
}
