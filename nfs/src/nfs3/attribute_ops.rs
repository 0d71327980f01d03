//! GETATTR, SETATTR, ACCESS, FSSTAT, FSINFO and PATHCONF (RFC 1813 sections 3.3.1, 3.3.2, 3.3.4, 3.3.18 to 3.3.20).

use bytes::{BufMut, BytesMut};
use cairn_types::{FileKind, FileName};
use cairn_vfs::filesystem::{Attributes, Caller, Change, FILE_BYTES_MAX, FileSystem, LINKS_MAX};

use super::dispatch::{Context, Effect, Outcome, Stop, status_of};
use super::types::{
    Procedure, guard, handle, put_attributes, put_change, put_post_attributes, set_attributes,
};
use crate::server::Inner;
use crate::xdr::{Decoder, Encode};

const ACCESS_READ: u32 = 0x01;
const ACCESS_LOOKUP: u32 = 0x02;
const ACCESS_MODIFY: u32 = 0x04;
const ACCESS_EXTEND: u32 = 0x08;
const ACCESS_DELETE: u32 = 0x10;
const ACCESS_EXECUTE: u32 = 0x20;

const FSF_LINK: u32 = 0x01;
const FSF_SYMLINK: u32 = 0x02;
const FSF_HOMOGENEOUS: u32 = 0x08;
const FSF_CANSETTIME: u32 = 0x10;

/// Suggested multiple of READ, WRITE sizes in bytes.
const TRANSFER_MULTIPLE: u32 = 4096;

pub(crate) fn getattr<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
    out: &mut BytesMut,
) -> Result<(), Stop> {
    let target = handle(&mut arguments)?;
    arguments.finish()?;
    let object = context.object(target)?;
    // The most frequent call by far: no detour of the attributes through a result.
    match context.fs().getattr_cached(object) {
        Some(attributes) => put_attributes(out, &attributes),
        None => put_attributes(out, &context.attributes(object)?),
    }
    Ok(())
}

pub(crate) fn setattr<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
) -> Result<Outcome, Stop> {
    let target = handle(&mut arguments)?;
    let set = set_attributes(&mut arguments)?;
    let guard = guard(&mut arguments)?;
    arguments.finish()?;
    let (object, caller) = context.enter_to_change(target)?;
    let effect = Effect::new(context, Procedure::Setattr, [Some(object), None], put_changed);
    let pending = context
        .fs()
        .setattr(&caller, object, set, guard, &|change| effect.record(change));
    effect.settle(pending)
}

/// Writes the `wcc_data` of one object, which is all that several procedures answer.
pub(crate) fn put_changed<F>(_: &Inner<F>, change: &Change, out: &mut BytesMut) {
    put_change(out, change);
}

pub(crate) fn access<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
    out: &mut BytesMut,
) -> Result<(), Stop> {
    let target = handle(&mut arguments)?;
    let asked = arguments.u32()?;
    arguments.finish()?;
    let (object, policy) = context.enter(target)?;
    let attributes = context.attributes(object)?;
    let mut granted = asked & granted(&attributes, &context.caller(&policy));
    if policy.read_only {
        granted &= !(ACCESS_MODIFY | ACCESS_EXTEND | ACCESS_DELETE);
    }
    put_post_attributes(out, Some(&attributes));
    out.put_u32(granted);
    Ok(())
}

/// What the mode bits let a caller do. Root may read and write everything, search every directory, and execute what
/// anybody may execute. DELETE is about entries of a directory; for other objects it is never granted.
fn granted(attributes: &Attributes, caller: &Caller) -> u32 {
    let directory = attributes.kind == FileKind::Directory;
    let mode = attributes.mode;
    let (read, write, execute) = if caller.uid == 0 {
        (true, true, directory || mode & 0o111 != 0)
    } else {
        let member = || caller.gid == attributes.gid || caller.groups.contains(&attributes.gid);
        let shift = match () {
            () if caller.uid == attributes.uid => 6,
            () if member() => 3,
            () => 0,
        };
        let bits = mode >> shift;
        (bits & 4 != 0, bits & 2 != 0, bits & 1 != 0)
    };
    let granted = [
        (ACCESS_READ, read),
        (ACCESS_LOOKUP, directory && execute),
        (ACCESS_MODIFY, write && (!directory || execute)),
        (ACCESS_EXTEND, write && (!directory || execute)),
        (ACCESS_DELETE, directory && write && execute),
        (ACCESS_EXECUTE, !directory && execute),
    ];
    granted.iter().filter(|(_, yes)| *yes).map(|(bit, _)| bit).sum()
}

