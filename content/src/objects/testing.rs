//! For tests, of this crate and of others: a store in memory whose requests fail by a script: request number → fault. Counts
//! what it is asked. It behaves like a store that lists in order and removes many objects by one request.
//!
//! It owns the objects and the script. It does not retry and knows no time but that of [`Fault::Slow`]. Nothing of the product uses it.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cairn_types::Randomness;
use futures_util::stream::{BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

use super::backend::Backend;
use super::{ObjectError, ObjectOptions, ObjectStoreUrl, Objects};

/// What all names begin with in the store below.
const PREFIX: &str = "pre";

fn url() -> std::result::Result<ObjectStoreUrl, ObjectError> {
    let store = format!("s3://bucket/{PREFIX}");
    Ok(ObjectStoreUrl::parse(&store)?)
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No answer, ever.
    Hang,
    /// The store answers with this status and does nothing.
    Status(u16),
    /// The connection breaks when half of the body is sent; the store keeps nothing of it.
    Torn,
    /// The store does it, and the answer is lost.
    LostAnswer,
    /// The store does it, and no answer comes.
    LostAndHang,
    /// The body of the answer ends this many bytes early, without an error. A list breaks after two names.
    Short(usize),
    /// The answer takes this long.
    Slow(Duration),
}

/// A store that fails as it is told to. The script is shared by all clients that [`Faulty::objects`] gives.
pub struct Faulty {
    pub(super) inner: InMemory,
    script: Mutex<Script>,
}

#[derive(Default)]
struct Script {
    at: BTreeMap<u64, Fault>,
    always: Option<Fault>,
    from: Option<u64>,
    log: Vec<&'static str>,
    under_way: usize,
    under_way_peak: usize,
    given_up: Vec<&'static str>,
    hidden: HashSet<Path>,
    ghosts: Vec<ObjectMeta>,
}

/// Counts a request as under way until it ends.
struct UnderWay<'a>(&'a Faulty);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.script.lock().under_way -= 1;
    }
}

/// Notes that nobody waits for a write's answer any more, unless it was answered.
struct Unanswered<'a> {
    store: &'a Faulty,
    what: Option<&'static str>,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.store.script.lock().given_up.extend(self.what.take());
    }
}

impl Faulty {
    /// A store that is empty and sound.
    pub fn new() -> Arc<Self> {
        Arc::new(Faulty {
            inner: InMemory::new(),
            script: Mutex::default(),
        })
    }

    /// From here on, counting from 1: what happens to which request.
    pub fn script(&self, at: impl IntoIterator<Item = (u64, Fault)>, always: Option<Fault>) {
        let mut script = self.script.lock();
        script.at = at.into_iter().collect();
        script.always = always;
        script.from = None;
        script.log.clear();
        script.under_way_peak = 0;
        script.given_up.clear();
    }

    /// From here on, counting from 1: request `at` has this fault, and of all later ones the connection breaks.
    pub fn cut_off(&self, at: u64, fault: Fault) {
        self.script([(at, fault)], None);
        self.script.lock().from = Some(at);
    }

