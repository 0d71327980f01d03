//! The replies of a connection on their way into the stream.
//!
//! Whoever finishes a reply pushes it and writes it at once, if nobody else is writing: no hand-over to another thread
//! stands between a finished call and its bytes in the socket. All that is queued goes out in one vectored write. When
//! the stream takes no more, the connection's writer task ([`Outbox::run`]) waits for it, and everybody else only pushes.
//!
//! The queue needs no bound of its own: replies carry the reservation of their call, which is given back when their
//! last byte is written; replies that the reader makes without one are bounded by the reader, which looks at
//! [`Outbox::unreserved_bytes`].

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use tokio::sync::Notify;

use super::budget::Reservation;
use crate::error::ConnectionError;
use crate::metrics::Metrics;

/// Most pieces in one vectored write. Linux takes 1,024; beyond a few dozen nothing is gained.
const PIECES_MAX: usize = 64;

/// A complete reply record, marker included, in pieces.
pub(crate) struct Message {
    /// Marker, header and results; all of a small reply.
    pub(crate) head: Bytes,
    /// What follows the head, padding included.
    pub(crate) pieces: Vec<Bytes>,
}

struct Segment {
    bytes: Bytes,
    /// Given back when the segment has been written.
    _reservation: Option<Reservation>,
    /// What is to be taken off [`Outbox::unreserved`] then.
    unreserved: usize,
}

/// The stream and what is being written to it; whoever holds it is the one writer.
struct Port<W> {
    stream: W,
    sending: VecDeque<Segment>,
    /// Bytes written so far.
    written: u64,
}

struct State<W> {
    queue: VecDeque<Segment>,
    /// Here if nobody is writing.
    port: Option<Port<W>>,
    failed: bool,
}

/// See the module's documentation.
pub(crate) struct Outbox<W> {
    state: Mutex<State<W>>,
    unreserved: AtomicUsize,
    /// The stream took no more: work for the writer task.
    stalled: Notify,
    /// Everything queued has been written, or the stream has failed.
    drained: Notify,
}

enum Pumped<W> {
    /// Everything is written and the port put back.
    Drained,
    /// The stream takes no more.
    Stalled(Port<W>),
    Failed(io::Error),
}