pub(crate) fn fsstat<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
    out: &mut BytesMut,
) -> Result<(), Stop> {
    let target = handle(&mut arguments)?;
    arguments.finish()?;
    let object = context.object(target)?;
    let attributes = context.attributes(object)?;
    let capacity = context
        .fs()
        .capacity(object)
        .map_err(|error| status_of(&error).of(object))?;
    put_post_attributes(out, Some(&attributes));
    for value in [
        capacity.bytes_total,
        capacity.bytes_free,
        capacity.bytes_available,
        capacity.inodes_total,
        capacity.inodes_free,
        capacity.inodes_free,
    ] {
        out.put_u64(value);
    }
    out.put_u32(0);
    Ok(())
}

pub(crate) fn fsinfo<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
    out: &mut BytesMut,
) -> Result<(), Stop> {
    let target = handle(&mut arguments)?;
    arguments.finish()?;
    let object = context.object(target)?;
    let attributes = context.attributes(object)?;
    let transfer = context.server.settings.transfer_bytes_max;
    put_post_attributes(out, Some(&attributes));
    // rtmax, rtpref, rtmult, wtmax, wtpref, wtmult, dtpref.
    for value in [
        transfer,
        transfer,
        TRANSFER_MULTIPLE,
        transfer,
        transfer,
        TRANSFER_MULTIPLE,
        transfer,
    ] {
        out.put_u32(value);
    }
    out.put_u64(FILE_BYTES_MAX);
    // time_delta: one nanosecond.
    out.put_u32(0);
    out.put_u32(1);
    out.put_u32(FSF_LINK | FSF_SYMLINK | FSF_HOMOGENEOUS | FSF_CANSETTIME);
    Ok(())
}

pub(crate) fn pathconf<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
    out: &mut BytesMut,
) -> Result<(), Stop> {
    let target = handle(&mut arguments)?;
    arguments.finish()?;
    let object = context.object(target)?;
    let attributes = context.attributes(object)?;
    put_post_attributes(out, Some(&attributes));
    out.put_u32(LINKS_MAX);
    out.put_u32(FileName::BYTES_MAX as u32);
    // no_trunc, chown_restricted, case_insensitive, case_preserving.
    for value in [true, true, false, true] {
        out.put_bool(value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cairn_types::{DeviceNumber, FileKind, InodeId, Timestamp, VolumeId};
    use cairn_vfs::filesystem::{Attributes, Caller, ObjectId};

    use super::granted;

    fn attributes(kind: FileKind, mode: u32) -> Attributes {
        Attributes {
            object: ObjectId {
                volume: VolumeId(1),
                inode: InodeId(2),
                generation: 3,
            },
            kind,
            mode,
            links: 1,
            uid: 10,
            gid: 20,
            size: 0,
            used: 0,
            device: DeviceNumber::default(),
            accessed: Timestamp::default(),
            modified: Timestamp::default(),
            changed: Timestamp::default(),
        }
    }

    fn caller(uid: u32, gid: u32, groups: &[u32]) -> Caller {
        Caller {
            uid,
            gid,
            groups: groups.into(),
        }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let file = attributes(FileKind::Regular, 0o471);
        assert_eq!(granted(&file, &caller(10, 20, &[])), 0x01, "owner: read");
        assert_eq!(
            granted(&file, &caller(11, 20, &[])),
            0x01 | 0x0c | 0x20,
            "group: all"
        );
        assert_eq!(
            granted(&file, &caller(11, 1, &[5, 20])),
            0x01 | 0x0c | 0x20,
            "supplementary group: all"
        );
        assert_eq!(granted(&file, &caller(11, 1, &[])), 0x20, "others: execute");
    }

    #[test]
    fn directories_have_lookup_and_delete_instead_of_execute() {
        let directory = attributes(FileKind::Directory, 0o750);
        assert_eq!(
            granted(&directory, &caller(10, 20, &[])),
            0x01 | 0x02 | 0x0c | 0x10
        );
        assert_eq!(granted(&directory, &caller(11, 20, &[])), 0x01 | 0x02);
        assert_eq!(granted(&directory, &caller(11, 21, &[])), 0);
        let write_only = attributes(FileKind::Directory, 0o200);
        assert_eq!(
            granted(&write_only, &caller(10, 20, &[])),
            0,
            "entries need search permission too"
        );
    }

    #[test]
    fn root_executes_only_what_somebody_may_execute() {
        let root = caller(0, 0, &[]);
        assert_eq!(granted(&attributes(FileKind::Regular, 0), &root), 0x01 | 0x0c);
        assert_eq!(
            granted(&attributes(FileKind::Regular, 0o100), &root),
            0x01 | 0x0c | 0x20
        );
        assert_eq!(
            granted(&attributes(FileKind::Directory, 0), &root),
            0x01 | 0x02 | 0x0c | 0x10
        );
    }
}
