//! What an operation finds out on the way, kept for those who watch it now and for those who come later.
//!
//! Findings are counted from 0 on and the first of them are kept, as many as fit [`BYTES_MAX`]; of the others only the
//! number is known. A watcher remembers the position up to which it was told.

use cairn_snapshot::archive::{Damage, PackVerdict};

/// Memory for the findings of one operation in bytes, about.
pub const BYTES_MAX: usize = 8 << 20;
/// Findings that are told at a time: one message of the stream.
pub const TOLD_MAX: usize = 512;
/// Bytes of findings that are told at a time, about.
pub const TOLD_BYTES_MAX: usize = 512 << 10;

/// Something that an operation has found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Something is not as it was written.
    Damage(Damage),
    /// What becomes of a pack.
    Verdict(PackVerdict),
}

impl Finding {
    /// What it takes up in memory, about.
    fn bytes(&self) -> usize {
        size_of::<Finding>()
            + match self {
                Finding::Damage(damage) => {
                    damage.path.as_ref().map_or(0, Vec::len) + damage.object.len() + damage.what.len()
                }
                Finding::Verdict(verdict) => verdict.object.len(),
            }
    }
}

/// Some findings, and where to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The findings from the position on that was asked for.
    pub findings: Vec<Finding>,
    /// Findings behind these that are not kept.
    pub skipped: u64,
    /// The position to ask for next.
    pub next: u64,
    /// More are there now.
    pub more: bool,
}

/// The findings of one operation.
#[derive(Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    kept_bytes: usize,
    full: bool,
    count: u64,
}

impl Findings {
    /// Adds one.
    pub fn push(&mut self, finding: Finding) {
        self.count += 1;
        let bytes = finding.bytes();
        // Once one was left out, later ones are too: those that are kept have no gaps.
        self.full |= self.kept_bytes + bytes > BYTES_MAX;
        if !self.full {
            self.kept_bytes += bytes;
            self.kept.push(finding);
        }
    }

    /// Findings from `position` on.
    pub fn since(&self, position: u64) -> Told {
        let from = usize::try_from(position)
            .unwrap_or(usize::MAX)
            .min(self.kept.len());
        let mut bytes = 0;
        let findings: Vec<Finding> = self.kept[from..]
            .iter()
            .take(TOLD_MAX)
            .take_while(|finding| {
                let room = bytes < TOLD_BYTES_MAX;
                bytes += finding.bytes();
                room
            })
            .cloned()
            .collect();
        let more = from + findings.len() < self.kept.len();
        let told = position.saturating_add(findings.len() as u64);
        let next = if more { told } else { self.count.max(told) };
        Told {
            findings,
            skipped: next - told,
            next,
            more,
        }
    }

    /// Memory that is taken up in bytes, about.
    pub fn bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Gives the memory back. The number of findings stays.
    pub fn forget(&mut self) {
        self.kept = Vec::new();
        self.kept_bytes = 0;
        self.full = true;
    }
}

#[cfg(test)]
mod tests {
    use cairn_snapshot::archive::{PackAction, PackVerdict};

    use super::{BYTES_MAX, Finding, Findings, TOLD_MAX};

    fn verdict(number: u64, object_bytes: usize) -> Finding {
        Finding::Verdict(PackVerdict {
            object: "p".repeat(object_bytes),
            action: PackAction::Condemn,
            stored_bytes: number,
            live_bytes: 0,
        })
    }

    #[test]
    fn everything_is_told_once_and_in_order() {
        let mut findings = Findings::default();
        let count = TOLD_MAX as u64 + 3;
        (0..count).for_each(|number| findings.push(verdict(number, 70)));
        let first = findings.since(0);
        assert_eq!(
            (first.findings.len(), first.more, first.skipped),
            (TOLD_MAX, true, 0)
        );
        let second = findings.since(first.next);
        assert_eq!((second.more, second.next), (false, count));
        let all: Vec<Finding> = first.findings.into_iter().chain(second.findings).collect();
        assert_eq!(
            all,
            (0..count).map(|number| verdict(number, 70)).collect::<Vec<_>>()
        );
        assert_eq!(findings.since(count).findings, []);
        findings.push(verdict(count, 1));
        assert_eq!(findings.since(count).findings, [verdict(count, 1)]);
    }

    #[test]
    fn what_is_not_kept_is_counted() {
        let mut findings = Findings::default();
        for number in 0..20 {
            findings.push(verdict(number, BYTES_MAX / 10));
        }
        assert!(findings.bytes() <= BYTES_MAX);
        let mut told = (0, 0);
        let mut position = 0;
        loop {
            let some = findings.since(position);
            told = (told.0 + some.findings.len() as u64, told.1 + some.skipped);
            position = some.next;
            if !some.more {
                break;
            }
        }
        assert_eq!((told.0 + told.1, position), (20, 20));
        assert!(told.0 > 0 && told.1 > 0, "{told:?}");
        // A small one would fit and is left out all the same.
        findings.push(verdict(20, 1));
        let last = findings.since(20);
        assert_eq!((last.findings.len(), last.skipped, last.next), (0, 1, 21));
    }

    #[test]
    fn forgotten_findings_are_told_as_skipped() {
        let mut findings = Findings::default();
        (0..5).for_each(|number| findings.push(verdict(number, 1)));
        findings.forget();
        assert_eq!(findings.bytes(), 0);
        let told = findings.since(2);
        assert_eq!(
            (told.findings.len(), told.skipped, told.next, told.more),
            (0, 3, 5, false)
        );
    }
}
