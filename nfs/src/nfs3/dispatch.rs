//! From a call's arguments to its reply.
//!
//! Queries write their results straight into the reply. Changes make a *body*, all of the reply after the transaction id,
//! which can be kept and sent again; it exists before the change is committed, so that the file system can keep it with
//! the change ([`Effect::record`]), and is sent when the change is durable ([`Effect::settle`]).
//!
//! Handlers may run in the reader of a connection with `cached_only` set; they then answer from memory or stop with
//! [`Stop::NotCached`], having changed nothing.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use cairn_types::{ErrorKind, ExportPolicy};
use cairn_vfs::filesystem::{Attributes, Caller, FileSystem, ObjectId, ReplyRecord};
use cairn_vfs::{Error, Pending};

use super::status::Status;
use super::types::{ArgumentError, FailureShape, Procedure, put_no_change, put_post_attributes};
use super::{attribute_ops, data_ops, directory_ops, lookup_ops, name_ops};
use crate::connection::batch::Admitted;
use crate::connection::outbox::Message;
use crate::export;
use crate::rpc::auth::Credential;
use crate::rpc::message::{
    ACCEPTED_BYTES, Refusal, begin_reply, begin_success, end_reply, put_accepted, put_refusal,
};
use crate::rpc::reply_cache::ReplyKey;
use crate::server::Inner;
use crate::xdr::{Decoder, XdrError};

/// Room for the body of any change.
const BODY_BYTES: usize = 320;
/// Room for the head of most query replies.
const HEAD_BYTES: usize = 320;

/// One call, as its handler sees it.
pub(crate) struct Context<'a, F> {
    pub(crate) server: &'a Arc<Inner<F>>,
    pub(crate) peer: SocketAddr,
    pub(crate) credential: &'a Credential<'a>,
    /// The rules of the export that was asked about last, if they may be used again.
    pub(crate) admitted: Option<&'a Admitted>,
    /// Answer from memory or not at all.
    pub(crate) cached_only: bool,
    /// Under which key the reply of a change is recorded.
    pub(crate) key: Option<ReplyKey>,
}

/// Why a handler does not give the results of success.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The arguments do not decode.
    Garbage,
    /// The procedure failed.
    Failed(Failure),
    /// The answer is not in memory.
    NotCached,
}

/// A failed procedure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    /// The objects whose attributes belong into the answer, as far as they are at hand ([`FailureShape`]).
    pub(crate) objects: [Option<ObjectId>; 2],
}

impl From<XdrError> for Stop {
    fn from(_: XdrError) -> Self {
        Stop::Garbage
    }
}

impl From<ArgumentError> for Stop {
    fn from(error: ArgumentError) -> Self {
        match error {
            ArgumentError::Xdr(_) => Stop::Garbage,
            ArgumentError::Time => Status::Invalid.into(),
        }
    }
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Stop::Failed(Failure {
            status,
            objects: [None; 2],
        })
    }
}

impl Status {
    /// The failure of an operation on one object.
    pub(crate) fn of(self, object: ObjectId) -> Stop {
        Stop::Failed(Failure {
            status: self,
            objects: [Some(object), None],
        })
    }
}

/// The status of an error of the file system, which is logged if somebody has to look after it.
pub(crate) fn status_of(error: &Error) -> Status {
    if let Error::Io { what, kind } = error {
        match kind {
            ErrorKind::Unavailable | ErrorKind::NoSpace => tracing::warn!(%what, ?kind, "operation failed"),
            _ => tracing::error!(%what, ?kind, "operation failed"),
        }
    }
    Status::from(error)
}

/// The answer to a change.
pub(crate) enum Outcome {
    /// The body, at once.
    Ready(Bytes),
    /// The body, when the change is durable.
    Later(Pin<Box<dyn Future<Output = Bytes> + Send>>),
}

