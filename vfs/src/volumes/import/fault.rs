//! The ways in which an import can fail.

use cairn_types::{ErrorKind, FileNameError, InodeId, WorkspaceName};

use crate::control::ControlError;

/// Why an import failed. Nothing of it can be seen.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// As an operation on workspaces.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Somebody is importing for the same workspace.
    #[error("an import for workspace {name} is running")]
    Running {
        /// The workspace.
        name: WorkspaceName,
    },
    /// There is no import for that workspace.
    #[error("there is no unfinished import for workspace {name}")]
    None {
        /// The workspace.
        name: WorkspaceName,
    },
    /// The tree is none, or not whole. The import is forgotten.
    #[error("the imported tree is damaged at inode {inode}")]
    Invalid {
        /// The inode at which it shows.
        inode: InodeId,
        /// What is wrong with it.
        #[source]
        fault: ImportFault,
    },
    /// An earlier call has failed.
    #[error("the import has failed before")]
    Broken,
}

impl ImportError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ImportError::Control(error) => error.kind(),
            ImportError::Running { .. } => ErrorKind::Conflict,
            ImportError::None { .. } => ErrorKind::NotFound,
            ImportError::Invalid { .. } => ErrorKind::Corrupt,
            ImportError::Broken => ErrorKind::Internal,
        }
    }
}

/// What is wrong with a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImportFault {
    /// Inodes must ascend.
    #[error("it comes after inode {last}")]
    InodeOrder {
        /// The inode before it.
        last: InodeId,
    },
    /// 0, or beyond 2^62.
    #[error("no inode has that number")]
    InodeNumber,
    /// The first inode must be the root, a directory.
    #[error("the tree has no root directory")]
    Root,
    /// A directory that is its own parent, or a root that is not.
    #[error("its parent cannot be its parent")]
    Parent,
    /// Permission bits beyond 0o7777.
    #[error("its mode is none")]
    Mode,
    /// A size that such an object cannot have, or too many bytes in all.
    #[error("its size is out of bounds")]
    Size,
    /// More links than there can be, none, or of a directory not as many as its subdirectories say.
    #[error("its number of links is wrong")]
    Links,
    /// A name that no entry can have.
    #[error("it has an entry with a name that is none")]
    Name {
        /// Why.
        #[source]
        source: FileNameError,
    },
    /// Names must ascend.
    #[error("its entries are not in order")]
    EntryOrder,
    /// A link without a target, with two, or with one that is none or not of the size that was announced.
    #[error("its target is missing or none")]
    Target,
    /// Data beyond the size, or not in order.
    #[error("its data does not fit it")]
    DataRange,
    /// An entry of what is no directory, data of what is no file, or the like.
    #[error("it has parts of another kind of object")]
    WrongKind,
    /// Names and inodes do not fit each other: an entry leads nowhere or to another kind of object, a number of links is not that
    /// of the names, or a directory has a name outside its parent.
    #[error("names and inodes do not fit each other")]
    Names,
    /// Directories that hold each other.
    #[error("it has directories that the root does not lead to")]
    Circle,
}
