//! Reading: whole objects, exact ranges, many ranges in flight. A body of another length than it must have is tried
//! again, as its connection may have broken, and is an error in the end; it is never returned.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload};

use super::classify::Fault;
use super::error::{ObjectError, Operation};
use super::list::ObjectInfo;
use super::request::{AttemptError, Failure};
use super::write::Version;
use super::{ObjectName, Objects};
use crate::write_behind;

/// What is read of a `file://` store by so many bytes at once, in passing, is not kept in the page cache.
const LEAVING_BYTES_MIN: u64 = 4 << 20;

/// A body that is what was asked for, or the size that makes that impossible.
enum Fetched {
    Bytes {
        bytes: Bytes,
        etag: Option<String>,
        version: Version,
    },
    Size(u64),
}

impl Objects {
    /// The whole object.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if it is larger than `whole_get_bytes_max`; `Short` if its body is not as long as the
    /// store says it is; and what any request can fail with.
    pub async fn get(&self, name: &ObjectName) -> Result<Bytes, ObjectError> {
        Ok(self.get_versioned(name).await?.0)
    }

    /// The whole object, and what [`replace`](Self::replace) needs to know that it is still the same.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_versioned(&self, name: &ObjectName) -> Result<(Bytes, Version), ObjectError> {
        let most = self.inner.options.whole_get_bytes_max;
        let path = self.path(name);
        let fetched = self.request(async |_| {
            let result = self
                .inner
                .backend
                .store
                .get_opts(&path, GetOptions::default())
                .await?;
            match result.meta.size {
                size if size > most => Ok(Fetched::Size(size)),
                size => body(result, 0..size).await,
            }
        });
        match fetched
            .await
            .map_err(|failure| self.error(Operation::Get, name, failure))?
        {
            Fetched::Bytes { bytes, version, .. } => {
                let version = self.version_of(version, &bytes);
                Ok((bytes, version))
            }
            Fetched::Size(size) => Err(ObjectError::Invalid {
                at: self.context(Operation::Get, name),
                reason: format!(
                    "the object has {size} bytes where at most {most} are read at once (whole_get_bytes_max)"
                ),
                source: None,
            }),
        }
    }

    /// The bytes `range` of an object, all of them. An empty range is answered without asking the store.
    ///
    /// # Errors
    /// `NotFound`; `Short` if the object ends before the range does; `Invalid` if the range ends before it starts; and
    /// what any request can fail with.
    pub async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let (bytes, _) = self.range(name, range, None).await?;
        Ok(bytes)
    }

    /// An object of `size` bytes, fetched by ranges of `part_bytes` in flight together. Needs `size` bytes of memory,
    /// and up to as many again for parts that wait for their turn.
    ///
    /// # Errors
    /// `NotFound`; `Short` if the object does not have `size` bytes; `Corrupt` if it was replaced meanwhile; and what
    /// any request can fail with.
    pub async fn get_parallel(&self, name: &ObjectName, size: u64) -> Result<Bytes, ObjectError> {
        let wrong_size = |found| ObjectError::Short {
            at: self.context(Operation::Get, name),
            expected: size,
            found,
        };
        if size == 0 {
            return match self.head(name).await?.bytes {
                0 => Ok(Bytes::new()),
                found => Err(wrong_size(found)),
            };
        }
        let step = self.inner.options.part_bytes;
        if size <= step {
            return Ok(self.range(name, 0..size, Some(size)).await?.0);
        }
        let capacity = usize::try_from(size).map_err(|_| wrong_size(u64::MAX))?;
        let starts = (0..size.div_ceil(step)).map(|part| part * step);
        let mut parts = futures_util::stream::iter(starts)
            .map(|start| self.range(name, start..size.min(start + step), Some(size)))
            .buffered(self.inner.options.requests_in_flight_max);
        let mut whole = BytesMut::with_capacity(capacity);
        let mut first = None;
        while let Some((bytes, etag)) = parts.try_next().await? {
            if first.get_or_insert_with(|| etag.clone()) != &etag {
                return Err(ObjectError::Corrupt {
                    at: self.context(Operation::Get, name),
                    reason: "the object was replaced while it was read".to_owned(),
                });
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.freeze())
    }

    /// The size of an object.
    ///
    /// # Errors
    /// `NotFound`, and what any request can fail with.
    pub async fn head(&self, name: &ObjectName) -> Result<ObjectInfo, ObjectError> {
        let bytes = self
            .size(name)
            .await
            .map_err(|failure| self.error(Operation::Head, name, failure))?;
        Ok(ObjectInfo {
            name: name.clone(),
            bytes,
        })
    }

    async fn size(&self, name: &ObjectName) -> Result<u64, Failure> {
        let path = self.path(name);
        self.request(async |_| {
            let options = GetOptions {
                head: true,
                ..GetOptions::default()
            };
            Ok(self.inner.backend.store.get_opts(&path, options).await?.meta.size)
        })
        .await
    }

    /// A range, and the tag of the version that it is from. `whole` is the size that the object must have, if known.
    async fn range(
        &self,
        name: &ObjectName,
        range: Range<u64>,
        whole: Option<u64>,
    ) -> Result<(Bytes, Option<String>), ObjectError> {
        if range.start > range.end {
            return Err(ObjectError::Invalid {
                at: self.context(Operation::Get, name),
                reason: format!("the range {}..{} ends before it starts", range.start, range.end),
                source: None,
            });
        }
        if range.is_empty() {
            return Ok((Bytes::new(), None));
        }
        let path = self.path(name);
        let fetched = self.request(async |_| {
            let options = GetOptions {
                range: Some(GetRange::Bounded(range.clone())),
                ..GetOptions::default()
            };
            let result = self.inner.backend.store.get_opts(&path, options).await?;
            match result.meta.size {
                size if size < range.end || whole.is_some_and(|whole| whole != size) => {
                    Ok(Fetched::Size(size))
                }
                _ => body(result, range.clone()).await,
            }
        });
        let size = match fetched.await {
            Ok(Fetched::Bytes { bytes, etag, .. }) => return Ok((bytes, etag)),
            Ok(Fetched::Size(size)) => size,
            // Stores refuse a range that begins behind the end, each in its own words.
            Err(failure) if failure.is(Fault::Refused) => match self.size(name).await {
                Ok(size) if size < range.end => size,
                _ => return Err(self.error(Operation::Get, name, failure)),
            },
            Err(failure) => return Err(self.error(Operation::Get, name, failure)),
        };
        let (expected, found) = match whole {
            Some(whole) => (whole, size),
            None => (range.end - range.start, size.saturating_sub(range.start)),
        };
        Err(ObjectError::Short {
            at: self.context(Operation::Get, name),
            expected,
            found,
        })
    }
}

/// Collects a body that must be the bytes `wanted`.
async fn body(result: GetResult, wanted: Range<u64>) -> Result<Fetched, AttemptError> {
    let expected = wanted.end - wanted.start;
    if result.range != wanted {
        let found = result.range.end.saturating_sub(result.range.start);
        return Err(AttemptError::Short { expected, found });
    }
    let etag = result.meta.e_tag.clone();
    let version = Version::of(&result.meta);
    let file = match &result.payload {
        GetResultPayload::File(file, _) if expected >= LEAVING_BYTES_MIN => file.try_clone().ok(),
        _ => None,
    };
    let bytes = result.bytes().await?;
    if let Some(file) = file {
        write_behind::leave(&file, wanted);
    }
    match bytes.len() as u64 {
        found if found == expected => Ok(Fetched::Bytes { bytes, etag, version }),
        found => Err(AttemptError::Short { expected, found }),
    }
}
