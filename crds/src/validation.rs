//! Rules that several kinds share, as CEL for the schema and as functions for those who read the values afterwards.
//!
//! A rule and the function that reads what it lets through stand side by side; tests make sure that nothing comes through that cannot be read. CEL that matches text is
//! only applied to fields with a `maxLength`, because its estimated cost grows with it.

use kube::core::{Message, Rule};

/// Longest length of time as text.
pub const DURATION_CHARACTERS_MAX: usize = 32;
/// Longest quantity as text.
pub const QUANTITY_CHARACTERS_MAX: usize = 32;
/// Longest cron expression.
pub const CRON_CHARACTERS_MAX: usize = 128;
/// Longest tag (the same as of snapshots outside of Kubernetes).
pub const TAG_CHARACTERS_MAX: usize = 64;
/// Longest path in characters (PATH_MAX).
pub const PATH_CHARACTERS_MAX: usize = 4096;

const DURATION: &str = "^([0-9]{1,9}(s|m|h|d|w)){1,5}$";
// Not all that a quantity may be: no sign, and no more digits than every implementation of the rules can compare without overflow.
const QUANTITY: &str = "^[0-9]{1,15}([.][0-9]{1,3})?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][0-9]|[eE]1[0-8])?$";
const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
const SUBDOMAIN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
const TIME_ZONE: &str = "^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$";
const TAG: &str = "^[A-Za-z0-9][A-Za-z0-9._:=-]*$";
const MODE: &str = "^0?[0-7]{3,4}$";

fn rule(expression: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule::new(expression).message(Message::Message(message.into()))
}

/// A length of time: whole numbers with units, largest unit first or not, such as `90m`, `24h`, `7d`, `1h30m`.
pub fn duration() -> Rule {
    rule(
        format!("self.matches('{DURATION}')"),
        "give whole numbers with units (s, m, h, d, w), such as 90m, 24h or 7d",
    )
}

