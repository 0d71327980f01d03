//! What the protocol tests share: a small file system that keeps everything in memory, a server on a free port, and a
//! client that can send anything.

pub mod client;
pub mod durability;
pub mod memory;
pub mod tree;

use std::net::SocketAddr;
use std::sync::Arc;

use cairn_nfs::{Server, ServerSettings};
use cairn_vfs::FileSystem;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The secret of every test server, so that a second one is a restart of the first.
pub const SECRET: [u8; 16] = [42; 16];

/// A server on a free port of the loopback interface.
pub struct Running<F: FileSystem> {
    pub address: SocketAddr,
    pub server: Server<F>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl<F: FileSystem> Running<F> {
    pub async fn start(fs: Arc<F>, settings: ServerSettings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(fs, settings, SECRET).unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn({
            let server = server.clone();
            async move {
                let stopped = async {
                    let _ = stopped.await;
                };
                server.serve(listener, stopped).await.unwrap();
            }
        });
        Running {
            address,
            server,
            stop,
            task,
        }
    }

    /// Tells the server to stop; the task ends when it has.
    pub fn shut_down(self) -> JoinHandle<()> {
        let _ = self.stop.send(());
        self.task
    }
}
