//! Call headers and reply headers (RFC 5531 section 9).

use bytes::{BufMut, BytesMut};

use super::auth::{self, AuthError, Credential};
use super::record::{MARKER_BYTES, Marker};
use crate::xdr::{Block, Decoder, XdrError};

const CALL: u32 = 0;
const REPLY: u32 = 1;
const RPC_VERSION: u32 = 2;
const MSG_ACCEPTED: u32 = 0;
const MSG_DENIED: u32 = 1;
const RPC_MISMATCH: u32 = 0;
const AUTH_ERROR: u32 = 1;

/// Bytes from the reply's type to its accept status, as [`put_accepted`] writes them.
pub(crate) const ACCEPTED_BYTES: usize = 20;

/// Most bytes that the header of a call can take: six words, then two authenticators.
pub(crate) const CALL_HEADER_BYTES_MAX: usize = 6 * 4 + 2 * (8 + auth::BODY_BYTES_MAX);

/// The header of a call whose credential is acceptable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallHeader<'a> {
    pub(crate) xid: u32,
    pub(crate) program: u32,
    pub(crate) version: u32,
    pub(crate) procedure: u32,
    pub(crate) credential: Credential<'a>,
}

/// Why a message is not executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallError {
    /// No call that could be answered: the connection has lost its meaning.
    NoCall(NoCall),
    /// Refused; the refusal is the answer.
    Refused { xid: u32, refusal: Refusal },
}

/// Why a message cannot even be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoCall {
    /// Too short for a transaction id and a type.
    #[error("message of {0} bytes")]
    Short(usize),
    /// A reply, or nothing known.
    #[error("message of type {0}, which is no call")]
    Type(u32),
}

/// A negative answer to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The call is not of RPC version 2.
    RpcMismatch,
    /// The credential or verifier is refused.
    Auth(AuthError),
    /// No such program here.
    ProgramUnavailable,
    /// The program exists in these versions only.
    ProgramMismatch { low: u32, high: u32 },
    /// The program has no such procedure.
    ProcedureUnavailable,
    /// The arguments do not decode.
    GarbageArguments,
}

/// Reads the header of a call; the decoder is left at the arguments.
#[inline(always)]
pub(crate) fn decode_call<'a>(decoder: &mut Decoder<'a>) -> Result<CallHeader<'a>, CallError> {
    let Ok(words) = decoder.fixed::<24>() else {
        return Err(cut_header(decoder));
    };
    let word = |index: usize| {
        u32::from_be_bytes([
            words[index * 4],
            words[index * 4 + 1],
            words[index * 4 + 2],
            words[index * 4 + 3],
        ])
    };
    let (xid, kind) = (word(0), word(1));
    if kind != CALL {
        return Err(CallError::NoCall(NoCall::Type(kind)));
    }
    let refused = |refusal| CallError::Refused { xid, refusal };
    let garbage = |_: XdrError| refused(Refusal::GarbageArguments);
    if word(2) != RPC_VERSION {
        return Err(refused(Refusal::RpcMismatch));
    }
    let (program, version, procedure) = (word(3), word(4), word(5));
    let credential = auth::decode(decoder)
        .map_err(garbage)?
        .map_err(|error| refused(Refusal::Auth(error)))?;
    Ok(CallHeader {
        xid,
        program,
        version,
        procedure,
        credential,
    })
}

/// What is wrong with a message that ends before the header's sixth word.
#[cold]
fn cut_header(decoder: &mut Decoder<'_>) -> CallError {
    let length = decoder.remaining().len();
    let (Ok(xid), Ok(kind)) = (decoder.u32(), decoder.u32()) else {
        return CallError::NoCall(NoCall::Short(length));
    };
    match (kind, decoder.u32()) {
        (CALL, Ok(version)) if version != RPC_VERSION => CallError::Refused {
            xid,
            refusal: Refusal::RpcMismatch,
        },
        (CALL, _) => CallError::Refused {
            xid,
            refusal: Refusal::GarbageArguments,
        },
        (other, _) => CallError::NoCall(NoCall::Type(other)),
    }
}

/// Writes the part of an accepted, successful reply between the transaction id and the results.
pub(crate) fn put_accepted(out: &mut BytesMut) {
    put_accepted_with(out, 0);
}

fn put_accepted_with(out: &mut BytesMut, accept_status: u32) {
    for word in [REPLY, MSG_ACCEPTED, auth::AUTH_NONE, 0, accept_status] {
        out.put_u32(word);
    }
}

