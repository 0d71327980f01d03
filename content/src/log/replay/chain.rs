//! Which segments there are, and which of them the log consists of.

use std::collections::BTreeMap;

use cairn_types::{LogPosition, SegmentId};

use super::super::SegmentInfo;
use super::super::error::LogError;
use super::super::format::{FORMAT_VERSION, HeaderFault, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::super::store::SegmentStore;

/// A segment file as it lies in the directory.
pub(super) struct Found {
    pub id: SegmentId,
    pub disk_bytes: u64,
    /// Its header, or what is wrong with it.
    pub header: Result<SegmentHeader, &'static str>,
}

/// All segment files, in the order of their ids, with their headers. Fails if one is of another version or another
/// log than the rest (or than `identity`), or does not have the name that its header says.
pub(super) fn find(store: &dyn SegmentStore, identity: Option<[u8; 16]>) -> Result<Vec<Found>, LogError> {
    let ids = store
        .list()
        .map_err(|error| LogError::io("list the log's segments".to_owned(), error))?;
    let mut expected = identity;
    ids.into_iter()
        .map(|id| {
            let io = |error| LogError::io(format!("read the header of segment {:016x}", id.0), error);
            let file = store.open(id).map_err(io)?;
            let disk_bytes = file.disk_bytes().map_err(io)?;
            let bytes = file.read_at(SEGMENT_HEADER_BYTES as usize, 0).map_err(io)?;
            let header = match SegmentHeader::decode(&bytes) {
                Ok(header) => {
                    let expected = *expected.get_or_insert(header.identity);
                    if header.identity != expected {
                        return Err(LogError::Foreign {
                            segment: id,
                            expected,
                            found: header.identity,
                        });
                    }
                    if header.id != id {
                        let reason = "it names another segment than the file's name does";
                        return Err(LogError::DamagedHeader { segment: id, reason });
                    }
                    Ok(header)
                }
                Err(HeaderFault::Version(found)) => {
                    return Err(LogError::Version {
                        segment: id,
                        found,
                        supported: FORMAT_VERSION,
                    });
                }
                Err(HeaderFault::Invalid(reason)) => Err(reason),
            };
            Ok(Found {
                id,
                disk_bytes,
                header,
            })
        })
        .collect()
}

/// How the found segments belong together.
#[derive(Default)]
pub(super) struct Chain {
    /// The log's segments from the oldest that is linked to the newest one.
    pub links: Vec<SegmentHeader>,
    /// Segments between links, cut off by an earlier opening.
    pub superseded: Vec<SegmentId>,
    /// Segments after the newest valid header, whose own is invalid.
    pub traces: Vec<SegmentId>,
}

impl Chain {
    pub(super) fn of(found: &[Found]) -> Self {
        let valid: Vec<&SegmentHeader> = found
            .iter()
            .filter_map(|found| found.header.as_ref().ok())
            .collect();
        let mut links: Vec<SegmentHeader> =
            valid.last().map(|newest| (*newest).clone()).into_iter().collect();
        while let Some(first) = links.last() {
            let before =
                |header: &&&SegmentHeader| header.id < first.id && header.contains_end(first.previous_end);
            match valid.iter().rev().find(before) {
                Some(header) => links.push((*header).clone()),
                None => break,
            }
        }
        links.reverse();
        let ids = || found.iter().map(|found| found.id);
        let (Some(first), Some(last)) = (links.first().map(|h| h.id), links.last().map(|h| h.id)) else {
            return Chain {
                traces: ids().collect(),
                ..Chain::default()
            };
        };
        let linked = |id: SegmentId| links.iter().any(|header| header.id == id);
        let superseded = ids()
            .filter(|id| first < *id && *id < last && !linked(*id))
            .collect();
        let traces = ids().filter(|id| *id > last).collect();
        Chain {
            links,
            superseded,
            traces,
        }
    }

    /// Where the records of the link at `index` end if a link follows, or where its room ends.
    pub(super) fn limit(&self, index: usize) -> LogPosition {
        match self.links.get(index + 1) {
            Some(next) => next.previous_end,
            None => self.links[index].limit(),
        }
    }
}

/// The positions that each of the segments `kept` holds, when the log ends at `end`. The positions of a segment with an
/// invalid header are those between its neighbours.
pub(super) fn catalog(kept: &[Found], end: LogPosition) -> BTreeMap<SegmentId, SegmentInfo> {
    let mut infos = BTreeMap::new();
    // Base and previous end of the segment after.
    let mut next: Option<(LogPosition, LogPosition)> = None;
    for Found {
        id,
        disk_bytes,
        header,
    } in kept.iter().rev()
    {
        let (start, stop) = match header {
            Ok(header) => {
                let stop = next.map_or(end, |(_, previous_end)| previous_end);
                next = Some((header.base, header.previous_end));
                (
                    header.base,
                    if header.contains_end(stop) {
                        stop
                    } else {
                        header.limit()
                    },
                )
            }
            Err(_) => (LogPosition(0), next.map_or(end, |(base, _)| base)),
        };
        infos.insert(
            *id,
            SegmentInfo {
                id: *id,
                start,
                end: stop,
                disk_bytes: *disk_bytes,
            },
        );
    }
    let mut previous_end = LogPosition(0);
    for info in infos.values_mut() {
        info.start = info.start.max(previous_end);
        previous_end = info.end;
    }
    infos
}
