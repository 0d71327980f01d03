//! READDIR and READDIRPLUS: listing a directory.

use std::ops::ControlFlow;

use super::{Volume, metadata_failed};
use crate::Error;
use crate::filesystem::{Caller, Entry, Listed, ObjectId};
use crate::permission::{self, READ};

/// Entries read at once.
const BATCH: usize = 256;
/// Cookies of `.` and `..`.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

impl Volume {
    pub(crate) fn readdir(
        &self,
        caller: &Caller,
        directory: ObjectId,
        cookie: u64,
        with_attributes: bool,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<Listed, Error> {
        let state = self.state.read();
        let record = self.load_directory(&state, directory)?;
        permission::require(caller, &record, READ)?;
        let listed = |end| Listed {
            directory: self.attributes(directory.inode, &record),
            end,
        };
        for (own, name, inode) in [
            (DOT, b".".as_slice(), directory.inode),
            (DOT_DOT, b"..".as_slice(), record.parent),
        ] {
            if cookie < own {
                let attributes = if with_attributes {
                    self.load_inode(&state, inode)?
                } else {
                    None
                };
                let attributes = attributes.map(|record| self.attributes(inode, &record));
                let entry = Entry {
                    name,
                    inode,
                    cookie: own,
                    attributes: attributes.as_ref(),
                };
                if visit(entry).is_break() {
                    return Ok(listed(false));
                }
            }
        }
        let view = self.view(&state);
        let mut after = cookie.max(DOT_DOT);
        loop {
            let entries = view
                .entries_after(directory.inode, after, BATCH)
                .map_err(metadata_failed)?;
            for entry in &entries {
                let attributes = if with_attributes {
                    self.load_inode(&state, entry.inode)?
                } else {
                    None
                };
                let attributes = attributes.map(|record| self.attributes(entry.inode, &record));
                let visited = visit(Entry {
                    name: &entry.name,
                    inode: entry.inode,
                    cookie: entry.cookie,
                    attributes: attributes.as_ref(),
                });
                if visited.is_break() {
                    return Ok(listed(false));
                }
                after = entry.cookie;
            }
            if entries.len() < BATCH {
                return Ok(listed(true));
            }
        }
    }
}
