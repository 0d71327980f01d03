//! Templates: what a snapshot is made with by name. Notes and tags may have placeholders, which the moment of the snapshot fills.

use std::collections::BTreeSet;

use cairn_types::{Tag, Timestamp};
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::config::{ITEMS_MAX, check_text, wished};
use super::descriptor::{NOTE_BYTES_MAX, PATHS_MAX, TAGS_MAX};
use super::text::{instant, unescape};
use crate::directory::RelativePath;

/// The names of the built-in templates.
pub const BUILT_IN: [&str; 6] = [
    "archive",
    "checkpoint",
    "pre-deploy",
    "pre-experiment",
    "release",
    "work",
];

/// A template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Template {
    /// The note, with placeholders.
    pub note: String,
    /// Tags, with placeholders; at most [`TAGS_MAX`].
    pub tags: Vec<String>,
    /// The paths that the snapshot holds, escaped as in documents; none: everything. At most [`PATHS_MAX`].
    pub paths: Vec<String>,
    /// The engine; nothing, or `auto`: as configured.
    pub engine: Option<String>,
}

/// What placeholders stand for.
#[derive(Debug, Clone)]
pub struct Moment {
    /// When: `{date}` 2026-11-21, `{time}` 14:03:09, `{datetime}` 2026-11-21 14:03:09, `{iso8601}` with the offset, `{unix}` seconds since 1970.
    pub now: Timestamp,
    /// The time zone of these.
    pub zone: TimeZone,
    /// `{user}`.
    pub user: String,
    /// `{hostname}`.
    pub hostname: String,
    /// `{arch}`: `x86_64`, `aarch64`.
    pub arch: &'static str,
}

/// A template with its placeholders filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// The note.
    pub note: String,
    /// The tags.
    pub tags: BTreeSet<Tag>,
    /// The paths; empty: everything.
    pub paths: Vec<RelativePath>,
    /// The engine; nothing: as configured.
    pub engine: Option<String>,
}

/// A built-in template.
pub fn built_in(name: &str) -> Option<Template> {
    let (note, tags): (&str, &[&str]) = match name {
        "pre-experiment" => ("before an experiment, {datetime}", &["experiment", "checkpoint"]),
        "pre-deploy" => ("before a deployment, {datetime}", &["pre-deploy", "release"]),
        "checkpoint" => ("checkpoint, {datetime}", &["checkpoint"]),
        "work" => ("work in progress, {datetime}", &["wip"]),
        "release" => ("release, {date}", &["release", "stable"]),
        "archive" => ("archive, {date}", &["archive"]),
        _ => return None,
    };
    Some(Template {
        note: note.to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        paths: Vec::new(),
        engine: None,
    })
}

impl Template {
    /// Fills the placeholders. Errors: what cannot be: an unknown placeholder; a tag that is none once it is filled, or a note that is too long then.
    pub fn fill(&self, moment: &Moment) -> Result<Filled, String> {
        let note = fill(&self.note, moment)?;
        if note.len() > NOTE_BYTES_MAX {
            return Err(format!(
                "the note has {} bytes, at most {NOTE_BYTES_MAX}",
                note.len()
            ));
        }
        let tag = |tag: &String| Tag::new(&fill(tag, moment)?).map_err(|error| error.to_string());
        let path = |path: &String| {
            let bytes = unescape(path).ok_or_else(|| format!("{path:?} is no escaped path"))?;
            RelativePath::new(&bytes).map_err(|error| error.to_string())
        };
        Ok(Filled {
            note,
            tags: self.tags.iter().map(tag).collect::<Result<_, String>>()?,
            paths: self.paths.iter().map(path).collect::<Result<_, String>>()?,
            engine: wished(self.engine.as_deref()).map(str::to_owned),
        })
    }

    /// Looks for what can never be filled. Errors: what.
    pub(super) fn check(&self) -> Result<(), String> {
        for (what, found, limit) in [
            ("tags", self.tags.len(), TAGS_MAX),
            ("paths", self.paths.len(), PATHS_MAX),
        ] {
            if found > limit.min(ITEMS_MAX) {
                return Err(format!("{found} {what}, at most {limit}"));
            }
        }
        if let Some(engine) = &self.engine {
            check_text("engine", engine)?;
        }
        // With names that are good for tags, so that only the template itself can be wrong.
        let sample = Moment {
            now: Timestamp::new(0, 0),
            zone: TimeZone::UTC,
            user: "user".to_owned(),
            hostname: "host".to_owned(),
            arch: "x86_64",
        };
        self.fill(&sample).map(drop)
    }
}

