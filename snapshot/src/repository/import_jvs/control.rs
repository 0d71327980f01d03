//! The control directory of the Go tools: finding it, and the small files in it.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cairn_types::Timestamp;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Deserializer};

use super::descriptor::{self, JvsSnapshot, JvsSnapshotId};
use super::error::ImportError;
use super::tree::list;
use super::{Finding, JvsLine, JvsPin, JvsWorkspace, PathSource, SNAPSHOTS_MAX};
use crate::directory::{RelativePath, beneath};

/// Most bytes of a file of the control directory: far more than a note that anybody has written.
pub(super) const FILE_BYTES_MAX: usize = 16 << 20;
/// Most bytes of all files of one kind together: what a repository says of its snapshots is kept in memory.
const DOCUMENTS_BYTES_MAX: usize = 1 << 30;
const NAME: &str = ".jvs";

/// An open control directory.
#[derive(Debug)]
pub(super) struct Control {
    directory: OwnedFd,
    path: PathBuf,
}

/// Reads a whole file below `root`; nothing if there is none. Errors: openat(2), read(2); more than [`FILE_BYTES_MAX`]; no regular file.
pub(super) fn read_file(root: BorrowedFd<'_>, path: &RelativePath) -> io::Result<Option<Vec<u8>>> {
    let file = match beneath::open_file(root, path) {
        Ok(file) => std::fs::File::from(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() <= FILE_BYTES_MAX {
        true => Ok(Some(bytes)),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it has more than {FILE_BYTES_MAX} bytes"),
        )),
    }
}

