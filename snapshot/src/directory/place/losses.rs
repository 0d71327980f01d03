//! What could not be kept when entries were written.

use crate::directory::path::RelativePath;

/// Most paths that are told of one kind of loss.
pub const LOSS_PATHS_MAX: usize = 10;

/// What was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The owner or the group.
    Owner,
    /// Bits of the mode.
    Mode,
    /// An extended attribute, access control lists among them.
    Xattrs,
    /// A special file, which was not made.
    Special,
    /// The time of modification, which the file system keeps less exactly, or not that far from now.
    Times,
}

/// Entries that one kind of loss happened to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LossCount {
    /// How many.
    pub entries: u64,
    /// The first of them, at most [`LOSS_PATHS_MAX`].
    pub paths: Vec<RelativePath>,
}

/// What could not be kept. No error: the data is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Losses {
    /// Owners and groups.
    pub owner: LossCount,
    /// Bits of modes.
    pub mode: LossCount,
    /// Extended attributes.
    pub xattrs: LossCount,
    /// Special files.
    pub special: LossCount,
    /// Times.
    pub times: LossCount,
}

impl Losses {
    /// Whether everything was kept.
    pub fn is_empty(&self) -> bool {
        self == &Losses::default()
    }

    /// Counts one.
    pub fn add(&mut self, loss: Loss, path: &RelativePath) {
        let count = self.count(loss);
        count.entries += 1;
        if count.paths.len() < LOSS_PATHS_MAX {
            count.paths.push(path.clone());
        }
    }

    /// Counts what others counted.
    pub fn merge(&mut self, other: &Losses) {
        for loss in [Loss::Owner, Loss::Mode, Loss::Xattrs, Loss::Special, Loss::Times] {
            let more = other.clone().count(loss).clone();
            let count = self.count(loss);
            count.entries += more.entries;
            let room = LOSS_PATHS_MAX.saturating_sub(count.paths.len());
            count.paths.extend(more.paths.into_iter().take(room));
        }
    }

    fn count(&mut self, loss: Loss) -> &mut LossCount {
        match loss {
            Loss::Owner => &mut self.owner,
            Loss::Mode => &mut self.mode,
            Loss::Xattrs => &mut self.xattrs,
            Loss::Special => &mut self.special,
            Loss::Times => &mut self.times,
        }
    }
}
