//! YAML of objects, the same bytes for the same object: keys in the order of JSON's maps here (sorted), block style, no anchors.
//!
//! Only what manifests need is written: strings that YAML could read as something else are quoted, long ones stand on one line. It reads
//! nothing.

use serde_json::Value;

/// `value` as a YAML document, with a newline at its end.
///
/// ```
/// let value = serde_json::json!({"b": [1, {"c": "yes"}], "a": {}});
/// assert_eq!(cairn_crds::yaml::document(&value), "a: {}\nb:\n- 1\n- c: \"yes\"\n");
/// ```
pub fn document(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(value, 0, true, &mut text),
        Value::Array(list) if !list.is_empty() => sequence(list, 0, &mut text),
        other => {
            text.push_str(&scalar(other));
            text.push('\n');
        }
    }
    text
}

/// Entries in order. The first is not indented if something stands on its line.
fn mapping(value: &Value, indent: usize, at_line_start: bool, text: &mut String) {
    let Some(map) = value.as_object() else { return };
    // Whether the map keeps the order of insertion depends on features of serde_json that others may switch on.
    let mut entries: Vec<(&String, &Value)> = map.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    for (index, (key, value)) in entries.into_iter().enumerate() {
        if index > 0 || at_line_start {
            text.push_str(&" ".repeat(indent));
        }
        text.push_str(&scalar(&Value::String(key.clone())));
        text.push(':');
        match value {
            Value::Object(below) if !below.is_empty() => {
                text.push('\n');
                mapping(value, indent + 2, true, text);
            }
            Value::Array(below) if !below.is_empty() => {
                text.push('\n');
                sequence(below, indent, text);
            }
            other => {
                text.push(' ');
                text.push_str(&scalar(other));
                text.push('\n');
            }
        }
    }
}

fn sequence(list: &[Value], indent: usize, text: &mut String) {
    for item in list {
        text.push_str(&" ".repeat(indent));
        text.push_str("- ");
        match item {
            Value::Object(below) if !below.is_empty() => mapping(item, indent + 2, false, text),
            other => {
                text.push_str(&scalar(other));
                text.push('\n');
            }
        }
    }
}

/// A value on one line. A list within a list, which no manifest of ours has, stands in flow style (which is JSON).
fn scalar(value: &Value) -> String {
    match value {
        Value::String(string) if is_plain(string) => string.clone(),
        // Bounds of schemas are floating-point numbers in Kubernetes' own types, and whole.
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => {
                format!("{float:.0}")
            }
            _ => number.to_string(),
        },
        // A string of JSON is one of YAML's double-quoted style (YAML 1.2, section 7.3.1).
        other => other.to_string(),
    }
}

/// Whether a string needs no quotes: of letters, digits and a few signs, and nothing that YAML 1.1 or 1.2 reads as another type.
fn is_plain(text: &str) -> bool {
    let begins = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/');
    let harmless =
        |character: char| character.is_ascii_alphanumeric() || " _-./()',;=+<>*$".contains(character);
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    begins
        && !text.ends_with(' ')
        && text.chars().all(harmless)
        && !words.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::document;

    #[test]
    fn what_yaml_would_misread_is_quoted() {
        let value =
            json!({"a": "1", "b": "", "c": "x: y", "d": "10Gi", "e": "plain text", "f": "No", "g": "tab\t"});
        assert_eq!(
            document(&value),
            "a: \"1\"\nb: \"\"\nc: \"x: y\"\nd: \"10Gi\"\ne: plain text\nf: \"No\"\ng: \"tab\\t\"\n"
        );
    }

    #[test]
    fn lists_and_maps_nest() {
        let value = json!([{"a": [{"b": {"c": 1}, "d": []}, true]}, null]);
        assert_eq!(
            document(&value),
            "- a:\n  - b:\n      c: 1\n    d: []\n  - true\n- null\n"
        );
    }
}
