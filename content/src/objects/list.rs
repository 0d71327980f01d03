//! Listing and removing.
//!
//! A list is fetched page by page as it is read. Where a store lists in the order of names, an interrupted list is
//! taken up behind the last name; a directory is not ordered, so its list starts again only if nothing was given out.

use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::classify::{Fault, classify};
use super::error::{ObjectError, Operation};
use super::name::ObjectName;
use super::request::{AttemptError, Failure};
use super::{ObjectNameError, Objects};

/// Most objects that one request removes, as S3 limits it.
const BULK_DELETE_MAX: usize = 1000;

/// An object as the store describes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectInfo {
    /// Its name.
    pub name: ObjectName,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Objects as they are listed.
pub type ObjectStream = BoxStream<'static, Result<ObjectInfo, ObjectError>>;

/// A list that is being read.
struct Listing {
    objects: Objects,
    prefix: String,
    path: Option<Path>,
    stream: Option<BoxStream<'static, object_store::Result<ObjectMeta>>>,
    last: Option<Path>,
    failures: u32,
    ended: bool,
}

impl Objects {
    /// Asks the store for one page of its list: finds a wrong address, missing credentials and a missing bucket before
    /// anything is written. Does not show that the credentials allow writing.
    ///
    /// # Errors
    /// What any request can fail with.
    pub async fn check(&self) -> Result<(), ObjectError> {
        self.list(None)?.try_next().await?;
        Ok(())
    }

    /// Lists the objects whose names begin with the segments `prefix`, or all. In no certain order. What no [`Objects`]
    /// can have written, and what is unfinished, is left out. The list may be stale, as the store's own is.
    ///
    /// # Errors
    /// The prefix is not possible. The stream ends with the first error that it gives.
    pub fn list(&self, prefix: Option<&str>) -> Result<ObjectStream, ObjectNameError> {
        let prefix = prefix.unwrap_or_default().trim_end_matches('/').to_owned();
        let path = match (self.inner.url.prefix.as_str(), prefix.as_str()) {
            ("", "") => None,
            (store, "") => Some(Path::from(store)),
            (_, prefix) => Some(self.path(&ObjectName::new(prefix)?)),
        };
        let listing = Listing {
            objects: self.clone(),
            prefix,
            path,
            stream: None,
            last: None,
            failures: 0,
            ended: false,
        };
        let stream = futures_util::stream::unfold(listing, |mut listing| async move {
            let next = match listing.ended {
                true => None,
                false => listing.next().await.transpose(),
            };
            listing.ended = !matches!(next, Some(Ok(_)));
            Some((next?, listing))
        });
        Ok(stream.boxed())
    }

    /// Lists like [`list`](Self::list), all at once and in the order of names.
    ///
    /// # Errors
    /// `Invalid` if there are more than `names_max`; and what any request can fail with.
    pub async fn list_sorted(
        &self,
        prefix: Option<&str>,
        names_max: usize,
    ) -> Result<Vec<ObjectInfo>, ObjectError> {
        let mut stream = self.list(prefix)?;
        let mut found = Vec::new();
        while let Some(info) = stream.try_next().await? {
            if found.len() == names_max {
                return Err(ObjectError::Invalid {
                    at: self.context(Operation::List, prefix.unwrap_or_default()),
                    reason: format!("there are more than {names_max} objects"),
                    source: None,
                });
            }
            found.push(info);
        }
        found.sort();
        // A list that was taken up again may repeat a name.
        found.dedup_by(|later, earlier| later.name == earlier.name);
        Ok(found)
    }

    /// Removes an object. One that does not exist is fine.
    ///
    /// # Errors
    /// What any request can fail with.
    pub async fn delete(&self, name: &ObjectName) -> Result<(), ObjectError> {
        let path = self.path(name);
        let deleted = self
            .request(async |_| self.delete_paths(vec![path.clone()]).await)
            .await;
        deleted.map_err(|failure| self.error(Operation::Delete, name, failure))
    }

