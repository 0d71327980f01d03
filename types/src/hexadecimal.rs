//! Identities as text: lowercase hexadecimal digits, two a byte, all of them.

use std::fmt;

/// Writes all digits.
pub fn write(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// All digits.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Parses exactly `2 * N` digits; capitals, signs and spaces are none.
pub fn parse<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_the_whole_form_is_parsed() {
        assert_eq!(parse("00ff1a"), Some([0, 255, 26]));
        assert_eq!(parse(""), Some([]));
        for wrong in [
            "00ff1",
            "00ff1a0",
            "00FF1A",
            "+0ff1a",
            "00ff1g",
            " 0ff1a",
            "00ff\u{e9}",
        ] {
            assert_eq!(parse::<3>(wrong), None, "{wrong}");
        }
    }
}
