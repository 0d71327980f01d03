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
            let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
            let count = file.read_at(&mut bytes, 0).map_err(io)?;
            let header = match SegmentHeader::decode(&bytes[..count]) {
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
    /// The log's segments from the oldest that is linked to the newest one that is linked to where replay begins.
    pub links: Vec<SegmentHeader>,
    /// Segments between links, cut off by an earlier opening.
    pub superseded: Vec<SegmentId>,
    /// Segments after the last link: their own header is invalid, or that of a segment between.
    pub later: Vec<(SegmentId, Option<SegmentHeader>)>,
}

impl Chain {
    /// The chain that reaches back to `from`. Fails if there are valid headers but none that leads there.
    pub(super) fn of(found: &[Found], from: LogPosition) -> Result<Self, LogError> {
        let valid: Vec<&SegmentHeader> = found
            .iter()
            .filter_map(|found| found.header.as_ref().ok())
            .collect();
        let reaches = |links: &Vec<SegmentHeader>| {
            let first = &links[0];
            first.previous_end <= from || first.base < from
        };
        let chains = || (1..=valid.len()).rev().map(|count| links(&valid[..count]));
        let Some(links) = chains().find(reaches) else {
            return match chains().next() {
                Some(newest) => {
                    let SegmentHeader { id, previous_end, .. } = newest[0];
                    let before = found.iter().rev().find(|found| found.id < id);
                    Err(match before.map(|found| (found.id, &found.header)) {
                        Some((segment, Err(reason))) => LogError::DamagedHeader { segment, reason },
                        _ => LogError::MissingSegment {
                            segment: id,
                            previous_end,
                        },
                    })
                }
                None => {
                    let later = found.iter().map(|found| (found.id, None)).collect();
                    Ok(Chain {
                        later,
                        ..Chain::default()
                    })
                }
            };
        };
        let (first, last) = (links[0].id, links[links.len() - 1].id);
        let linked = |id: SegmentId| links.iter().any(|header| header.id == id);
        let between = |id: &SegmentId| first < *id && *id < last && !linked(*id);
        let superseded = found.iter().map(|found| found.id).filter(between).collect();
        let later = found.iter().filter(|found| found.id > last);
        let later = later.map(|found| (found.id, found.header.clone().ok())).collect();
        Ok(Chain {
            links,
            superseded,
            later,
        })
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

/// The segments that the last of `valid` is linked to, the oldest first.
fn links(valid: &[&SegmentHeader]) -> Vec<SegmentHeader> {
    let mut links: Vec<SegmentHeader> = Vec::new();
    for header in valid.iter().rev() {
        if links
            .last()
            .is_none_or(|next| header.contains_end(next.previous_end))
        {
            links.push((*header).clone());
        }
    }
    links.reverse();
    links
}
