//! LOOKUP and READLINK (RFC 1813 sections 3.3.3 and 3.3.5).

use bytes::BytesMut;
use cairn_types::{FileName, FileNameError};
use cairn_vfs::filesystem::FileSystem;

use super::dispatch::{Context, Stop, status_of};
use super::status::{Status, name_status};
use super::types::{directory_and_name, handle, put_post_attributes};
use crate::xdr::{Decoder, Encode};

pub(crate) fn lookup<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
    out: &mut BytesMut,
) -> Result<(), Stop> {
    let (target, name) = directory_and_name(&mut arguments)?;
    arguments.finish()?;
    let (directory, policy) = context.enter(target)?;
    check(name).map_err(|status| status.of(directory))?;
    let caller = context.caller(&policy);
    let found = match context.fs().lookup_cached(&caller, directory, name) {
        Some(found) => found,
        None if context.cached_only => return Err(Stop::NotCached),
        None => context.fs().lookup(&caller, directory, name),
    };
    let found = found.map_err(|error| status_of(&error).of(directory))?;
    out.put_opaque(&context.server.handles.encode(found.attributes.object));
    put_post_attributes(out, Some(&found.attributes));
    put_post_attributes(out, Some(&found.directory));
    Ok(())
}

/// Without making a [`FileName`], which would cost an allocation.
fn check(name: &[u8]) -> Result<(), Status> {
    let error = match name {
        [] => FileNameError::Empty,
        _ if name.len() > FileName::BYTES_MAX => FileNameError::TooLong { found: name.len() },
        _ if name.iter().any(|byte| matches!(byte, b'/' | 0)) => FileNameError::ForbiddenByte,
        _ => return Ok(()),
    };
    Err(name_status(error, Status::Ok))
}

pub(crate) fn readlink<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
    out: &mut BytesMut,
) -> Result<(), Stop> {
    let target = handle(&mut arguments)?;
    arguments.finish()?;
    let (object, policy) = context.enter(target)?;
    let caller = context.caller(&policy);
    let (path, attributes) = context
        .fs()
        .readlink(&caller, object)
        .map_err(|error| status_of(&error).of(object))?;
    put_post_attributes(out, Some(&attributes));
    out.put_opaque(&path);
    Ok(())
}
