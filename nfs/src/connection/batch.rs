//! What the reader does for the requests that arrived together: their replies in one buffer, their counts in one step,
//! and one look at the export's rules for all of them.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use cairn_types::{ExportPolicy, VolumeId};

use crate::metrics::Metrics;
use crate::nfs3::types::Procedure;

/// The rules of the export that the last request was about, as they were when these requests arrived.
pub(crate) type Admitted = RefCell<Option<(VolumeId, Arc<ExportPolicy>)>>;

/// Room for replies when requests arrive: enough for a hundred small ones, so that the buffer does not grow step by step
/// for every batch. When the replies before have been written, the same memory is used again.
const REPLIES_BYTES_FIRST: usize = 16 << 10;

/// See the module's documentation.
pub(crate) struct Batch {
    /// Complete replies.
    pub(crate) replies: BytesMut,
    /// Set only when the client is admitted.
    pub(crate) admitted: Admitted,
    /// When the requests arrived.
    pub(crate) received: Instant,
    answered: [Answered; Procedure::COUNT],
}

#[derive(Debug, Clone, Copy, Default)]
struct Answered {
    calls: u32,
    failures: u32,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Batch {
            replies: BytesMut::new(),
            admitted: RefCell::default(),
            received: Instant::now(),
            answered: Default::default(),
        }
    }

    /// More requests have arrived.
    pub(crate) fn begin(&mut self) {
        self.received = Instant::now();
        self.admitted.take();
        if self.replies.capacity() < REPLIES_BYTES_FIRST / 2 {
            self.replies.reserve(REPLIES_BYTES_FIRST);
        }
    }

    /// Counts an answer.
    #[inline]
    pub(crate) fn count(&mut self, procedure: Procedure, failed: bool) {
        let answered = &mut self.answered[procedure as usize];
        answered.calls += 1;
        answered.failures += u32::from(failed);
    }

    /// Takes the replies, if there are any. Their latency is the time from their arrival to now.
    pub(crate) fn take(&mut self, metrics: &Metrics) -> Option<Bytes> {
        if self.replies.is_empty() {
            return None;
        }
        let elapsed = self.received.elapsed();
        for (procedure, answered) in Procedure::ALL.iter().zip(&mut self.answered) {
            if answered.calls > 0 {
                let Answered { calls, failures } = std::mem::take(answered);
                metrics
                    .procedure(*procedure)
                    .record_many(calls, failures, elapsed);
            }
        }
        Some(self.replies.split().freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::Batch;
    use crate::metrics::Metrics;
    use crate::nfs3::types::Procedure;

    #[test]
    fn answers_are_counted_when_they_are_taken() {
        let (mut batch, metrics) = (Batch::new(), Metrics::default());
        assert_eq!(batch.take(&metrics), None);
        batch.replies.extend_from_slice(b"abc");
        batch.count(Procedure::Getattr, false);
        batch.count(Procedure::Getattr, true);
        assert_eq!(metrics.procedure(Procedure::Getattr).calls(), 0);
        assert_eq!(batch.take(&metrics).unwrap(), &b"abc"[..]);
        let getattr = metrics.procedure(Procedure::Getattr);
        assert_eq!((getattr.calls(), getattr.failures.get()), (2, 1));
        assert_eq!(batch.take(&metrics), None);
    }
}
