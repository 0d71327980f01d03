//! The object store below packs: named, immutable runs of bytes in a directory, S3, Google Cloud Storage, Azure or
//! memory. This is the only place that knows the crate `object_store`.
//!
//! Invariants:
//! - A put is whole or not there: no reader sees a part of an object, and on return it is durable as far as the store
//!   promises (a `file://` store has synced the file and its directory).
//! - A read returns exactly the bytes that were asked for or an error, never fewer. Whether they are the *right* bytes
//!   is for the caller's checksums to say.
//! - Every request has a timeout, bounded attempts and a place among a bounded number of requests in flight.
//!
//! What it does not do: it knows neither packs nor archives, caches nothing and verifies no content. A list may be
//! stale, as stores may answer late or early; nothing may be concluded from a name's absence in a list.
//!
//! - [`ObjectStoreUrl`], [`ObjectOptions`]: where a store is and how it is reached.
//! - [`ObjectName`]: the rule for names.
//! - [`Fence`]: the one owner of a store.

mod backend;
mod classify;
mod credentials;
pub mod error;
pub mod fence;
mod list;
mod local;
pub mod name;
pub mod options;
mod read;
mod request;
pub mod testing;
#[cfg(test)]
mod tests;
pub mod url;
mod write;

use std::fmt;
use std::sync::Arc;

use cairn_types::Randomness;
use object_store::path::Path;
use tokio::sync::Semaphore;

pub use error::{Context, ObjectError, Operation};
pub use fence::{Fence, FenceError, Owner, OwnerId, StoreId, TakeOver};
pub use list::{ObjectInfo, ObjectStream};
pub use name::{ObjectName, ObjectNameError};
pub use options::{Credentials, ObjectOptions, ObjectOptionsError};
pub use url::{ObjectStoreUrl, ObjectStoreUrlError};
pub use write::Version;

use backend::Backend;

/// An object store. Clones are cheap and share its connections and its limit of requests in flight.
#[derive(Clone)]
pub struct Objects {
    inner: Arc<Inner>,
}

struct Inner {
    url: ObjectStoreUrl,
    options: ObjectOptions,
    backend: Backend,
    in_flight: Semaphore,
    randomness: Arc<dyn Randomness>,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The backend's own form may hold credentials.
        f.debug_struct("Objects")
            .field("url", &self.inner.url.as_str())
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

impl Objects {
    /// Opens a store. Nothing is sent to a remote store yet: [`check`](Self::check) does. `randomness` spreads the
    /// pauses between attempts.
    ///
    /// # Errors
    /// An option is out of its bounds or does not suit the store; the directory of a `file://` store does not exist
    /// ([`ObjectError::NoBucket`]); the credentials file cannot be read ([`ObjectError::Denied`]).
    pub fn open(
        url: &ObjectStoreUrl,
        options: ObjectOptions,
        randomness: Arc<dyn Randomness>,
    ) -> Result<Self, ObjectError> {
        options.validate()?;
        let backend = Backend::open(url, &options)?;
        Ok(Self::over(url.clone(), options, backend, randomness))
    }

    fn over(
        url: ObjectStoreUrl,
        options: ObjectOptions,
        backend: Backend,
        randomness: Arc<dyn Randomness>,
    ) -> Self {
        Objects {
            inner: Arc::new(Inner {
                in_flight: Semaphore::new(options.requests_in_flight_max),
                url,
                options,
                backend,
                randomness,
            }),
        }
    }

    /// Where the store is.
    pub fn url(&self) -> &ObjectStoreUrl {
        &self.inner.url
    }

    /// How the store is reached.
    pub fn options(&self) -> &ObjectOptions {
        &self.inner.options
    }

    /// The place of an object in the bucket or below the directory.
    fn path(&self, name: &ObjectName) -> Path {
        match self.inner.url.prefix.as_str() {
            "" => Path::from(name.as_str()),
            prefix => Path::from(format!("{prefix}/{name}")),
        }
    }

    /// The name of the object at `path`; nothing for what no [`Objects`] can have written.
    fn name(&self, path: &Path) -> Option<ObjectName> {
        let path = path.as_ref();
        let name = match self.inner.url.prefix.as_str() {
            "" => path,
            prefix => path.strip_prefix(prefix)?.strip_prefix('/')?,
        };
        ObjectName::new(name).ok()
    }
}
