//! A certificate authority that the operator keeps: makes roots and the certificates that come from them, and says when they are to be replaced. Pure but
//! for the keys, which the cryptographic library draws.
//!
//! - A root lives [`ROOT_DAYS`], a certificate [`LEAF_DAYS`]; both are replaced after two thirds of that.
//! - A new root is trusted before anything is signed with it, and the old one until nothing is left that it signed: two roots are trusted during a
//!   change ([`State::advance`]).
//! - Times are days: a certificate is valid from the day before it is made.

use cairn_types::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

use super::Material;

/// How long a root lives.
pub const ROOT_DAYS: i64 = 1095;
/// How long a certificate lives.
pub const LEAF_DAYS: i64 = 90;
/// How long a new root is only trusted before it signs: until everybody has read it.
pub const SETTLE_DAYS: i64 = 1;

const DAY: i64 = 86_400;

/// A root: its certificate and its key, both PEM, and when it was made.
#[derive(Clone, PartialEq, Eq)]
pub struct Root {
    /// Its certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// When it was made.
    pub made: Timestamp,
}

impl std::fmt::Debug for Root {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Root")
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}

/// The roots of an installation, oldest first: one, or two during a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The roots.
    pub roots: Vec<Root>,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A server.
    Server,
    /// A client.
    Client,
}

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate for {name}")]
pub struct AuthorityError {
    /// For whom.
    pub name: String,
    /// Why not.
    #[source]
    pub source: rcgen::Error,
}

impl State {
    /// Brings the roots up to date: the first one, a second one when the newest has lived two thirds of its life, and none that is over. Answers
    /// whether anything changed, which is to be kept before anything is signed. Errors: no key could be made.
    pub fn advance(&mut self, name: &str, now: Timestamp) -> Result<bool, AuthorityError> {
        let before = self.roots.len();
        self.roots.retain(|root| days_between(root.made, now) < ROOT_DAYS);
        let mut is_changed = self.roots.len() != before;
        // What an old root signed is over when the new one has signed for as long as a certificate lives.
        if let [_, newest] = &self.roots[..]
            && days_between(newest.made, now) > SETTLE_DAYS + LEAF_DAYS
        {
            self.roots.remove(0);
            is_changed = true;
        }
        let is_due = |root: &Root| days_between(root.made, now) >= ROOT_DAYS * 2 / 3;
        if self.roots.len() < 2 && self.roots.last().is_none_or(is_due) {
            self.roots.push(make_root(name, now)?);
            is_changed = true;
        }
        Ok(is_changed)
    }

    /// The root that signs now: the newest that everybody has had the time to read, or the only one.
    pub fn signer(&self, now: Timestamp) -> Option<&Root> {
        let settled = |root: &&Root| days_between(root.made, now) >= SETTLE_DAYS;
        self.roots
            .iter()
            .rev()
            .find(settled)
            .or_else(|| self.roots.first())
    }

    /// The certificates of all roots that are trusted.
    pub fn bundle(&self) -> String {
        let pems = self.roots.iter().map(|root| root.certificate.trim_end());
        pems.flat_map(|pem| [pem, "\n"]).collect()
    }

    /// Whether a certificate that was made then is to be replaced.
    pub fn is_leaf_due(made: Timestamp, now: Timestamp) -> bool {
        days_between(made, now) >= LEAF_DAYS * 2 / 3
    }

