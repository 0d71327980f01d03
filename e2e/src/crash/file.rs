//! What a file may hold after a crash: the part of the oracle that knows about UNSTABLE writes.
//!
//! Data that was made durable must be there. Data of a write that was not may be there or not, byte by byte, but a byte
//! is never anything else: what the file held before, or what a later write put there (RFC 1813 sections 3.3.7, 3.3.21).

use std::collections::BTreeSet;
use std::sync::Arc;

/// A change of a file's data.
#[derive(Debug, Clone)]
enum Event {
    /// A write; if not durable, it may be lost in whole or in part.
    Write {
        offset: u64,
        data: Arc<[u8]>,
        durable: bool,
    },
    /// A new size, durable. What lay beyond it is gone, what comes back reads as zeros.
    Truncate(u64),
}

/// The data of a file, as far as it is known.
#[derive(Debug, Clone, Default)]
pub struct FileModel {
    base: Arc<Vec<u8>>,
    events: Vec<Event>,
}

impl FileModel {
    /// A write that is under way: any part of it may show.
    pub fn write(&mut self, offset: u64, data: Arc<[u8]>) {
        let durable = false;
        self.events.push(Event::Write {
            offset,
            data,
            durable,
        });
    }

    /// The latest write is durable.
    pub fn written_durably(&mut self) {
        if let Some(Event::Write { durable, .. }) = self.events.last_mut() {
            *durable = true;
        }
        let lossy = |event: &Event| matches!(event, Event::Write { durable: false, .. });
        if !self.events.iter().any(lossy) {
            self.settle();
        }
    }

    /// The file has a new size, durably.
    pub fn truncate(&mut self, size: u64) {
        self.events.push(Event::Truncate(size));
    }

    /// Everything written so far is durable.
    pub fn settle(&mut self) {
        if !self.events.is_empty() {
            self.base = Arc::new(self.current());
            self.events.clear();
        }
    }

    /// The file is known to hold `observed`, for good.
    pub fn adopt(&mut self, observed: &[u8]) {
        self.settle();
        if *self.base != observed {
            self.base = Arc::new(observed.to_vec());
        }
    }

    /// What the file holds if nothing was lost.
    pub fn current(&self) -> Vec<u8> {
        let mut data = self.base.to_vec();
        for event in &self.events {
            match event {
                Event::Write {
                    offset, data: new, ..
                } => {
                    let (start, end) = (*offset as usize, *offset as usize + new.len());
                    data.resize(data.len().max(end), 0);
                    data[start..end].copy_from_slice(new);
                }
                Event::Truncate(size) => data.resize(*size as usize, 0),
            }
        }
        data
    }

    /// The size if nothing was lost.
    pub fn size(&self) -> u64 {
        self.events
            .iter()
            .fold(self.base.len() as u64, |size, event| match event {
                Event::Write { offset, data, .. } => size.max(offset + data.len() as u64),
                Event::Truncate(size) => *size,
            })
    }

    /// Whether something may be lost.
    pub fn is_settled(&self) -> bool {
        self.events.is_empty()
    }

    fn sizes(&self) -> BTreeSet<u64> {
        let mut sizes = BTreeSet::from([self.base.len() as u64]);
        for event in &self.events {
            match event {
                Event::Write {
                    offset,
                    data,
                    durable,
                } => {
                    let end = offset + data.len() as u64;
                    let grown: Vec<u64> = sizes.iter().map(|size| (*size).max(end)).collect();
                    if *durable {
                        sizes.clear();
                    }
                    sizes.extend(grown);
                }
                Event::Truncate(size) => sizes = BTreeSet::from([*size]),
            }
        }
        sizes
    }

    fn may_hold(&self, at: u64, byte: u8) -> bool {
        for event in self.events.iter().rev() {
            match event {
                Event::Write {
                    offset,
                    data,
                    durable,
                } => {
                    let inside = at.checked_sub(*offset).and_then(|index| data.get(index as usize));
                    match inside {
                        Some(written) if *written == byte => return true,
                        Some(_) if *durable => return false,
                        _ => {}
                    }
                }
                Event::Truncate(size) if at >= *size => return byte == 0,
                Event::Truncate(_) => {}
            }
        }
        self.base.get(at as usize).copied().unwrap_or(0) == byte
    }

