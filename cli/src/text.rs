//! Values as people read them.

use std::fmt::Write;

use cairn_types::{SnapshotId, Timestamp};
use jiff::tz::TimeZone;

/// Units with their factors, largest first.
const UNITS: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// A number of bytes, with one decimal from 1 KiB on.
pub fn size(bytes: u64) -> String {
    match UNITS.iter().find(|(_, factor)| bytes >= *factor) {
        Some((unit, factor)) => {
            // Rounded down, in integers: what does not quite fit must not look as if it did.
            let tenths = u128::from(bytes) * 10 / u128::from(*factor);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

/// A length of time in its two largest units.
pub fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// A point in time, to the second, in a time zone.
pub fn local_time(time: Timestamp, zone: &TimeZone) -> String {
    match instant(time) {
        Some(instant) => instant
            .to_zoned(zone.clone())
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string(),
        None => "out of range".to_owned(),
    }
}

/// A point in time as RFC 3339 has it, UTC, with as many decimals as it needs. `None` beyond the year 9999.
pub fn utc_time(time: Timestamp) -> Option<String> {
    instant(time).map(|instant| instant.to_string())
}

fn instant(time: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(time.seconds(), i32::try_from(time.nanoseconds()).ok()?).ok()
}

/// A path for the screen: printable text as it is; backslashes, control characters and bytes that are no UTF-8 as escapes,
/// so that no name can play tricks with the terminal or look like two lines.
pub fn path(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                // Direction marks reorder what is around them.
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    text.extend(character.escape_unicode());
                }
                control if control.is_control() => text.extend(control.escape_unicode()),
                printable => text.push(printable),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// The first digits of an id, as tables show it.
pub fn short_id(id: SnapshotId) -> String {
    let mut digits = id.to_string();
    digits.truncate(SnapshotId::SHORT_DIGITS);
    digits
}

/// One line of free text: line breaks and control characters become spaces.
pub fn line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Aligned columns, two spaces apart. The columns whose header begins with `>` are right-aligned.
pub fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let titles: Vec<&str> = headers
        .iter()
        .map(|header| header.trim_start_matches('>'))
        .collect();
    let widths: Vec<usize> = titles
        .iter()
        .enumerate()
        .map(|(column, title)| {
            let cells = rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count());
            cells.chain([title.chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    let mut push = |cells: &[&str]| {
        let mut line = String::new();
        for ((cell, width), header) in cells.iter().zip(&widths).zip(headers) {
            let padding = " ".repeat(width - cell.chars().count());
            let (before, after) = if header.starts_with('>') {
                (padding.as_str(), "")
            } else {
                ("", padding.as_str())
            };
            line.push_str(&format!("{before}{cell}{after}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    push(&titles);
    for row in rows {
        push(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
    text
}

#[cfg(test)]
mod tests {
    use cairn_types::Timestamp;
    use jiff::tz::{Offset, TimeZone};

    use super::{duration, line, local_time, path, size, table, utc_time};

    #[test]
    fn sizes_are_rounded_down() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (5 << 29, "2.5 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (61, "1 min 1 s"),
            (7_260, "2 h 1 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn times_are_local_for_people_and_utc_for_programs() {
        let time = Timestamp::new(1_700_000_000, 120_000_000);
        let zone = TimeZone::fixed(Offset::from_hours(2).unwrap());
        assert_eq!(local_time(time, &zone), "2023-11-15 00:13:20");
        assert_eq!(utc_time(time).as_deref(), Some("2023-11-14T22:13:20.12Z"));
        assert_eq!(utc_time(Timestamp::new(i64::MAX, 0)), None);
        assert_eq!(local_time(Timestamp::new(i64::MAX, 0), &zone), "out of range");
    }

    #[test]
    fn paths_cannot_play_tricks() {
        assert_eq!(path(b"a b/\xc3\xa9"), "a b/\u{e9}");
        assert_eq!(path(b"x\ny\x1b[31m\xff\\"), "x\\ny\\u{1b}[31m\\xff\\\\");
        assert_eq!(path("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(line("a\nb\tc"), "a b c");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = vec![
            vec!["a".to_owned(), "1".to_owned(), "x".to_owned()],
            vec!["long".to_owned(), "10".to_owned(), String::new()],
        ];
        assert_eq!(
            table(&["NAME", ">N", "NOTE"], &rows),
            "NAME   N  NOTE\na      1  x\nlong  10\n"
        );
    }
}