impl<F: FileSystem> Context<'_, F> {
    pub(crate) fn fs(&self) -> &F {
        &self.server.fs
    }

    /// The object of a handle, if the handle is one of ours, the volume exists and the client is admitted.
    #[inline]
    pub(crate) fn object(&self, handle: &[u8]) -> Result<ObjectId, Stop> {
        if let Some(admitted) = self.admitted
            && let Some(object) = self.server.handles.decode(handle)
            && admitted
                .borrow()
                .as_ref()
                .is_some_and(|(volume, _)| *volume == object.volume)
        {
            return Ok(object);
        }
        self.enter(handle).map(|(object, _)| object)
    }

    /// As [`Context::object`], with the rules of the export.
    pub(crate) fn enter(&self, handle: &[u8]) -> Result<(ObjectId, Arc<ExportPolicy>), Stop> {
        let object = self.server.handles.decode(handle).ok_or(Status::BadHandle)?;
        if let Some(admitted) = self.admitted
            && let Some((volume, policy)) = &*admitted.borrow()
            && *volume == object.volume
        {
            return Ok((object, Arc::clone(policy)));
        }
        let export = self.fs().export(object.volume).ok_or(Status::Stale)?;
        if !export::admits(&export.policy, self.peer) {
            self.server.metrics.not_admitted.add(1);
            return Err(Status::Access.into());
        }
        if let Some(admitted) = self.admitted {
            admitted.replace(Some((object.volume, Arc::clone(&export.policy))));
        }
        Ok((object, export.policy))
    }

    /// As [`Context::enter`], for a change.
    pub(crate) fn enter_to_change(&self, handle: &[u8]) -> Result<(ObjectId, Caller), Stop> {
        let (object, policy) = self.enter(handle)?;
        if policy.read_only {
            return Err(Status::ReadOnly.of(object));
        }
        Ok((object, self.caller(&policy)))
    }

    pub(crate) fn caller(&self, policy: &ExportPolicy) -> Caller {
        export::caller(policy, self.credential)
    }

    #[inline]
    pub(crate) fn attributes(&self, object: ObjectId) -> Result<Attributes, Stop> {
        match self.fs().getattr_cached(object) {
            Some(attributes) => Ok(attributes),
            None if self.cached_only => Err(Stop::NotCached),
            None => self
                .fs()
                .getattr(object)
                .map_err(|error| status_of(&error).into()),
        }
    }
}

/// A change on its way: makes the body once, for the record and for the reply. `put` writes the results of success after
/// the status.
pub(crate) struct Effect<'a, F, P> {
    server: &'a Arc<Inner<F>>,
    procedure: Procedure,
    objects: [Option<ObjectId>; 2],
    key: Option<ReplyKey>,
    put: P,
    body: RefCell<Option<Bytes>>,
}

impl<'a, F: FileSystem, P> Effect<'a, F, P> {
    pub(crate) fn new(
        context: &Context<'a, F>,
        procedure: Procedure,
        objects: [Option<ObjectId>; 2],
        put: P,
    ) -> Self {
        let body = RefCell::new(None);
        Effect {
            server: context.server,
            procedure,
            objects,
            key: context.key,
            put,
            body,
        }
    }

    /// What is to be kept with the change.
    pub(crate) fn record<T>(&self, outcome: &T) -> Option<ReplyRecord>
    where
        P: Fn(&Inner<F>, &T, &mut BytesMut),
    {
        let key = self.key?;
        let body = success(self.server, outcome, &self.put);
        *self.body.borrow_mut() = Some(body.clone());
        Some(ReplyRecord { key, body })
    }

    /// The answer to the change, from what the file system returned.
    pub(crate) fn settle<T>(self, pending: Result<Pending<T>, Error>) -> Result<Outcome, Stop>
    where
        P: Fn(&Inner<F>, &T, &mut BytesMut) + Send + 'static,
        T: Send + 'static,
    {
        let failure = |status| Failure {
            status,
            objects: self.objects,
        };
        let pending = match pending {
            Ok(pending) => pending,
            Err(error) => return Err(Stop::Failed(failure(status_of(&error)))),
        };
        let recorded = self.body.take();
        if pending.is_ready() {
            let body = match recorded {
                Some(body) => body,
                None => success(self.server, &pending.without_durability(), &self.put),
            };
            return Ok(Outcome::Ready(body));
        }
        // This is a worker, which may block; whoever else waits for the same sync does so without a thread.
        pending.assist();
        let (server, procedure, put) = (Arc::clone(self.server), self.procedure, self.put);
        // Executing a change again because its durability failed is never right, so this is no "try again".
        let failed = Failure {
            status: Status::Io,
            objects: self.objects,
        };
        Ok(Outcome::Later(Box::pin(async move {
            match pending.durable().await {
                Ok(outcome) => recorded.unwrap_or_else(|| success(&server, &outcome, &put)),
                Err(error) => {
                    tracing::error!(%error, procedure = procedure.name(), "a change did not become durable");
                    failure_body(&server, procedure, &failed)
                }
            }
        })))
    }
}

