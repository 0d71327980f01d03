//! Rust source without its comments and literals, so that a rule about code does not trip over prose or test data.
//!
//! Line breaks stay where they are: line numbers hold. It is a lexer for this one purpose; what it meets in code that
//! rustc refuses does not matter.

/// Replaces comments, string, byte and character literals by blanks.
pub fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = if rest.starts_with(b"//") {
            rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            block_comment(rest)
        } else if rest[0] == b'"' {
            string(rest)
        } else if let Some(length) = raw_string(rest).filter(|_| !follows_word(bytes, at)) {
            length
        } else if rest[0] == b'\'' {
            character(rest)
        } else {
            0
        };
        if length == 0 {
            code.push(if rest[0].is_ascii() {
                char::from(rest[0])
            } else {
                ' '
            });
            at += 1;
        } else {
            let end = (at + length).min(bytes.len());
            code.extend(
                bytes[at..end]
                    .iter()
                    .map(|byte| if *byte == b'\n' { '\n' } else { ' ' }),
            );
            at = end;
        }
    }
    code
}

fn follows_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of `r"..."`, `r#"..."#`, `br#"..."#` and so on; `None` if there is none here.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let prefix = [&b"br"[..], b"cr", b"r"]
        .into_iter()
        .find(|prefix| rest.starts_with(prefix))?;
    let hashes = rest[prefix.len()..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    let open = prefix.len() + hashes;
    if rest.get(open) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = &rest[open + 1..];
    let end = body.windows(close.len()).position(|window| window == close);
    Some(end.map_or(rest.len(), |end| open + 1 + end + close.len()))
}

/// The length of a character literal; 0 if the quote begins a lifetime.
fn character(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let end = rest.iter().skip(3).position(|byte| *byte == b'\'');
        return end.map_or(0, |end| end + 4);
    }
    // One character of up to four bytes, then the closing quote.
    let width = match rest.get(1) {
        Some(0xf0..) => 4,
        Some(0xe0..) => 3,
        Some(0xc0..) => 2,
        _ => 1,
    };
    if rest.get(1 + width) == Some(&b'\'') {
        width + 2
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn squeezed(source: &str) -> String {
        code_only(source).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_literals_vanish() {
        assert_eq!(squeezed("a(); // b()\nc(/* d /* e */ f */);"), "a(); c( );");
        assert_eq!(squeezed(r#"x("todo", 'y', "a\"b");"#), "x( , , );");
        assert_eq!(squeezed("x(r#\"a \" b\"#, br\"c\");"), "x( , );");
        assert_eq!(squeezed(r"x('\'', '\\', b);"), "x( , , b);");
        assert_eq!(squeezed("x('é', b);"), "x( , b);");
    }

    #[test]
    fn lifetimes_and_names_that_end_in_r_stay() {
        assert_eq!(squeezed("fn a<'b>(c: &'b str)"), "fn a<'b>(c: &'b str)");
        assert_eq!(squeezed("for\"x\""), "for");
        assert_eq!(squeezed("r#type"), "r#type");
    }

    #[test]
    fn line_numbers_hold() {
        let source = "/* a\nb */\n\"c\nd\"\nend";
        assert_eq!(code_only(source).lines().count(), 5);
        assert_eq!(code_only(source).lines().last(), Some("end"));
    }

    #[test]
    fn an_end_inside_a_literal_is_no_panic() {
        for source in ["\"", "'", "'\\", "/*", "r#\"", "\"\\", "'é"] {
            let _ = code_only(source);
        }
    }
}
