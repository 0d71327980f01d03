//! READDIR and READDIRPLUS (RFC 1813 sections 3.3.16 and 3.3.17).
//!
//! The sizes that a client gives are kept to the byte: the results after the status are at most `count` (`maxcount`) bytes
//! long, and the names, file ids and cookies among them at most `dircount`, though never fewer than one entry. If not even
//! one entry fits, the answer is "too small". The cookie verifier is constant and not looked at: a cookie names its
//! entry whatever happens to the directory.

use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};
use cairn_vfs::filesystem::{Entry, FileSystem};

use super::dispatch::{Context, Stop, status_of};
use super::status::Status;
use super::types::{POST_ATTRIBUTES_BYTES, handle, put_post_attributes, put_post_handle};
use crate::file_handle::HANDLE_BYTES;
use crate::xdr::{Decoder, Encode, opaque_bytes};

const COOKIE_VERIFIER: u64 = 0;

/// Results without any entry: attributes, verifier, the end of the list, the end-of-file flag.
const FIXED_BYTES: usize = POST_ATTRIBUTES_BYTES + 8 + 4 + 4;

/// First allocation for the entries; they grow to what the client asked for.
const ENTRIES_BYTES_FIRST: usize = 4096;

/// What a listing may hold.
struct Limits {
    /// Bytes of all entries.
    entries: usize,
    /// Bytes of file ids, names and cookies.
    names: usize,
    plus: bool,
}

pub(crate) fn readdir<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
    out: &mut BytesMut,
    pieces: &mut Vec<Bytes>,
) -> Result<(), Stop> {
    let target = handle(&mut arguments)?;
    let cookie = arguments.u64()?;
    arguments.u64()?;
    let count = arguments.u32()?;
    arguments.finish()?;
    list(context, target, cookie, (u32::MAX, count), false, out, pieces)
}

pub(crate) fn readdirplus<F: FileSystem>(
    context: &Context<'_, F>,
    mut arguments: Decoder<'_>,
    out: &mut BytesMut,
    pieces: &mut Vec<Bytes>,
) -> Result<(), Stop> {
    let target = handle(&mut arguments)?;
    let cookie = arguments.u64()?;
    arguments.u64()?;
    let counts = (arguments.u32()?, arguments.u32()?);
    arguments.finish()?;
    list(context, target, cookie, counts, true, out, pieces)
}

fn list<F: FileSystem>(
    context: &Context<'_, F>,
    target: &[u8],
    cookie: u64,
    (directory_count, count): (u32, u32),
    plus: bool,
    out: &mut BytesMut,
    pieces: &mut Vec<Bytes>,
) -> Result<(), Stop> {
    let (directory, policy) = context.enter(target)?;
    let count = count.min(context.server.settings.transfer_bytes_max) as usize;
    let entries = count
        .checked_sub(FIXED_BYTES)
        .ok_or(Status::TooSmall.of(directory))?;
    let limits = Limits {
        entries,
        names: directory_count as usize,
        plus,
    };
    let mut names = 0;
    let mut listing = BytesMut::with_capacity(entries.min(ENTRIES_BYTES_FIRST));
    let listed = context
        .fs()
        .readdir(&context.caller(&policy), directory, cookie, plus, &mut |entry| {
            if limits.admit(listing.len(), &mut names, &entry) {
                put_entry(context, &mut listing, &entry, plus);
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
    let listed = listed.map_err(|error| status_of(&error).of(directory))?;
    if listing.is_empty() && !listed.end {
        return Err(Status::TooSmall.of(directory));
    }
    listing.put_bool(false);
    listing.put_bool(listed.end);
    put_post_attributes(out, Some(&listed.directory));
    out.put_u64(COOKIE_VERIFIER);
    pieces.push(listing.freeze());
    Ok(())
}

impl Limits {
    /// Whether the entry fits behind `used` bytes of entries.
    fn admit(&self, used: usize, names: &mut usize, entry: &Entry<'_>) -> bool {
        let name = 4 + 8 + opaque_bytes(entry.name.len()) + 8;
        let more = match (self.plus, entry.attributes) {
            (false, _) => 0,
            (true, None) => 4 + 4,
            (true, Some(_)) => POST_ATTRIBUTES_BYTES + 4 + opaque_bytes(HANDLE_BYTES),
        };
        *names += name;
        used + name + more <= self.entries && (used == 0 || *names <= self.names)
    }
}

fn put_entry<F: FileSystem>(context: &Context<'_, F>, out: &mut BytesMut, entry: &Entry<'_>, plus: bool) {
    out.put_bool(true);
    out.put_u64(entry.inode.0);
    out.put_opaque(entry.name);
    out.put_u64(entry.cookie);
    if plus {
        put_post_attributes(out, entry.attributes);
        match entry.attributes {
            Some(attributes) => put_post_handle(out, &context.server.handles.encode(attributes.object)),
            None => out.put_bool(false),
        }
    }
}
