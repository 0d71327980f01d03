//! Who is at the other end of a connection: the names in a client's certificate.
//!
//! Names are those of the subject's alternative names that are DNS names or URIs; the common name is not looked at (RFC 9525
//! section 6.3). They are compared as a whole, DNS names without regard to case. A wildcard is a name like any other, and stands for
//! nothing.

use std::sync::Arc;

use tokio_rustls::rustls::pki_types::CertificateDer;

/// Most names of a certificate that are looked at.
const NAMES_MAX: usize = 64;
/// Longest name that is looked at, in bytes.
const NAME_BYTES_MAX: usize = 2048;

/// A client whose certificate was verified. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    names: Arc<[String]>,
}

/// Why the names of a client cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// There was no certificate.
    #[error("the client has no certificate")]
    NoCertificate,
    /// The certificate cannot be taken apart.
    #[error("the client's certificate is malformed: {0}")]
    Malformed(String),
}

impl Peer {
    /// The client with this chain of certificates, its own first, which was verified.
    ///
    /// # Errors
    /// Every variant of [`PeerError`].
    pub fn of(chain: Option<&[CertificateDer<'_>]>) -> Result<Self, PeerError> {
        let own = chain
            .and_then(<[CertificateDer<'_>]>::first)
            .ok_or(PeerError::NoCertificate)?;
        let parsed =
            webpki::EndEntityCert::try_from(own).map_err(|error| PeerError::Malformed(error.to_string()))?;
        let dns = parsed.valid_dns_names().map(str::to_ascii_lowercase);
        let uris = parsed.valid_uri_names().map(str::to_owned);
        let names = dns
            .chain(uris)
            .filter(|name| name.len() <= NAME_BYTES_MAX)
            .take(NAMES_MAX)
            .collect();
        Ok(Peer { names })
    }

    /// Its names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether it has one of these names, which are in the form of [`normalised`].
    pub fn is_one_of(&self, allowed: &[String]) -> bool {
        self.names.iter().any(|name| allowed.contains(name))
    }
}

/// A name of the configuration in the form that names are compared in; `None` if it can be no name of a certificate.
pub fn normalised(name: &str) -> Option<String> {
    let uri = name.contains("://");
    let fits =
        !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_graphic());
    let plain = uri || !name.contains('*');
    (fits && plain).then(|| match uri {
        true => name.to_owned(),
        false => name.to_ascii_lowercase(),
    })
}

#[cfg(test)]
mod tests {
    use super::normalised;

    #[test]
    fn names_of_the_configuration_are_whole_names() {
        assert_eq!(
            normalised("Operator.Example"),
            Some("operator.example".to_owned())
        );
        assert_eq!(
            normalised("spiffe://Cluster/ns/a"),
            Some("spiffe://Cluster/ns/a".to_owned())
        );
        for bad in ["", "*.example", "a b", "\u{e9}.example", &"a".repeat(3000)] {
            assert_eq!(normalised(bad), None, "{bad}");
        }
    }
}
