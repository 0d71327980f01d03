//! What is not versioned: rules in files named `.jvsignore`, in the syntax of gitignore(5), and what never is.
//!
//! - Never: at the root of the workspace the control directory `.jvs`, and names that begin with `.jvs-restore-`, where restores are prepared.
//! - The rules of the deepest directory decide, in one file the last that matches; the patterns of the configuration come last of all.
//! - What is below a directory that is left out is left out, whatever rules say of it, as in git.
//! - A rule that cannot be understood, or a file of rules that cannot be read, is an error: what somebody wanted to keep out must not get in
//!   because of a slip.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_types::FileKind;
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::beneath::{c_name, open_regular};
use super::path::RelativePath;
use super::read::{Piece, read_data};

/// The name of a file of rules.
pub const IGNORE_FILE: &[u8] = b".jvsignore";
/// The name of the control directory at the root of a workspace.
pub const CONTROL_NAME: &str = ".jvs";
/// How names at the root of a workspace begin under which restores are prepared.
pub const RESTORE_PREFIX: &str = ".jvs-restore-";
/// Most bytes of a file of rules.
pub const IGNORE_FILE_BYTES_MAX: u64 = 1 << 20;
/// Most rules of one file, or of the configuration.
pub const RULES_MAX: usize = 4096;

/// Why rules cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum IgnoreError {
    /// A line is no pattern.
    #[error("line {line} is no pattern: {text:?} ({why})")]
    Pattern {
        /// The line, counted from 1; of the configuration the pattern.
        line: usize,
        /// The line.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// There are too many rules, or they take too much to follow.
    #[error("these are too many rules (at most {RULES_MAX}, {IGNORE_FILE_BYTES_MAX} bytes): {why}")]
    TooMany {
        /// What is too much.
        why: String,
    },
    /// The file cannot be read, or is no regular file.
    #[error("the rules cannot be read")]
    Read(#[source] io::Error),
}

/// Why an entry is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is the control directory.
    Control,
    /// A restore is prepared there.
    Restore,
    /// A pattern of the configuration.
    Configuration {
        /// Which, counted from 1.
        line: usize,
        /// The pattern.
        pattern: String,
    },
    /// A line of a file.
    File {
        /// The file.
        file: RelativePath,
        /// The line, counted from 1.
        line: usize,
        /// The pattern.
        pattern: String,
    },
    /// The caller's own rule ([`super::walk::WalkOptions::skip`]).
    Rule,
}

/// The rules that hold everywhere in a workspace.
#[derive(Debug)]
pub struct IgnoreRules {
    configured: Option<Gitignore>,
}

impl IgnoreRules {
    /// With the patterns of the configuration, in the syntax of gitignore(5). Errors: [`IgnoreError::Pattern`], [`IgnoreError::TooMany`].
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<IgnoreRules, IgnoreError> {
        let lines = patterns.iter().map(AsRef::as_ref);
        Ok(IgnoreRules {
            configured: matcher(lines)?,
        })
    }
}

/// The rules of one file.
#[derive(Debug)]
struct FileRules {
    directory: RelativePath,
    matcher: Gitignore,
}

/// The rules that hold in a directory of a walk: those of all files on the way there.
#[derive(Debug)]
pub(super) struct IgnoreStack {
    rules: Arc<IgnoreRules>,
    files: Vec<FileRules>,
}

impl IgnoreStack {
    pub(super) fn new(rules: Arc<IgnoreRules>) -> IgnoreStack {
        IgnoreStack {
            rules,
            files: Vec::new(),
        }
    }

    /// Adds the rules of a directory that has a file of rules.
    pub(super) fn enter(&mut self, path: &RelativePath, directory: impl AsFd) -> Result<(), IgnoreError> {
        let text = read_rules(directory).map_err(IgnoreError::Read)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        if let Some(matcher) = matcher(text.lines())? {
            self.files.push(FileRules {
                directory: path.clone(),
                matcher,
            });
        }
        Ok(())
    }

    /// Takes the rules of a directory away, if it has some.
    pub(super) fn leave(&mut self, path: &RelativePath) {
        self.files.pop_if(|rules| rules.directory == *path);
    }

    /// Why an entry is left out, if it is.
    pub(super) fn judge(&self, path: &RelativePath, kind: FileKind) -> Option<Reason> {
        if path.depth() == 1 {
            if path.as_bytes() == CONTROL_NAME.as_bytes() {
                return Some(Reason::Control);
            }
            if path.as_bytes().starts_with(RESTORE_PREFIX.as_bytes()) {
                return Some(Reason::Restore);
            }
        }
        let is_directory = kind == FileKind::Directory;
        for rules in self.files.iter().rev() {
            let skip = match rules.directory.as_bytes().len() {
                0 => 0,
                length => length + 1,
            };
            let below = RelativePath::below(path, skip);
            match rules.matcher.matched(below, is_directory) {
                Match::None => {}
                Match::Whitelist(_) => return None,
                Match::Ignore(glob) => {
                    let file = rules.directory.join(IGNORE_FILE).unwrap_or_default();
                    return Some(Reason::File {
                        file,
                        line: line_of(glob.from()),
                        pattern: glob.original().to_owned(),
                    });
                }
            }
        }
        match self
            .rules
            .configured
            .as_ref()?
            .matched(path.as_path(), is_directory)
        {
            Match::None | Match::Whitelist(_) => None,
            Match::Ignore(glob) => Some(Reason::Configuration {
                line: line_of(glob.from()),
                pattern: glob.original().to_owned(),
            }),
        }
    }
}

fn read_rules(directory: impl AsFd) -> io::Result<String> {
    let (file, status) = open_regular(directory, &c_name(IGNORE_FILE)?)?;
    let size = status.attributes.size;
    if size > IGNORE_FILE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "the file has more than 1 MiB",
        ));
    }
    let mut bytes = Vec::new();
    read_data(&file, size, &[], |piece| -> io::Result<()> {
        if let Piece::Data(data) = piece {
            bytes.extend_from_slice(data);
        }
        Ok(())
    })?;
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the file is no text in UTF-8"))
}

/// Nothing if there is no rule among the lines.
fn matcher<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Option<Gitignore>, IgnoreError> {
    // Paths are given relative to the file of rules.
    let mut builder = GitignoreBuilder::new(".");
    let mut rules = 0;
    for (index, text) in lines.enumerate() {
        let line = index + 1;
        if text.trim().is_empty() || text.starts_with('#') {
            continue;
        }
        rules += 1;
        if rules > RULES_MAX {
            return Err(IgnoreError::TooMany {
                why: format!("there are more than {RULES_MAX}"),
            });
        }
        let added = builder.add_line(Some(PathBuf::from(line.to_string())), text);
        added.map_err(|error| IgnoreError::Pattern {
            line,
            text: text.to_owned(),
            why: error.to_string(),
        })?;
    }
    if rules == 0 {
        return Ok(None);
    }
    let built = builder.build().map_err(|error| IgnoreError::TooMany {
        why: error.to_string(),
    })?;
    Ok(Some(built))
}

/// The line of a pattern stands in place of the file that it is from.
fn line_of(from: Option<&Path>) -> usize {
    from.and_then(Path::to_str)
        .and_then(|line| line.parse().ok())
        .unwrap_or(0)
}