fn success<F, T>(server: &Inner<F>, outcome: &T, put: &impl Fn(&Inner<F>, &T, &mut BytesMut)) -> Bytes {
    let mut out = BytesMut::with_capacity(BODY_BYTES);
    put_accepted(&mut out);
    out.put_u32(Status::Ok as u32);
    put(server, outcome, &mut out);
    out.freeze()
}

fn put_failure<F: FileSystem>(
    server: &Inner<F>,
    out: &mut BytesMut,
    procedure: Procedure,
    failure: &Failure,
) {
    out.put_u32(failure.status as u32);
    let [first, second] = failure
        .objects
        .map(|object| object.and_then(|id| server.fs.getattr_cached(id)));
    match procedure.failure_shape() {
        FailureShape::Void => {}
        FailureShape::Attributes => put_post_attributes(out, first.as_ref()),
        FailureShape::Change => put_no_change(out, first.as_ref()),
        FailureShape::TwoChanges => {
            put_no_change(out, first.as_ref());
            put_no_change(out, second.as_ref());
        }
        FailureShape::AttributesAndChange => {
            put_post_attributes(out, first.as_ref());
            put_no_change(out, second.as_ref());
        }
    }
}

fn failure_body<F: FileSystem>(server: &Inner<F>, procedure: Procedure, failure: &Failure) -> Bytes {
    let mut out = BytesMut::with_capacity(BODY_BYTES);
    put_accepted(&mut out);
    put_failure(server, &mut out, procedure, failure);
    out.freeze()
}

/// The body that says that the server is at fault. It looks at nothing, so that it cannot fail in turn.
pub(crate) fn fault_body(procedure: Procedure) -> Bytes {
    let words = match procedure.failure_shape() {
        FailureShape::Void => 0,
        FailureShape::Attributes => 1,
        FailureShape::Change => 2,
        FailureShape::TwoChanges => 4,
        FailureShape::AttributesAndChange => 3,
    };
    let mut out = BytesMut::with_capacity(BODY_BYTES);
    put_accepted(&mut out);
    if procedure != Procedure::Null {
        out.put_u32(Status::ServerFault as u32);
        out.put_bytes(0, words * 4);
    }
    out.freeze()
}

/// The body of a procedure that stopped.
pub(crate) fn stopped_body<F: FileSystem>(server: &Inner<F>, procedure: Procedure, stop: &Stop) -> Bytes {
    match stop {
        Stop::Garbage => {
            let mut out = BytesMut::with_capacity(ACCEPTED_BYTES);
            put_refusal(&mut out, Refusal::GarbageArguments);
            out.freeze()
        }
        Stop::Failed(failure) => failure_body(server, procedure, failure),
        Stop::NotCached => fault_body(procedure),
    }
}

/// How a body answers: `None` if the call was refused, else the status of its results.
#[inline]
pub(crate) fn body_status(body: &[u8]) -> Option<u32> {
    let word = |at: usize| {
        body.get(at..at + 4)
            .and_then(|word| word.try_into().ok())
            .map(u32::from_be_bytes)
    };
    match (word(4), word(ACCEPTED_BYTES - 4)) {
        (Some(0), Some(0)) => Some(word(ACCEPTED_BYTES).unwrap_or(0)),
        _ => None,
    }
}

/// Answers a query from memory at the end of `out`, whole record, if it can be answered so. Returns whether it was.
pub(crate) fn answer_cached<F: FileSystem>(
    context: &Context<'_, F>,
    procedure: Procedure,
    xid: u32,
    arguments: &[u8],
    out: &mut BytesMut,
) -> bool {
    let start = out.len();
    let mut pieces = Vec::new();
    let handled = catch_unwind(AssertUnwindSafe(|| {
        begin_success(out, xid);
        query(context, procedure, arguments, out, &mut pieces)
    }));
    let body = match handled {
        Ok(Ok(())) => {
            pieces.iter().for_each(|piece| out.put_slice(piece));
            end_reply(out, start, 0);
            return true;
        }
        Ok(Err(Stop::NotCached)) => {
            out.truncate(start);
            return false;
        }
        Ok(Err(stop)) => stopped_body(context.server, procedure, &stop),
        Err(_) => {
            context.server.metrics.panics.add(1);
            fault_body(procedure)
        }
    };
    out.truncate(start);
    begin_reply(out, xid);
    out.put_slice(&body);
    end_reply(out, start, 0);
    true
}

/// Executes a query into a reply of its own.
pub(crate) fn answer_query<F: FileSystem>(
    context: &Context<'_, F>,
    procedure: Procedure,
    xid: u32,
    arguments: &[u8],
) -> Message {
    query_message(context, procedure, xid, arguments)
        .unwrap_or_else(|stop| Message::from_body(xid, stopped_body(context.server, procedure, &stop)))
}