/// The seconds of a text that [`duration`] lets through; `None` for any other, and for more than 2^63 seconds.
///
/// ```
/// assert_eq!(cairn_crds::validation::duration_seconds("1h30m"), Some(5400));
/// assert_eq!(cairn_crds::validation::duration_seconds("24"), None);
/// ```
pub fn duration_seconds(text: &str) -> Option<u64> {
    let mut seconds = 0_u64;
    let mut number: Option<u64> = None;
    let mut parts = 0;
    for byte in text.bytes() {
        let unit = match byte {
            b'0'..=b'9' => {
                let digit = u64::from(byte - b'0');
                number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
                continue;
            }
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        seconds = seconds.checked_add(number.take()?.checked_mul(unit)?)?;
        parts += 1;
    }
    let whole = number.is_none() && (1..=5).contains(&parts) && i64::try_from(seconds).is_ok();
    whole.then_some(seconds)
}

/// A positive quantity of Kubernetes, such as `10Gi`, of at most 4Ei.
pub fn quantity() -> Rule {
    rule(
        format!(
            "self.matches('{QUANTITY}') && quantity(self).isGreaterThan(quantity('0')) && !quantity(self).isGreaterThan(quantity('4Ei'))"
        ),
        "give a positive size with a unit, such as 500Mi, 10Gi or 2Ti; at most 4Ei",
    )
}

/// A quantity that only grows. `what` is what cannot be made smaller, `remedy` what to do instead.
pub fn grows(what: &str, remedy: &str) -> Rule {
    rule(
        format!(
            "!self.matches('{QUANTITY}') || !oldSelf.matches('{QUANTITY}') || !quantity(self).isLessThan(quantity(oldSelf))"
        ),
        format!("{what} cannot shrink: {remedy}"),
    )
}

/// The bytes of a quantity, rounded up to whole ones; `None` if it is no quantity, negative, or more than 2^63 - 1 bytes
/// (`k8s.io/apimachinery/pkg/api/resource`, "The serialization format").
///
/// ```
/// assert_eq!(cairn_crds::validation::quantity_bytes("10Gi"), Some(10 << 30));
/// assert_eq!(cairn_crds::validation::quantity_bytes("1.5G"), Some(1_500_000_000));
/// ```
pub fn quantity_bytes(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    // Numerator and denominator of the unit.
    let (times, per): (u128, u128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let digits = exponent.strip_prefix(['e', 'E'])?;
            let power: i32 = digits.parse().ok().filter(|power| (-18..=18).contains(power))?;
            let factor = 10_u128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (1, factor) } else { (factor, 1) }
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    if fraction.contains('.') || number.len() > QUANTITY_CHARACTERS_MAX {
        return None;
    }
    // At most 32 digits in all: the numerator may still overflow, which the checks tell.
    let digits: u128 = format!("0{whole}{fraction}").parse().ok()?;
    let places = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let bytes = digits.checked_mul(times)?.div_ceil(places.checked_mul(per)?);
    u64::try_from(bytes)
        .ok()
        .filter(|bytes| i64::try_from(*bytes).is_ok())
}

/// A cron expression of five fields (crontab(5): numbers, names of months and days, ranges, steps, lists), or one of the words from
/// `@hourly` to `@yearly`.
pub fn cron() -> Rule {
    let field = |value: &str| {
        let part = format!("([*]|({value})(-({value}))?)(/[1-9][0-9]?)?");
        format!("{part}(,{part})*")
    };
    let minute = field("[0-5]?[0-9]");
    let hour = field("[01]?[0-9]|2[0-3]");
    let day = field("0?[1-9]|[12][0-9]|3[01]");
    let month = field("0?[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec");
    let weekday = field("[0-7]|sun|mon|tue|wed|thu|fri|sat");
    rule(
        format!(
            "self.lowerAscii().matches('^(@(hourly|daily|midnight|weekly|monthly|yearly|annually)|{minute} +{hour} +{day} +{month} +{weekday})$')"
        ),
        "give five fields of crontab(5), minute hour day month weekday, such as '0 3 * * *', or @hourly, @daily, @weekly, @monthly, @yearly",
    )
}

/// The five fields that one of the words that [`cron`] lets through stands for (crontab(5), "Extensions").
pub fn cron_word(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "@hourly" => Some("0 * * * *"),
        "@daily" | "@midnight" => Some("0 0 * * *"),
        "@weekly" => Some("0 0 * * 0"),
        "@monthly" => Some("0 0 1 * *"),
        "@yearly" | "@annually" => Some("0 0 1 1 *"),
        _ => None,
    }
}

/// The name of a time zone of the IANA database. Whether there is one of the name, the operator sees.
pub fn time_zone() -> Rule {
    rule(
        format!("self.matches('{TIME_ZONE}')"),
        "give a name of the IANA time zone database, such as Europe/Berlin or UTC",
    )
}

/// A name of one label (RFC 1123), as namespaces and services have.
pub fn label() -> Rule {
    rule(
        format!("self.matches('{LABEL}')"),
        "give lower-case letters, digits and '-', beginning and ending with a letter or digit",
    )
}

/// A name of one or more labels (RFC 1123), as most objects have.
pub fn subdomain() -> Rule {
    rule(
        format!("self.matches('{SUBDOMAIN}')"),
        "give lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit",
    )
}

/// That the object's own name is a label: it becomes part of names that allow no dots and 63 characters.
pub fn object_name(kind: &str) -> Rule {
    rule(
        format!("self.metadata.name.size() <= 63 && self.metadata.name.matches('{LABEL}')"),
        format!("the name of a {kind} has at most 63 lower-case letters, digits and '-': choose another"),
    )
}

/// Tags of a snapshot.
pub fn tags() -> Rule {
    rule(
        format!("self.all(tag, tag != 'latest' && tag.matches('{TAG}'))"),
        "tags have letters, digits and '.', '_', '-', ':', '=', begin with a letter or digit, and are not the word latest",
    )
}

/// Patterns of tags: as [`tags`], with `*` for any text.
pub fn tag_patterns() -> Rule {
    rule(
        "self.all(tag, tag.matches('^[A-Za-z0-9*][A-Za-z0-9._:=*-]*$'))",
        "tags to keep have letters, digits and '.', '_', '-', ':', '=', and '*' for any text",
    )
}

