//! Standard output: text or JSON, never both.

use std::io::{self, BufWriter, Stdout, Write};

use serde::Serialize;

/// Where a command's results go. Nothing is lost silently: every write can fail, and [`Output::finish`] tells of the last.
pub struct Output {
    writer: BufWriter<Stdout>,
    json: bool,
}

impl Output {
    /// Standard output, as JSON or as text.
    pub fn new(json: bool) -> Self {
        Output {
            writer: BufWriter::new(io::stdout()),
            json,
        }
    }

    /// Whether programs read along.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Writes the object in JSON mode, the text otherwise.
    pub fn put(&mut self, object: &impl Serialize, text: impl FnOnce() -> String) -> io::Result<()> {
        match self.json {
            true => {
                serde_json::to_writer(&mut self.writer, object)?;
                self.writer.write_all(b"\n")
            }
            false => self.text(&text()),
        }
    }

    /// Writes text.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(text.as_bytes())
    }

    /// Writes what is buffered.
    pub fn finish(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Says something to the person, beside the results.
pub fn tell(line: &str) {
    // If nobody reads standard error any more, nobody misses it.
    let _ = writeln!(io::stderr(), "{line}");
}
