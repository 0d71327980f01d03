//! What the demo prints: a line when a step begins and ends, and a table at the end.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::tree::Totals;

/// A finished step.
#[derive(Debug, Clone)]
struct Line {
    step: String,
    totals: Option<Totals>,
    took: Duration,
}

/// The steps so far.
#[derive(Debug)]
pub struct Report {
    lines: Vec<Line>,
    expected: usize,
}

/// A step that has begun.
#[derive(Debug)]
pub struct Step {
    name: String,
    started: Instant,
}

impl Report {
    /// A report of so many steps.
    pub fn new(expected: usize) -> Self {
        let lines = Vec::new();
        Report { lines, expected }
    }

    /// Begins a step.
    pub fn begin(&self, name: &str) -> Step {
        print!("[{:2}/{}] {name:<44} ", self.lines.len() + 1, self.expected);
        // Progress that cannot be shown is no reason to stop.
        let _ = std::io::stdout().flush();
        Step {
            name: name.to_owned(),
            started: Instant::now(),
        }
    }

    /// Ends a step; `totals` is what it went through, if that says something.
    pub fn end(&mut self, step: Step, totals: Option<Totals>, note: &str) {
        let took = step.started.elapsed();
        println!(
            "{}{}{note}",
            duration(took),
            if note.is_empty() { "" } else { ", " }
        );
        self.lines.push(Line {
            step: step.name,
            totals,
            took,
        });
    }

    /// The table.
    pub fn print(&self) {
        println!(
            "\n{:<46}{:>8}{:>12}{:>11}{:>8}",
            "step", "files", "bytes", "seconds", "MB/s"
        );
        for line in &self.lines {
            let seconds = line.took.as_secs_f64();
            print!("{:<46}", line.step);
            match line.totals {
                Some(totals) if totals.bytes > 0 => {
                    let rate = totals.bytes as f64 / 1e6 / seconds.max(1e-6);
                    println!(
                        "{:>8}{:>12}{seconds:>11.3}{rate:>8.0}",
                        totals.files,
                        size(totals.bytes)
                    );
                }
                _ => println!("{:>8}{:>12}{seconds:>11.3}{:>8}", "", "", ""),
            }
        }
    }
}

/// A number of bytes for people.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

fn duration(took: Duration) -> String {
    match took.as_millis() {
        0..10 => format!("{:.1} ms", took.as_secs_f64() * 1e3),
        10..1000 => format!("{} ms", took.as_millis()),
        _ => format!("{:.1} s", took.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, size};

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(size(999), "1.0 kB");
        assert_eq!(size(1_500_000), "1.5 MB");
        assert_eq!(size(2_340_000_000), "2.34 GB");
        assert_eq!(duration(Duration::from_micros(1500)), "1.5 ms");
        assert_eq!(duration(Duration::from_millis(999)), "999 ms");
        assert_eq!(duration(Duration::from_millis(1250)), "1.2 s");
    }
}
