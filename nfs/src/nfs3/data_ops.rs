//! READ, WRITE and COMMIT (RFC 1813 sections 3.3.6, 3.3.7 and 3.3.21).
//!
//! Data is never copied here: READ sends the pieces that the file system gave, WRITE hands over the buffer that the
//! payload was received into.

use bytes::{BufMut, Bytes, BytesMut};
use cairn_vfs::filesystem::{Change, FILE_BYTES_MAX, FileSystem, Stability, Written};

use super::dispatch::{Context, Effect, Outcome, Stop, status_of};
use super::status::Status;
use super::types::{Procedure, handle, put_change, put_post_attributes};
use crate::file_handle::PROTOCOL_BYTES_MAX;
use crate::server::Inner;
use crate::xdr::{Decoder, Encode, XdrError, padding};

/// The arguments of WRITE before the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WriteArguments {
    handle: [u8; PROTOCOL_BYTES_MAX],
    handle_length: usize,
    offset: u64,
    stability: Stability,
    /// Bytes of data, as both `count` and the data's length say.
    pub(crate) count: u32,
}

impl WriteArguments {
    /// Most bytes that the arguments before the data take on the wire.
    pub(crate) const BYTES_MAX: usize = 4 + PROTOCOL_BYTES_MAX + 8 + 4 + 4 + 4;

    fn handle(&self) -> &[u8] {
        &self.handle[..self.handle_length]
    }
}

/// Reads the arguments of WRITE and leaves the decoder at the data. A count that is not the data's length is an error.
pub(crate) fn write_arguments(arguments: &mut Decoder<'_>) -> Result<WriteArguments, XdrError> {
    let target = handle(arguments)?;
    let mut handle = [0; PROTOCOL_BYTES_MAX];
    handle[..target.len()].copy_from_slice(target);
    let offset = arguments.u64()?;
    let count = arguments.u32()?;
    let stability = match arguments.u32()? {
        0 => Stability::Unstable,
        1 => Stability::Data,
        2 => Stability::File,
        other => return Err(XdrError::BadValue(other)),
    };
    let length = arguments.u32()?;
    if length != count {
        return Err(XdrError::BadValue(length));
    }
    Ok(WriteArguments {
        handle,
        handle_length: target.len(),
        offset,
        stability,
        count,
    })
}

pub(crate) fn read<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
    out: &mut BytesMut,
    pieces: &mut Vec<Bytes>,
) -> Result<(), Stop> {
    let target = handle(&mut arguments)?;
    let offset = arguments.u64()?.min(FILE_BYTES_MAX);
    let count = arguments.u32()?;
    arguments.finish()?;
    let (object, policy) = context.enter(target)?;
    let count = count.min(context.server.settings.transfer_bytes_max);
    let count = u64::from(count).min(FILE_BYTES_MAX - offset) as u32;
    let caller = context.caller(&policy);
    let data = if context.cached_only {
        let data = context.fs().read_cached(&caller, object, offset, count);
        data.ok_or(Stop::NotCached)?
    } else {
        context.fs().read(&caller, object, offset, count)
    };
    let data = data.map_err(|error| status_of(&error).of(object))?;
    let length: usize = data.pieces.iter().map(Bytes::len).sum();
    if length > count as usize {
        tracing::error!(count, length, "the file system read more than it was asked for");
        return Err(Status::ServerFault.of(object));
    }
    put_post_attributes(out, Some(&data.attributes));
    out.put_u32(length as u32);
    out.put_bool(data.end_of_file);
    out.put_u32(length as u32);
    *pieces = data.pieces;
    pieces.retain(|piece| !piece.is_empty());
    let padding = padding(length);
    if padding > 0 {
        pieces.push(Bytes::from_static(&[0; 3][..padding]));
    }
    Ok(())
}

pub(crate) fn write<F: FileSystem>(
    context: &Context<'_, F>,
    arguments: &WriteArguments,
    data: Bytes,
) -> Result<Outcome, Stop> {
    let (object, caller) = context.enter_to_change(arguments.handle())?;
    let offset = arguments.offset;
    if data.len() > context.server.settings.transfer_bytes_max as usize {
        return Err(Status::Invalid.of(object));
    }
    if offset
        .checked_add(data.len() as u64)
        .is_none_or(|end| end > FILE_BYTES_MAX)
    {
        return Err(Status::FileTooLarge.of(object));
    }
    // From before the write: if unstable data is lost while it runs, the client must find that the verifier of this
    // reply is not that of its COMMIT.
    let verifier = context.fs().write_verifier();
    let effect = Effect::new(
        context,
        Procedure::Write,
        [Some(object), None],
        move |_: &Inner<F>, written: &Written, out: &mut BytesMut| {
            put_change(out, &written.change);
            out.put_u32(written.count);
            out.put_u32(match written.stability {
                Stability::Unstable => 0,
                Stability::Data => 1,
                Stability::File => 2,
            });
            out.put_slice(&verifier);
        },
    );
    let pending = context
        .fs()
        .write(&caller, object, offset, data, arguments.stability);
    effect.settle(pending)
}

pub(crate) fn commit<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
) -> Result<Outcome, Stop> {
    let target = handle(&mut arguments)?;
    let offset = arguments.u64()?.min(FILE_BYTES_MAX);
    let count = arguments.u32()?;
    arguments.finish()?;
    let (object, policy) = context.enter(target)?;
    let caller = context.caller(&policy);
    // The body is made when the commit is durable, so the verifier is from after it: data lost meanwhile shows.
    let effect = Effect::new(
        context,
        Procedure::Commit,
        [Some(object), None],
        |server: &Inner<F>, change: &Change, out: &mut BytesMut| {
            put_change(out, change);
            out.put_slice(&server.fs.write_verifier());
        },
    );
    effect.settle(context.fs().commit(&caller, object, offset, count))
}