/// Writes a refusal, all after the transaction id.
pub(crate) fn put_refusal(out: &mut BytesMut, refusal: Refusal) {
    match refusal {
        Refusal::RpcMismatch => {
            for word in [REPLY, MSG_DENIED, RPC_MISMATCH, RPC_VERSION, RPC_VERSION] {
                out.put_u32(word);
            }
        }
        Refusal::Auth(error) => {
            for word in [REPLY, MSG_DENIED, AUTH_ERROR, error.code()] {
                out.put_u32(word);
            }
        }
        Refusal::ProgramUnavailable => put_accepted_with(out, 1),
        Refusal::ProgramMismatch { low, high } => {
            put_accepted_with(out, 2);
            out.put_u32(low);
            out.put_u32(high);
        }
        Refusal::ProcedureUnavailable => put_accepted_with(out, 3),
        Refusal::GarbageArguments => put_accepted_with(out, 4),
    }
}

/// Starts a reply at the end of `out`: a marker to be filled in, and the transaction id. Returns where it starts, for
/// [`end_reply`].
#[inline]
pub(crate) fn begin_reply(out: &mut BytesMut, xid: u32) -> usize {
    let start = out.len();
    out.put_bytes(0, MARKER_BYTES);
    out.put_u32(xid);
    start
}

/// Starts a reply as [`begin_reply`] does and goes on to an accepted call with the status `Ok` of NFS and MOUNT, 0.
#[inline]
pub(crate) fn begin_success(out: &mut BytesMut, xid: u32) -> usize {
    let start = out.len();
    let mut block = Block::<{ MARKER_BYTES + 4 + ACCEPTED_BYTES + 4 }>::new();
    for word in [0, xid, REPLY, MSG_ACCEPTED, auth::AUTH_NONE, 0, 0, 0] {
        block.u32(word);
    }
    out.extend_from_slice(block.filled());
    start
}

/// Ends the reply that starts at `start`, with `more` bytes to be sent after what `out` holds.
#[inline]
pub(crate) fn end_reply(out: &mut BytesMut, start: usize, more: usize) {
    let marker = Marker::whole(out.len() - start - MARKER_BYTES + more);
    out[start..start + MARKER_BYTES].copy_from_slice(&marker);
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{AuthError, CallError, NoCall, Refusal, begin_reply, decode_call, end_reply, put_refusal};
    use crate::rpc::auth::Credential;
    use crate::xdr::Decoder;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn golden_call() {
        let input = words(&[0xabcd, 0, 2, 100_003, 3, 1, 0, 0, 0, 0, 42]);
        let mut decoder = Decoder::new(&input);
        let header = decode_call(&mut decoder).unwrap();
        assert_eq!(
            (header.xid, header.program, header.version, header.procedure),
            (0xabcd, 100_003, 3, 1)
        );
        assert_eq!(header.credential, Credential::None);
        assert_eq!(decoder.u32(), Ok(42));
    }

    #[test]
    fn what_is_no_call_is_told_apart_from_what_is_refused() {
        let decode = |input: &[u32]| decode_call(&mut Decoder::new(&words(input))).unwrap_err();
        assert_eq!(decode(&[1]), CallError::NoCall(NoCall::Short(4)));
        assert_eq!(decode(&[1, 5, 2]), CallError::NoCall(NoCall::Type(5)));
        let refused = |refusal| CallError::Refused { xid: 1, refusal };
        assert_eq!(decode(&[1, 0, 3, 0]), refused(Refusal::RpcMismatch));
        assert_eq!(decode(&[1, 0, 2, 100_003]), refused(Refusal::GarbageArguments));
        assert_eq!(
            decode(&[1, 0, 2, 100_003, 3, 0, 7, 0, 0, 0]),
            refused(Refusal::Auth(AuthError::RejectedCredential))
        );
    }

    #[test]
    fn golden_refusals() {
        let reply = |refusal| {
            let mut out = BytesMut::new();
            let start = begin_reply(&mut out, 9);
            put_refusal(&mut out, refusal);
            end_reply(&mut out, start, 0);
            out.to_vec()
        };
        let marked = |body: &[u32]| {
            let mut record = words(&[0x8000_0000 | (body.len() as u32 * 4)]);
            record.extend(words(body));
            record
        };
        assert_eq!(reply(Refusal::RpcMismatch), marked(&[9, 1, 1, 0, 2, 2]));
        assert_eq!(
            reply(Refusal::Auth(AuthError::BadCredential)),
            marked(&[9, 1, 1, 1, 1])
        );
        assert_eq!(reply(Refusal::ProgramUnavailable), marked(&[9, 1, 0, 0, 0, 1]));
        assert_eq!(
            reply(Refusal::ProgramMismatch { low: 3, high: 3 }),
            marked(&[9, 1, 0, 0, 0, 2, 3, 3])
        );
        assert_eq!(reply(Refusal::ProcedureUnavailable), marked(&[9, 1, 0, 0, 0, 3]));
        assert_eq!(reply(Refusal::GarbageArguments), marked(&[9, 1, 0, 0, 0, 4]));
    }
}
