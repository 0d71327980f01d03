//! RENAME (rename(2), RFC 1813 section 3.3.14).

use cairn_metadata::{DirentRecord, InodeRecord};
use cairn_types::{FileKind, InodeId};

use super::names::{dangling, drop_link, entry_added, entry_removed};
use super::{State, Volume, Work, check_name, metadata_failed};
use crate::dirty::next_change;
use crate::filesystem::{Caller, LINKS_MAX, ObjectId, Record, Renamed};
use crate::permission::{self, EXECUTE, WRITE};
use crate::{Error, Pending};

impl Volume {
    pub(crate) fn rename(
        &self,
        caller: &Caller,
        from: (ObjectId, &[u8]),
        to: (ObjectId, &[u8]),
        reply: Record<'_, Renamed>,
    ) -> Result<Pending<Renamed>, Error> {
        self.require_healthy()?;
        self.require_space()?;
        let mut state = self.state.write();
        let (source, target) = (from.0.inode, to.0.inode);
        let source_before = self.load_directory(&state, from.0)?;
        let target_before = self.load_directory(&state, to.0)?;
        permission::require(caller, &source_before, EXECUTE)?;
        permission::require(caller, &target_before, EXECUTE)?;
        check_name(from.1)?;
        check_name(to.1)?;
        let entry = self.entry(&state, source, from.1)?.ok_or(Error::NotFound)?;
        let replaced = self.entry(&state, target, to.1)?;
        let moved = self
            .load_inode(&state, entry.inode)?
            .ok_or_else(|| dangling(entry.inode))?;
        let is_directory = moved.kind == FileKind::Directory;
        if let Some(replaced) = &replaced
            && replaced.inode == entry.inode
        {
            // Two names of one object, or one name twice: nothing happens.
            let renamed = Renamed {
                from: self.change(source, &source_before, &source_before),
                to: self.change(target, &target_before, &target_before),
            };
            return Ok(Pending::ready(renamed));
        }
        permission::require(caller, &source_before, WRITE)?;
        permission::require(caller, &target_before, WRITE)?;
        permission::require_sticky(caller, &source_before, &moved)?;
        if is_directory && source != target {
            self.require_not_below(&state, entry.inode, target)?;
            // The directory's own entry `..` changes.
            permission::require_or_owner(caller, &moved, WRITE)?;
        }
        let victim = match &replaced {
            None => None,
            Some(replaced) => {
                let victim = self
                    .load_inode(&state, replaced.inode)?
                    .ok_or_else(|| dangling(replaced.inode))?;
                permission::require_sticky(caller, &target_before, &victim)?;
                require_replaceable(is_directory, &victim)?;
                Some(victim)
            }
        };
        let crosses = is_directory && source != target;
        let victim_is_directory = victim.is_some_and(|victim| victim.kind == FileKind::Directory);
        if crosses && !victim_is_directory && target_before.links >= LINKS_MAX {
            return Err(Error::TooManyLinks);
        }

        let now = self.shared.now();
        let mut source_after = entry_removed(&source_before, crosses, now);
        let mut target_after = if source == target {
            source_after
        } else {
            target_before
        };
        if replaced.is_some() {
            target_after = entry_removed(&target_after, victim_is_directory, now);
        }
        let cookie = target_after.next_cookie;
        target_after = entry_added(&target_after, crosses, now);
        if source == target {
            target_after.changed = next_change(source_before.changed, now);
            target_after.modified = target_after.changed;
            source_after = target_after;
        } else {
            target_after.changed = next_change(target_before.changed, now);
            target_after.modified = target_after.changed;
        }
        let mut moved_after = moved;
        moved_after.changed = next_change(moved.changed, now);
        if is_directory {
            moved_after.parent = target;
        }

        let State {
            open, lineage, dirty, ..
        } = &mut *state;
        let mut work = Work::new(self, lineage, open.branch.epoch);
        work.transaction.remove_entry(source, &entry);
        if let (Some(replaced), Some(victim)) = (&replaced, &victim) {
            work.transaction.remove_entry(target, replaced);
            drop_link(&mut work, dirty, replaced.inode, victim, now);
        }
        let name = to.1.to_vec();
        let moved_entry = DirentRecord {
            name,
            inode: entry.inode,
            kind: moved.kind,
            cookie,
        };
        work.transaction.put_entry(target, &moved_entry);
        work.put(dirty, source, &source_after);
        if source != target {
            work.put(dirty, target, &target_after);
        }
        work.put(dirty, entry.inode, &moved_after);
        let renamed = Renamed {
            from: self.change(source, &source_before, &source_after),
            to: self.change(target, &target_before, &target_after),
        };
        work.record_reply(reply(&renamed));
        let commit = work.commit(open, dirty)?;
        drop(state);
        Ok(self.after_commit(renamed, commit))
    }

    fn entry(&self, state: &State, directory: InodeId, name: &[u8]) -> Result<Option<DirentRecord>, Error> {
        self.view(state).entry(directory, name).map_err(metadata_failed)
    }

    /// Fails if `directory` is `ancestor` or lies below it.
    fn require_not_below(&self, state: &State, ancestor: InodeId, directory: InodeId) -> Result<(), Error> {
        let mut at = directory;
        while at != InodeId::ROOT {
            if at == ancestor {
                return Err(Error::Invalid("a directory cannot move below itself"));
            }
            at = self.load_inode(state, at)?.ok_or_else(|| dangling(at))?.parent;
        }
        Ok(())
    }
}

fn require_replaceable(is_directory: bool, victim: &InodeRecord) -> Result<(), Error> {
    match (is_directory, victim.kind == FileKind::Directory) {
        (true, false) => Err(Error::NotDirectory),
        (false, true) => Err(Error::IsDirectory),
        (true, true) if victim.entries > 0 => Err(Error::NotEmpty),
        _ => Ok(()),
    }
}
