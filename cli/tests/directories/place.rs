//! A directory with a binary to try on it, and what the binary prints, taken apart.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use cairn_snapshot::repository::{Host, LeaseTimes, Parts, SystemTicks};
use cairn_types::{Clock, Randomness, Timestamp};
use serde_json::Value;
use tempfile::TempDir;

/// A directory to work in, beside room for other things.
pub struct Place {
    root: TempDir,
}

impl Place {
    /// An empty directory that is no repository yet.
    pub fn new() -> Self {
        Place::within(TempDir::new().unwrap())
    }

    /// The same in a directory that is there.
    pub fn within(root: TempDir) -> Self {
        fs::create_dir(root.path().join("work")).unwrap();
        Place { root }
    }

    /// A repository with two files, one of them in a directory.
    pub fn repository() -> Self {
        let place = Place::new();
        place.write("a", "first");
        place.write("sub/b", "second");
        place.ok(&["init", "."]);
        place
    }

    pub fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    pub fn beside(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.work().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.work().join(path)).unwrap()
    }

    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command
            .args(arguments)
            .current_dir(self.work())
            .env("CAIRN_SOCKET", "/nonexistent/cairnd.sock")
            .env("XDG_CACHE_HOME", self.beside("cache"))
            .env_remove("CAIRN_CONTROL_DIR")
            .env_remove("JVS_SNAPSHOT_ENGINE")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The text of a command that succeeds.
    pub fn ok<S: AsRef<OsStr> + std::fmt::Debug>(&self, arguments: &[S]) -> String {
        let output = self.run(arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {told}");
        text(&output.stdout)
    }

    /// The object of a command that succeeds.
    pub fn json(&self, arguments: &[&str]) -> Value {
        object(&self.ok(&[arguments, &["--json"]].concat()))
    }

    /// Takes a snapshot and gives its id.
    pub fn save(&self, arguments: &[&str]) -> String {
        let saved = self.json(&[&["snapshot", "."], arguments].concat());
        assert_eq!(saved["outcome"], "new");
        word(&saved["snapshot"]["id"])
    }

    /// The failure of a command: what `--json` prints of it.
    #[track_caller]
    pub fn fails<S: AsRef<OsStr> + std::fmt::Debug>(
        &self,
        arguments: &[S],
        code: i32,
        reason: &str,
    ) -> Value {
        let plain = self.run(arguments);
        assert_eq!(
            plain.status.code(),
            Some(code),
            "{arguments:?}: {}",
            text(&plain.stderr)
        );
        // Warnings of libraries may come before it.
        let told = text(&plain.stderr);
        assert!(
            told.lines().any(|line| line.starts_with("cairn: ")),
            "{arguments:?}: {told}"
        );
        let mut command = self.command(arguments);
        let output = command.arg("--json").output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        let mut told = object(&text(&output.stderr));
        assert_eq!(told["error"]["reason"], reason, "{arguments:?}: {told}");
        assert_eq!(told["error"]["exit_code"], code);
        told["error"].take()
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn word(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
        .to_owned()
}

pub fn object(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The objects of lines, and the summary that is the last of them.
pub fn lines(text: &str) -> (Vec<(String, String)>, Value) {
    let mut objects: Vec<Value> = text.lines().map(object).collect();
    let mut last = objects.pop().unwrap();
    let told = objects
        .iter()
        .map(|difference| (word(&difference["kind"]), word(&difference["path"])))
        .collect();
    (told, last["summary"].take())
}

pub fn pair(kind: &str, path: &str) -> (String, String) {
    (kind.to_owned(), path.to_owned())
}

/// A clock that stands still: nothing here asks for more.
struct Still(i64);

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::new(self.0, 0)
    }
}

/// The randomness of the machine.
struct Chance;

impl Randomness for Chance {
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).unwrap();
    }
}

/// What a repository works with in this process.
pub fn parts() -> Parts {
    parts_at(1_700_000_000)
}

/// The same with a clock that stands at so many seconds after 1970.
pub fn parts_at(seconds: i64) -> Parts {
    Parts {
        clock: Arc::new(Still(seconds)),
        randomness: Arc::new(Chance),
        ticks: Arc::new(SystemTicks::new()),
        host: Host::detect().unwrap(),
        actor: "somebody".to_owned(),
        lease_times: LeaseTimes::default(),
        runtime: None,
    }
}
