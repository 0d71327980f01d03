//! The configuration of a repository: `config.toml`. Parsed and checked once, whole; unknown keys are errors. Without the file, everything has its
//! default.

use std::collections::BTreeMap;

pub use cairn_content::codec::Compression;
use cairn_types::Tag;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer};

use super::Repository;
use super::error::RepositoryError;
use super::layout::{Area, CONFIG_BYTES_MAX, CONFIG_FILE};
use super::retention::Policy;
use super::schedule::Schedule;
use super::templates::{Template, built_in};

/// The file that an init writes: every setting with its default, as comments.
pub const DEFAULT_TEXT: &str = include_str!("config/default.toml");
/// Most ignore patterns, tag patterns, templates or schedules.
pub const ITEMS_MAX: usize = 1000;
/// Longest text, in bytes.
pub const TEXT_BYTES_MAX: usize = 4096;
/// The largest number of a retention rule.
pub const KEEP_MAX: u32 = 1_000_000;
/// The longest time span: 200 years, in seconds.
pub const SPAN_MAX: u64 = 200 * 366 * 86_400;

/// The configuration.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The engine of new snapshots; nothing, or `auto`: the best that works.
    pub engine: Option<String>,
    /// Lines of a `.gitignore`; at most [`ITEMS_MAX`].
    pub ignore: Vec<String>,
    /// The object store of the archive engine.
    pub store: Store,
    /// What is kept.
    pub retention: Retention,
    /// Templates by name; they win over the built-in ones.
    pub templates: BTreeMap<String, Template>,
    /// Schedules by name.
    pub schedules: BTreeMap<String, Schedule>,
}

/// The object store of the archive engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Its URL; nothing: a directory in the control directory.
    pub url: Option<String>,
    /// The file of the key, for an encrypted store.
    pub key_file: Option<String>,
    /// How new data is compressed: `zstd`, `gzip`, with a level behind a colon if wanted, or `none`.
    #[serde(deserialize_with = "compression")]
    pub compression: Compression,
}

fn compression<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Compression, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// What is kept: the keys are those of [`Policy`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// See [`Policy::keep_last`]; at most [`KEEP_MAX`], as all of these.
    pub keep_last: u32,
    /// See [`Policy::hourly`].
    pub hourly: u32,
    /// See [`Policy::daily`].
    pub daily: u32,
    /// See [`Policy::weekly`].
    pub weekly: u32,
    /// See [`Policy::monthly`].
    pub monthly: u32,
    /// See [`Policy::yearly`].
    pub yearly: u32,
    /// See [`Policy::within`]; at most [`SPAN_MAX`].
    pub within: Span,
    /// See [`Policy::minimum_age`]; at most [`SPAN_MAX`].
    pub minimum_age: Span,
    /// See [`Policy::maximum_count`].
    pub maximum_count: u64,
    /// See [`Policy::maximum_bytes`].
    pub maximum_bytes: Bytes,
    /// See [`Policy::keep_tags`]; at most [`ITEMS_MAX`].
    pub keep_tags: Vec<String>,
    /// The time zone of periods and of the dates in templates: a name of the IANA database; default UTC.
    pub time_zone: Zone,
    /// After each snapshot of a schedule, the daemon removes what is not kept.
    pub automatic: bool,
}

impl Retention {
    /// The same as a policy; without the maximums of schedules.
    fn policy(&self) -> Policy {
        Policy {
            keep_last: self.keep_last,
            hourly: self.hourly,
            daily: self.daily,
            weekly: self.weekly,
            monthly: self.monthly,
            yearly: self.yearly,
            within: self.within.0,
            minimum_age: self.minimum_age.0,
            minimum_count: 0,
            maximum_count: self.maximum_count,
            maximum_bytes: self.maximum_bytes.0,
            keep_tags: self.keep_tags.clone(),
            schedule_counts: BTreeMap::new(),
        }
    }
}

/// A time span in seconds: digits and one of `s`, `m`, `h`, `d`, `w` (a day has 24 hours, a week 7 days). At most [`SPAN_MAX`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub u64);

impl Span {
    /// Parses a span. Nothing if it is none, or too long.
    pub fn parse(text: &str) -> Option<Span> {
        let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 7 * 86_400)];
        parse_number(text, &units)
            .filter(|seconds| *seconds <= SPAN_MAX)
            .map(Span)
    }
}

/// A number of bytes: digits, and nothing, `B`, `kB`, `MB`, `GB`, `TB` (powers of 1000), `KiB`, `MiB`, `GiB` or `TiB` (powers of 1024).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Parses a number of bytes. Nothing if it is none, or does not fit 64 bits.
    pub fn parse(text: &str) -> Option<Bytes> {
        let units = [
            ("", 1),
            ("B", 1),
            ("kB", 1000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("TB", 1_000_000_000_000),
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
        ];
        parse_number(text, &units).map(Bytes)
    }
}