impl Control {
    /// Finds the control directory in, or at, `path`; the first of the answer is the directory that it is in.
    pub fn find(path: &Path) -> Result<(PathBuf, Self), ImportError> {
        let path = path
            .canonicalize()
            .map_err(|error| ImportError::io("looking for", path, error))?;
        let inside = path.join(NAME);
        match inside.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => Ok((path, Control::open(inside)?)),
            Ok(metadata) if metadata.is_file() => Err(locator(path, &inside)?),
            _ if path.join("format_version").is_file() => {
                let parent = path.parent().unwrap_or(&path).to_owned();
                Ok((parent, Control::open(path)?))
            }
            _ => Err(ImportError::NotARepository { path }),
        }
    }

    fn open(path: PathBuf) -> Result<Self, ImportError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|error| ImportError::io("opening", &path, error.into()))?;
        Ok(Control { directory, path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses every version but the Go tools'.
    pub fn check_version(&self) -> Result<(), ImportError> {
        match self.text("format_version")?.as_deref() {
            None => Err(ImportError::NotARepository {
                path: self.path.clone(),
            }),
            Some("1") => Ok(()),
            Some("2") => Err(ImportError::Ours {
                path: self.path.clone(),
            }),
            Some(found) => Err(ImportError::Version {
                path: self.path.clone(),
                found: found.chars().take(32).collect(),
            }),
        }
    }

    /// A small file as text without white space around it; nothing if there is none.
    pub fn text(&self, name: &str) -> Result<Option<String>, ImportError> {
        let bytes = self.read(name)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, ImportError> {
        let failed = |error| ImportError::io("reading", &self.path.join(name), error);
        let path = RelativePath::new(name.as_bytes()).map_err(|error| failed(io::Error::other(error)))?;
        read_file(self.directory.as_fd(), &path).map_err(failed)
    }

    /// The names in a directory that are UTF-8, sorted; none if it is not there.
    fn names(&self, directory: &str) -> Result<Vec<String>, ImportError> {
        let failed = |error| ImportError::io("listing", &self.path.join(directory), error);
        let path =
            RelativePath::new(directory.as_bytes()).map_err(|error| failed(io::Error::other(error)))?;
        let entries = match list(self.directory.as_fd(), &path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        if entries.len() > 2 * SNAPSHOTS_MAX {
            return Err(ImportError::TooMany {
                path: self.path.join(directory),
                what: "entries",
                maximum: 2 * SNAPSHOTS_MAX,
            });
        }
        let names = entries
            .iter()
            .map(|(path, _)| String::from_utf8(path.name().to_vec()));
        Ok(names.filter_map(Result::ok).collect())
    }

    /// Opens the tree of a snapshot.
    pub fn tree(&self, id: &JvsSnapshotId) -> Result<OwnedFd, ImportError> {
        let path = self.path.join("snapshots").join(id.as_str());
        let below = RelativePath::new(format!("snapshots/{id}").as_bytes());
        let opened = below
            .map_err(io::Error::other)
            .and_then(|below| beneath::open_directory(&self.directory, &below));
        opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ImportError::TreeMissing { path },
            _ => ImportError::io("opening", &path, error),
        })
    }

    /// Reads the JSON files of a directory. What cannot be read or understood is a finding.
    fn documents<T>(
        &self,
        directory: &str,
        findings: &mut Vec<Finding>,
        mut read: impl FnMut(&str, &[u8]) -> Result<T, String>,
    ) -> Result<Vec<T>, ImportError> {
        let mut found = Vec::new();
        let mut bytes_left = DOCUMENTS_BYTES_MAX;
        for name in self.names(directory)? {
            let Some(stem) = name.strip_suffix(".json") else {
                continue;
            };
            let file = format!("{directory}/{name}");
            let read = match self.read(&file) {
                Ok(Some(bytes)) if bytes.len() > bytes_left => {
                    return Err(ImportError::TooMany {
                        path: self.path.join(directory),
                        what: "bytes",
                        maximum: DOCUMENTS_BYTES_MAX,
                    });
                }
                Ok(Some(bytes)) => {
                    bytes_left -= bytes.len();
                    read(stem, &bytes)
                }
                Ok(None) => continue,
                Err(ImportError::Io { source, .. }) => Err(source.to_string()),
                Err(error) => return Err(error),
            };
            match read {
                Ok(document) => found.push(document),
                Err(what) => findings.push(Finding::Damaged { file, what }),
            }
        }
        Ok(found)
    }
}

/// The error that says where the repository of a further workspace is.
fn locator(path: PathBuf, file: &Path) -> Result<ImportError, ImportError> {
    #[derive(Deserialize)]
    struct Fields {
        #[serde(alias = "previous_repo_root")]
        repo_root: String,
    }
    let failed = |error| ImportError::io("reading", file, error);
    let opened = rustix::fs::open(
        &path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let opened = opened.map_err(|error| failed(error.into()))?;
    let name = RelativePath::new(NAME.as_bytes()).map_err(|error| failed(io::Error::other(error)))?;
    let bytes = read_file(opened.as_fd(), &name)
        .map_err(failed)?
        .unwrap_or_default();
    Ok(match serde_json::from_slice::<Fields>(&bytes) {
        Ok(fields) => ImportError::Locator {
            path,
            repository: fields.repo_root,
        },
        Err(_) => ImportError::NotARepository { path },
    })
}

/// All descriptors, by identity.
pub(super) fn snapshots(
    control: &Control,
    findings: &mut Vec<Finding>,
) -> Result<Vec<JvsSnapshot>, ImportError> {
    let snapshots = control.documents("descriptors", findings, |stem, bytes| {
        let id = JvsSnapshotId::parse(stem).ok_or_else(|| "its name is no id of a snapshot".to_owned())?;
        descriptor::read(bytes, &id)
    })?;
    match snapshots.len() <= SNAPSHOTS_MAX {
        true => Ok(snapshots),
        false => Err(ImportError::TooMany {
            path: control.path.clone(),
            what: "snapshots",
            maximum: SNAPSHOTS_MAX,
        }),
    }
}

/// Finds trees without descriptors, descriptors without trees, and saves that never ended.
pub(super) fn compare_trees(
    control: &Control,
    snapshots: &[JvsSnapshot],
    findings: &mut Vec<Finding>,
) -> Result<(), ImportError> {
    let described: BTreeSet<&JvsSnapshotId> = snapshots.iter().map(|snapshot| &snapshot.id).collect();
    let mut trees = BTreeSet::new();
    let mut unfinished = BTreeSet::new();
    for name in control.names("snapshots")? {
        match (JvsSnapshotId::parse(&name), name.strip_suffix(".tmp")) {
            (Some(id), _) => drop(trees.insert(id)),
            (None, Some(stem)) => unfinished.extend(JvsSnapshotId::parse(stem)),
            (None, None) => {}
        }
    }
    for name in control.names("intents")? {
        unfinished.extend(name.strip_suffix(".json").and_then(JvsSnapshotId::parse));
    }
    let missing = described.iter().filter(|id| !trees.contains(**id));
    findings.extend(missing.map(|id| Finding::TreeMissing((*id).clone())));
    // A descriptor that is damaged is a finding already, and still one.
    let damaged = |id: &JvsSnapshotId, findings: &[Finding]| {
        let name = format!("descriptors/{id}.json");
        findings
            .iter()
            .any(|finding| matches!(finding, Finding::Damaged { file, .. } if *file == name))
    };
    for id in trees {
        if !described.contains(&id) && !damaged(&id, findings) {
            findings.push(Finding::DescriptorMissing(id));
        }
    }
    findings.extend(unfinished.into_iter().map(Finding::Unfinished));
    Ok(())
}

/// A workspace whose place is still to be found out.
pub(super) struct FoundWorkspace {
    pub workspace: JvsWorkspace,
    /// Whether the new line recorded where it is.
    pub recorded: bool,
}

impl FoundWorkspace {
    /// Says where its files should be, in the repository in the directory `root`.
    pub fn place(&mut self, root: &Path, line: JvsLine, separated: bool) {
        let main = self.workspace.name == "main";
        self.workspace.directory = match line {
            JvsLine::Old if main => root.join("main"),
            JvsLine::Old => root.join("worktrees").join(&self.workspace.name),
            // The folder that the control directory is in, also after both were moved.
            JvsLine::New if main && !separated => root.to_owned(),
            JvsLine::New => std::mem::take(&mut self.workspace.directory),
        };
    }
}

/// All workspaces, by name.
pub(super) fn workspaces(
    control: &Control,
    findings: &mut Vec<Finding>,
) -> Result<Vec<FoundWorkspace>, ImportError> {
    #[derive(Deserialize)]
    struct Source {
        source_snapshot_id: JvsSnapshotId,
        #[serde(default)]
        source_path: String,
    }
    #[derive(Deserialize)]
    struct Fields {
        name: String,
        real_path: Option<PathBuf>,
        #[serde(default, deserialize_with = "optional_id")]
        base_snapshot_id: Option<JvsSnapshotId>,
        #[serde(default, deserialize_with = "optional_id")]
        started_from: Option<JvsSnapshotId>,
        #[serde(default, deserialize_with = "optional_id")]
        head_snapshot_id: Option<JvsSnapshotId>,
        #[serde(default, deserialize_with = "optional_id")]
        latest_snapshot_id: Option<JvsSnapshotId>,
        #[serde(deserialize_with = "descriptor::time")]
        created_at: Timestamp,
        path_sources: Option<std::collections::BTreeMap<String, Source>>,
    }
    let mut found = Vec::new();
    for name in control.names("worktrees")? {
        let file = format!("worktrees/{name}/config.json");
        let fields = match control.read(&file) {
            Ok(Some(bytes)) => serde_json::from_slice::<Fields>(&bytes).map_err(|error| error.to_string()),
            Ok(None) => Err("it is missing".to_owned()),
            Err(ImportError::Io { source, .. }) => Err(source.to_string()),
            Err(error) => return Err(error),
        };
        let fields = fields.and_then(|fields| match fields.name == name {
            true => Ok(fields),
            false => Err(format!("it is of workspace {:?}", fields.name)),
        });
        let fields = match fields {
            Ok(fields) => fields,
            Err(what) => {
                findings.push(Finding::Damaged { file, what });
                continue;
            }
        };
        let sources = fields.path_sources.unwrap_or_default().into_iter();
        found.push(FoundWorkspace {
            recorded: fields.real_path.is_some(),
            workspace: JvsWorkspace {
                name,
                directory: fields.real_path.unwrap_or_default(),
                head: fields.head_snapshot_id,
                latest: fields.latest_snapshot_id,
                started_from: fields.started_from.or(fields.base_snapshot_id),
                created: fields.created_at,
                path_sources: sources
                    .map(|(path, source)| PathSource {
                        path,
                        snapshot: source.source_snapshot_id,
                        source_path: source.source_path,
                    })
                    .collect(),
            },
        });
    }
    Ok(found)
}

/// An id, where an empty text is none.
fn optional_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<JvsSnapshotId>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    match text.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => JvsSnapshotId::parse(&text)
            .map(Some)
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no id of a snapshot"))),
    }
}

/// All pins: the old line wrote and read them at two places.
pub(super) fn pins(control: &Control, findings: &mut Vec<Finding>) -> Result<Vec<JvsPin>, ImportError> {
    #[derive(Deserialize)]
    struct Fields {
        snapshot_id: JvsSnapshotId,
        #[serde(default)]
        reason: String,
        #[serde(default, deserialize_with = "descriptor::optional_time")]
        expires_at: Option<Timestamp>,
    }
    let mut pins = Vec::new();
    for directory in ["gc/pins", "pins"] {
        pins.extend(control.documents(directory, findings, |_, bytes| {
            let fields: Fields = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
            Ok(JvsPin {
                snapshot: fields.snapshot_id,
                reason: fields.reason,
                expires: fields.expires_at,
            })
        })?);
    }
    Ok(pins)
}
