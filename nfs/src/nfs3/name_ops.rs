//! The procedures that make, remove and rename entries (RFC 1813 sections 3.3.8 to 3.3.15).
//!
//! `.` and `..` cannot be made (they exist), nor removed nor renamed; RMDIR of `..` fails as "exists", as the RFC suggests.

use bytes::BytesMut;
use cairn_types::FileName;
use cairn_vfs::filesystem::{
    CreateMode, Created, FileSystem, Linked, ObjectId, Renamed, SYMLINK_BYTES_MAX, SpecialFile,
};

use super::attribute_ops::put_changed;
use super::dispatch::{Context, Effect, Failure, Outcome, Stop};
use super::status::{Status, name_status};
use super::types::{
    Procedure, STRING_BYTES_MAX, device, directory_and_name, handle, put_change, put_post_attributes,
    put_post_handle, set_attributes,
};
use crate::server::Inner;
use crate::xdr::{Decoder, XdrError};

fn checked(directory: ObjectId, name: &[u8], dots: Status) -> Result<(), Stop> {
    FileName::new(name)
        .map(drop)
        .map_err(|error| name_status(error, dots).of(directory))
}

fn put_created<F: FileSystem>(server: &Inner<F>, created: &Created, out: &mut BytesMut) {
    put_post_handle(out, &server.handles.encode(created.attributes.object));
    put_post_attributes(out, Some(&created.attributes));
    put_change(out, &created.directory);
}

pub(crate) fn create<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
) -> Result<Outcome, Stop> {
    let (target, name) = directory_and_name(&mut arguments)?;
    let mode = match arguments.u32()? {
        0 => CreateMode::Unchecked(set_attributes(&mut arguments)?),
        1 => CreateMode::Guarded(set_attributes(&mut arguments)?),
        2 => CreateMode::Exclusive(arguments.fixed()?),
        other => return Err(XdrError::BadValue(other).into()),
    };
    arguments.finish()?;
    let (directory, caller) = context.enter_to_change(target)?;
    checked(directory, name, Status::Exists)?;
    let effect = Effect::new(context, Procedure::Create, [Some(directory), None], put_created);
    let pending = context
        .fs()
        .create(&caller, directory, name, mode, &|created| effect.record(created));
    effect.settle(pending)
}

pub(crate) fn mkdir<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
) -> Result<Outcome, Stop> {
    let (target, name) = directory_and_name(&mut arguments)?;
    let set = set_attributes(&mut arguments)?;
    arguments.finish()?;
    let (directory, caller) = context.enter_to_change(target)?;
    checked(directory, name, Status::Exists)?;
    let effect = Effect::new(context, Procedure::Mkdir, [Some(directory), None], put_created);
    let pending = context
        .fs()
        .mkdir(&caller, directory, name, set, &|created| effect.record(created));
    effect.settle(pending)
}

pub(crate) fn symlink<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
) -> Result<Outcome, Stop> {
    let (target, name) = directory_and_name(&mut arguments)?;
    let set = set_attributes(&mut arguments)?;
    let path = arguments.opaque(STRING_BYTES_MAX)?;
    arguments.finish()?;
    let (directory, caller) = context.enter_to_change(target)?;
    checked(directory, name, Status::Exists)?;
    if path.len() > SYMLINK_BYTES_MAX {
        return Err(Status::NameTooLong.of(directory));
    }
    if path.is_empty() || path.contains(&0) {
        return Err(Status::Invalid.of(directory));
    }
    let effect = Effect::new(context, Procedure::Symlink, [Some(directory), None], put_created);
    let pending = context
        .fs()
        .symlink(&caller, directory, name, path, set, &|created| {
            effect.record(created)
        });
    effect.settle(pending)
}