impl<W: AsyncWrite + Unpin + Send> Outbox<W> {
    pub(crate) fn new(stream: W) -> Self {
        let port = Port {
            stream,
            sending: VecDeque::new(),
            written: 0,
        };
        Outbox {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                port: Some(port),
                failed: false,
            }),
            unreserved: AtomicUsize::new(0),
            stalled: Notify::new(),
            drained: Notify::new(),
        }
    }

    /// Queues a reply behind those queued before. After a failure of the stream it is dropped.
    pub(crate) fn push(&self, message: Message, reservation: Reservation) {
        let mut segments = std::iter::once(message.head).chain(message.pieces);
        let mut state = self.state.lock();
        if state.failed {
            return;
        }
        let mut last = segments.next();
        for next in segments {
            if let Some(bytes) = last.replace(next) {
                state.queue.push_back(Segment {
                    bytes,
                    _reservation: None,
                    unreserved: 0,
                });
            }
        }
        if let Some(bytes) = last {
            state.queue.push_back(Segment {
                bytes,
                _reservation: Some(reservation),
                unreserved: 0,
            });
        }
    }

    /// Queues complete replies that hold no reservation.
    pub(crate) fn push_unreserved(&self, bytes: Bytes) {
        let unreserved = bytes.len();
        let mut state = self.state.lock();
        if !state.failed {
            self.unreserved.fetch_add(unreserved, Ordering::Relaxed);
            state.queue.push_back(Segment {
                bytes,
                _reservation: None,
                unreserved,
            });
        }
    }

    /// Bytes queued by [`Outbox::push_unreserved`].
    pub(crate) fn unreserved_bytes(&self) -> usize {
        self.unreserved.load(Ordering::Relaxed)
    }

    /// Writes what is queued as far as the stream takes it without waiting, unless somebody else is writing.
    pub(crate) fn flush(&self, metrics: &Metrics) {
        let Some(port) = self.state.lock().port.take() else {
            return;
        };
        match self.pump(port, &mut Context::from_waker(Waker::noop()), metrics) {
            Pumped::Drained => {}
            Pumped::Stalled(port) => {
                let mut state = self.state.lock();
                if !state.failed {
                    state.port = Some(port);
                }
                drop(state);
                self.stalled.notify_one();
            }
            Pumped::Failed(error) => {
                tracing::debug!(%error, "the stream failed");
                self.fail();
                self.stalled.notify_one();
            }
        }
    }

    /// The writer task: writes whenever the stream takes bytes again. Ends only with an error: the stream's, or
    /// [`ConnectionError::ReplyTimeout`] when it took no byte for so long.
    pub(crate) async fn run(&self, timeout: Duration, metrics: &Metrics) -> ConnectionError {
        loop {
            self.stalled.notified().await;
            let mut port = {
                let mut state = self.state.lock();
                if state.failed {
                    return ConnectionError::Stream(io::ErrorKind::ConnectionReset.into());
                }
                // Gone if somebody is writing: either all gets written, or there will be another notification.
                let Some(port) = state.port.take() else { continue };
                Some(port)
            };
            let mut written = 0;
            loop {
                let pumped = std::future::poll_fn(|context| {
                    let Some(taken) = port.take() else {
                        return Poll::Ready(Pumped::Drained);
                    };
                    match self.pump(taken, context, metrics) {
                        Pumped::Stalled(stalled) => {
                            port = Some(stalled);
                            Poll::Pending
                        }
                        done => Poll::Ready(done),
                    }
                });
                match tokio::time::timeout(timeout, pumped).await {
                    Ok(Pumped::Failed(error)) => {
                        self.fail();
                        return ConnectionError::Stream(error);
                    }
                    Ok(Pumped::Drained | Pumped::Stalled(_)) => break,
                    Err(_) => match &port {
                        Some(port) if port.written != written => written = port.written,
                        _ => {
                            self.fail();
                            return ConnectionError::ReplyTimeout;
                        }
                    },
                }
            }
        }
    }

    /// Waits until everything queued has been written, or the stream has failed.
    pub(crate) async fn drained(&self) {
        loop {
            let notified = self.drained.notified();
            {
                let state = self.state.lock();
                let written = state.port.as_ref().is_some_and(|port| port.sending.is_empty());
                if state.failed || (written && state.queue.is_empty()) {
                    return;
                }
            }
            notified.await;
        }
    }

    /// Drops everything queued and to come.
    pub(crate) fn fail(&self) {
        let mut state = self.state.lock();
        state.failed = true;
        let dropped = (std::mem::take(&mut state.queue), state.port.take());
        drop(state);
        drop(dropped);
        self.drained.notify_waiters();
    }

    fn pump(&self, mut port: Port<W>, context: &mut Context<'_>, metrics: &Metrics) -> Pumped<W> {
        loop {
            if port.sending.len() < PIECES_MAX {
                let mut state = self.state.lock();
                if state.failed {
                    return Pumped::Failed(io::ErrorKind::ConnectionReset.into());
                }
                if port.sending.is_empty() {
                    std::mem::swap(&mut port.sending, &mut state.queue);
                } else {
                    port.sending.append(&mut state.queue);
                }
                if port.sending.is_empty() {
                    // Nothing can be queued while the lock is held, so nothing is left behind.
                    match Pin::new(&mut port.stream).poll_flush(context) {
                        Poll::Ready(Ok(())) => {
                            state.port = Some(port);
                            drop(state);
                            self.drained.notify_waiters();
                            return Pumped::Drained;
                        }
                        Poll::Ready(Err(error)) => return Pumped::Failed(error),
                        Poll::Pending => return Pumped::Stalled(port),
                    }
                }
            }
            match port.poll_write(context) {
                Poll::Ready(Ok(written)) => {
                    metrics.bytes_sent.add(written as u64);
                    port.written += written as u64;
                    self.unreserved
                        .fetch_sub(port.advance(written), Ordering::Relaxed);
                }
                Poll::Ready(Err(error)) => return Pumped::Failed(error),
                Poll::Pending => return Pumped::Stalled(port),
            }
        }
    }
}

impl<W: AsyncWrite + Unpin> Port<W> {
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let written = if self.sending.len() == 1 {
            ready!(stream.poll_write(context, &self.sending[0].bytes))?
        } else {
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            let mut count = 0;
            for (slice, segment) in slices.iter_mut().zip(&self.sending) {
                *slice = IoSlice::new(&segment.bytes);
                count += 1;
            }
            ready!(stream.poll_write_vectored(context, &slices[..count]))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        Poll::Ready(Ok(written))
    }

    /// Drops what has been written; returns how many unreserved bytes that finishes.
    fn advance(&mut self, mut written: usize) -> usize {
        let mut unreserved = 0;
        while let Some(front) = self.sending.front_mut() {
            if front.bytes.len() > written {
                front.bytes.advance(written);
                break;
            }
            written -= front.bytes.len();
            unreserved += front.unreserved;
            self.sending.pop_front();
        }
        unreserved
    }
}
