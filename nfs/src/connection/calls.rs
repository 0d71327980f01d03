//! From a request's bytes to its answer: which program and procedure, who executes it, and what becomes of the reply.
//!
//! Refusals, port mapper and mount table questions, and cheap NFS procedures whose answer is in memory are answered in the
//! reader, into its batch. Everything else becomes a [`Job`] for the workers. Every job is answered exactly once, by its
//! [`Completion`]: with what the handler says, or with a server fault if the handler panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use cairn_vfs::filesystem::FileSystem;
use tokio::io::AsyncWrite;

use super::Connection;
use super::batch::{Admitted, Batch};
use super::budget::{Reservation, SMALL_REPLY_BYTES};
use super::outbox::Message;
use crate::mount3;
use crate::nfs3::data_ops::{self, WriteArguments, write_arguments};
use crate::nfs3::dispatch::{self, Context, Outcome};
use crate::nfs3::status::Status;
use crate::nfs3::types::{self as nfs3, Procedure, handle};
use crate::portmap;
use crate::rpc::auth::{Credential, OwnedCredential};
use crate::rpc::message::{
    CALL_HEADER_BYTES_MAX, CallError, CallHeader, NoCall, Refusal, begin_reply, decode_call, end_reply,
    put_accepted, put_refusal,
};
use crate::rpc::reply_cache::{Admission, ReplyKey, Waiter};
use crate::xdr::{Decoder, XdrError, padding};

/// How much of a record must be there to see whether it is a WRITE and where its payload begins.
pub(crate) const PREFIX_BYTES: usize = CALL_HEADER_BYTES_MAX + WriteArguments::BYTES_MAX;

/// What the reader does with a request.
pub(crate) enum Disposition {
    /// It has been answered, into the batch.
    Answered,
    /// Reserve its cost, then [`Connection::start`] it.
    Job(Box<Job>),
}

/// What the reader does with a request that is still arriving.
pub(crate) enum LargeDisposition {
    /// It has been answered, into the batch; its bytes are to be skipped.
    Answered,
    /// A WRITE: reserve, receive the payload, which begins at this byte of the record, into [`Job::set_payload`], start.
    Write(Box<Job>, usize),
}

/// A call for the workers.
pub(crate) struct Job {
    xid: u32,
    credential: OwnedCredential,
    work: Work,
    /// Bytes of the request and of the largest reply it can have.
    pub(crate) cost: usize,
    started: Instant,
    /// Memory may have the answer, and has not been asked.
    ask_memory: bool,
}

/// Largest READ whose data, if it is in memory, is copied into the reader's batch of replies.
const READ_COPIED_BYTES_MAX: usize = 16 << 10;
/// Largest cost of a READ that the reader answers itself if the data is in memory and other requests wait behind it: a
/// change of threads costs as much as copying tens of KiB, but a larger copy would keep those waiting. A READ with nothing
/// behind it is answered whatever its size.
const READ_HERE_COST_MAX: usize = 300 << 10;

enum Work {
    Nfs(Procedure, Bytes),
    Write(Box<WriteArguments>, Bytes),
    Mount(mount3::Procedure, Bytes),
}

impl Job {
    /// Bytes of payload that a WRITE has.
    pub(crate) fn payload_length(&self) -> usize {
        match &self.work {
            Work::Write(arguments, _) => arguments.count as usize,
            Work::Nfs(..) | Work::Mount(..) => 0,
        }
    }

    /// Gives a WRITE its payload.
    pub(crate) fn set_payload(&mut self, payload: Bytes) {
        if let Work::Write(_, data) = &mut self.work {
            *data = payload;
        }
    }
}

/// Where a call goes.
enum Target {
    Nfs(Procedure),
    Mount(mount3::Procedure),
    Portmap,
}

