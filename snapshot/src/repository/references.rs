//! How a person names a snapshot of a repository, and which one that is. What is resolved is never silently another snapshot.

use cairn_types::{SnapshotId, SnapshotReference, Tag};

use super::Repository;
use super::error::RepositoryError;
use super::labels::Listing;

/// Most candidates that an ambiguous reference tells.
pub const CANDIDATES_SHOWN_MAX: usize = 10;

/// What a person typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `latest`, `latest~N`: the newest snapshot that somebody asked for, or the Nth such before it. Safety snapshots do not count.
    Latest {
        /// How many before it.
        back: u64,
    },
    /// All digits of an id. A tag of the same form never stands for another snapshot.
    Id(SnapshotId),
    /// A tag: the newest snapshot that carries it. Or, if none does, the first digits of an id, at least
    /// [`SnapshotReference::PREFIX_DIGITS_MIN`].
    Name(Tag),
}

impl Reference {
    /// Parses what a person typed. Errors: [`RepositoryError::Reference`].
    pub fn parse(text: &str) -> Result<Reference, RepositoryError> {
        let wrong = || RepositoryError::Reference {
            reference: text.chars().take(100).collect(),
        };
        if let Some(rest) = text.strip_prefix("latest") {
            if rest.is_empty() {
                return Ok(Reference::Latest { back: 0 });
            }
            if let Some(digits) = rest.strip_prefix('~') {
                let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                let back = digits.parse().ok().filter(|_| is_number);
                return back.map(|back| Reference::Latest { back }).ok_or_else(wrong);
            }
        }
        if let Some(id) = SnapshotId::parse(text) {
            return Ok(Reference::Id(id));
        }
        Tag::new(text).map(Reference::Name).map_err(|_| wrong())
    }

    /// Which of all snapshots it is. Snapshots with damaged descriptors are found by their digits only. Errors: none fits, several ids fit.
    pub fn resolve(&self, listing: &Listing) -> Result<SnapshotId, RepositoryError> {
        let all = &listing.snapshots;
        let newest_first = all
            .iter()
            .rev()
            .map(|snapshot| (&snapshot.descriptor, &snapshot.labels));
        let none = || RepositoryError::NotFound {
            reference: self.to_string(),
        };
        let ids = || {
            let damaged = listing.damaged.iter().map(|(id, _)| *id);
            all.iter().map(|snapshot| snapshot.descriptor.id).chain(damaged)
        };
        match self {
            Reference::Latest { back } => {
                let mut asked = newest_first.filter(|(descriptor, _)| descriptor.origin.is_latest());
                let back = usize::try_from(*back).map_err(|_| none())?;
                asked
                    .nth(back)
                    .map(|(descriptor, _)| descriptor.id)
                    .ok_or_else(none)
            }
            Reference::Id(id) => ids().find(|candidate| candidate == id).ok_or_else(none),
            Reference::Name(name) => {
                let mut tagged = newest_first.filter(|(_, labels)| labels.tags.contains(name));
                if let Some((descriptor, _)) = tagged.next() {
                    return Ok(descriptor.id);
                }
                let reference = SnapshotReference::Name(name.clone());
                let mut fitting: Vec<SnapshotId> = ids().filter(|id| reference.is_prefix_of(*id)).collect();
                fitting.sort();
                match fitting[..] {
                    [] => Err(none()),
                    [one] => Ok(one),
                    _ => Err(RepositoryError::Ambiguous {
                        reference: self.to_string(),
                        found: fitting.len(),
                        candidates: fitting.into_iter().take(CANDIDATES_SHOWN_MAX).collect(),
                    }),
                }
            }
        }
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reference::Latest { back: 0 } => f.write_str("latest"),
            Reference::Latest { back } => write!(f, "latest~{back}"),
            Reference::Id(id) => write!(f, "{id}"),
            Reference::Name(name) => write!(f, "{name}"),
        }
    }
}

impl Repository {
    /// The snapshot that a person named. `latest` and whole ids cost one or two small files, everything else reads all descriptors. Errors: no
    /// reference, none fits, several fit, the state is damaged (for `latest`), I/O.
    pub fn resolve(&self, text: &str) -> Result<SnapshotId, RepositoryError> {
        let reference = Reference::parse(text)?;
        let exists = |id: SnapshotId| match self.descriptor(id) {
            Err(RepositoryError::NotFound { .. }) => Ok(false),
            // A damaged one is one: who uses it is told.
            Ok(_) | Err(RepositoryError::Damaged { .. } | RepositoryError::Newer { .. }) => Ok(true),
            Err(error) => Err(error),
        };
        match reference {
            Reference::Id(id) if exists(id)? => return Ok(id),
            Reference::Id(_) => {
                return Err(RepositoryError::NotFound {
                    reference: text.to_owned(),
                });
            }
            Reference::Latest { back: 0 } => {
                if let Some(id) = self.state()?.newest
                    && exists(id)?
                {
                    return Ok(id);
                }
            }
            Reference::Latest { .. } | Reference::Name(_) => {}
        }
        reference.resolve(&self.list()?)
    }
}
