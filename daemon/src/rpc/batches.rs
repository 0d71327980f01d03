//! Differences on their way into the messages of a stream, a bounded number at a time: a slow client holds up the comparison, and one that has gone
//! away ends it.

use std::ops::ControlFlow;

use cairn_api::proto;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Differences in one message.
const DIFFERENCES_PER_MESSAGE: usize = 256;
/// Bytes of paths in one message, about: a path may be long.
const PATH_BYTES_PER_MESSAGE: usize = 256 << 10;
/// Messages that wait for a slow client; the comparison waits with them.
const MESSAGES_QUEUED_MAX: usize = 8;

/// Makes messages `M` of differences.
pub(super) struct Batches<M> {
    sender: mpsc::Sender<Result<M, Status>>,
    message: fn(Vec<proto::Difference>) -> M,
    pending: Vec<proto::Difference>,
    path_bytes: usize,
}

/// Batches that become messages by `message`, and the stream of these.
pub(super) fn batches<M>(
    message: fn(Vec<proto::Difference>) -> M,
) -> (Batches<M>, ReceiverStream<Result<M, Status>>) {
    let (sender, receiver) = mpsc::channel(MESSAGES_QUEUED_MAX);
    let batches = Batches {
        sender,
        message,
        pending: Vec::new(),
        path_bytes: 0,
    };
    (batches, ReceiverStream::new(receiver))
}

impl<M> Batches<M> {
    /// Takes one; breaks when the client has gone away. Blocks.
    pub fn push(&mut self, difference: proto::Difference) -> ControlFlow<()> {
        self.path_bytes += difference.path.len();
        self.pending.push(difference);
        if self.pending.len() >= DIFFERENCES_PER_MESSAGE || self.path_bytes >= PATH_BYTES_PER_MESSAGE {
            self.flush()
        } else {
            ControlFlow::Continue(())
        }
    }

    fn flush(&mut self) -> ControlFlow<()> {
        self.path_bytes = 0;
        let message = (self.message)(std::mem::take(&mut self.pending));
        match self.sender.blocking_send(Ok(message)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_gone) => ControlFlow::Break(()),
        }
    }

    /// Sends what is left, then the failure if there was one. Blocks.
    pub fn finish(mut self, outcome: Result<(), Status>) {
        if !self.pending.is_empty() && self.flush().is_break() {
            return;
        }
        if let Err(status) = outcome {
            // A client that has gone away misses it.
            let _ = self.sender.blocking_send(Err(status));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use cairn_api::proto::{DiffResponse, Difference, DifferenceKind};
    use tonic::Status;

    use super::{DIFFERENCES_PER_MESSAGE, PATH_BYTES_PER_MESSAGE};

    fn difference(path: Vec<u8>) -> Difference {
        Difference {
            kind: DifferenceKind::Added.into(),
            path,
            directory: false,
            bytes_before: None,
            bytes_after: Some(1),
        }
    }

    type Batches = super::Batches<DiffResponse>;
    type Receiver = tokio::sync::mpsc::Receiver<Result<DiffResponse, Status>>;

    fn batches() -> (Batches, Receiver) {
        let (batches, stream) = super::batches(|differences| DiffResponse { differences });
        (batches, stream.into_inner())
    }

    #[test]
    fn everything_arrives_in_order_and_the_failure_last() {
        let (mut batches, mut receiver) = batches();
        let count = DIFFERENCES_PER_MESSAGE + 3;
        for index in 0..count {
            assert_eq!(
                batches.push(difference(index.to_string().into_bytes())),
                ControlFlow::Continue(())
            );
        }
        batches.finish(Err(Status::data_loss("damaged")));
        let mut paths = Vec::new();
        let mut sizes = Vec::new();
        let failure = loop {
            match receiver.blocking_recv() {
                Some(Ok(message)) => {
                    sizes.push(message.differences.len());
                    paths.extend(message.differences.into_iter().map(|difference| difference.path));
                }
                Some(Err(status)) => break status,
                None => panic!("the failure is missing"),
            }
        };
        assert_eq!(sizes, [DIFFERENCES_PER_MESSAGE, 3]);
        assert_eq!(
            paths,
            (0..count)
                .map(|index| index.to_string().into_bytes())
                .collect::<Vec<_>>()
        );
        assert_eq!(failure.code(), tonic::Code::DataLoss);
        assert!(receiver.blocking_recv().is_none());
    }

    #[test]
    fn long_paths_make_small_batches() {
        let (mut batches, mut receiver) = batches();
        assert!(
            batches
                .push(difference(vec![b'x'; PATH_BYTES_PER_MESSAGE]))
                .is_continue()
        );
        batches.finish(Ok(()));
        assert_eq!(receiver.blocking_recv().unwrap().unwrap().differences.len(), 1);
        assert!(receiver.blocking_recv().is_none());
    }

    #[test]
    fn a_client_that_goes_away_ends_the_comparison() {
        let (mut batches, receiver) = batches();
        drop(receiver);
        let visited = (0..)
            .take_while(|_| batches.push(difference(b"p".to_vec())).is_continue())
            .count();
        assert_eq!(visited, DIFFERENCES_PER_MESSAGE - 1);
    }
}
