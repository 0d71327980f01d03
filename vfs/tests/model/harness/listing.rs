//! A listing in pieces, with changes in between: an entry that is there all the time is listed exactly once, and nothing
//! that is not there.

use std::collections::BTreeSet;

use cairn_types::InodeId;
use cairn_vfs::FileSystem;
use cairn_vfs::filesystem::ObjectId;

use super::{Harness, Pair};
use crate::compare::list;
use crate::execute::caller;
use crate::operations::{CallerIndex, Target};

/// An entry of the model: its name, its cookie, its inode. An entry that is removed and made again is another one.
type Known = (Vec<u8>, u64, InodeId);

/// A listing that has stopped somewhere.
pub struct Listing {
    directory: Pair,
    /// The subject's cookie of the last entry.
    cookie: u64,
    /// Entries that have been there since the start.
    remained: BTreeSet<Known>,
    listed: BTreeSet<Known>,
}

impl Harness<'_> {
    /// Lists the first entries of a directory.
    pub(super) fn start_listing(&mut self, by: CallerIndex, target: Target, count: u8) -> Result<(), String> {
        self.listing = None;
        let directory = self.find(target);
        let allowed = {
            let visit = |files: &dyn FileSystem, object: ObjectId| {
                files.readdir(&caller(by), object, 0, false, &mut |_| {
                    std::ops::ControlFlow::Break(())
                })
            };
            match (
                visit(&self.model, directory.model),
                visit(self.subject.files(), directory.subject),
            ) {
                (Ok(_), Ok(_)) => true,
                (Err(expected), Err(found)) => {
                    self.same_reason(&expected, &found)?;
                    false
                }
                (expected, found) => {
                    return Err(format!("the model says {expected:?}, the subject {found:?}"));
                }
            }
        };
        if !allowed {
            return Ok(());
        }
        let remained = self.entries(directory).unwrap_or_default();
        self.listing = Some(Listing {
            directory,
            cookie: 0,
            remained,
            listed: BTreeSet::new(),
        });
        self.continue_listing(count)
    }

    /// Lists on; forgets the listing at its end.
    pub(super) fn continue_listing(&mut self, count: u8) -> Result<(), String> {
        let Some(mut listing) = self.listing.take() else {
            return Ok(());
        };
        let Some(present) = self.entries(listing.directory) else {
            return Ok(());
        };
        listing.remained.retain(|entry| present.contains(entry));
        let directory = listing.directory;
        let (rows, end) = list(
            self.subject.files(),
            directory.subject,
            listing.cookie,
            false,
            usize::from(count),
        )?;
        for row in rows {
            listing.cookie = row.cookie;
            if matches!(&row.name[..], b"." | b"..") {
                continue;
            }
            let inode = self.volumes[&directory.model.volume].model_of(row.inode);
            let entry = present
                .iter()
                .find(|(name, _, id)| *name == row.name && Some(*id) == inode);
            let name = row.name.escape_ascii();
            let entry =
                entry.ok_or_else(|| format!("\"{name}\" (inode {}) is listed and not there", row.inode))?;
            if !listing.listed.insert(entry.clone()) {
                return Err(format!(
                    "\"{name}\" is listed a second time, with cookie {}",
                    row.cookie
                ));
            }
        }
        if !end {
            self.listing = Some(listing);
            return Ok(());
        }
        match listing.remained.difference(&listing.listed).next() {
            None => Ok(()),
            Some(missed) => Err(format!(
                "\"{}\" was there all the time and not listed",
                missed.0.escape_ascii()
            )),
        }
    }

    /// The entries of a directory that exists.
    fn entries(&self, directory: Pair) -> Option<BTreeSet<Known>> {
        self.model.view(|state| {
            let tree = &state.space(directory.model.volume)?.tree;
            tree.inodes.get(&directory.model.inode)?;
            let entries = &tree.directory(directory.model.inode).ok()?.entries;
            Some(
                entries
                    .iter()
                    .map(|(name, entry)| (name.clone(), entry.cookie, entry.inode))
                    .collect(),
            )
        })
    }
}
