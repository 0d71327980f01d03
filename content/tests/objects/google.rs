//! What is particular about Google Cloud Storage, against a server of our own in this process.
//!
//! No emulator speaks the XML API as the client does: fake-gcs-server has neither its plain uploads nor its multipart
//! uploads nor the header for preconditions (its issues 331, 852 and 1076). So this server keeps the rules of Google's
//! XML API as its users know them, in memory. It shows what we ask and that our code draws the right conclusions from
//! such answers; whether the service answers so, only the service can show. Left out: tokens (the credentials disable
//! them), and storage classes, versions and encodings, which we do not use.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cairn_content::objects::{Credentials, ObjectError, ObjectOptions};
use cairn_types::ErrorKind;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED, RANGE};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::Body;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{MIB, conformance, name, open, options, pattern};

const BUCKET: &str = "bucket.example";
/// Most objects of one page of a list. Google's is 1000; this one makes the suite turn pages often.
const PAGE: usize = 100;
/// The least that a part which is not the last may have, in bytes.
const PART_BYTES_MIN: usize = 5 * MIB;
const GENERATION: &str = "x-goog-generation";
const GENERATION_MATCH: &str = "x-goog-if-generation-match";
const CREDENTIALS: &str =
    r#"{"private_key":"k","private_key_id":"i","client_email":"e","disable_oauth":true}"#;

type Answer = hyper::Response<Body>;

#[derive(Clone)]
struct Object {
    bytes: Bytes,
    generation: u64,
}

struct Upload {
    /// Of the object.
    name: String,
    /// By number, with the ETags that they were given.
    parts: BTreeMap<u32, (String, Bytes)>,
}

#[derive(Default)]
struct Bucket {
    objects: BTreeMap<String, Object>,
    /// By number.
    uploads: BTreeMap<u64, Upload>,
    /// The last number that was given to anything.
    last: u64,
}

/// The server; it ends with this value.
struct Google {
    endpoint: String,
    bucket: Arc<Mutex<Bucket>>,
    directory: tempfile::TempDir,
    task: JoinHandle<()>,
}