/// As [`answer_query`], from memory or not at all.
pub(crate) fn answer_query_cached<F: FileSystem>(
    context: &Context<'_, F>,
    procedure: Procedure,
    xid: u32,
    arguments: &[u8],
) -> Option<Message> {
    match query_message(context, procedure, xid, arguments) {
        Err(Stop::NotCached) => None,
        Err(stop) => Some(Message::from_body(
            xid,
            stopped_body(context.server, procedure, &stop),
        )),
        Ok(message) => Some(message),
    }
}

fn query_message<F: FileSystem>(
    context: &Context<'_, F>,
    procedure: Procedure,
    xid: u32,
    arguments: &[u8],
) -> Result<Message, Stop> {
    let mut head = BytesMut::with_capacity(HEAD_BYTES);
    let mut pieces = Vec::new();
    begin_success(&mut head, xid);
    query(context, procedure, arguments, &mut head, &mut pieces)?;
    end_reply(&mut head, 0, pieces.iter().map(Bytes::len).sum());
    Ok(Message {
        head: head.freeze(),
        pieces,
    })
}

fn query<F: FileSystem>(
    context: &Context<'_, F>,
    procedure: Procedure,
    arguments: &[u8],
    out: &mut BytesMut,
    pieces: &mut Vec<Bytes>,
) -> Result<(), Stop> {
    let decoder = Decoder::new(arguments);
    match procedure {
        Procedure::Getattr => attribute_ops::getattr(context, decoder, out),
        Procedure::Access => attribute_ops::access(context, decoder, out),
        Procedure::Fsstat => attribute_ops::fsstat(context, decoder, out),
        Procedure::Fsinfo => attribute_ops::fsinfo(context, decoder, out),
        Procedure::Pathconf => attribute_ops::pathconf(context, decoder, out),
        Procedure::Lookup => lookup_ops::lookup(context, decoder, out),
        Procedure::Readlink => lookup_ops::readlink(context, decoder, out),
        Procedure::Read => data_ops::read(context, decoder, out, pieces),
        Procedure::Readdir => directory_ops::readdir(context, decoder, out, pieces),
        Procedure::Readdirplus => directory_ops::readdirplus(context, decoder, out, pieces),
        Procedure::Null
        | Procedure::Setattr
        | Procedure::Write
        | Procedure::Create
        | Procedure::Mkdir
        | Procedure::Symlink
        | Procedure::Mknod
        | Procedure::Remove
        | Procedure::Rmdir
        | Procedure::Rename
        | Procedure::Link
        | Procedure::Commit => Err(Stop::NotCached),
    }
}

/// Executes a change, COMMIT included; WRITE has its own way ([`data_ops::write`]).
pub(crate) fn change<F: FileSystem>(
    context: &Context<'_, F>,
    procedure: Procedure,
    arguments: &[u8],
) -> Result<Outcome, Stop> {
    let decoder = Decoder::new(arguments);
    match procedure {
        Procedure::Setattr => attribute_ops::setattr(context, decoder),
        Procedure::Create => name_ops::create(context, decoder),
        Procedure::Mkdir => name_ops::mkdir(context, decoder),
        Procedure::Symlink => name_ops::symlink(context, decoder),
        Procedure::Mknod => name_ops::mknod(context, decoder),
        Procedure::Remove => name_ops::remove(context, decoder),
        Procedure::Rmdir => name_ops::rmdir(context, decoder),
        Procedure::Rename => name_ops::rename(context, decoder),
        Procedure::Link => name_ops::link(context, decoder),
        Procedure::Commit => data_ops::commit(context, decoder),
        Procedure::Null
        | Procedure::Getattr
        | Procedure::Lookup
        | Procedure::Access
        | Procedure::Readlink
        | Procedure::Read
        | Procedure::Write
        | Procedure::Readdir
        | Procedure::Readdirplus
        | Procedure::Fsstat
        | Procedure::Fsinfo
        | Procedure::Pathconf => Err(Stop::NotCached),
    }
}

/// Whether the procedure may be answered by [`answer_cached`].
#[inline]
pub(crate) fn is_cheap(procedure: Procedure) -> bool {
    matches!(
        procedure,
        Procedure::Getattr | Procedure::Access | Procedure::Lookup | Procedure::Fsinfo | Procedure::Pathconf
    )
}