#[inline]
fn route(header: &CallHeader<'_>) -> Result<Target, Refusal> {
    let version = |low: u32, high: u32| {
        let served = (low..=high).contains(&header.version);
        if served {
            Ok(())
        } else {
            Err(Refusal::ProgramMismatch { low, high })
        }
    };
    match header.program {
        nfs3::PROGRAM => {
            version(nfs3::VERSION, nfs3::VERSION)?;
            Procedure::from_number(header.procedure)
                .map(Target::Nfs)
                .ok_or(Refusal::ProcedureUnavailable)
        }
        mount3::PROGRAM => {
            version(mount3::VERSION, mount3::VERSION)?;
            mount3::Procedure::from_number(header.procedure)
                .map(Target::Mount)
                .ok_or(Refusal::ProcedureUnavailable)
        }
        portmap::PROGRAM => {
            version(portmap::VERSION_LOW, portmap::VERSION_HIGH)?;
            Ok(Target::Portmap)
        }
        _ => Err(Refusal::ProgramUnavailable),
    }
}

/// Largest reply that a call can have, as far as its arguments tell.
fn reply_bytes(procedure: Procedure, arguments: &[u8], transfer_bytes_max: u32) -> usize {
    let count = || -> Result<u32, XdrError> {
        let mut decoder = Decoder::new(arguments);
        match procedure {
            Procedure::Read => {
                handle(&mut decoder)?;
                decoder.u64()?;
                decoder.u32()
            }
            Procedure::Readdir | Procedure::Readdirplus => {
                handle(&mut decoder)?;
                decoder.fixed::<16>()?;
                if procedure == Procedure::Readdirplus {
                    decoder.u32()?;
                }
                decoder.u32()
            }
            Procedure::Readlink => Ok(cairn_vfs::filesystem::SYMLINK_BYTES_MAX as u32),
            _ => Ok(0),
        }
    };
    SMALL_REPLY_BYTES + count().unwrap_or(0).min(transfer_bytes_max) as usize
}

