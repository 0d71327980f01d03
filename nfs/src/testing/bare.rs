//! The ceiling to compare a server with: a thread per connection that answers GETATTR, READ and WRITE with constant
//! bytes, one buffered read, one vectored write, no file system, no checks. It is no server.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use bytes::{BufMut, BytesMut};

use super::load::TRANSFER_BYTES;
use crate::nfs3::types::{ATTRIBUTES_BYTES, POST_ATTRIBUTES_BYTES, Procedure};
use crate::rpc::message::{begin_reply, end_reply, put_accepted};
use crate::rpc::record::{MARKER_BYTES, Marker};

/// Serves connections to the returned address for as long as the process lives.
pub fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::Builder::new()
        .name("bare-accept".to_owned())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                let spawned = thread::Builder::new().name("bare".to_owned()).spawn(move || {
                    // Ends with the client's close; a benchmark has nobody to tell of other ends.
                    let _ = serve(stream);
                });
                if spawned.is_err() {
                    return;
                }
            }
        })?;
    Ok(address)
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let data = vec![0x5a; TRANSFER_BYTES as usize];
    let mut buffer = vec![0; (TRANSFER_BYTES as usize) + (64 << 10)];
    let mut end = 0;
    loop {
        let received = stream.read(&mut buffer[end..])?;
        if received == 0 {
            return Ok(());
        }
        end += received;
        let mut start = 0;
        let mut heads = BytesMut::new();
        let mut reads = Vec::new();
        while let Some(marker) = buffer[start..end].first_chunk::<MARKER_BYTES>() {
            let length = Marker::decode(*marker).length;
            let Some(record) = buffer[start + MARKER_BYTES..end].get(..length) else {
                break;
            };
            if answer(record, &mut heads)? {
                reads.push(heads.len());
            }
            start += MARKER_BYTES + length;
        }
        buffer.copy_within(start..end, 0);
        end -= start;
        write(&mut stream, &heads, &reads, &data)?;
    }
}

/// Writes the head of the answer; returns whether data follows it.
fn answer(record: &[u8], out: &mut BytesMut) -> io::Result<bool> {
    let word = |at: usize| {
        let bytes = record.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(u32::from_be_bytes)
            .ok_or_else(|| io::Error::from(ErrorKind::InvalidData))
    };
    let start = begin_reply(out, word(0)?);
    put_accepted(out);
    out.put_u32(0);
    let procedure = word(20)?;
    let read = procedure == Procedure::Read as u32;
    if read {
        out.put_bytes(0, POST_ATTRIBUTES_BYTES);
        out.put_u32(TRANSFER_BYTES);
        out.put_u32(0);
        out.put_u32(TRANSFER_BYTES);
    } else if procedure == Procedure::Write as u32 {
        out.put_bytes(0, 4 + 24 + POST_ATTRIBUTES_BYTES + 16);
    } else {
        out.put_bytes(0, ATTRIBUTES_BYTES);
    }
    end_reply(out, start, if read { TRANSFER_BYTES as usize } else { 0 });
    Ok(read)
}

fn write(stream: &mut TcpStream, heads: &[u8], reads: &[usize], data: &[u8]) -> io::Result<()> {
    let mut slices = Vec::with_capacity(2 * reads.len() + 1);
    let mut from = 0;
    for to in reads {
        slices.push(IoSlice::new(&heads[from..*to]));
        slices.push(IoSlice::new(data));
        from = *to;
    }
    slices.push(IoSlice::new(&heads[from..]));
    let mut slices = &mut slices[..];
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let written = stream.write_vectored(slices)?;
        IoSlice::advance_slices(&mut slices, written);
    }
    Ok(())
}
