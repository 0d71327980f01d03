//! Times of the calendar that come again and again. Knows no clock: it is told after which moment to look.

use jiff::civil::{Date, Time};
use jiff::{ToSpan, Zoned};

/// How many days ahead a date is looked for that fits: more than from one 29 February to the next, over a year that is no leap year.
const DAYS_AHEAD_MAX: usize = 9 * 366;

/// Times of the calendar as in crontab(5): minute, hour, day of the month, month, day of the week. Each `*`, numbers, ranges `a-b`, steps `*/n` and
/// `a-b/n`, and lists of these. Months 1 to 12, days of the week 0 to 7 (0 and 7 are Sunday), no names. If both days are given, one of them
/// must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both days were given.
    either_day: bool,
}

const FIELDS: [(&str, u32, u32); 5] = [
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day", 1, 31),
    ("month", 1, 12),
    ("weekday", 0, 7),
];

impl Cron {
    /// Parses five fields. Errors: what is wrong.
    pub fn parse(text: &str) -> Result<Cron, String> {
        let parts: Vec<&str> = text.split_ascii_whitespace().take(FIELDS.len() + 1).collect();
        let [minute, hour, day, month, weekday] = parts[..] else {
            return Err(format!(
                "{text:?}: give five fields: minute hour day month weekday"
            ));
        };
        let mut sets = [0; 5];
        for (set, (part, field)) in sets
            .iter_mut()
            .zip([minute, hour, day, month, weekday].into_iter().zip(FIELDS))
        {
            *set = parse_field(part, field).ok_or_else(|| {
                format!(
                    "{part:?} is no {}: {} to {}, lists, ranges, steps",
                    field.0, field.1, field.2
                )
            })?;
        }
        let [minutes, hours, days, months, weekdays] = sets;
        Ok(Cron {
            minutes,
            hours,
            days,
            months,
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        })
    }

    /// The first time that fits and is later than `last`. A time that clocks skip is the moment after the gap; one that comes twice is the first.
    pub fn next_after(&self, last: &Zoned) -> Option<Zoned> {
        let mut date = last.date();
        for _ in 0..DAYS_AHEAD_MAX {
            date = self.next_day(date)?;
            for hour in (0..24_i8).filter(|hour| self.hours >> hour & 1 == 1) {
                for minute in (0..60_i8).filter(|minute| self.minutes >> minute & 1 == 1) {
                    let time = Time::new(hour, minute, 0, 0).ok()?;
                    let found = date.to_datetime(time).to_zoned(last.time_zone().clone()).ok()?;
                    if found > *last {
                        return Some(found);
                    }
                }
            }
            date = date.checked_add(1.day()).ok()?;
        }
        None
    }

    /// Whether there is a day that fits: 31 February is none.
    pub fn is_ever(&self) -> bool {
        self.next_day(Date::constant(2000, 1, 1)).is_some()
    }

    /// The first day from `date` on that fits.
    fn next_day(&self, date: Date) -> Option<Date> {
        let days = std::iter::successors(Some(date), |date| date.checked_add(1.day()).ok());
        days.take(DAYS_AHEAD_MAX).find(|date| {
            let day = self.days >> date.day() & 1 == 1;
            let weekday = self.weekdays >> date.weekday().to_sunday_zero_offset() & 1 == 1;
            let fits = if self.either_day {
                day || weekday
            } else {
                day && weekday
            };
            self.months >> date.month() & 1 == 1 && fits
        })
    }
}

fn parse_field(text: &str, (_, least, most): (&str, u32, u32)) -> Option<u64> {
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>()
            .ok()
            .filter(|number| is_number && (least..=most).contains(number))
    };
    let mut set = 0;
    for item in text.split(',') {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (
                range,
                step.parse::<u32>()
                    .ok()
                    .filter(|step| (1..=most).contains(step))?,
            ),
            None => (item, 1),
        };
        let (from, to) = match (range, range.split_once('-')) {
            // Sunday once only, so that steps count from it.
            ("*", _) => (least, if most == 7 { 6 } else { most }),
            (_, Some((from, to))) => (number(from)?, number(to)?),
            (_, None) if item.contains('/') => return None,
            (one, None) => (number(one)?, number(one)?),
        };
        if from > to {
            return None;
        }
        for value in (from..=to).step_by(step as usize) {
            set |= 1 << value;
        }
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::Cron;

    /// The next times after a time, as text.
    fn next(cron: &str, after: &str, count: usize) -> Vec<String> {
        let cron = Cron::parse(cron).unwrap();
        let mut at: jiff::Zoned = after.parse().unwrap();
        let mut found = Vec::new();
        for _ in 0..count {
            at = cron.next_after(&at).unwrap();
            found.push(at.strftime("%a %F %H:%M %:z").to_string());
        }
        found
    }

    #[test]
    fn times_of_the_calendar() {
        let after = "2026-11-21T14:03:09+00:00[UTC]";
        assert_eq!(
            next("*/20 14 * * *", after, 3),
            [
                "Sat 2026-11-21 14:20 +00:00",
                "Sat 2026-11-21 14:40 +00:00",
                "Sun 2026-11-22 14:00 +00:00",
            ]
        );
        assert_eq!(
            next("0 3 * * 1-5", after, 2),
            ["Mon 2026-11-23 03:00 +00:00", "Tue 2026-11-24 03:00 +00:00"]
        );
        assert_eq!(
            next("30 0 29 2 *", after, 2),
            ["Tue 2028-02-29 00:30 +00:00", "Sun 2032-02-29 00:30 +00:00"]
        );
        // Both days given: one of them is enough. Sunday is 0 and 7.
        assert_eq!(
            next("0 0 25 * 7", after, 2),
            ["Sun 2026-11-22 00:00 +00:00", "Wed 2026-11-25 00:00 +00:00"]
        );
        assert_eq!(
            next("3 14 * * 0", "2026-11-22T14:03:00+00:00[UTC]", 1),
            ["Sun 2026-11-29 14:03 +00:00"]
        );
    }

    #[test]
    fn clocks_that_are_set_are_met_once() {
        // Forward on 2026-03-29 at 02:00, back on 2026-10-25 at 03:00.
        let spring = next("30 2 * * *", "2026-03-28T12:00:00+01:00[Europe/Berlin]", 2);
        assert_eq!(
            spring,
            ["Sun 2026-03-29 03:30 +02:00", "Mon 2026-03-30 02:30 +02:00"]
        );
        let autumn = next("30 2 * * *", "2026-10-24T12:00:00+02:00[Europe/Berlin]", 2);
        assert_eq!(
            autumn,
            ["Sun 2026-10-25 02:30 +02:00", "Mon 2026-10-26 02:30 +01:00"]
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for wrong in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "5-1 * * * *",
            "*/0 * * * *",
            "*/99 * * * *",
            "5/2 * * * *",
            "a * * * *",
            "+1 * * * *",
            "1,,2 * * * *",
            "-1 * * * *",
            "@daily",
        ] {
            assert!(Cron::parse(wrong).is_err(), "{wrong}");
        }
        assert!(!Cron::parse("0 0 31 2 *").unwrap().is_ever());
        assert!(Cron::parse("0 0 29 2 *").unwrap().is_ever());
    }
}