    /// Removes objects, many by one request where the store can. Those that do not exist are fine. After an error some
    /// may be removed and others not.
    ///
    /// # Errors
    /// What any request can fail with; the first that was found.
    pub async fn delete_many(&self, names: &[ObjectName]) -> Result<(), ObjectError> {
        let mut one_by_one = names;
        if self.inner.backend.bulk_delete {
            one_by_one = &[];
            for (index, chunk) in names.chunks(BULK_DELETE_MAX).enumerate() {
                let paths: Vec<Path> = chunk.iter().map(|name| self.path(name)).collect();
                let deleted = self
                    .request(async |_| self.delete_paths(paths.clone()).await)
                    .await;
                match deleted {
                    Ok(()) => {}
                    // Not every server that speaks S3 can do this.
                    Err(failure) if failure.is(Fault::Unsupported) || failure.is(Fault::Refused) => {
                        one_by_one = &names[index * BULK_DELETE_MAX..];
                        break;
                    }
                    Err(failure) => return Err(self.error(Operation::Delete, chunk[0].clone(), failure)),
                }
            }
        }
        futures_util::stream::iter(one_by_one)
            .map(|name| self.delete(name))
            .buffer_unordered(self.inner.options.requests_in_flight_max)
            .try_collect()
            .await
    }

    async fn delete_paths(&self, paths: Vec<Path>) -> Result<(), AttemptError> {
        let paths = futures_util::stream::iter(paths.into_iter().map(Ok)).boxed();
        let mut results = self.inner.backend.store.delete_stream(paths);
        let mut failed = None;
        while let Some(result) = results.next().await {
            match result {
                // In a directory that is gone nothing is found, and nothing is known to be removed.
                Err(error) if classify(&error) != Fault::NotFound || self.inner.backend.root_is_gone() => {
                    failed = failed.or(Some(error));
                }
                _ => {}
            }
        }
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

impl Listing {
    async fn next(&mut self) -> Result<Option<ObjectInfo>, ObjectError> {
        loop {
            match self.next_meta().await {
                Ok(None) => return Ok(None),
                Ok(Some(meta)) => {
                    self.failures = 0;
                    let info = self.objects.name(&meta.location).map(|name| ObjectInfo {
                        name,
                        bytes: meta.size,
                    });
                    self.last = Some(meta.location);
                    if info.is_some() {
                        return Ok(info);
                    }
                }
                Err(failure) => self.pause_or_fail(failure).await?,
            }
        }
    }

    async fn next_meta(&mut self) -> Result<Option<ObjectMeta>, Failure> {
        let inner = &self.objects.inner;
        let attempts = self.failures + 1;
        if self.stream.is_none() && inner.backend.root_is_gone() {
            // The client takes a directory that is gone for an empty one.
            return Err(Failure::directory_gone(attempts));
        }
        let stream = self.stream.get_or_insert_with(|| match &self.last {
            Some(last) => inner.backend.store.list_with_offset(self.path.as_ref(), last),
            None => inner.backend.store.list(self.path.as_ref()),
        });
        let _place = inner.in_flight.acquire().await.ok();
        let next = tokio::time::timeout(inner.options.request_timeout, stream.try_next()).await;
        match next {
            Ok(Ok(meta)) => Ok(meta),
            Ok(Err(error)) => Err(Failure::Fault {
                fault: classify(&error),
                attempts,
                source: Box::new(error),
            }),
            Err(_elapsed) => Err(Failure::Timeout { attempts }),
        }
    }

    async fn pause_or_fail(&mut self, failure: Failure) -> Result<(), ObjectError> {
        self.stream = None;
        let may_pass = match &failure {
            Failure::Fault { fault, .. } => fault.may_pass(),
            Failure::Timeout { .. } | Failure::Short { .. } => true,
        };
        let resumable = self.objects.inner.backend.list_is_ordered || self.last.is_none();
        if !may_pass || !resumable || self.failures + 1 >= self.objects.inner.options.attempts_max {
            return Err(self.objects.error(Operation::List, &self.prefix, failure));
        }
        let pause: Duration = self.objects.pause(self.failures);
        self.failures += 1;
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