    /// The requests since the script was set: `put`, `get`, `head`, `list`, `delete`, `create`, `part`, `complete`, `abort`.
    pub fn log(&self) -> Vec<&'static str> {
        self.script.lock().log.clone()
    }

    /// Most requests that were under way at once since the script was set.
    pub fn under_way_peak(&self) -> usize {
        self.script.lock().under_way_peak
    }

    /// The writes for whose answer the client did not wait. A real store may still serve them.
    pub fn given_up(&self) -> Vec<&'static str> {
        self.script.lock().given_up.clone()
    }

    /// A client of the store, at `s3://bucket/pre`.
    ///
    /// # Errors
    /// `Invalid` if an option is out of its bounds.
    pub fn objects(
        self: &Arc<Self>,
        options: ObjectOptions,
        randomness: Arc<dyn Randomness>,
    ) -> std::result::Result<Objects, ObjectError> {
        options.validate()?;
        let backend = Backend {
            store: self.clone(),
            parts: Some(self.clone()),
            directory: None,
            list_is_ordered: true,
            bulk_delete: true,
        };
        Ok(Objects::over(url()?, options, backend, randomness))
    }

    /// A sound store of its own with the same objects.
    pub fn fork(&self) -> Arc<Self> {
        Arc::new(Faulty {
            inner: self.inner.fork(),
            script: Mutex::default(),
        })
    }

    /// The names and sizes of all objects, in order, whatever the script says.
    pub fn contents(&self) -> Vec<(String, u64)> {
        let all = self.inner.list(Some(&Path::from(PREFIX)));
        let all = all.filter_map(|meta| std::future::ready(meta.ok()));
        let mut all: Vec<(String, u64)> =
            futures_util::FutureExt::now_or_never(all.collect::<Vec<ObjectMeta>>())
                .unwrap_or_default()
                .into_iter()
                .filter_map(|meta| {
                    let name = meta.location.as_ref().strip_prefix(PREFIX)?.strip_prefix('/')?;
                    Some((name.to_owned(), meta.size))
                })
                .collect();
        all.sort();
        all
    }

    /// Lists are stale: they do not show the names in `hidden` yet, and still show `ghosts`, names and sizes that are gone.
    /// Holds until the next call.
    pub fn stale(&self, hidden: &[String], ghosts: &[(String, u64)]) {
        let path = |name: &str| Path::from(format!("{PREFIX}/{name}"));
        let ghost = |(name, size): &(String, u64)| ObjectMeta {
            location: path(name),
            last_modified: Default::default(),
            size: *size,
            e_tag: None,
            version: None,
        };
        let mut script = self.script.lock();
        script.hidden = hidden.iter().map(|name| path(name)).collect();
        script.ghosts = ghosts.iter().map(ghost).collect();
    }

    fn begin(&self, what: &'static str) -> (UnderWay<'_>, Option<Fault>) {
        let mut script = self.script.lock();
        script.log.push(what);
        script.under_way += 1;
        script.under_way_peak = script.under_way_peak.max(script.under_way);
        let number = script.log.len() as u64;
        let cut_off = script.from.filter(|from| number > *from).map(|_| Fault::Torn);
        let fault = script.at.get(&number).copied().or(cut_off).or(script.always);
        drop(script);
        (UnderWay(self), fault)
    }

    async fn run<T>(&self, what: &'static str, request: impl Future<Output = Result<T>>) -> Result<T> {
        let (_under_way, fault) = self.begin(what);
        let mut unanswered = Unanswered {
            store: self,
            what: Some(what),
        };
        let answer = match fault {
            None | Some(Fault::Short(_)) => request.await,
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Status(status)) => Err(answered(status)),
            Some(Fault::Torn) => Err(broken()),
            Some(Fault::LostAnswer) => request.await.and(Err(broken())),
            Some(Fault::LostAndHang) => {
                request.await?;
                std::future::pending().await
            }
            Some(Fault::Slow(time)) => {
                tokio::time::sleep(time).await;
                request.await
            }
        };
        unanswered.what = None;
        answer
    }

    fn faulty_list(
        &self,
        prefix: Option<&Path>,
        list: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (_under_way, fault) = self.begin("list");
        let (hidden, ghosts) = {
            let script = self.script.lock();
            (script.hidden.clone(), script.ghosts.clone())
        };
        let prefix = prefix.cloned();
        let within = move |meta: &ObjectMeta| {
            let prefix = prefix.as_ref();
            prefix.is_none_or(|prefix| meta.location.prefix_matches(prefix))
        };
        let list = list
            .filter(move |meta| {
                let shown = meta.as_ref().is_ok_and(|meta| !hidden.contains(&meta.location));
                std::future::ready(shown)
            })
            .chain(futures_util::stream::iter(
                ghosts.into_iter().filter(within).map(Ok),
            ))
            .boxed();
        let failed = |error| futures_util::stream::iter([Err(error)]).boxed();
        match fault {
            None => list,
            Some(Fault::Hang | Fault::LostAndHang) => futures_util::stream::pending().boxed(),
            Some(Fault::Status(status)) => failed(answered(status)),
            Some(Fault::Torn | Fault::LostAnswer) => failed(broken()),
            Some(Fault::Short(_)) => list.take(2).chain(failed(broken())).boxed(),
            Some(Fault::Slow(time)) => futures_util::stream::once(tokio::time::sleep(time))
                .flat_map(|()| futures_util::stream::empty())
                .chain(list)
                .boxed(),
        }
    }
}

