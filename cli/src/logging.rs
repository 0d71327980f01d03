//! What libraries and this program say beside the outcome of a command: to standard error, or to the file of a view.
//!
//! Warnings and errors are told always, but for commands with `--json`: there a program reads standard error, and nothing but the failure is on it,
//! unless `RUST_LOG` or `--verbose` asks for more. Then every line before the failure is an object, too.

use std::fs::File;
use std::io::IsTerminal;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// The variable that says what is told, in the syntax of tracing-subscriber's `EnvFilter`: `debug`, or `warn,cairn_snapshot=trace`.
const VARIABLE: &str = "RUST_LOG";
/// What is told if nobody asks.
const DEFAULT: &str = "warn";

/// How much is told, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Logging {
    /// How often `--verbose` was given.
    pub verbose: u8,
    /// Lines are objects.
    pub json: bool,
}

impl Logging {
    /// What somebody asked for, if somebody did: the option before the variable. Errors: the variable is no filter.
    fn asked(self) -> Result<Option<EnvFilter>, Failure> {
        // The names of all crates of ours begin like this.
        let words = match self.verbose {
            0 => match std::env::var(VARIABLE) {
                Ok(words) if !words.trim().is_empty() => words,
                _ => return Ok(None),
            },
            1 => format!("{DEFAULT},cairn=info"),
            2 => format!("{DEFAULT},cairn=debug"),
            _ => format!("{DEFAULT},cairn=trace"),
        };
        let parsed = EnvFilter::try_new(&words);
        parsed.map(Some).map_err(|error| Failure::Usage {
            message: format!("{VARIABLE} is {words:?}, which is no filter: {error}"),
            remedy: format!("for instance: {VARIABLE}=debug"),
        })
    }

    /// Starts it for the whole process, to standard error. Errors: as of `asked`; it was started before.
    pub fn start(self) -> Result<(), Failure> {
        let asked = self.asked()?;
        let is_asked = asked.is_some();
        let Some(filter) = asked.or_else(|| (!self.json).then(|| EnvFilter::new(DEFAULT))) else {
            return Ok(());
        };
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(std::io::stderr().is_terminal() && !self.json)
            .with_writer(std::io::stderr);
        begun(match (self.json, is_asked) {
            (true, _) => lines.json().flatten_event(true).try_init(),
            (false, true) => lines.try_init(),
            (false, false) => lines.without_time().with_target(false).try_init(),
        })
    }

    /// The same for a process that serves a view: warnings are told in any case, and always as text. Errors: as of [`Logging::start`].
    pub fn start_for_view(self, file: Option<File>) -> Result<(), Failure> {
        let filter = self.asked()?.unwrap_or_else(|| EnvFilter::new(DEFAULT));
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_target(false)
            .with_ansi(false);
        begun(match file {
            None => lines.with_writer(std::io::stderr).try_init(),
            Some(file) => lines.with_writer(Mutex::new(file)).try_init(),
        })
    }
}

fn begun(outcome: Result<(), Box<dyn std::error::Error + Send + Sync>>) -> Result<(), Failure> {
    outcome.map_err(|error| Failure::Usage {
        message: format!("cannot start: {error}"),
        remedy: String::new(),
    })
}