/// Replaces `{name}`; `{{` and `}}` are braces.
fn fill(pattern: &str, moment: &Moment) -> Result<String, String> {
    let mut filled = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        filled.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            filled.push_str(brace);
            rest = after;
            continue;
        }
        let end = rest.find('}').filter(|_| brace == "{");
        let end = end.ok_or_else(|| format!("{pattern:?} has a brace without its pair; write it twice"))?;
        filled.push_str(&placeholder(&rest[..end], moment)?);
        rest = &rest[end + 1..];
    }
    filled.push_str(rest);
    Ok(filled)
}

fn placeholder(name: &str, moment: &Moment) -> Result<String, String> {
    let zoned = instant(moment.now)
        .unwrap_or_default()
        .to_zoned(moment.zone.clone());
    let format = match name {
        "date" => "%Y-%m-%d",
        "time" => "%H:%M:%S",
        "datetime" => "%Y-%m-%d %H:%M:%S",
        "iso8601" => "%Y-%m-%dT%H:%M:%S%:z",
        "unix" => return Ok(moment.now.seconds().to_string()),
        "user" => return Ok(moment.user.clone()),
        "hostname" => return Ok(moment.hostname.clone()),
        "arch" => return Ok(moment.arch.to_owned()),
        _ => {
            let known = "date, time, datetime, iso8601, unix, user, hostname, arch";
            return Err(format!("there is no placeholder {{{name}}}: there are {known}"));
        }
    };
    Ok(zoned.strftime(format).to_string())
}

#[cfg(test)]
mod tests {
    use cairn_types::Timestamp;
    use jiff::tz::TimeZone;

    use super::{BUILT_IN, Moment, Template, built_in};

    fn moment() -> Moment {
        Moment {
            now: Timestamp::new(1_795_269_789, 5),
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            user: "ada".to_owned(),
            hostname: "node-1".to_owned(),
            arch: "x86_64",
        }
    }

    fn noted(note: &str) -> Template {
        Template {
            note: note.to_owned(),
            ..Template::default()
        }
    }

    #[test]
    fn placeholders_are_filled() {
        for (pattern, expected) in [
            ("plain", "plain"),
            ("{date} {time}", "2026-11-21 15:03:09"),
            (
                "{datetime}|{iso8601}",
                "2026-11-21 15:03:09|2026-11-21T15:03:09+01:00",
            ),
            ("{unix} {user}@{hostname} {arch}", "1795269789 ada@node-1 x86_64"),
            ("{{date}} {{{user}}}", "{date} {ada}"),
            ("\u{fc}{user}\u{fc}", "\u{fc}ada\u{fc}"),
        ] {
            assert_eq!(
                noted(pattern).fill(&moment()).unwrap().note,
                expected,
                "{pattern}"
            );
        }
        for wrong in ["{", "}", "{date", "{}", "{day}", "a}b", "{ date }"] {
            assert!(noted(wrong).fill(&moment()).is_err(), "{wrong}");
            assert!(noted(wrong).check().is_err(), "{wrong}");
        }
    }

    #[test]
    fn tags_and_paths_are_checked_once_they_are_filled() {
        let template = Template {
            tags: vec!["by-{user}".to_owned(), "{date}".to_owned()],
            paths: vec!["src".to_owned(), "a%FF".to_owned()],
            engine: Some("auto".to_owned()),
            ..Template::default()
        };
        let filled = template.fill(&moment()).unwrap();
        let tags: Vec<&str> = filled.tags.iter().map(|tag| tag.as_str()).collect();
        assert_eq!((&tags[..], filled.engine), (&["2026-11-21", "by-ada"][..], None));
        assert_eq!(filled.paths[1].as_bytes(), b"a\xff");
        let spaced = Moment {
            user: "Ada L.".to_owned(),
            ..moment()
        };
        assert!(template.fill(&spaced).is_err());
        for path in ["../x", "/x", "a%zz", "a//b"] {
            let wrong = Template {
                paths: vec![path.to_owned()],
                ..Template::default()
            };
            assert!(wrong.check().is_err(), "{path}");
        }
    }

    #[test]
    fn the_built_in_templates_can_be_filled() {
        for name in BUILT_IN {
            let filled = built_in(name).unwrap().fill(&moment()).unwrap();
            assert!(
                !filled.tags.is_empty() && filled.note.contains("2026-11-21"),
                "{name}"
            );
        }
        assert_eq!(built_in("other"), None);
    }
}