    /// Whether the file may hold `observed` after a crash; otherwise what is wrong.
    pub fn explain(&self, observed: &[u8]) -> Result<(), String> {
        let sizes = self.sizes();
        if !sizes.contains(&(observed.len() as u64)) {
            return Err(format!("size {} instead of one of {sizes:?}", observed.len()));
        }
        let mut bad = (0..)
            .zip(observed)
            .filter(|(at, byte)| !self.may_hold(*at, **byte));
        let first = match &self.events[..] {
            // The common case, without a look at every byte.
            [] if *self.base == observed => return Ok(()),
            _ => bad.next(),
        };
        let Some((at, byte)) = first else { return Ok(()) };
        let expected = self.current().get(at as usize).copied().unwrap_or(0);
        let more = bad.count();
        let durable = if self.is_settled() {
            "durable"
        } else {
            "some data not committed"
        };
        Err(format!(
            "byte {at} of {} is {byte:#04x} instead of {expected:#04x}, {more} more are wrong ({durable})",
            observed.len()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::FileModel;

    fn file(base: &[u8]) -> FileModel {
        let mut file = FileModel::default();
        file.write(0, base.into());
        file.written_durably();
        file
    }

    #[test]
    fn durable_data_must_be_there() {
        let file = file(b"abcdef");
        assert!(file.is_settled());
        assert_eq!(file.explain(b"abcdef"), Ok(()));
        assert!(file.explain(b"abcxef").is_err());
        assert!(file.explain(b"abc\0\0\0").is_err());
        assert!(file.explain(b"abcde").is_err());
        assert!(file.explain(b"").is_err());
    }

    #[test]
    fn uncommitted_data_is_old_or_new_and_nothing_else() {
        let mut file = file(b"abcdef");
        file.write(2, b"XY".as_slice().into());
        for old_or_new in [b"abcdef", b"abXYef", b"abXdef", b"abcYef"] {
            assert_eq!(file.explain(old_or_new), Ok(()));
        }
        assert!(file.explain(b"ab\0\0ef").is_err());
        assert!(file.explain(b"abXYeX").is_err());
        file.settle();
        assert!(file.explain(b"abcdef").is_err());
        assert_eq!(file.explain(b"abXYef"), Ok(()));
    }

    #[test]
    fn growth_that_was_not_committed_may_be_missing_or_a_hole() {
        let mut file = file(b"ab");
        file.write(4, b"XY".as_slice().into());
        assert_eq!(file.explain(b"ab"), Ok(()));
        assert_eq!(file.explain(b"ab\0\0XY"), Ok(()));
        assert_eq!(file.explain(b"ab\0\0\0Y"), Ok(()));
        assert!(file.explain(b"ab\0\0X").is_err());
        assert!(file.explain(b"abZ\0XY").is_err());
    }

    #[test]
    fn a_durable_write_ends_the_choice_where_it_lies() {
        let mut file = file(b"abcd");
        file.write(0, b"WXYZ".as_slice().into());
        file.write(1, b"12".as_slice().into());
        file.written_durably();
        assert!(!file.is_settled());
        assert_eq!(file.explain(b"a12d"), Ok(()));
        assert_eq!(file.explain(b"W12Z"), Ok(()));
        assert!(file.explain(b"aX2d").is_err());
        assert!(file.explain(b"abcd").is_err());
    }

    #[test]
    fn what_was_cut_off_does_not_come_back() {
        let mut file = file(b"abcdef");
        file.write(4, b"XY".as_slice().into());
        file.truncate(3);
        file.truncate(6);
        assert_eq!(file.size(), 6);
        assert_eq!(file.explain(b"abc\0\0\0"), Ok(()));
        assert!(file.explain(b"abcdef").is_err());
        assert!(file.explain(b"abc\0XY").is_err());
        assert!(file.explain(b"abc").is_err());
    }
}
