//! Signs of life on standard error for what takes longer than a second, and only if a person watches.

use std::future::Future;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is done sooner shows nothing.
const SILENCE: Duration = Duration::from_secs(1);
/// Time between two frames.
const FRAME: Duration = Duration::from_millis(120);

/// Shows a spinner with `message` while `work` takes longer than a second.
pub async fn while_waiting<T>(message: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if let Ok(done) = tokio::time::timeout(SILENCE, &mut work).await {
        return done;
    }
    let spinner = spinner(message);
    let done = work.await;
    spinner.finish_and_clear();
    done
}

/// A running count.
pub struct Count {
    message: &'static str,
    started: std::time::Instant,
    spinner: Option<ProgressBar>,
}

impl Count {
    /// A count that shows itself after a second.
    pub fn start(message: &'static str) -> Self {
        Count {
            message,
            started: std::time::Instant::now(),
            spinner: None,
        }
    }

    /// Shows a new count.
    pub fn set(&mut self, count: u64) {
        if self.spinner.is_none() && self.started.elapsed() >= SILENCE {
            self.spinner = Some(spinner(self.message));
        }
        if let Some(spinner) = &self.spinner {
            spinner.set_message(format!("{}: {count}", self.message));
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// A line that changes while something goes on.
pub struct Line {
    started: std::time::Instant,
    spinner: Option<ProgressBar>,
}

impl Line {
    /// A line that shows itself after a second.
    pub fn new() -> Self {
        Line {
            started: std::time::Instant::now(),
            spinner: None,
        }
    }

    /// Shows a new text.
    pub fn show(&mut self, text: &str) {
        if self.spinner.is_none() && self.started.elapsed() >= SILENCE {
            self.spinner = Some(spinner(text));
        }
        if let Some(spinner) = &self.spinner {
            spinner.set_message(text.to_owned());
        }
    }

    /// Takes the line away, so that something else can be written; the next text shows it again.
    pub fn clear(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.clear();
    }
}

fn spinner(message: &str) -> ProgressBar {
    let watched = std::io::stderr().is_terminal();
    let target = if watched {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let spinner = ProgressBar::with_draw_target(None, target)
        .with_style(style)
        .with_message(message.to_owned());
    spinner.enable_steady_tick(FRAME);
    spinner
}