/// Paths inside of a workspace.
pub fn relative_paths() -> Rule {
    rule(
        "self.all(path, path != '' && !path.startsWith('/') && !path.matches('(^|/)[.][.](/|$)'))",
        "paths are relative to the workspace's root, such as models/v1, without a leading '/' and without '..'",
    )
}

/// An absolute path without `..`.
pub fn absolute_path() -> Rule {
    rule(
        "self.startsWith('/') && !self.matches('/[.][.](/|$)')",
        "give an absolute path without '..', such as /srv/data",
    )
}

/// An octal file mode as text.
pub fn mode() -> Rule {
    rule(
        format!("self.matches('{MODE}')"),
        "give an octal mode as text, such as \"0755\"",
    )
}

/// The number of a text that [`mode`] lets through.
pub fn mode_bits(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777)
}

/// Networks in CIDR notation, or single addresses.
pub fn networks() -> Rule {
    rule(
        "self.all(network, isCIDR(network) || isIP(network))",
        "give networks such as 10.0.0.0/8, or addresses such as 10.0.0.7",
    )
}

/// Options of mount(8), one per item.
pub fn mount_options() -> Rule {
    rule(
        "self.all(option, option.matches('^[A-Za-z0-9_][A-Za-z0-9_.:/=-]*$'))",
        "give one mount option per item, such as hard or nconnect=4, without commas and blanks",
    )
}

/// A field that stays as it was made.
pub fn immutable(field: &str, remedy: &str) -> Rule {
    rule("self == oldSelf", format!("{field} cannot be changed: {remedy}"))
}

/// An optional field of the struct that the rule stands on: neither set, nor changed, nor removed later.
pub fn immutable_field(field: &str, remedy: &str) -> Rule {
    rule(
        format!(
            "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
        ),
        format!("{field} cannot be changed: {remedy}"),
    )
    .field_path(format!(".{field}"))
}

/// That exactly one of the fields is there.
pub fn exactly_one(fields: &[&str]) -> Rule {
    let present: Vec<String> = fields
        .iter()
        .map(|field| format!("(has(self.{field}) ? 1 : 0)"))
        .collect();
    rule(
        format!("{} == 1", present.join(" + ")),
        format!("give exactly one of {}", fields.join(", ")),
    )
}

/// A rule of one struct alone.
pub fn holds(expression: &str, message: &str) -> Rule {
    rule(expression, message)
}

#[cfg(test)]
mod tests {
    use super::{cron_word, duration_seconds, mode_bits, quantity_bytes};

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [
            ("0s", 0),
            ("90m", 5400),
            ("24h", 86_400),
            ("7d", 604_800),
            ("1w2d", 777_600),
        ] {
            assert_eq!(duration_seconds(text), Some(seconds), "{text}");
        }
        for text in [
            "",
            "24",
            "h",
            "1.5h",
            "-1h",
            "1h30",
            "1 h",
            "1s1s1s1s1s1s",
            "99999999999999999999w",
        ] {
            assert_eq!(duration_seconds(text), None, "{text}");
        }
    }

    #[test]
    fn quantities_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("10Gi", 10 << 30),
            ("1.5Gi", 3 << 29),
            (".5Ki", 512),
            ("2T", 2_000_000_000_000),
            ("1e3", 1000),
            ("1E3", 1000),
            ("1500m", 2),
            ("7Ei", 7 << 60),
            ("12345", 12_345),
        ] {
            assert_eq!(quantity_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "Gi", "-1", "1GB", "8Ei", "1..2", "1e19", ".", "ten", "1 Gi"] {
            assert_eq!(quantity_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn words_of_cron_are_fields() {
        assert_eq!(cron_word("@daily"), Some("0 0 * * *"));
        assert_eq!(cron_word("@Midnight"), Some("0 0 * * *"));
        assert_eq!(cron_word("@every 5m"), None);
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(mode_bits("0755"), Some(0o755));
        assert_eq!(mode_bits("2775"), Some(0o2775));
        assert_eq!(mode_bits("0888"), None);
    }
}
