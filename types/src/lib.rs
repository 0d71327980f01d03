//! The nouns of Cairn as validated values. No I/O, no async, no clock: a value of these types has been checked
//! once, where it entered, and is trusted from there on.

pub mod byte_range;
pub mod causes;
pub mod clock;
pub mod cron;
pub mod error_kind;
pub mod export;
pub mod extent;
pub mod file_name;
pub mod hexadecimal;
pub mod id;
pub mod inode;
pub mod retention;
pub mod snapshot;
pub mod tag;
pub mod timestamp;
pub mod tree;
pub mod workspace_name;

pub use byte_range::ByteRange;
pub use causes::with_causes;
pub use clock::{Clock, Randomness};
pub use cron::Cron;
pub use error_kind::ErrorKind;
pub use export::{ExportPolicy, Squash};
pub use extent::{CHECKSUM_BLOCK, ChunkId, ChunkSlice, Extent, LogPosition, LogSlice, SegmentId};
pub use file_name::{FileName, FileNameError};
pub use id::{BranchId, Epoch, InodeId, VolumeId};
pub use inode::{DeviceNumber, FileKind};
pub use snapshot::{SnapshotId, SnapshotReference};
pub use tag::{Tag, TagError};
pub use timestamp::Timestamp;
pub use tree::{Node, TreeCursor, TreeItem, TreeObject};
pub use workspace_name::{WorkspaceName, WorkspaceNameError};