impl<F: FileSystem, W: AsyncWrite + Unpin + Send + 'static> Connection<F, W> {
    /// Takes a complete record: answers it into `batch`, or makes a job of it.
    pub(crate) fn begin(self: &Arc<Self>, record: &[u8], batch: &mut Batch) -> Result<Disposition, NoCall> {
        let mut decoder = Decoder::new(record);
        let Some((header, target)) = self.header(&mut decoder, batch)? else {
            return Ok(Disposition::Answered);
        };
        let arguments = decoder.remaining();
        let mut ask_memory = false;
        let work = match target {
            Target::Portmap => {
                self.portmap(&header, arguments, batch);
                return Ok(Disposition::Answered);
            }
            Target::Mount(procedure) if procedure.may_block() => {
                Work::Mount(procedure, Bytes::copy_from_slice(arguments))
            }
            Target::Mount(procedure) => {
                let body = mount3::answer(&self.server, self.endpoints.peer, procedure, arguments);
                put_reply(batch, header.xid, |batch| batch.extend_from_slice(&body));
                return Ok(Disposition::Answered);
            }
            Target::Nfs(Procedure::Null) => {
                self.server
                    .metrics
                    .procedure(Procedure::Null)
                    .record(std::time::Duration::ZERO, false);
                put_reply(batch, header.xid, put_accepted);
                return Ok(Disposition::Answered);
            }
            Target::Nfs(Procedure::Write) => {
                let write = write_arguments(&mut decoder).and_then(|write| {
                    let data = decoder.remaining();
                    let length = write.count as usize;
                    if data.len() != length + padding(length) {
                        return Err(XdrError::Trailing(data.len()));
                    }
                    Ok(Work::Write(
                        Box::new(write),
                        Bytes::copy_from_slice(&data[..length]),
                    ))
                });
                match write {
                    Ok(work) => work,
                    Err(_) => {
                        self.refuse(header.xid, Refusal::GarbageArguments, batch);
                        return Ok(Disposition::Answered);
                    }
                }
            }
            Target::Nfs(procedure) => {
                let reply = || reply_bytes(procedure, arguments, self.server.settings.transfer_bytes_max);
                let here = dispatch::is_cheap(procedure)
                    || procedure == Procedure::Read && reply() <= SMALL_REPLY_BYTES + READ_COPIED_BYTES_MAX;
                if here && self.cached(&header, procedure, arguments, batch) {
                    return Ok(Disposition::Answered);
                }
                ask_memory = procedure == Procedure::Read && !here;
                Work::Nfs(procedure, Bytes::copy_from_slice(arguments))
            }
        };
        let reply = match &work {
            Work::Nfs(procedure, arguments) => {
                reply_bytes(*procedure, arguments, self.server.settings.transfer_bytes_max)
            }
            Work::Write(..) => SMALL_REPLY_BYTES,
            // A listing of all exports; there is no telling before it is made.
            Work::Mount(..) => 16 * SMALL_REPLY_BYTES,
        };
        let mut job = job(&header, work, record.len() + reply, batch.received);
        job.ask_memory = ask_memory;
        Ok(Disposition::Job(job))
    }

    /// Takes the first [`PREFIX_BYTES`] of a record of `length` bytes that has not arrived completely and is longer
    /// than any call but WRITE.
    pub(crate) fn begin_large(
        self: &Arc<Self>,
        prefix: &[u8],
        length: usize,
        batch: &mut Batch,
    ) -> Result<LargeDisposition, NoCall> {
        let mut decoder = Decoder::new(prefix);
        let Some((header, target)) = self.header(&mut decoder, batch)? else {
            return Ok(LargeDisposition::Answered);
        };
        if let Target::Nfs(Procedure::Write) = target
            && let Ok(write) = write_arguments(&mut decoder)
        {
            let payload_at = prefix.len() - decoder.remaining().len();
            let count = write.count as usize;
            let fits = write.count <= self.server.settings.transfer_bytes_max
                && length == payload_at + count + padding(count);
            if fits {
                let work = Work::Write(Box::new(write), Bytes::new());
                return Ok(LargeDisposition::Write(
                    job(&header, work, length + SMALL_REPLY_BYTES, batch.received),
                    payload_at,
                ));
            }
        }
        self.refuse(header.xid, Refusal::GarbageArguments, batch);
        Ok(LargeDisposition::Answered)
    }

    /// Reads a call's header; answers it and returns `None` if it is refused.
    #[inline(always)]
    fn header<'a>(
        &self,
        decoder: &mut Decoder<'a>,
        batch: &mut Batch,
    ) -> Result<Option<(CallHeader<'a>, Target)>, NoCall> {
        let header = match decode_call(decoder) {
            Ok(header) => header,
            Err(CallError::NoCall(error)) => return Err(error),
            Err(CallError::Refused { xid, refusal }) => {
                self.refuse(xid, refusal, batch);
                return Ok(None);
            }
        };
        match route(&header) {
            Ok(target) => Ok(Some((header, target))),
            Err(refusal) => {
                self.refuse(header.xid, refusal, batch);
                Ok(None)
            }
        }
    }

    fn refuse(&self, xid: u32, refusal: Refusal, batch: &mut Batch) {
        self.server.metrics.refusals.add(1);
        put_reply(batch, xid, |batch| put_refusal(batch, refusal));
    }

    fn portmap(&self, header: &CallHeader<'_>, arguments: &[u8], batch: &mut Batch) {
        self.server.metrics.portmap_calls.add(1);
        let (local, version, procedure) = (self.endpoints.local, header.version, header.procedure);
        put_reply(batch, header.xid, |batch| {
            if !portmap::answer(local, version, procedure, arguments, batch) {
                self.server.metrics.refusals.add(1);
            }
        });
    }

    #[inline]
    fn cached(
        &self,
        header: &CallHeader<'_>,
        procedure: Procedure,
        arguments: &[u8],
        batch: &mut Batch,
    ) -> bool {
        let context = self.memory_context(&header.credential, Some(&batch.admitted));
        let start = batch.replies.len();
        let answered =
            dispatch::answer_cached(&context, procedure, header.xid, arguments, &mut batch.replies);
        if answered {
            // Behind the marker and the transaction id.
            let status = dispatch::body_status(&batch.replies[start + 8..]);
            batch.count(procedure, status != Some(Status::Ok as u32));
        }
        answered
    }

    /// The context of a call that is to be answered from memory.
    #[inline]
    fn memory_context<'a>(
        &'a self,
        credential: &'a Credential<'a>,
        admitted: Option<&'a Admitted>,
    ) -> Context<'a, F> {
        Context {
            server: &self.server,
            peer: self.endpoints.peer,
            credential,
            admitted,
            cached_only: true,
            key: None,
        }
    }

    /// Starts a job whose cost is reserved, unless it is a retransmission. `alone` says that no other request has arrived
    /// behind it.
    pub(crate) fn start(self: &Arc<Self>, job: Box<Job>, reservation: Reservation, alone: bool) {
        let metrics = &self.server.metrics;
        let (key, reservation) = match &job.work {
            Work::Nfs(procedure, arguments) if procedure.is_recorded() => {
                let peer = self.endpoints.peer;
                let replies = &self.server.replies;
                let key = replies.key(
                    peer,
                    job.xid,
                    *procedure as u32,
                    &job.credential.borrow(),
                    arguments,
                );
                let sink = Arc::clone(self);
                match replies.admit(
                    key,
                    Waiter {
                        sink,
                        xid: job.xid,
                        reservation,
                    },
                    tokio::time::Instant::now(),
                ) {
                    Admission::Execute(waiter) => (Some(key), waiter.reservation),
                    Admission::Attached => {
                        metrics.replays_attached.add(1);
                        return;
                    }
                    Admission::Replay(waiter, body) => {
                        metrics.replays.add(1);
                        self.send(Message::from_body(job.xid, body), waiter.reservation);
                        return;
                    }
                }
            }
            Work::Nfs(..) | Work::Write(..) | Work::Mount(..) => (None, reservation),
        };
        let completion = Completion {
            connection: Arc::clone(self),
            xid: job.xid,
            procedure: match &job.work {
                Work::Nfs(procedure, _) => Some(*procedure),
                Work::Write(..) => Some(Procedure::Write),
                Work::Mount(..) => None,
            },
            key,
            reservation: Some(reservation),
            started: job.started,
        };
        if let Work::Nfs(procedure, arguments) = &job.work
            && job.ask_memory
            && (alone || job.cost <= READ_HERE_COST_MAX)
        {
            let credential = job.credential.borrow();
            let context = self.memory_context(&credential, None);
            let found = catch_unwind(AssertUnwindSafe(|| {
                dispatch::answer_query_cached(&context, *procedure, job.xid, arguments)
            }));
            match found {
                Ok(Some(message)) => return completion.send(message),
                Ok(None) => {}
                Err(_) => return completion.fault(),
            }
        }
        self.server
            .workers
            .submit(Box::new(move || execute(*job, completion)));
    }
}

