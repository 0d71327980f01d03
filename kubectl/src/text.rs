//! Values as people read them.

use jiff::Timestamp;

/// Units with their factors, largest first.
const UNITS: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];
/// Characters of a free text that tables show.
const SHOWN_MAX: usize = 60;

/// A number of bytes, with one decimal from 1 KiB on, rounded down.
pub fn size(bytes: u64) -> String {
    match UNITS.iter().find(|(_, factor)| bytes >= *factor) {
        Some((unit, factor)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(*factor);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

/// How long ago, or how long until, in its largest unit and, below ten of that, the next one: what `kubectl get` shows.
pub fn age(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.as_second().saturating_sub(from.as_second()).unsigned_abs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0..2) => format!("{seconds}s"),
        (0, 0, 2..10) => format!("{minutes}m{}s", seconds % 60),
        (0, 0..3, _) => format!("{minutes}m"),
        (0, 3..8, _) => format!("{hours}h{}m", minutes % 60),
        (0..2, ..) => format!("{hours}h"),
        (2..8, ..) => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

/// One short line of free text: line breaks and control characters become spaces, and what is too long is cut.
pub fn line(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// Aligned columns, three spaces apart, as `kubectl` has them; trailing spaces are left out.
pub fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let title = headers.get(column).map(|title| title.chars().count());
        cells
            .map(|cell| cell.chars().count())
            .chain(title)
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headers.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            text.push_str(cell);
            text.push_str(&" ".repeat(width - cell.chars().count() + 3));
        }
        format!("{}\n", text.trim_end())
    };
    let body = rows
        .iter()
        .map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(line(headers.to_vec())).chain(body).collect()
}

/// A word as the shell reads it as one.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{age, line, shell_word, size, table};

    #[test]
    fn values_are_read_by_people() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(5 << 29), "2.5 GiB");
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        for (seconds, text) in [
            (7, "7s"),
            (130, "2m10s"),
            (3599, "59m"),
            (8000, "133m"),
            (4 * 3600 + 60, "4h1m"),
            (30 * 3600, "30h"),
            (3 * 86_400 + 3600, "3d1h"),
            (90 * 86_400, "90d"),
        ] {
            assert_eq!(age(at(0), at(seconds)), text);
            assert_eq!(age(at(seconds), at(0)), text);
        }
        assert_eq!(line("a\nb"), "a b");
        assert_eq!(line(&"é".repeat(61)).chars().count(), 61);
        assert_eq!(
            table(&["A", "B"], &[vec!["xyz".to_owned(), String::new()]]),
            "A     B\nxyz\n"
        );
        assert_eq!(shell_word("a-b/c"), "a-b/c");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