    /// Makes a certificate for these names (host names and addresses). Errors: a name is none; no key could be made; there is no root.
    pub fn issue(&self, names: &[String], role: Role, now: Timestamp) -> Result<Material, AuthorityError> {
        let name = names.first().cloned().unwrap_or_default();
        let failed = |source| AuthorityError {
            name: name.clone(),
            source,
        };
        let root = self
            .signer(now)
            .ok_or(rcgen::Error::CouldNotParseCertificate)
            .map_err(failed)?;
        let root_key = KeyPair::from_pem(&root.key).map_err(failed)?;
        let issuer = Issuer::new(root_params(&root_name(root.made), root.made), root_key);
        let mut params = CertificateParams::new(names.to_vec()).map_err(failed)?;
        params.distinguished_name = common_name(&name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match role {
            Role::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Role::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        set_validity(&mut params, now, LEAF_DAYS);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        Ok(Material {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            authorities: self.bundle(),
        })
    }
}

fn make_root(name: &str, now: Timestamp) -> Result<Root, AuthorityError> {
    let failed = |source| AuthorityError {
        name: name.to_owned(),
        source,
    };
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = root_params(&root_name(now), now)
        .self_signed(&key)
        .map_err(failed)?;
    Ok(Root {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        made: now,
    })
}

/// Two roots have two names, so that whoever verifies tries the right one.
fn root_name(made: Timestamp) -> String {
    format!("cairn operator root {}", made.seconds())
}

fn root_params(name: &str, made: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, made, ROOT_DAYS);
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    distinguished
}

fn set_validity(params: &mut CertificateParams, from: Timestamp, days: i64) {
    let day = |offset: i64| {
        let seconds = from.seconds().saturating_add(offset * DAY);
        let instant = Timestamp::new(seconds, 0).to_instant().unwrap_or_default();
        let date = instant.to_zoned(jiff::tz::TimeZone::UTC).date();
        date_time_ymd(
            i32::from(date.year()),
            u8::try_from(date.month()).unwrap_or(1),
            u8::try_from(date.day()).unwrap_or(1),
        )
    };
    params.not_before = day(-1);
    // One more, because the day is cut off.
    params.not_after = day(days + 1);
}

fn days_between(from: Timestamp, to: Timestamp) -> i64 {
    to.seconds().saturating_sub(from.seconds()).div_euclid(DAY)
}

#[cfg(test)]
mod tests {
    use cairn_types::Timestamp;

    use super::{DAY, LEAF_DAYS, ROOT_DAYS, Role, State};

    fn day(number: i64) -> Timestamp {
        Timestamp::new(1_795_269_789 + number * DAY, 0)
    }

    #[test]
    fn a_new_root_is_trusted_before_it_signs_and_the_old_one_until_nothing_needs_it() {
        let mut state = State::default();
        assert!(state.advance("c", day(0)).unwrap());
        assert!(!state.advance("c", day(0)).unwrap());
        let first = state.roots[0].clone();
        assert_eq!(state.signer(day(0)), Some(&first));
        let due = ROOT_DAYS * 2 / 3;
        assert!(!state.advance("c", day(due - 1)).unwrap());
        assert!(state.advance("c", day(due)).unwrap());
        assert_eq!(state.roots.len(), 2);
        assert_eq!(state.bundle().matches("BEGIN CERTIFICATE").count(), 2);
        assert_eq!(state.signer(day(due)), Some(&first));
        let second = state.roots[1].clone();
        assert_eq!(state.signer(day(due + 1)), Some(&second));
        assert!(!state.advance("c", day(due + LEAF_DAYS)).unwrap());
        assert!(state.advance("c", day(due + LEAF_DAYS + 2)).unwrap());
        assert_eq!(state.roots, [second]);
    }

    #[test]
    fn after_a_long_sleep_there_is_a_root_again() {
        let mut state = State::default();
        state.advance("c", day(0)).unwrap();
        assert!(state.advance("c", day(5000)).unwrap());
        assert_eq!(state.roots.len(), 1);
        assert_eq!(state.roots[0].made, day(5000));
    }

    #[test]
    fn certificates_are_replaced_after_two_thirds() {
        assert!(!State::is_leaf_due(day(0), day(59)));
        assert!(State::is_leaf_due(day(0), day(60)));
    }

    #[test]
    fn a_certificate_has_its_names_and_keys() {
        let mut state = State::default();
        state.advance("c", day(0)).unwrap();
        let names = ["cairnd.cairn.svc".to_owned(), "127.0.0.1".to_owned()];
        let a = state.issue(&names, Role::Server, day(0)).unwrap();
        let b = state.issue(&names, Role::Server, day(0)).unwrap();
        assert!(a.certificate.contains("BEGIN CERTIFICATE") && a.key.contains("PRIVATE KEY"));
        assert_ne!(a.hash(), b.hash());
        assert_eq!(a.authorities, state.roots[0].certificate);
        assert!(
            state
                .issue(&["not a name".to_owned()], Role::Client, day(0))
                .is_ok(),
            "a name is not checked beyond ASCII"
        );
        assert!(state.issue(&["\u{e9}".to_owned()], Role::Client, day(0)).is_err());
    }
}
