//! Credentials (RFC 5531 section 8.2 and appendix A): AUTH_SYS and AUTH_NONE. Every other flavour is refused by name, so
//! that a client that probes for TLS (RFC 9289) or Kerberos learns at once that there is none.
//!
//! The stamp and the machine name of AUTH_SYS are read and forgotten: both may differ between a request and its
//! retransmission, and neither can be believed.

use crate::xdr::{Decoder, XdrError};

pub(crate) const AUTH_NONE: u32 = 0;
pub(crate) const AUTH_SYS: u32 = 1;

/// Longest body of a credential or verifier in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 400;
/// Most supplementary groups of AUTH_SYS.
pub(crate) const GROUPS_MAX: usize = 16;
const MACHINE_NAME_BYTES_MAX: usize = 255;

/// Who a client says it is, before squashing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credential<'a> {
    /// Says nothing.
    None,
    /// Unix ids.
    Sys(SysCredential<'a>),
}

/// The ids of an AUTH_SYS credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SysCredential<'a> {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    groups: &'a [[u8; 4]],
}

impl SysCredential<'_> {
    /// The supplementary groups, at most [`GROUPS_MAX`], in the order of the request.
    pub(crate) fn groups(&self) -> impl ExactSizeIterator<Item = u32> {
        self.groups.iter().map(|group| u32::from_be_bytes(*group))
    }
}

/// A credential that outlives the request's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnedCredential(Option<OwnedSys>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct OwnedSys {
    uid: u32,
    gid: u32,
    groups: Box<[[u8; 4]]>,
}

impl From<&Credential<'_>> for OwnedCredential {
    fn from(credential: &Credential<'_>) -> Self {
        OwnedCredential(match credential {
            Credential::None => None,
            Credential::Sys(sys) => Some(OwnedSys {
                uid: sys.uid,
                gid: sys.gid,
                groups: sys.groups.into(),
            }),
        })
    }
}

impl OwnedCredential {
    pub(crate) fn borrow(&self) -> Credential<'_> {
        match &self.0 {
            None => Credential::None,
            Some(OwnedSys { uid, gid, groups }) => Credential::Sys(SysCredential {
                uid: *uid,
                gid: *gid,
                groups,
            }),
        }
    }
}

/// Why a credential is refused (`auth_stat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthError {
    /// The credential's body is not what its flavour says.
    BadCredential,
    /// The flavour is not offered here.
    RejectedCredential,
    /// The verifier's body is not what its flavour says.
    BadVerifier,
}

impl AuthError {
    /// The number on the wire.
    pub(crate) fn code(self) -> u32 {
        match self {
            AuthError::BadCredential => 1,
            AuthError::RejectedCredential => 2,
            AuthError::BadVerifier => 3,
        }
    }
}

/// Reads credential and verifier. The outer error is a header that ends too early, the inner one a refusal.
#[inline(always)]
pub(crate) fn decode<'a>(decoder: &mut Decoder<'a>) -> Result<Result<Credential<'a>, AuthError>, XdrError> {
    let flavour = decoder.u32()?;
    let body = match decoder.opaque(BODY_BYTES_MAX) {
        Ok(body) => body,
        Err(XdrError::TooLong { .. }) => return Ok(Err(AuthError::BadCredential)),
        Err(error) => return Err(error),
    };
    let credential = match flavour {
        AUTH_NONE => Credential::None,
        AUTH_SYS => match sys(body) {
            Ok(sys) => Credential::Sys(sys),
            Err(_) => return Ok(Err(AuthError::BadCredential)),
        },
        _ => return Ok(Err(AuthError::RejectedCredential)),
    };
    let verifier_flavour = decoder.u32()?;
    match decoder.opaque(BODY_BYTES_MAX) {
        Ok(_) if verifier_flavour == AUTH_NONE => Ok(Ok(credential)),
        Ok(_) | Err(XdrError::TooLong { .. }) => Ok(Err(AuthError::BadVerifier)),
        Err(error) => Err(error),
    }
}

#[inline]
fn sys(body: &[u8]) -> Result<SysCredential<'_>, XdrError> {
    let mut decoder = Decoder::new(body);
    decoder.u32()?;
    decoder.opaque(MACHINE_NAME_BYTES_MAX)?;
    let uid = decoder.u32()?;
    let gid = decoder.u32()?;
    let count = decoder.u32()?;
    if count as usize > GROUPS_MAX {
        return Err(XdrError::TooLong {
            found: count,
            limit: GROUPS_MAX,
        });
    }
    let (groups, rest) = decoder.remaining().as_chunks::<4>();
    match groups.len().checked_sub(count as usize) {
        Some(0) if rest.is_empty() => Ok(SysCredential { uid, gid, groups }),
        Some(_) => Err(XdrError::Trailing(decoder.remaining().len() - count as usize * 4)),
        None => Err(XdrError::Truncated {
            needed: count as usize * 4,
            left: decoder.remaining().len(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{AuthError, Credential, OwnedCredential, decode};
    use crate::xdr::{Decoder, XdrError};

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn golden_sys_credential() {
        // Flavour 1, 36 bytes: stamp, "host", uid 1000, gid 100, groups 100, 27, 4; verifier AUTH_NONE.
        let host = u32::from_be_bytes(*b"host");
        let input = words(&[1, 36, 7, 4, host, 1000, 100, 3, 100, 27, 4, 0, 0]);
        let mut decoder = Decoder::new(&input);
        let Ok(Ok(Credential::Sys(sys))) = decode(&mut decoder) else {
            panic!("refused")
        };
        assert_eq!(
            (sys.uid, sys.gid, sys.groups().collect()),
            (1000, 100, vec![100, 27, 4])
        );
        assert_eq!(decoder.finish(), Ok(()));
        let credential = Credential::Sys(sys);
        assert_eq!(OwnedCredential::from(&credential).borrow(), credential);
    }

    #[test]
    fn group_counts_beyond_the_limit_are_bad_credentials() {
        let mut seventeen = vec![1, 20 + 17 * 4, 0, 0, 0, 0, 17];
        seventeen.extend([5; 17]);
        seventeen.extend([0, 0]);
        assert_eq!(
            decode(&mut Decoder::new(&words(&seventeen))),
            Ok(Err(AuthError::BadCredential))
        );
        let huge = words(&[1, 20, 0, 0, 0, 0, 1 << 28, 0, 0]);
        assert_eq!(
            decode(&mut Decoder::new(&huge)),
            Ok(Err(AuthError::BadCredential))
        );
    }

    #[test]
    fn bodies_beyond_400_bytes_are_refused_before_they_are_looked_at() {
        let input = words(&[1, 1 << 30, 0, 0]);
        assert_eq!(
            decode(&mut Decoder::new(&input)),
            Ok(Err(AuthError::BadCredential))
        );
        let input = words(&[0, 0, 0, 401]);
        assert_eq!(decode(&mut Decoder::new(&input)), Ok(Err(AuthError::BadVerifier)));
    }

    #[test]
    fn other_flavours_are_rejected() {
        for flavour in [2, 3, 6, 7, 390_003] {
            assert_eq!(
                decode(&mut Decoder::new(&words(&[flavour, 0, 0, 0]))),
                Ok(Err(AuthError::RejectedCredential))
            );
        }
    }

    #[test]
    fn a_header_that_ends_is_told_apart() {
        assert!(matches!(
            decode(&mut Decoder::new(&words(&[0, 0, 0]))),
            Err(XdrError::Truncated { .. })
        ));
    }
}
