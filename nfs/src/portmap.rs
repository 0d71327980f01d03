//! The port mapper's questions (RFC 1833), answered on the server's own port: where NFS and MOUNT are, which is here.
//!
//! Version 2 answers NULL, GETPORT and DUMP; versions 3 and 4 NULL and GETADDR. Registering is not offered: this is no
//! port mapper for others.

use std::net::{IpAddr, SocketAddr};

use bytes::{BufMut, BytesMut};

use crate::mount3;
use crate::nfs3::types as nfs3;
use crate::rpc::message::{Refusal, put_accepted, put_refusal};
use crate::xdr::{Decoder, Encode, XdrError};

/// The program's number.
pub(crate) const PROGRAM: u32 = 100_000;
/// The oldest version that is answered.
pub(crate) const VERSION_LOW: u32 = 2;
/// The newest version that is answered.
pub(crate) const VERSION_HIGH: u32 = 4;

const PROTOCOL_TCP: u32 = 6;
const STRING_BYTES_MAX: usize = 1024;

/// What is to be found here.
const SERVICES: [(u32, u32); 3] = [
    (PROGRAM, VERSION_LOW),
    (mount3::PROGRAM, mount3::VERSION),
    (nfs3::PROGRAM, nfs3::VERSION),
];

fn is_served(program: u32, version: u32) -> bool {
    SERVICES.contains(&(program, version)) || (program == PROGRAM && (3..=VERSION_HIGH).contains(&version))
}

/// Writes the answer to a call, all after the transaction id. `local` is the address that the client connected to.
/// Returns whether the call was executed, not refused.
pub(crate) fn answer(
    local: SocketAddr,
    version: u32,
    procedure: u32,
    arguments: &[u8],
    out: &mut BytesMut,
) -> bool {
    let start = out.len();
    put_accepted(out);
    let arguments = Decoder::new(arguments);
    let answered = match (version, procedure) {
        (_, 0) => Ok(()),
        (2, 3) => get_port(local, arguments, out),
        (2, 4) => dump(local, arguments, out),
        (3 | 4, 3) => get_address(local, arguments, out),
        _ => {
            out.truncate(start);
            put_refusal(out, Refusal::ProcedureUnavailable);
            return false;
        }
    };
    if answered.is_err() {
        out.truncate(start);
        put_refusal(out, Refusal::GarbageArguments);
    }
    answered.is_ok()
}

fn get_port(local: SocketAddr, mut arguments: Decoder<'_>, out: &mut BytesMut) -> Result<(), XdrError> {
    let (program, version, protocol) = (arguments.u32()?, arguments.u32()?, arguments.u32()?);
    arguments.u32()?;
    arguments.finish()?;
    let found = is_served(program, version) && protocol == PROTOCOL_TCP;
    out.put_u32(if found { u32::from(local.port()) } else { 0 });
    Ok(())
}

fn dump(local: SocketAddr, arguments: Decoder<'_>, out: &mut BytesMut) -> Result<(), XdrError> {
    arguments.finish()?;
    for (program, version) in SERVICES {
        out.put_bool(true);
        for word in [program, version, PROTOCOL_TCP, u32::from(local.port())] {
            out.put_u32(word);
        }
    }
    out.put_bool(false);
    Ok(())
}

/// The universal address (RFC 5665 section 5.2.3): the address in text, then the port's two bytes in decimal.
fn get_address(local: SocketAddr, mut arguments: Decoder<'_>, out: &mut BytesMut) -> Result<(), XdrError> {
    let (program, version) = (arguments.u32()?, arguments.u32()?);
    let network = arguments.opaque(STRING_BYTES_MAX)?;
    arguments.opaque(STRING_BYTES_MAX)?;
    arguments.opaque(STRING_BYTES_MAX)?;
    arguments.finish()?;
    let address = local.ip().to_canonical();
    let expected: &[u8] = match address {
        IpAddr::V4(_) => b"tcp",
        IpAddr::V6(_) => b"tcp6",
    };
    let universal = if is_served(program, version) && (network.is_empty() || network == expected) {
        format!("{address}.{}.{}", local.port() >> 8, local.port() & 0xff)
    } else {
        String::new()
    };
    out.put_opaque(universal.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};

    use super::answer;
    use crate::xdr::{Decoder, Encode};

    fn call(version: u32, procedure: u32, arguments: &[u8]) -> (bool, Vec<u8>) {
        let mut out = BytesMut::new();
        let served = answer(
            "127.0.0.1:2049".parse().unwrap(),
            version,
            procedure,
            arguments,
            &mut out,
        );
        (served, out.split_off(20).to_vec())
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn get_port_knows_what_is_served_over_tcp() {
        for (program, version, protocol, port) in [
            (100_003, 3, 6, 2049),
            (100_005, 3, 6, 2049),
            (100_000, 2, 6, 2049),
            (100_003, 3, 17, 0),
            (100_003, 4, 6, 0),
            (100_021, 4, 6, 0),
        ] {
            let arguments = words(&[program, version, protocol, 0]);
            assert_eq!(
                call(2, 3, &arguments),
                (true, words(&[port])),
                "{program} {version} {protocol}"
            );
        }
    }

    #[test]
    fn dump_lists_the_services() {
        let (_, body) = call(2, 4, &[]);
        assert_eq!(body.len(), 3 * 20 + 4);
        assert_eq!(body[20..40], words(&[1, 100_005, 3, 6, 2049]));
    }

    #[test]
    fn get_address_gives_a_universal_address() {
        let mut arguments = BytesMut::new();
        arguments.put_u32(100_003);
        arguments.put_u32(3);
        arguments.put_opaque(b"tcp");
        arguments.put_opaque(b"");
        arguments.put_opaque(b"");
        for version in [3, 4] {
            let (_, body) = call(version, 3, &arguments);
            assert_eq!(Decoder::new(&body).opaque(100).unwrap(), b"127.0.0.1.8.1");
        }
    }

    #[test]
    fn registering_is_not_offered_and_garbage_is_told() {
        assert!(!call(2, 1, &words(&[1, 1, 6, 1])).0);
        assert!(!call(2, 3, &words(&[1, 1])).0);
        assert!(!call(2, 3, &words(&[1, 1, 6, 0, 0])).0);
    }
}
