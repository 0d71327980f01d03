//! Open Network Computing RPC version 2 (RFC 5531): records on a byte stream, call and reply messages, credentials, and
//! the cache of replies to calls that must not be executed twice. What the programs do is none of its business.

pub(crate) mod auth;
pub(crate) mod message;
pub(crate) mod record;
pub(crate) mod reply_cache;
