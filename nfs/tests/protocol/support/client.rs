//! A client that sends any bytes and reads reply records.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

pub const NFS: u32 = 100_003;
pub const MOUNT: u32 = 100_005;
pub const PORTMAP: u32 = 100_000;

/// No answer takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// XDR by hand.
#[derive(Default, Clone)]
pub struct Xdr(pub Vec<u8>);

impl Xdr {
    pub fn new() -> Self {
        Xdr::default()
    }

    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn words(mut self, words: &[u32]) -> Self {
        words.iter().for_each(|word| self.0.extend(word.to_be_bytes()));
        self
    }

    pub fn opaque(mut self, bytes: &[u8]) -> Self {
        self.0.extend((bytes.len() as u32).to_be_bytes());
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
}

/// An AUTH_SYS credential with its verifier.
pub fn sys(uid: u32, gid: u32, groups: &[u32]) -> Xdr {
    stamped(0, uid, gid, groups)
}

/// As [`sys`], with a stamp, which some clients change from one transmission to the next.
pub fn stamped(stamp: u32, uid: u32, gid: u32, groups: &[u32]) -> Xdr {
    let body = Xdr::new()
        .u32(stamp)
        .opaque(b"test")
        .words(&[uid, gid, groups.len() as u32])
        .words(groups);
    Xdr::new().u32(1).opaque(&body.0).words(&[0, 0])
}

/// AUTH_NONE twice.
pub fn nobody() -> Xdr {
    Xdr::new().words(&[0, 0, 0, 0])
}

/// A call message without its marker.
pub fn call(xid: u32, program: u32, version: u32, procedure: u32, auth: &Xdr, arguments: &Xdr) -> Vec<u8> {
    let header = Xdr::new().words(&[xid, 0, 2, program, version, procedure]);
    header.bytes(&auth.0).bytes(&arguments.0).0
}

/// A record of one fragment.
pub fn record(message: &[u8]) -> Vec<u8> {
    Xdr::new()
        .u32(0x8000_0000 | message.len() as u32)
        .bytes(message)
        .0
}

/// A reply: transaction id, and the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub xid: u32,
    pub rest: Vec<u8>,
}

impl Reply {
    pub fn word(&self, index: usize) -> u32 {
        u32::from_be_bytes(self.rest[index * 4..index * 4 + 4].try_into().unwrap())
    }

    /// The accept status, or a panic if the call was denied.
    pub fn accepted(&self) -> u32 {
        assert_eq!((self.word(0), self.word(1)), (1, 0), "denied: {:?}", self.rest);
        self.word(4)
    }

    /// The first word of the results of an accepted, successful call: the status.
    pub fn status(&self) -> u32 {
        assert_eq!(self.accepted(), 0, "not successful");
        self.word(5)
    }

    /// The reason of a denial.
    pub fn denied(&self) -> u32 {
        assert_eq!(
            (self.word(0), self.word(1), self.word(2)),
            (1, 1, 1),
            "not denied: {:?}",
            self.rest
        );
        self.word(3)
    }

    /// The results after the status.
    pub fn results(&self) -> &[u8] {
        &self.rest[24..]
    }
}

/// A connection.
pub struct Client<S> {
    pub stream: S,
    xid: u32,
    pub auth: Xdr,
}

impl Client<TcpStream> {
    pub async fn connect(server: SocketAddr) -> Self {
        Client::over(TcpStream::connect(server).await.unwrap())
    }

    /// Connects from a given address of the loopback network.
    pub async fn connect_from(server: SocketAddr, local: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(local.parse().unwrap()).unwrap();
        Client::over(socket.connect(server).await.unwrap())
    }

    /// Ends the connection without a farewell.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn over(stream: S) -> Self {
        Client {
            stream,
            xid: 1000,
            auth: sys(0, 0, &[]),
        }
    }

    pub async fn send(&mut self, message: &[u8]) {
        self.stream.write_all(&record(message)).await.unwrap();
    }

    /// Sends a call and returns its transaction id.
    pub async fn start(&mut self, program: u32, procedure: u32, arguments: &Xdr) -> u32 {
        self.xid += 1;
        let message = call(self.xid, program, 3, procedure, &self.auth, arguments);
        self.send(&message).await;
        self.xid
    }

    pub async fn reply(&mut self) -> Reply {
        let reply = async {
            let mut word = [0; 4];
            self.stream.read_exact(&mut word).await.unwrap();
            let marker = u32::from_be_bytes(word);
            assert!(marker & 0x8000_0000 != 0, "replies come in one fragment");
            let mut rest = vec![0; (marker & 0x7fff_ffff) as usize];
            self.stream.read_exact(&mut rest).await.unwrap();
            let rest_after_xid = rest.split_off(4);
            Reply {
                xid: u32::from_be_bytes(rest.try_into().unwrap()),
                rest: rest_after_xid,
            }
        };
        tokio::time::timeout(PATIENCE, reply).await.expect("no answer")
    }

    /// Waits for the server to close the connection without another byte.
    pub async fn closed(&mut self) {
        let mut byte = [0];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut byte))
            .await
            .expect("still open");
        assert!(matches!(read, Ok(0) | Err(_)), "closed, not answered");
    }

    pub async fn call(&mut self, program: u32, procedure: u32, arguments: &Xdr) -> Reply {
        let xid = self.start(program, procedure, arguments).await;
        let reply = self.reply().await;
        assert_eq!(reply.xid, xid);
        reply
    }

    pub async fn nfs(&mut self, procedure: u32, arguments: &Xdr) -> Reply {
        self.call(NFS, procedure, arguments).await
    }

    /// The root handle of an export.
    pub async fn mount(&mut self, path: &str) -> Vec<u8> {
        let reply = self.call(MOUNT, 1, &Xdr::new().opaque(path.as_bytes())).await;
        assert_eq!(reply.status(), 0);
        reply.results()[4..36].to_vec()
    }

    /// Makes a file, unchecked; its handle.
    pub async fn create(&mut self, directory: &[u8], name: &str) -> Vec<u8> {
        let reply = self.nfs(8, &create_arguments(directory, name)).await;
        assert_eq!(reply.status(), 0);
        reply.results()[8..40].to_vec()
    }

    pub async fn lookup(&mut self, directory: &[u8], name: &str) -> Reply {
        self.nfs(3, &Xdr::new().opaque(directory).opaque(name.as_bytes()))
            .await
    }

    /// A NULL call, to see that the connection lives.
    pub async fn ping(&mut self) {
        assert_eq!(self.nfs(0, &Xdr::new()).await.accepted(), 0);
    }
}

/// CREATE, UNCHECKED, mode 0644.
pub fn create_arguments(directory: &[u8], name: &str) -> Xdr {
    Xdr::new()
        .opaque(directory)
        .opaque(name.as_bytes())
        .words(&[0, 1, 0o644, 0, 0, 0, 0, 0])
}

/// MKDIR, mode 0755.
pub fn mkdir_arguments(directory: &[u8], name: &str) -> Xdr {
    Xdr::new()
        .opaque(directory)
        .opaque(name.as_bytes())
        .words(&[1, 0o755, 0, 0, 0, 0, 0])
}