pub(crate) fn mknod<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
) -> Result<Outcome, Stop> {
    let (target, name) = directory_and_name(&mut arguments)?;
    let kind = arguments.u32()?;
    let special = match kind {
        3 | 4 => {
            let set = set_attributes(&mut arguments)?;
            let device = device(&mut arguments)?;
            let special = if kind == 3 {
                SpecialFile::BlockDevice(device)
            } else {
                SpecialFile::CharacterDevice(device)
            };
            Some((special, set))
        }
        6 => Some((SpecialFile::Socket, set_attributes(&mut arguments)?)),
        7 => Some((SpecialFile::Fifo, set_attributes(&mut arguments)?)),
        1 | 2 | 5 => None,
        other => return Err(XdrError::BadValue(other).into()),
    };
    arguments.finish()?;
    let (directory, caller) = context.enter_to_change(target)?;
    checked(directory, name, Status::Exists)?;
    let (special, set) = special.ok_or(Status::BadType.of(directory))?;
    let effect = Effect::new(context, Procedure::Mknod, [Some(directory), None], put_created);
    let pending = context
        .fs()
        .mknod(&caller, directory, name, special, set, &|created| {
            effect.record(created)
        });
    effect.settle(pending)
}

pub(crate) fn remove<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
) -> Result<Outcome, Stop> {
    let (target, name) = directory_and_name(&mut arguments)?;
    arguments.finish()?;
    let (directory, caller) = context.enter_to_change(target)?;
    checked(directory, name, Status::Invalid)?;
    let effect = Effect::new(context, Procedure::Remove, [Some(directory), None], put_changed);
    let pending = context
        .fs()
        .remove(&caller, directory, name, &|change| effect.record(change));
    effect.settle(pending)
}

pub(crate) fn rmdir<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
) -> Result<Outcome, Stop> {
    let (target, name) = directory_and_name(&mut arguments)?;
    arguments.finish()?;
    let (directory, caller) = context.enter_to_change(target)?;
    let dots = if name == b".." {
        Status::Exists
    } else {
        Status::Invalid
    };
    checked(directory, name, dots)?;
    let effect = Effect::new(context, Procedure::Rmdir, [Some(directory), None], put_changed);
    let pending = context
        .fs()
        .rmdir(&caller, directory, name, &|change| effect.record(change));
    effect.settle(pending)
}

/// Enters two objects that one change is about; they must be of one volume.
fn enter_both<F: FileSystem>(
    context: &Context<'_, F>,
    first: &[u8],
    second: &[u8],
) -> Result<(ObjectId, ObjectId, cairn_vfs::filesystem::Caller), Stop> {
    let (first, caller) = context.enter_to_change(first)?;
    let (second, _) = context.enter_to_change(second)?;
    if first.volume != second.volume {
        return Err(both(first, second, Status::CrossVolume));
    }
    Ok((first, second, caller))
}

fn both(first: ObjectId, second: ObjectId, status: Status) -> Stop {
    Stop::Failed(Failure {
        status,
        objects: [Some(first), Some(second)],
    })
}

pub(crate) fn rename<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
) -> Result<Outcome, Stop> {
    let (from, from_name) = directory_and_name(&mut arguments)?;
    let (to, to_name) = directory_and_name(&mut arguments)?;
    arguments.finish()?;
    let (from, to, caller) = enter_both(context, from, to)?;
    for name in [from_name, to_name] {
        FileName::new(name).map_err(|error| both(from, to, name_status(error, Status::Invalid)))?;
    }
    let effect = Effect::new(
        context,
        Procedure::Rename,
        [Some(from), Some(to)],
        |_: &Inner<F>, renamed: &Renamed, out: &mut BytesMut| {
            put_change(out, &renamed.from);
            put_change(out, &renamed.to);
        },
    );
    let pending = context
        .fs()
        .rename(&caller, (from, from_name), (to, to_name), &|renamed| {
            effect.record(renamed)
        });
    effect.settle(pending)
}

pub(crate) fn link<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
) -> Result<Outcome, Stop> {
    let target = handle(&mut arguments)?;
    let (directory, name) = directory_and_name(&mut arguments)?;
    arguments.finish()?;
    let (object, directory, caller) = enter_both(context, target, directory)?;
    FileName::new(name).map_err(|error| both(object, directory, name_status(error, Status::Exists)))?;
    let effect = Effect::new(
        context,
        Procedure::Link,
        [Some(object), Some(directory)],
        |_: &Inner<F>, linked: &Linked, out: &mut BytesMut| {
            put_post_attributes(out, Some(&linked.attributes));
            put_change(out, &linked.directory);
        },
    );
    let pending = context
        .fs()
        .link(&caller, object, directory, name, &|linked| effect.record(linked));
    effect.settle(pending)
}
