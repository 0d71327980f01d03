//! The one form of a JSON value that the Go tools hash: keys sorted by their bytes, no white space, strings escaped as Go's `encoding/json` does it, HTML
//! characters too, and numbers as 64-bit floating point.

use serde_json::Value;

/// How control characters are escaped that have a short form in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escapes {
    /// `\b` and `\f`: Go 1.22 and later.
    Short,
    /// `\u0008` and `\u000c`: before.
    Long,
}

/// Adds the form of a value.
pub(super) fn put(out: &mut String, value: &Value, escapes: Escapes) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => put_number(out, number),
        Value::String(text) => put_string(out, text, escapes),
        Value::Array(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                put(out, value, escapes);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
            out.push('{');
            for (at, (key, value)) in members.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                put_string(out, key, escapes);
                out.push(':');
                put(out, value, escapes);
            }
            out.push('}');
        }
    }
}

fn put_number(out: &mut String, number: &serde_json::Number) {
    match number.as_f64() {
        // Whole numbers have no fraction and, below this bound, no exponent. What the tools write are small ones.
        Some(value) if value.abs() < 1e21 => out.push_str(&value.to_string()),
        _ => out.push_str(&number.to_string()),
    }
}

fn put_string(out: &mut String, text: &str, escapes: Escapes) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' if escapes == Escapes::Short => out.push_str("\\b"),
            '\u{c}' if escapes == Escapes::Short => out.push_str("\\f"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Escapes, put};

    fn form(value: &serde_json::Value, escapes: Escapes) -> String {
        let mut out = String::new();
        put(&mut out, value, escapes);
        out
    }

    #[test]
    fn values_have_the_form_that_go_gives_them() {
        let value =
            json!({"b": [1, 2.5, -3, true, null], "a": {"z": "", "y": "<&>\u{2028}\u{e9}\u{7f}"}, "B": 1e3});
        let expected = "{\"B\":1000,\"a\":{\"y\":\"\\u003c\\u0026\\u003e\\u2028\u{e9}\u{7f}\",\"z\":\"\"},\"b\":[1,2.5,-3,true,null]}";
        assert_eq!(form(&value, Escapes::Short), expected);
        let controls = json!("\u{8}\u{c}\u{1}\n\r\t\"\\");
        assert_eq!(form(&controls, Escapes::Short), r#""\b\f\u0001\n\r\t\"\\""#);
        assert_eq!(
            form(&controls, Escapes::Long),
            r#""\u0008\u000c\u0001\n\r\t\"\\""#
        );
    }
}