fn parse_number(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A time zone of the IANA database. The database is part of the program: no files are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(pub TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Zone(TimeZone::UTC)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || {
            let units = "give digits and one of s, m, h, d, w";
            serde::de::Error::custom(format!("{text:?} is no time span, or is over 200 years: {units}"))
        };
        Span::parse(&text).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || {
            serde::de::Error::custom(format!(
                "{text:?} is no number of bytes: give digits and a unit as MB or GiB"
            ))
        };
        Bytes::parse(&text).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong =
            |_| serde::de::Error::custom(format!("{text:?} is no time zone: give a name as Europe/Berlin"));
        jiff::tz::TimeZoneDatabase::bundled()
            .get(&text)
            .map(Zone)
            .map_err(wrong)
    }
}

impl Config {
    /// Parses a file. Errors: what is wrong with it, with the line where that is known.
    pub fn parse(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        config.check()?;
        Ok(config)
    }

    /// What is kept, with the maximums of the schedules.
    pub fn policy(&self) -> Policy {
        let counts = self
            .schedules
            .iter()
            .map(|(name, schedule)| (name.clone(), schedule.maximum_count));
        Policy {
            schedule_counts: counts.filter(|(_, count)| *count > 0).collect(),
            ..self.retention.policy()
        }
    }

    /// The engine that is wished for; nothing: the best that works.
    pub fn engine(&self) -> Option<&str> {
        wished(self.engine.as_deref())
    }

    /// A template by name: of the configuration, or else a built-in one.
    pub fn template(&self, name: &str) -> Option<Template> {
        self.templates.get(name).cloned().or_else(|| built_in(name))
    }

    /// The names of all templates, ascending.
    pub fn template_names(&self) -> Vec<&str> {
        let built_in = super::templates::BUILT_IN.iter().copied();
        let mut names: Vec<&str> = self
            .templates
            .keys()
            .map(String::as_str)
            .chain(built_in)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn check(&self) -> Result<(), String> {
        let lists = [
            ("ignore", self.ignore.len()),
            ("retention.keep_tags", self.retention.keep_tags.len()),
            ("templates", self.templates.len()),
            ("schedules", self.schedules.len()),
        ];
        for (what, found) in lists {
            if found > ITEMS_MAX {
                return Err(format!("{what} has {found} items, at most {ITEMS_MAX}"));
            }
        }
        let store = &self.store;
        let texts = [
            ("engine", &self.engine),
            ("store.url", &store.url),
            ("store.key_file", &store.key_file),
        ];
        for (what, text) in texts {
            if let Some(text) = text {
                check_text(what, text)?;
            }
        }
        self.ignore
            .iter()
            .try_for_each(|pattern| match pattern.len() <= TEXT_BYTES_MAX {
                true => Ok(()),
                false => Err(format!(
                    "a pattern of ignore has more than {TEXT_BYTES_MAX} bytes"
                )),
            })?;
        for pattern in &self.retention.keep_tags {
            let wildcards = pattern.replace(['*', '?'], "x");
            // Anything that could fit a tag; `latest` is none.
            if pattern.len() > Tag::LENGTH_MAX || (Tag::new(&wildcards).is_err() && wildcards == *pattern) {
                return Err(format!("retention.keep_tags: no tag fits {pattern:?}"));
            }
        }
        let retention = &self.retention;
        let counts = [
            ("keep_last", retention.keep_last),
            ("hourly", retention.hourly),
            ("daily", retention.daily),
            ("weekly", retention.weekly),
            ("monthly", retention.monthly),
            ("yearly", retention.yearly),
        ];
        for (what, found) in counts {
            if found > KEEP_MAX {
                return Err(format!("retention.{what} is {found}, at most {KEEP_MAX}"));
            }
        }
        for (name, template) in &self.templates {
            check_name("templates", name)?;
            template
                .check()
                .map_err(|what| format!("templates.{name}: {what}"))?;
        }
        for (name, schedule) in &self.schedules {
            check_name("schedules", name)?;
            schedule
                .check()
                .map_err(|what| format!("schedules.{name}: {what}"))?;
            if let Some(template) = &schedule.template
                && self.template(template).is_none()
            {
                return Err(format!("schedules.{name}: there is no template {template:?}"));
            }
        }
        Ok(())
    }
}

/// The engine that is wished for; nothing: the best that works.
pub(super) fn wished(engine: Option<&str>) -> Option<&str> {
    engine.filter(|engine| *engine != "auto")
}

/// Looks whether a text is empty or too long. Errors: it is.
pub(super) fn check_text(what: &str, text: &str) -> Result<(), String> {
    match (1..=TEXT_BYTES_MAX).contains(&text.len()) {
        true => Ok(()),
        false => Err(format!(
            "{what} has {} bytes: give 1 to {TEXT_BYTES_MAX}",
            text.len()
        )),
    }
}

/// Names of templates and schedules have the form of tags.
fn check_name(what: &str, name: &str) -> Result<(), String> {
    Tag::new(name)
        .map(drop)
        .map_err(|error| format!("{what}: {name:?} is no name: {error}"))
}

impl Repository {
    /// The configuration. Without a file: the defaults. Errors: the file is wrong, with what and where; I/O.
    pub fn config(&self) -> Result<Config, RepositoryError> {
        let Some(bytes) = self.control().read(Area::Root, CONFIG_FILE, CONFIG_BYTES_MAX)? else {
            return Ok(Config::default());
        };
        let wrong = |what: String| self.control().damaged(Area::Root, CONFIG_FILE, what);
        let text = String::from_utf8(bytes).map_err(|_| wrong("it is no UTF-8".to_owned()))?;
        Config::parse(&text).map_err(wrong)
    }

