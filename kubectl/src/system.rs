//! The real clock, chance, signals and terminal of the process. Nothing else here asks the operating system for them.

use std::io::{self, BufRead, IsTerminal, Write};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Exit, Failure};

/// Letters of generated names: those that Kubernetes uses, so that no word comes about.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Characters of what makes a generated name unique: 27 to the power of 8 names.
const SUFFIX_CHARACTERS: usize = 8;
/// Longest name that is a DNS label.
const LABEL_CHARACTERS_MAX: usize = 63;

/// The time.
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// A new name that begins with `prefix`, as a DNS label. Errors: the system has no randomness.
pub fn new_name(prefix: &str) -> Result<String, Failure> {
    let mut bytes = [0; SUFFIX_CHARACTERS];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::told(
            Exit::Internal,
            "INTERNAL",
            format!("the system has no randomness: {error}"),
            "",
        )
    })?;
    let suffix: String = bytes
        .iter()
        .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]))
        .collect();
    let room = LABEL_CHARACTERS_MAX - SUFFIX_CHARACTERS - 1;
    // Names of Snapshots may have dots, which labels have not.
    let shown: String = prefix
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(room)
        .collect();
    Ok(format!("{}-{suffix}", shown.trim_matches('-')))
}

/// Signals that ask the process to end. While one of these is there, they do not end it by themselves.
pub struct Cancellation(Vec<Signal>);

impl Cancellation {
    /// Listens from now on. Errors: the system lets nobody listen.
    pub fn listen() -> Result<Self, Failure> {
        [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ]
        .into_iter()
        .map(signal)
        .collect::<io::Result<_>>()
        .map(Cancellation)
        .map_err(|error| {
            Failure::told(
                Exit::Internal,
                "INTERNAL",
                format!("cannot listen for signals: {error}"),
                "",
            )
        })
    }

    /// Waits for one of them.
    pub async fn wait(&mut self) {
        let waits = self.0.iter_mut().map(|signal| Box::pin(signal.recv()));
        futures_util::future::select_all(waits).await;
    }
}

/// Whether a person can be asked.
pub fn has_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks on the terminal whether to go on. The answer is read on a thread of its own, so that Ctrl-C is heard meanwhile. Errors: the terminal cannot be read.
pub async fn agrees(question: &str) -> Result<bool, Failure> {
    let failed = |error: io::Error| {
        Failure::told(
            Exit::Internal,
            "INTERNAL",
            format!("cannot read the answer: {error}"),
            "give --yes to do it without being asked",
        )
    };
    eprint!("{question} [y/N] ");
    io::stderr().flush().map_err(failed)?;
    let (send, answered) = tokio::sync::oneshot::channel();
    // It is not waited for: a thread that reads a terminal cannot be ended, and ends with the process.
    std::thread::Builder::new()
        .name("answer".to_owned())
        .spawn(move || {
            let mut answer = String::new();
            let read = io::stdin().lock().read_line(&mut answer).map(|_| answer);
            let _ = send.send(read);
        })
        .map_err(failed)?;
    let answer = match answered.await {
        Ok(answer) => answer.map_err(failed)?,
        Err(_) => String::new(),
    };
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::new_name;

    #[test]
    fn names_are_labels_and_differ() {
        let (a, b) = (new_name("data").unwrap(), new_name("data").unwrap());
        assert_ne!(a, b);
        assert!(a.starts_with("data-"));
        let long = new_name(&"A.b".repeat(50)).unwrap();
        assert!(long.len() <= 63 && long.starts_with("a-ba-b"), "{long}");
        assert!(
            long.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        );
    }
}
