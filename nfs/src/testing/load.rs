//! Load for an NFSv3 server: one blocking connection, a fixed number of calls in flight, and as little work per call as
//! possible, so that the server is what is measured. Works against any server, not only this crate's.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};

use crate::mount3;
use crate::nfs3::types::{self as nfs3, Procedure};
use crate::rpc::auth;
use crate::rpc::message::{ACCEPTED_BYTES, begin_reply, end_reply};
use crate::rpc::record::{MARKER_BYTES, Marker};
use crate::xdr::{Decoder, Encode, XdrError};

/// Bytes of a READ or WRITE.
pub const TRANSFER_BYTES: u32 = 1 << 20;
/// READ and WRITE walk over so many bytes of the file and start again.
pub const FILE_BYTES: u64 = 64 << 20;

/// What the calls do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// GETATTR.
    Getattr,
    /// READ of [`TRANSFER_BYTES`].
    Read,
    /// UNSTABLE WRITE of [`TRANSFER_BYTES`].
    Write,
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Calls answered.
    pub calls: u64,
    /// Payload bytes of them.
    pub bytes: u64,
    /// From the first call to the last answer.
    pub elapsed: Duration,
}

impl Measured {
    /// Calls per second.
    pub fn calls_per_second(&self) -> f64 {
        self.calls as f64 / self.elapsed.as_secs_f64()
    }

    /// Mebibytes of payload per second.
    pub fn mebibytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64() / f64::from(1 << 20)
    }
}

/// A connection to a server.
pub struct Client {
    stream: TcpStream,
    xid: u32,
    replies: Vec<u8>,
    /// A GETATTR call of the file of the current run.
    getattr: Vec<u8>,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

fn undecodable(error: XdrError) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

impl Client {
    /// Connects.
    pub fn connect(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        Ok(Client {
            stream,
            xid: 1,
            replies: vec![0; 256 << 10],
            getattr: Vec::new(),
        })
    }

    fn put_call(&mut self, out: &mut BytesMut, program: u32, procedure: u32, arguments: &[u8], more: usize) {
        self.xid = self.xid.wrapping_add(1);
        // A call begins as a reply does: marker, transaction id.
        let start = begin_reply(out, self.xid);
        for word in [0, 2, program, 3, procedure] {
            out.put_u32(word);
        }
        // AUTH_SYS: stamp, an empty machine name, uid, gid, three groups; then the verifier AUTH_NONE.
        for word in [auth::AUTH_SYS, 32, 0, 0, 0, 0, 3, 0, 1, 2, auth::AUTH_NONE, 0] {
            out.put_u32(word);
        }
        out.put_slice(arguments);
        end_reply(out, start, more);
    }

    /// One call with its answer, from the results on. Errors: everything but an accepted, successful reply.
    fn call(&mut self, program: u32, procedure: u32, arguments: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = BytesMut::new();
        self.put_call(&mut out, program, procedure, arguments, 0);
        self.stream.write_all(&out)?;
        let mut marker = [0; MARKER_BYTES];
        self.stream.read_exact(&mut marker)?;
        let mut reply = vec![0; Marker::decode(marker).length];
        self.stream.read_exact(&mut reply)?;
        if reply.len() < 4 + ACCEPTED_BYTES || reply[8..4 + ACCEPTED_BYTES].iter().any(|byte| *byte != 0) {
            return Err(invalid("the call was refused"));
        }
        Ok(reply.split_off(4 + ACCEPTED_BYTES))
    }

    /// Mounts `path`: the handle of the directory.
    pub fn mount(&mut self, path: &str) -> io::Result<Vec<u8>> {
        let mut arguments = BytesMut::new();
        arguments.put_opaque(path.as_bytes());
        let results = self.call(mount3::PROGRAM, 1, &arguments)?;
        handle_after(&results, 0)
    }

    /// Finds `name`: its handle.
    pub fn lookup(&mut self, directory: &[u8], name: &str) -> io::Result<Vec<u8>> {
        let mut arguments = BytesMut::new();
        arguments.put_opaque(directory);
        arguments.put_opaque(name.as_bytes());
        let results = self.call(nfs3::PROGRAM, Procedure::Lookup as u32, &arguments)?;
        handle_after(&results, 0)
    }

    /// Makes the file `name`, or takes the existing one: its handle.
    pub fn create(&mut self, directory: &[u8], name: &str) -> io::Result<Vec<u8>> {
        let mut arguments = BytesMut::new();
        arguments.put_opaque(directory);
        arguments.put_opaque(name.as_bytes());
        // UNCHECKED; mode 0644, nothing else set.
        for word in [0, 1, 0o644, 0, 0, 0, 0, 0] {
            arguments.put_u32(word);
        }
        let results = self.call(nfs3::PROGRAM, Procedure::Create as u32, &arguments)?;
        handle_after(&results, 4)
    }

    /// Keeps `in_flight` calls on `file` going for `duration`, then waits for the answers. Every answer must be success;
    /// a READ must give all bytes, a WRITE take them.
    pub fn run(
        &mut self,
        file: &[u8],
        operation: Operation,
        in_flight: usize,
        duration: Duration,
    ) -> io::Result<Measured> {
        let payload = vec![0xa5; TRANSFER_BYTES as usize];
        self.getattr.clear();
        let started = Instant::now();
        let (mut sent, mut answered) = (0, 0);
        let mut wanted = in_flight as u64;
        let mut state = Replies::default();
        loop {
            self.send(file, operation, &payload, sent, wanted)?;
            sent += wanted;
            if sent == answered {
                break;
            }
            let finished = state.receive(&mut self.stream, &mut self.replies, operation)?;
            answered += finished;
            wanted = if started.elapsed() < duration { finished } else { 0 };
        }
        let transferred = if operation == Operation::Getattr {
            0
        } else {
            u64::from(TRANSFER_BYTES)
        };
        Ok(Measured {
            calls: answered,
            bytes: answered * transferred,
            elapsed: started.elapsed(),
        })
    }

