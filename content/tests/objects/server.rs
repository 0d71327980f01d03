//! A real S3 server in this process, and answers that it is made to give.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use hyper::Method;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpResponse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub const ACCESS_KEY: &str = "AKCAIRNTEST";
pub const SECRET_KEY: &str = "hunter2hunter2";
pub const BUCKET: &str = "bucket";

/// What the server does with a request instead of serving it.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// Serves it.
    Serve,
    /// This status, with an S3 error of this code.
    Status(u16, &'static str),
    /// Nothing, ever.
    Hang,
}

struct Shared {
    service: S3Service,
    answers: Mutex<VecDeque<Answer>>,
    log: Mutex<Vec<Method>>,
    /// S3 decides conditions atomically; s3s-fs looks first and writes then. So writes go one after another.
    writes: tokio::sync::Mutex<()>,
}

/// The server; it ends with this value.
pub struct Server {
    pub endpoint: String,
    pub root: tempfile::TempDir,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let shared = Arc::new(Shared {
            service: builder.build(),
            answers: Mutex::default(),
            log: Mutex::default(),
            writes: tokio::sync::Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(accept(listener, shared.clone()));
        Server {
            endpoint,
            root,
            shared,
            task,
        }
    }

    /// What happens to the next requests; those after them are served.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        *self.shared.answers.lock().unwrap() = answers.into_iter().collect();
        self.shared.log.lock().unwrap().clear();
    }

    /// How many requests came since the last script.
    pub fn requests(&self) -> usize {
        self.shared.log.lock().unwrap().len()
    }

    /// Whether the last request removed something.
    pub fn last_was_delete(&self) -> bool {
        self.shared.log.lock().unwrap().last() == Some(&Method::DELETE)
    }

    /// Writes a credentials file for this server.
    pub fn credentials(path: &Path, secret_key: &str) {
        let text =
            format!("[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {secret_key}\n");
        std::fs::write(path, text).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address where every request is answered with a body that ends before its length says, as when a server dies.
pub async fn cutting() -> (String, JoinHandle<()>, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicU32::new(0));
    let counter = requests.clone();
    let task = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.unwrap());
            }
            counter.fetch_add(1, Ordering::Relaxed);
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: \"x\"\r\n\
                          Last-Modified: Sat, 21 Nov 2026 12:00:00 GMT\r\n\r\nonly this";
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (endpoint, task, requests)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let shared = shared.clone();
        let service = service_fn(move |request| serve(shared.clone(), request));
        connections.spawn(async move {
            // A connection that its client ends, or that was to be cut, is no failure of the server.
            let _ = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

async fn serve(shared: Arc<Shared>, request: hyper::Request<Incoming>) -> Result<HttpResponse, Infallible> {
    shared.log.lock().unwrap().push(request.method().clone());
    let answer = shared
        .answers
        .lock()
        .unwrap()
        .pop_front()
        .unwrap_or(Answer::Serve);
    let response = hyper::Response::builder();
    Ok(match answer {
        Answer::Serve => {
            let _alone = match *request.method() == Method::PUT {
                true => Some(shared.writes.lock().await),
                false => None,
            };
            shared.service.call(request.map(Body::from)).await.unwrap()
        }
        Answer::Status(status, code) => {
            let body = format!("<Error><Code>{code}</Code><Message>scripted</Message></Error>");
            response.status(status).body(Body::from(body)).unwrap()
        }
        Answer::Hang => std::future::pending().await,
    })
}
