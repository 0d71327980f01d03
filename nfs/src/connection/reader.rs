//! The reader of a connection: cuts records out of the stream and gets them executed.
//!
//! Small requests are taken out of one buffer, many per system call. A WRITE that does not fit there is recognised by
//! its first kilobyte, and its payload received straight into the buffer that the file system gets; nothing is allocated
//! for what a record's marker announces before its header has been understood. Other requests are never that large:
//! they are refused, and their bytes skipped as they come. Replies that the reader makes itself are collected and sent
//! when it has nothing more to take out of the buffer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use cairn_vfs::filesystem::FileSystem;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Connection;
use super::batch::Batch;
use super::budget::Reservation;
use super::calls::{Disposition, Job, LargeDisposition, PREFIX_BYTES};
use crate::error::ConnectionError;
use crate::rpc::record::{FRAGMENTS_MAX, MARKER_BYTES, Marker, RECORD_OVERHEAD_BYTES};
use crate::xdr::padding;

/// The buffer for small requests and for the beginnings of large ones.
const HEAD_BYTES: usize = 64 << 10;
/// Records up to this length are executed out of the head buffer. All calls but WRITE are shorter by far.
const SMALL_RECORD_BYTES: usize = 16 << 10;
/// Read at most so much after a large WRITE: most likely another one follows, whose payload is better not received into
/// the head buffer.
const READ_AFTER_WRITE_BYTES: usize = MARKER_BYTES + PREFIX_BYTES;
/// Replies of the reader are sent at the latest when so many bytes of them are collected.
const BATCH_BYTES_MAX: usize = 32 << 10;
/// While more bytes of the reader's own replies than this are unsent, it does not read.
const UNRESERVED_BYTES_MAX: usize = 1 << 20;

/// What to do with the record that the buffer begins with.
enum Next {
    /// It has been taken and answered.
    Answered,
    /// It has been taken.
    Job(Box<Job>),
    /// It is too long for the buffer, and enough of it is there to begin.
    Large(usize),
    /// It comes in several fragments.
    Fragments,
    /// It has not arrived.
    Nothing,
}

/// The reader.
pub(crate) struct Reader<F, R, W> {
    connection: Arc<Connection<F, W>>,
    source: Source<R>,
    head: HeadBuffer,
    batch: Batch,
    read_limit: usize,
    record_bytes_max: usize,
}