    /// Replaces the configuration by a text, whose comments are kept as they are; durable on return. Errors: the text is wrong; the lease
    /// is lost; I/O.
    pub fn set_config(&self, lease: &super::Lease, text: &str) -> Result<Config, RepositoryError> {
        let wrong = |what: String| super::document::EncodeError::Value {
            kind: "configuration",
            what,
        };
        if text.len() > CONFIG_BYTES_MAX {
            return Err(wrong(format!("it has more than {CONFIG_BYTES_MAX} bytes")).into());
        }
        let config = Config::parse(text).map_err(wrong)?;
        lease.check()?;
        let control = self.control();
        control.replace(Area::Root, CONFIG_FILE, text.as_bytes(), super::Survival::Durable)?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Compression, Config, DEFAULT_TEXT, Span};

    #[test]
    fn the_file_that_an_init_writes_says_the_defaults() {
        assert_eq!(Config::parse(DEFAULT_TEXT), Ok(Config::default()));
        assert_eq!(Config::parse(""), Ok(Config::default()));
        // And with the comments of its settings taken away it is still a configuration.
        let lines = DEFAULT_TEXT.lines().map(|line| {
            let setting = line
                .strip_prefix("# ")
                .filter(|rest| rest.starts_with('[') || rest.contains(" = "));
            setting.unwrap_or("")
        });
        let config = Config::parse(&lines.collect::<Vec<_>>().join("\n")).unwrap();
        assert_eq!(config.engine(), None);
        assert_eq!(config.retention, Config::default().retention);
        assert_eq!(config.store.compression, Compression::default());
        assert_eq!(config.templates["nightly"].note, "nightly of {date}");
        assert_eq!(config.schedules["nightly"].template.as_deref(), Some("nightly"));
        assert_eq!(config.template_names().len(), 7);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, expected) in [
            ("engin = \"copy\"", "engin"),
            ("[retention]\nkeep_last = -1", "keep_last"),
            ("[retention]\nkeep_last = 1000001", "retention.keep_last"),
            ("[retention]\nwithin = \"7\"", "no time span"),
            ("[retention]\nwithin = \"9999w\"", ""),
            ("[retention]\nwithin = \"99999999w\"", "no time span"),
            ("[retention]\nmaximum_bytes = \"10 GB\"", "no number of bytes"),
            ("[retention]\ntime_zone = \"Nowhere/City\"", "no time zone"),
            ("[retention]\nkeep_tags = [\"a b\"]", "no tag fits"),
            ("[retention]\nkeep = 1", "unknown field"),
            ("[store]\ncompression = \"most\"", "compression"),
            ("[store]\nurl = \"\"", "store.url"),
            ("[templates.x]\nnote = \"{nonsense}\"", "nonsense"),
            ("[templates.\"a/b\"]\nnote = \"\"", "is no name"),
            ("[templates.x]\nfrom = 1", "unknown field"),
            (
                "[schedules.x]\nevery = \"1h\"\ntemplate = \"missing\"",
                "no template",
            ),
            ("[schedules.x]\nsuspend = true", "schedules.x"),
            (
                "[schedules.x]\nevery = \"1h\"\ncron = \"* * * * *\"",
                "schedules.x",
            ),
            ("[schedules.x]\ncron = \"60 * * * *\"", "minute"),
            ("x", "key"),
        ] {
            let outcome = Config::parse(text);
            match expected {
                "" => assert!(outcome.is_ok(), "{text}: {outcome:?}"),
                _ => assert!(
                    outcome.clone().unwrap_err().contains(expected),
                    "{text}: {outcome:?}"
                ),
            }
        }
    }

    #[test]
    fn spans_and_numbers_of_bytes() {
        for (text, seconds) in [
            ("0s", 0),
            ("90m", 5400),
            ("12h", 43_200),
            ("7d", 604_800),
            ("2w", 1_209_600),
        ] {
            assert_eq!(Span::parse(text), Some(Span(seconds)));
        }
        for wrong in [
            "",
            "7",
            "d",
            "-1d",
            "+1d",
            "1.5h",
            "1y",
            "1 d",
            "99999999999999999999s",
        ] {
            assert_eq!(Span::parse(wrong), None, "{wrong}");
        }
        for (text, bytes) in [("0", 0), ("17", 17), ("500MB", 500_000_000), ("10GiB", 10 << 30)] {
            assert_eq!(Bytes::parse(text), Some(Bytes(bytes)));
        }
        for wrong in ["", "GB", "1 GB", "1gb", "-1", "99999999TiB"] {
            assert_eq!(Bytes::parse(wrong), None, "{wrong}");
        }
    }
}