fn job(header: &CallHeader<'_>, work: Work, cost: usize, started: Instant) -> Box<Job> {
    Box::new(Job {
        xid: header.xid,
        credential: OwnedCredential::from(&header.credential),
        work,
        cost,
        started,
        ask_memory: false,
    })
}

#[inline]
fn put_reply(batch: &mut Batch, xid: u32, put: impl FnOnce(&mut BytesMut)) {
    let batch = &mut batch.replies;
    let start = begin_reply(batch, xid);
    put(batch);
    end_reply(batch, start, 0);
}

enum Answer {
    Message(Message),
    Outcome(Outcome),
}

/// Runs in a worker.
fn execute<F: FileSystem, W: AsyncWrite + Unpin + Send + 'static>(job: Job, completion: Completion<F, W>) {
    let connection = Arc::clone(&completion.connection);
    let server = &connection.server;
    let context = Context {
        server,
        peer: connection.endpoints.peer,
        credential: &job.credential.borrow(),
        admitted: None,
        cached_only: false,
        key: completion.key,
    };
    let answer = catch_unwind(AssertUnwindSafe(|| {
        let (procedure, outcome) = match job.work {
            Work::Mount(procedure, arguments) => {
                let body = mount3::answer(server, context.peer, procedure, &arguments);
                return Answer::Outcome(Outcome::Ready(body));
            }
            Work::Write(arguments, data) => (Procedure::Write, data_ops::write(&context, &arguments, data)),
            Work::Nfs(procedure, arguments) if procedure.is_recorded() || procedure == Procedure::Commit => {
                (procedure, dispatch::change(&context, procedure, &arguments))
            }
            Work::Nfs(procedure, arguments) => {
                return Answer::Message(dispatch::answer_query(&context, procedure, job.xid, &arguments));
            }
        };
        Answer::Outcome(
            outcome.unwrap_or_else(|stop| Outcome::Ready(dispatch::stopped_body(server, procedure, &stop))),
        )
    }));
    match answer {
        Ok(Answer::Message(message)) => completion.send(message),
        Ok(Answer::Outcome(Outcome::Ready(body))) => completion.send_body(body),
        Ok(Answer::Outcome(Outcome::Later(mut body))) => {
            // What is durable by now is answered here: going through the runtime costs a change of threads.
            let mut polled = std::task::Context::from_waker(std::task::Waker::noop());
            if let std::task::Poll::Ready(body) = body.as_mut().poll(&mut polled) {
                return completion.send_body(body);
            }
            // Ends when the change is durable; bounded as calls are.
            connection
                .runtime
                .spawn(async move { completion.send_body(body.await) });
        }
        Err(_) => completion.fault(),
    }
}