impl<F, R, W> Reader<F, R, W>
where
    F: FileSystem,
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    pub(crate) fn new(connection: Arc<Connection<F, W>>, stream: R) -> Self {
        let settings = &connection.server.settings;
        let (idle, record) = (settings.idle_timeout, settings.record_timeout);
        Reader {
            source: Source::new(stream, idle, record),
            head: HeadBuffer::new(),
            batch: Batch::new(),
            read_limit: HEAD_BYTES,
            record_bytes_max: settings.transfer_bytes_max as usize + RECORD_OVERHEAD_BYTES,
            connection,
        }
    }

    /// Reads and executes until the client closes the stream between two records, or something is wrong.
    /// May be dropped at any point where it waits; then [`Reader::flush`] sends what it had answered.
    pub(crate) async fn run(&mut self) -> Result<(), ConnectionError> {
        loop {
            self.records().await?;
            self.flush();
            if self.connection.outbox.unreserved_bytes() > UNRESERVED_BYTES_MAX {
                self.connection.server.metrics.stalls.add(1);
                self.connection.outbox.drained().await;
            }
            if self.fill(self.read_limit).await? == 0 {
                return if self.head.is_empty() {
                    Ok(())
                } else {
                    Err(ConnectionError::Truncated)
                };
            }
        }
    }

    /// Sends what has been collected.
    pub(crate) fn flush(&mut self) {
        if let Some(replies) = self.batch.take(&self.connection.server.metrics) {
            self.connection.send_unreserved(replies);
        }
    }

    /// Takes all records out of the buffer that can be taken.
    async fn records(&mut self) -> Result<(), ConnectionError> {
        loop {
            match self.next()? {
                Next::Answered => {}
                Next::Job(job) => self.start(job).await,
                Next::Large(length) => self.large(length).await?,
                Next::Fragments => self.fragments().await?,
                Next::Nothing => return Ok(()),
            }
        }
    }

    /// Looks at the record that the buffer begins with, and takes it if that needs no waiting.
    fn next(&mut self) -> Result<Next, ConnectionError> {
        let filled = self.head.filled();
        let Some((marker, rest)) = filled.split_first_chunk::<MARKER_BYTES>() else {
            return Ok(Next::Nothing);
        };
        let Marker { last, length } = Marker::decode(*marker);
        self.check_length(length)?;
        if !last {
            return Ok(Next::Fragments);
        }
        let Some(record) = rest.get(..length) else {
            let large = length > SMALL_RECORD_BYTES && rest.len() >= PREFIX_BYTES;
            return Ok(if large { Next::Large(length) } else { Next::Nothing });
        };
        let disposition = self
            .connection
            .begin(record, &mut self.batch)
            .map_err(ConnectionError::NoCall)?;
        self.head.consume(MARKER_BYTES + length);
        self.read_limit = HEAD_BYTES;
        match disposition {
            Disposition::Answered => {
                if self.batch.replies.len() >= BATCH_BYTES_MAX {
                    self.flush();
                }
                Ok(Next::Answered)
            }
            Disposition::Job(job) => Ok(Next::Job(job)),
        }
    }

    fn check_length(&self, announced: usize) -> Result<(), ConnectionError> {
        let limit = self.record_bytes_max;
        if announced > limit {
            Err(ConnectionError::RecordTooLong { announced, limit })
        } else {
            Ok(())
        }
    }

    async fn start(&mut self, job: Box<Job>) {
        let reservation = self.reserve(job.cost).await;
        self.connection.start(job, reservation, self.head.is_empty());
    }

    async fn reserve(&mut self, bytes: usize) -> Reservation {
        if let Some(reservation) = self.connection.budget.try_reserve(bytes) {
            return reservation;
        }
        self.connection.server.metrics.stalls.add(1);
        self.flush();
        self.connection.budget.reserve(bytes).await
    }

    /// Takes a record that has begun to arrive and is too large for the buffer.
    async fn large(&mut self, length: usize) -> Result<(), ConnectionError> {
        let prefix = &self.head.filled()[MARKER_BYTES..];
        let prefix = &prefix[..prefix.len().min(PREFIX_BYTES)];
        let disposition = self
            .connection
            .begin_large(prefix, length, &mut self.batch)
            .map_err(ConnectionError::NoCall)?;
        self.flush();
        let (mut job, payload_at) = match disposition {
            LargeDisposition::Answered => return self.skip(MARKER_BYTES + length).await,
            LargeDisposition::Write(job, payload_at) => (job, payload_at),
        };
        let reservation = self.reserve(job.cost).await;
        self.head.consume(MARKER_BYTES + payload_at);
        let count = job.payload_length();
        let mut payload = self.connection.server.payloads.take(count);
        let buffer = payload.as_mut();
        let here = self.head.filled();
        let mut received = here.len().min(count);
        buffer[..received].copy_from_slice(&here[..received]);
        self.head.consume(received);
        while received < count {
            let more = self.source.read(&mut buffer[received..], None).await?;
            if more == 0 {
                return Err(ConnectionError::Truncated);
            }
            self.connection.server.metrics.bytes_received.add(more as u64);
            received += more;
        }
        self.skip(padding(count)).await?;
        job.set_payload(payload.freeze());
        self.connection.start(job, reservation, false);
        self.read_limit = READ_AFTER_WRITE_BYTES;
        Ok(())
    }

    /// Takes a record in several fragments. It is put together in memory that grows with what arrives.
    async fn fragments(&mut self) -> Result<(), ConnectionError> {
        let reservation = self.reserve(self.record_bytes_max).await;
        let mut record = Vec::new();
        for _ in 0..FRAGMENTS_MAX {
            let marker = loop {
                if let Some((marker, _)) = self.head.filled().split_first_chunk::<MARKER_BYTES>() {
                    break Marker::decode(*marker);
                }
                self.fill_more().await?;
            };
            self.head.consume(MARKER_BYTES);
            self.check_length(record.len() + marker.length)?;
            let mut left = marker.length;
            while left > 0 {
                if self.head.is_empty() {
                    self.fill_more().await?;
                }
                let here = self.head.filled();
                let taken = here.len().min(left);
                record.extend_from_slice(&here[..taken]);
                self.head.consume(taken);
                left -= taken;
            }
            if marker.last {
                // The call reserves for itself; the record lives on until it has.
                drop(reservation);
                let disposition = self
                    .connection
                    .begin(&record, &mut self.batch)
                    .map_err(ConnectionError::NoCall)?;
                if let Disposition::Job(job) = disposition {
                    self.start(job).await;
                }
                return Ok(());
            }
        }
        Err(ConnectionError::Fragments(FRAGMENTS_MAX))
    }

    async fn skip(&mut self, mut bytes: usize) -> Result<(), ConnectionError> {
        loop {
            let here = self.head.filled().len().min(bytes);
            self.head.consume(here);
            bytes -= here;
            if bytes == 0 {
                return Ok(());
            }
            self.fill_more().await?;
        }
    }

    /// Receives more of a record.
    async fn fill_more(&mut self) -> Result<(), ConnectionError> {
        self.flush();
        match self.fill(HEAD_BYTES).await? {
            0 => Err(ConnectionError::Truncated),
            _ => Ok(()),
        }
    }

    /// Receives at most `limit` bytes into the buffer; 0 at the end of the stream.
    async fn fill(&mut self, limit: usize) -> Result<usize, ConnectionError> {
        let idle = self.head.is_empty().then_some(&*self.connection.budget);
        let space = self.head.space();
        let limit = limit.min(space.len());
        let received = self.source.read(&mut space[..limit], idle).await?;
        self.head.extend(received);
        self.batch.begin();
        self.connection.server.metrics.bytes_received.add(received as u64);
        Ok(received)
    }
}

