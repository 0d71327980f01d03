//! Schedules: when snapshots are made without anybody asking. Says when the next one is due; runs nothing.

use cairn_types::Timestamp;
pub use cairn_types::cron::Cron;
use serde::{Deserialize, Deserializer};

use super::config::{Span, Zone, check_text};
use super::text::instant;

/// The shortest time between two snapshots of a schedule, in seconds.
pub const EVERY_MIN: u64 = 60;
/// The longest jitter, in seconds: a day.
pub const JITTER_MAX: u64 = 86_400;

/// A schedule.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// A time span, at least [`EVERY_MIN`], counted from the last snapshot of the schedule. Either this or `cron`.
    pub every: Option<Span>,
    /// Times of the calendar.
    #[serde(deserialize_with = "read_cron")]
    pub cron: Option<Cron>,
    /// The time zone of `cron`; default UTC.
    pub time_zone: Zone,
    /// The template of its snapshots.
    pub template: Option<String>,
    /// No snapshot when nothing has changed.
    pub skip_unchanged: bool,
    /// It makes no snapshots for now.
    pub suspend: bool,
    /// Most snapshots of this schedule that are kept; 0: no maximum.
    pub maximum_count: u64,
    /// Each snapshot is put off by a part of this, at most [`JITTER_MAX`]: so that not everything happens at once.
    pub jitter: Span,
    /// A time that was missed by more than this is passed over; nothing: it is made up for, however late it is.
    pub starting_deadline: Option<Span>,
}

impl Schedule {
    /// When the next snapshot is due after `last`, the last one of the schedule or the beginning of the schedule. What was missed meanwhile is
    /// due once, at the first of the missed times. Nothing if it is suspended or never due.
    pub fn next_after(&self, last: Timestamp) -> Option<Timestamp> {
        if self.suspend {
            return None;
        }
        match (&self.cron, self.every) {
            (Some(cron), _) => {
                let next = cron.next_after(&instant(last)?.to_zoned(self.zone()))?;
                Some(Timestamp::new(next.timestamp().as_second(), 0))
            }
            (None, Some(Span(seconds))) => {
                let seconds = last.seconds().checked_add(i64::try_from(seconds).ok()?)?;
                Some(Timestamp::new(seconds, last.nanoseconds()))
            }
            (None, None) => None,
        }
    }

    /// By how many seconds the snapshot that is due at `due` is put off: up to the jitter, and always the same for the same time and the same `seed`,
    /// which tells one schedule of one repository from others.
    pub fn delay(&self, seed: &[u8], due: Timestamp) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(seed);
        hasher.update(&due.seconds().to_be_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_be_bytes(first) % (self.jitter.0.min(JITTER_MAX) + 1)
    }

    /// Whether it is too late at `now` for what was due at `due`.
    pub fn is_too_late(&self, due: Timestamp, now: Timestamp) -> bool {
        let late = u64::try_from(now.seconds().saturating_sub(due.seconds())).unwrap_or(0);
        self.starting_deadline
            .is_some_and(|Span(deadline)| late > deadline.saturating_add(self.jitter.0))
    }

    fn zone(&self) -> jiff::tz::TimeZone {
        self.time_zone.0.clone()
    }

    /// Looks for what makes no sense. Errors: what.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(template) = &self.template {
            check_text("template", template)?;
        }
        let jitter = self.jitter.0;
        if jitter > JITTER_MAX || self.every.is_some_and(|Span(every)| jitter >= every) {
            return Err(format!(
                "jitter is {jitter} s: at most {JITTER_MAX}, and less than every"
            ));
        }
        match (&self.cron, self.every) {
            (Some(_), Some(_)) | (None, None) => Err("give either every or cron".to_owned()),
            (None, Some(Span(seconds))) if seconds < EVERY_MIN => {
                Err(format!("every is {seconds} s, at least {EVERY_MIN}"))
            }
            (Some(cron), None) if !cron.is_ever() => Err("cron: there is no such day".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Reads the five fields of [`Cron`].
fn read_cron<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cron>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Cron::parse(&text).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use cairn_types::Timestamp;

    use super::{Cron, Schedule};
    use crate::repository::config::Span;

    #[test]
    fn what_is_no_schedule_is_refused() {
        assert!(Cron::parse("@daily").is_err());
        let never = Schedule {
            cron: Some(Cron::parse("0 0 31 2 *").unwrap()),
            ..Schedule::default()
        };
        assert!(never.check().unwrap_err().contains("no such day"));
        assert!(
            Schedule {
                every: Some(Span(59)),
                ..Schedule::default()
            }
            .check()
            .is_err()
        );
    }

    #[test]
    fn a_schedule_says_when_it_is_due() {
        let at = Timestamp::new(1_795_269_789, 7);
        let hourly = Schedule {
            every: Some(Span(3600)),
            ..Schedule::default()
        };
        assert_eq!(hourly.next_after(at), Some(Timestamp::new(1_795_273_389, 7)));
        assert_eq!(
            Schedule {
                suspend: true,
                ..hourly
            }
            .next_after(at),
            None
        );
        let cron = Schedule {
            cron: Some(Cron::parse("0 * * * *").unwrap()),
            ..Schedule::default()
        };
        assert_eq!(cron.next_after(at), Some(Timestamp::new(1_795_273_200, 0)));
        assert_eq!(cron.next_after(Timestamp::new(i64::MAX, 0)), None);
    }

    #[test]
    fn jitter_spreads_and_stays_the_same() {
        let schedule = Schedule {
            every: Some(Span(3600)),
            jitter: Span(59),
            ..Schedule::default()
        };
        let due = Timestamp::new(1_795_273_200, 0);
        let delays: std::collections::BTreeSet<u64> =
            (0..200_u8).map(|seed| schedule.delay(&[seed], due)).collect();
        assert!(
            delays.len() > 30 && delays.iter().all(|delay| *delay <= 59),
            "{delays:?}"
        );
        assert_eq!(schedule.delay(b"a", due), schedule.delay(b"a", due));
        let without = Schedule {
            jitter: Span(0),
            ..schedule.clone()
        };
        assert_eq!(without.delay(b"a", due), 0);
        for jitter in [3600, 86_401] {
            let wrong = Schedule {
                jitter: Span(jitter),
                ..schedule.clone()
            };
            assert!(wrong.check().unwrap_err().contains("jitter"));
        }
    }

    #[test]
    fn a_deadline_passes_over_what_is_too_late() {
        let due = Timestamp::new(1000, 0);
        let schedule = Schedule {
            every: Some(Span(3600)),
            jitter: Span(30),
            starting_deadline: Some(Span(600)),
            ..Schedule::default()
        };
        for (now, late) in [(0, false), (1000, false), (1630, false), (1631, true)] {
            assert_eq!(schedule.is_too_late(due, Timestamp::new(now, 0)), late, "{now}");
        }
        let patient = Schedule {
            starting_deadline: None,
            ..schedule
        };
        assert!(!patient.is_too_late(due, Timestamp::new(i64::MAX, 0)));
    }
}