/// The duty to answer a job.
struct Completion<F: FileSystem, W: AsyncWrite + Unpin + Send + 'static> {
    connection: Arc<Connection<F, W>>,
    xid: u32,
    /// `None` for MOUNT.
    procedure: Option<Procedure>,
    key: Option<ReplyKey>,
    /// Taken when answered.
    reservation: Option<Reservation>,
    started: Instant,
}

impl<F: FileSystem, W: AsyncWrite + Unpin + Send + 'static> Completion<F, W> {
    /// Answers a query.
    fn send(mut self, message: Message) {
        let body = match message.pieces.first() {
            // Head of marker and transaction id only: the body follows.
            Some(body) if message.head.len() == 8 => dispatch::body_status(body),
            _ => message.head.get(8..).and_then(dispatch::body_status),
        };
        self.count(body);
        if let Some(reservation) = self.reservation.take() {
            self.connection.send(message, reservation);
        }
    }

    /// Answers with a body, which is kept and sent to everybody who waits for it.
    fn send_body(mut self, body: Bytes) {
        let status = dispatch::body_status(&body);
        self.count(status);
        if let Some(key) = self.key.take() {
            let replies = &self.connection.server.replies;
            let passing = [
                None,
                Some(Status::Jukebox as u32),
                Some(Status::ServerFault as u32),
            ];
            let waiters = if passing.contains(&status) {
                replies.abandon(key)
            } else {
                replies.complete(key, body.clone(), tokio::time::Instant::now())
            };
            for waiter in waiters {
                waiter.sink.deliver(waiter.xid, body.clone(), waiter.reservation);
            }
        }
        if let Some(reservation) = self.reservation.take() {
            self.connection
                .send(Message::from_body(self.xid, body), reservation);
        }
    }

    /// Answers that the server is at fault.
    fn fault(self) {
        self.connection.server.metrics.panics.add(1);
        tracing::error!(
            procedure = self.procedure.map_or("MOUNT", Procedure::name),
            "a handler panicked"
        );
        let body = self.fault_body();
        self.send_body(body);
    }

    fn fault_body(&self) -> Bytes {
        match self.procedure {
            Some(procedure) => dispatch::fault_body(procedure),
            None => mount3::fault_body(),
        }
    }

    fn count(&self, status: Option<u32>) {
        let metrics = &self.connection.server.metrics;
        if status.is_none() {
            metrics.refusals.add(1);
        }
        if let Some(procedure) = self.procedure {
            metrics
                .procedure(procedure)
                .record(self.started.elapsed(), status != Some(Status::Ok as u32));
        }
    }
}

impl<F: FileSystem, W: AsyncWrite + Unpin + Send + 'static> Drop for Completion<F, W> {
    /// Nothing to do after an answer. Otherwise the call's future panicked, which is a fault, or was dropped with the
    /// runtime, which leaves nobody to answer to; in both cases nobody may go on waiting.
    fn drop(&mut self) {
        let Some(reservation) = self.reservation.take() else {
            return;
        };
        let waiters = match self.key.take() {
            Some(key) => self.connection.server.replies.abandon(key),
            None => Vec::new(),
        };
        if std::thread::panicking() {
            self.connection.server.metrics.panics.add(1);
            let body = self.fault_body();
            for waiter in waiters {
                waiter.sink.deliver(waiter.xid, body.clone(), waiter.reservation);
            }
            self.connection
                .send(Message::from_body(self.xid, body), reservation);
        }
    }
}