/// The stream, with its patience.
struct Source<R> {
    stream: R,
    /// Fires now and then, not for every read.
    tick: Pin<Box<Sleep>>,
    period: Duration,
    idle_timeout: Duration,
    record_timeout: Duration,
    last: Instant,
}

impl<R: AsyncRead + Unpin> Source<R> {
    fn new(stream: R, idle_timeout: Duration, record_timeout: Duration) -> Self {
        let period = idle_timeout.min(record_timeout);
        Source {
            stream,
            tick: Box::pin(tokio::time::sleep(period)),
            period,
            idle_timeout,
            record_timeout,
            last: Instant::now(),
        }
    }

    /// Receives into `buffer`; 0 at the end of the stream. `idle` is given between two records: then the idle timeout
    /// holds, and only while no call is in execution; else the record timeout, within one period of its length.
    async fn read(
        &mut self,
        buffer: &mut [u8],
        idle: Option<&super::budget::Budget>,
    ) -> Result<usize, ConnectionError> {
        let mut buffer = ReadBuf::new(buffer);
        std::future::poll_fn(|context| {
            if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                self.last = Instant::now();
                return Poll::Ready(result.map_err(ConnectionError::Stream));
            }
            while self.tick.as_mut().poll(context).is_ready() {
                let quiet = self.last.elapsed();
                match idle {
                    None if quiet >= self.record_timeout => {
                        return Poll::Ready(Err(ConnectionError::RecordTimeout));
                    }
                    Some(budget) if quiet >= self.idle_timeout && budget.is_idle() => {
                        return Poll::Ready(Err(ConnectionError::Idle));
                    }
                    _ => self.tick.as_mut().reset(Instant::now() + self.period),
                }
            }
            Poll::Pending
        })
        .await?;
        Ok(buffer.filled().len())
    }
}

/// A buffer that is filled at its end and emptied at its front.
struct HeadBuffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl HeadBuffer {
    fn new() -> Self {
        HeadBuffer {
            bytes: vec![0; HEAD_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    #[inline]
    fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    #[inline]
    fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "consumed more than there is");
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Room for more; never none, since what is ready to be taken is taken before.
    fn space(&mut self) -> &mut [u8] {
        if self.start > 0 && self.bytes.len() - self.end < SMALL_RECORD_BYTES + MARKER_BYTES {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.bytes[self.end..]
    }

    fn extend(&mut self, count: usize) {
        self.end += count;
    }
}
