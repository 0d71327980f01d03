//! Schedules: when snapshots are made without anybody asking. Says when the next one is due; runs nothing.

use cairn_types::Timestamp;
pub use cairn_types::cron::Cron;
use serde::{Deserialize, Deserializer};

use super::config::{Span, Zone, check_text};
use super::text::instant;

/// The shortest time between two snapshots of a schedule, in seconds.
pub const EVERY_MIN: u64 = 60;

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

    fn zone(&self) -> jiff::tz::TimeZone {
        self.time_zone.0.clone()
    }

    /// Looks for what makes no sense. Errors: what.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(template) = &self.template {
            check_text("template", template)?;
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
}
