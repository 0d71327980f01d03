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
        if self.json {
            self.object(object)
        } else {
            self.text(&text())
        }
    }

    /// Writes an object on a line of its own.
    pub fn object(&mut self, object: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.writer, object)?;
        self.writer.write_all(b"\n")
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
