//! NFS version 3 (RFC 1813): program 100003.
//!
//! `types` and `status` are the protocol's data; `dispatch` brings a call to its handler and the outcome into a reply; the
//! handlers stand in one file per family.

pub(crate) mod attribute_ops;
pub(crate) mod data_ops;
pub(crate) mod directory_ops;
pub(crate) mod dispatch;
pub(crate) mod lookup_ops;
pub(crate) mod name_ops;
pub(crate) mod status;
pub(crate) mod types;