    fn send(
        &mut self,
        file: &[u8],
        operation: Operation,
        payload: &[u8],
        sent: u64,
        count: u64,
    ) -> io::Result<()> {
        match operation {
            Operation::Getattr => self.send_getattr(file, count),
            Operation::Read => self.send_read(file, sent, count),
            Operation::Write => self.send_write(file, payload, sent, count),
        }
    }

    /// All calls are the same but for the transaction id.
    fn send_getattr(&mut self, file: &[u8], count: u64) -> io::Result<()> {
        if self.getattr.is_empty() {
            let mut arguments = BytesMut::new();
            arguments.put_opaque(file);
            let mut call = BytesMut::new();
            self.put_call(&mut call, nfs3::PROGRAM, Procedure::Getattr as u32, &arguments, 0);
            self.getattr = call.to_vec();
        }
        let mut out = Vec::with_capacity(self.getattr.len() * count as usize);
        for _ in 0..count {
            let start = out.len();
            out.extend_from_slice(&self.getattr);
            self.xid = self.xid.wrapping_add(1);
            out[start + MARKER_BYTES..start + MARKER_BYTES + 4].copy_from_slice(&self.xid.to_be_bytes());
        }
        self.stream.write_all(&out)
    }

    fn send_read(&mut self, file: &[u8], sent: u64, count: u64) -> io::Result<()> {
        let mut out = BytesMut::new();
        for number in sent..sent + count {
            let mut arguments = BytesMut::new();
            arguments.put_opaque(file);
            arguments.put_u64(number * u64::from(TRANSFER_BYTES) % FILE_BYTES);
            arguments.put_u32(TRANSFER_BYTES);
            self.put_call(&mut out, nfs3::PROGRAM, Procedure::Read as u32, &arguments, 0);
        }
        self.stream.write_all(&out)
    }

    fn send_write(&mut self, file: &[u8], payload: &[u8], sent: u64, count: u64) -> io::Result<()> {
        for number in sent..sent + count {
            let mut arguments = BytesMut::new();
            arguments.put_opaque(file);
            arguments.put_u64(number * u64::from(TRANSFER_BYTES) % FILE_BYTES);
            for word in [TRANSFER_BYTES, 0, TRANSFER_BYTES] {
                arguments.put_u32(word);
            }
            let mut out = BytesMut::new();
            self.put_call(
                &mut out,
                nfs3::PROGRAM,
                Procedure::Write as u32,
                &arguments,
                payload.len(),
            );
            let mut slices = [IoSlice::new(&out), IoSlice::new(payload)];
            let mut slices = &mut slices[..];
            while !slices.is_empty() {
                let written = self.stream.write_vectored(slices)?;
                IoSlice::advance_slices(&mut slices, written);
            }
        }
        Ok(())
    }
}

fn handle_after(results: &[u8], skip: usize) -> io::Result<Vec<u8>> {
    let mut decoder = Decoder::new(results);
    if decoder.u32().map_err(undecodable)? != 0 {
        return Err(invalid("the procedure failed"));
    }
    if skip > 0 {
        decoder.u32().map_err(undecodable)?;
    }
    Ok(decoder.opaque(64).map_err(undecodable)?.to_vec())
}

/// The stream of replies: counts them, looks at the first bytes of each, throws the rest away.
#[derive(Default)]
struct Replies {
    head: Vec<u8>,
    /// Bytes of the current reply still to come, after its head.
    left: usize,
}

/// Marker, transaction id, accepted header, status.
const REPLY_HEAD_BYTES: usize = MARKER_BYTES + 4 + ACCEPTED_BYTES + 4;

impl Replies {
    /// Receives once; returns how many replies that completed.
    fn receive(
        &mut self,
        stream: &mut TcpStream,
        buffer: &mut [u8],
        operation: Operation,
    ) -> io::Result<u64> {
        let received = stream.read(buffer)?;
        if received == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut input = &buffer[..received];
        let mut finished = 0;
        while !input.is_empty() {
            if self.left == 0 {
                let missing = REPLY_HEAD_BYTES - self.head.len();
                let taken = missing.min(input.len());
                self.head.extend_from_slice(&input[..taken]);
                input = &input[taken..];
                if self.head.len() < REPLY_HEAD_BYTES {
                    break;
                }
                self.left = check(&self.head, operation)?;
                self.head.clear();
            }
            let taken = self.left.min(input.len());
            self.left -= taken;
            input = &input[taken..];
            if self.left == 0 {
                finished += 1;
            }
        }
        Ok(finished)
    }
}

fn check(head: &[u8], operation: Operation) -> io::Result<usize> {
    let marker = head
        .first_chunk()
        .copied()
        .map(Marker::decode)
        .ok_or_else(|| invalid("no marker"))?;
    if head[MARKER_BYTES + 8..].iter().any(|byte| *byte != 0) {
        return Err(invalid("a call failed"));
    }
    let least = if operation == Operation::Read {
        TRANSFER_BYTES as usize
    } else {
        0
    };
    let head_after_marker = REPLY_HEAD_BYTES - MARKER_BYTES;
    if marker.length < least || marker.length <= head_after_marker {
        return Err(invalid("a reply is too short"));
    }
    Ok(marker.length - head_after_marker)
}