/// As the client words it; the tests against a real server pin that.
fn answered(status: u16) -> Error {
    let source = format!("Server returned non-2xx status code: {status}: ").into();
    let path = String::new();
    match status {
        401 => Error::Unauthenticated { path, source },
        403 => Error::PermissionDenied { path, source },
        404 => Error::NotFound { path, source },
        _ => Error::Generic { store: "S3", source },
    }
}

fn broken() -> Error {
    Error::Generic {
        store: "S3",
        source: Box::new(std::io::Error::from(std::io::ErrorKind::TimedOut)),
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.run("put", self.inner.put_opts(location, payload, opts))
            .await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(answered(501))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let what = if options.head { "head" } else { "get" };
        let (_under_way, fault) = self.begin(what);
        let cut = match fault {
            None => 0,
            Some(Fault::Short(bytes)) => bytes,
            Some(Fault::Hang | Fault::LostAndHang) => std::future::pending().await,
            Some(Fault::Status(status)) => return Err(answered(status)),
            Some(Fault::Torn | Fault::LostAnswer) => return Err(broken()),
            Some(Fault::Slow(time)) => {
                tokio::time::sleep(time).await;
                0
            }
        };
        let result = self.inner.get_opts(location, options).await?;
        if cut == 0 || what == "head" {
            return Ok(result);
        }
        let (meta, range, attributes, extensions) = (
            result.meta.clone(),
            result.range.clone(),
            result.attributes.clone(),
            result.extensions.clone(),
        );
        let whole = result.bytes().await?;
        let bytes = whole.slice(..whole.len().saturating_sub(cut));
        Ok(GetResult {
            payload: GetResultPayload::Stream(futures_util::stream::iter([Ok(bytes)]).boxed()),
            meta,
            range,
            attributes,
            extensions,
        })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (_under_way, fault) = self.begin("delete");
        let failed = |error| futures_util::stream::iter([Err(error)]).boxed();
        match fault {
            None | Some(Fault::Short(_)) => self.inner.delete_stream(locations),
            Some(Fault::Hang) => futures_util::stream::pending().boxed(),
            Some(Fault::Status(status)) => failed(answered(status)),
            Some(Fault::Torn) => failed(broken()),
            Some(Fault::LostAnswer) => self
                .inner
                .delete_stream(locations)
                .chain(failed(broken()))
                .boxed(),
            Some(Fault::LostAndHang) => self
                .inner
                .delete_stream(locations)
                .chain(futures_util::stream::pending())
                .boxed(),
            Some(Fault::Slow(time)) => futures_util::stream::once(tokio::time::sleep(time))
                .flat_map(|()| futures_util::stream::empty())
                .chain(self.inner.delete_stream(locations))
                .boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.faulty_list(prefix, self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.faulty_list(prefix, self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(answered(501))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(answered(501))
    }
}

#[async_trait]
impl MultipartStore for Faulty {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.run("create", self.inner.create_multipart(path)).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        index: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        self.run("part", self.inner.put_part(path, id, index, data)).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let completed = self
            .run("complete", self.inner.complete_multipart(path, id, parts))
            .await;
        match completed {
            // S3 answers so for an upload that is completed or aborted.
            Err(error) if error.to_string().contains("MultipartUpload not found") => Err(answered(404)),
            completed => completed,
        }
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.run("abort", self.inner.abort_multipart(path, id)).await
    }
}