impl Drop for Google {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Google {
    async fn start() -> Self {
        let bucket = Arc::new(Mutex::new(Bucket::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("credentials"), CREDENTIALS).unwrap();
        let task = tokio::spawn(accept(listener, bucket.clone()));
        Google {
            endpoint,
            bucket,
            directory,
            task,
        }
    }

    fn options(&self) -> ObjectOptions {
        ObjectOptions {
            endpoint: Some(self.endpoint.clone()),
            allow_http: true,
            credentials: Credentials::File {
                path: self.directory.path().join("credentials"),
                profile: String::new(),
            },
            ..options()
        }
    }
}

async fn accept(listener: TcpListener, bucket: Arc<Mutex<Bucket>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let bucket = bucket.clone();
        let service = service_fn(move |request| serve(bucket.clone(), request));
        connections.spawn(async move {
            // A connection that its client ends is no failure of the server.
            let _ = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

async fn serve(bucket: Arc<Mutex<Bucket>>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let path = decoded(head.uri.path().trim_start_matches('/'));
    let query = pairs(head.uri.query().unwrap_or_default());
    let mut body = Body::from(body);
    let Ok(body) = body.store_all_limited(64 * MIB).await else {
        return Ok(refused(400, "IncompleteBody"));
    };
    let mut bucket = bucket.lock().unwrap();
    let Some(rest) = path.strip_prefix(BUCKET) else {
        return Ok(refused(404, "NoSuchBucket"));
    };
    let name = rest.trim_start_matches('/').to_owned();
    let upload = query.get("uploadId");
    Ok(match (&head.method, upload) {
        (&Method::GET, None) if name.is_empty() => bucket.list(&query),
        (&Method::GET | &Method::HEAD, None) => bucket.get(&name, &head.headers, head.method == Method::HEAD),
        (&Method::PUT, None) => bucket.put(name, &head.headers, body),
        (&Method::DELETE, None) => match bucket.objects.remove(&name) {
            Some(_) => answer(204, Bytes::new()),
            None => refused(404, "NoSuchKey"),
        },
        (&Method::POST, None) if query.contains_key("uploads") => bucket.begin(name),
        (method, Some(upload)) => bucket.upload(method, &name, upload, &query, body),
        _ => refused(405, "MethodNotAllowed"),
    })
}

impl Bucket {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn get(&self, name: &str, headers: &HeaderMap, head: bool) -> Answer {
        let Some(object) = self.objects.get(name) else {
            return refused(404, "NoSuchKey");
        };
        let length = object.bytes.len();
        let found = match headers.get(RANGE) {
            None => 0..length,
            Some(range) => {
                let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
                let (first, last) = range.split_once('-').unwrap();
                let first: usize = first.parse().unwrap();
                if first >= length {
                    return refused(416, "InvalidRange");
                }
                first..last.parse().map_or(length, |last: usize| length.min(last + 1))
            }
        };
        let mut response = hyper::Response::builder()
            .header(ETAG, etag(object))
            .header(GENERATION, object.generation)
            .header(LAST_MODIFIED, "Sat, 21 Nov 2026 12:00:00 GMT");
        if headers.contains_key(RANGE) {
            let (first, last) = (found.start, found.end - 1);
            response = response
                .status(206)
                .header(CONTENT_RANGE, format!("bytes {first}-{last}/{length}"));
        }
        match head {
            true => response.header(CONTENT_LENGTH, length).body(Body::empty()),
            false => response.body(Body::from(object.bytes.slice(found))),
        }
        .unwrap()
    }

    fn put(&mut self, name: String, headers: &HeaderMap, bytes: Bytes) -> Answer {
        // Generation 0 means that there is no object.
        let now = self.objects.get(&name).map_or(0, |object| object.generation);
        if let Some(wanted) = headers.get(GENERATION_MATCH)
            && wanted.to_str().unwrap().parse() != Ok(now)
        {
            return refused(412, "PreconditionFailed");
        }
        self.store(name, bytes, Bytes::new())
    }

    fn store(&mut self, name: String, bytes: Bytes, said: Bytes) -> Answer {
        let generation = self.next();
        let object = Object { bytes, generation };
        let response = hyper::Response::builder()
            .header(ETAG, etag(&object))
            .header(GENERATION, generation);
        self.objects.insert(name, object);
        response.body(Body::from(said)).unwrap()
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Answer {
        assert_eq!(query["list-type"], "2");
        let prefix = query.get("prefix").map_or("", String::as_str);
        // Our token is the last name that was given out.
        let behind = query.get("continuation-token").or(query.get("start-after"));
        let mut found = self.objects.iter().filter(|(name, _)| {
            name.starts_with(prefix) && behind.is_none_or(|behind| name.as_str() > behind.as_str())
        });
        let page: Vec<_> = found.by_ref().take(PAGE).collect();
        let mut text = "<ListBucketResult>".to_owned();
        for (name, object) in &page {
            text += &format!(
                "<Contents><Key>{name}</Key><Generation>{}</Generation><ETag>{}</ETag><Size>{}</Size>\
                 <LastModified>2026-11-21T12:00:00.000Z</LastModified></Contents>",
                object.generation,
                etag(object),
                object.bytes.len()
            );
        }
        if let (Some(_), Some((last, _))) = (found.next(), page.last()) {
            text += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
        }
        answer(200, Bytes::from(text + "</ListBucketResult>"))
    }

    fn begin(&mut self, name: String) -> Answer {
        let upload = self.next();
        let parts = BTreeMap::new();
        self.uploads.insert(upload, Upload { name, parts });
        let text = format!(
            "<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
        );
        answer(200, Bytes::from(text))
    }

    fn upload(
        &mut self,
        method: &Method,
        name: &str,
        upload: &str,
        query: &BTreeMap<String, String>,
        body: Bytes,
    ) -> Answer {
        let etag = format!("\"part-{}\"", self.next());
        let upload: u64 = upload.parse().unwrap_or_default();
        let parts = match self.uploads.get_mut(&upload) {
            Some(found) if found.name == name => &mut found.parts,
            _ => return refused(404, "NoSuchUpload"),
        };
        match *method {
            Method::PUT => {
                let number = query["partNumber"].parse().unwrap();
                parts.insert(number, (etag.clone(), body));
                let response = hyper::Response::builder().header(ETAG, etag);
                response.body(Body::empty()).unwrap()
            }
            Method::DELETE => {
                self.uploads.remove(&upload);
                answer(204, Bytes::new())
            }
            Method::POST => {
                let text = String::from_utf8(body.to_vec()).unwrap();
                let wanted: Vec<_> = text.split("<Part>").skip(1).map(part).collect();
                let mut whole = Vec::new();
                for (index, (number, etag)) in wanted.iter().enumerate() {
                    match parts.get(number) {
                        Some((given, bytes)) if given == etag => whole.extend_from_slice(bytes),
                        _ => return refused(400, "InvalidPart"),
                    }
                    if index + 1 < wanted.len() && parts[number].1.len() < PART_BYTES_MIN {
                        return refused(400, "EntityTooSmall");
                    }
                }
                self.uploads.remove(&upload);
                let said =
                    "<CompleteMultipartUploadResult><ETag>\"whole\"</ETag></CompleteMultipartUploadResult>";
                self.store(name.to_owned(), whole.into(), Bytes::from(said))
            }
            _ => refused(405, "MethodNotAllowed"),
        }
    }
}

fn etag(object: &Object) -> String {
    format!("\"{:x}\"", object.generation)
}

/// Number and ETag of a `Part` of the request that completes an upload.
fn part(text: &str) -> (u32, String) {
    let value = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>")).unwrap();
        rest.split_once('<').unwrap().0.to_owned()
    };
    (value("PartNumber").parse().unwrap(), value("ETag"))
}

fn pairs(text: &str) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(text.as_bytes())
        .into_owned()
        .collect()
}

/// A path without its percent signs; the client encodes everything that has a meaning in a query.
fn decoded(path: &str) -> String {
    assert!(!path.contains(['+', '=', '&']), "{path}");
    pairs(path).into_keys().next().unwrap_or_default()
}

fn answer(status: u16, body: Bytes) -> Answer {
    hyper::Response::builder()
        .status(status)
        .body(Body::from(body))
        .unwrap()
}

fn refused(status: u16, code: &str) -> Answer {
    let text = format!("<?xml version='1.0'?><Error><Code>{code}</Code><Message>refused</Message></Error>");
    answer(status, Bytes::from(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn google_conforms() {
    let google = Google::start().await;
    let number = AtomicU32::new(0);
    let fresh = || {
        let prefix = number.fetch_add(1, Ordering::Relaxed);
        open(&format!("gs://{BUCKET}/some/{prefix}"), google.options())
    };
    conformance::run(fresh).await;
    let uploads = &google.bucket.lock().unwrap().uploads;
    assert!(uploads.is_empty(), "{:?}", uploads.keys());
}

#[tokio::test]
async fn refusals_of_google_are_typed() {
    let google = Google::start().await;
    let absent = open("gs://other/p", google.options());
    for error in [
        absent.check().await.unwrap_err(),
        absent.put(&name("a"), pattern(1, 1)).await.unwrap_err(),
        absent.put(&name("a"), pattern(6 * MIB, 1)).await.unwrap_err(),
    ] {
        assert!(matches!(error, ObjectError::NoBucket { .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
