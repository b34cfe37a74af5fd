//! One line: what it says, and its form in the file.

use serde_json::{Map, Value};

use super::chain::LineMac;

/// The longest string in a line: what peers send may be longer.
const LONGEST_TEXT: usize = 1000;

/// What stands before a line's MAC and after it.
const MAC: &[u8] = b",\"mac\":\"";
const CLOSE: &[u8] = b"\"}";
const MAC_DIGITS: usize = 64;

/// The longest line that is read back.
pub(super) const LONGEST_LINE: usize = 1 << 20;

/// Something that happened. It never holds a value of a field, nor a secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub(super) name: &'static str,
    pub(super) fields: Map<String, Value>,
}

impl Event {
    /// What happened, in a word.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            fields: Map::new(),
        }
    }

    /// With more that is to be known of it. A long text is cut.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        let value = match value.into() {
            Value::String(text) => Value::String(cut(text)),
            other => other,
        };
        self.fields.insert(key.to_owned(), value);
        self
    }

    /// The event, and that it happens now.
    pub fn now(self) -> (String, Self) {
        (now(), self)
    }

    /// The same, if it is there.
    #[must_use]
    pub fn with_some(self, key: &'static str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        let mut end = LONGEST_TEXT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The time now, RFC 3339 in UTC, to the millisecond.
pub(super) fn now() -> String {
    let text = bson::DateTime::now().try_to_rfc3339_string();
    let text = text.unwrap_or_default();
    // Zeros at the end are left out.
    let (seconds, rest) = text
        .trim_end_matches('Z')
        .split_once('.')
        .unwrap_or((text.trim_end_matches('Z'), ""));
    format!("{seconds}.{rest:0<3}Z")
}

/// A line up to its MAC: what the MAC is over.
pub(super) fn render(seq: u64, time: &str, event: &Event) -> Vec<u8> {
    let mut line = Map::new();
    line.insert("seq".to_owned(), seq.into());
    line.insert("time".to_owned(), time.into());
    line.insert("event".to_owned(), event.name.into());
    line.extend(event.fields.clone());
    let mut bytes = Value::Object(line).to_string().into_bytes();
    // The brace comes after the MAC.
    bytes.pop();
    bytes
}

/// Ends a line with its MAC.
pub(super) fn close(line: &mut Vec<u8>, mac: LineMac) {
    line.extend_from_slice(MAC);
    line.extend_from_slice(mac.to_string().as_bytes());
    line.extend_from_slice(CLOSE);
    line.push(b'\n');
}

/// A line, without its line break: what the MAC is over, and the MAC.
pub(super) fn split(line: &[u8]) -> Option<(&[u8], LineMac)> {
    let line = line.strip_suffix(CLOSE)?;
    let (line, digits) = line.split_at_checked(line.len().checked_sub(MAC_DIGITS)?)?;
    let mac = LineMac::parse(std::str::from_utf8(digits).ok()?)?;
    Some((line.strip_suffix(MAC)?, mac))
}

/// What a line says.
pub(super) struct Said {
    pub(super) seq: u64,
    pub(super) event: String,
    pub(super) fields: Map<String, Value>,
}

impl Said {
    /// Reads a line up to its MAC.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let whole = [line, b"}"].concat();
        let fields: Map<String, Value> = serde_json::from_slice(&whole).ok()?;
        Some(Self {
            seq: fields.get("seq")?.as_u64()?,
            event: fields.get("event")?.as_str()?.to_owned(),
            fields,
        })
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.fields.get(key)?.as_str()
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.fields.get(key)?.as_u64()
    }

    pub(super) fn is_true(&self, key: &str) -> bool {
        self.fields.get(key).and_then(Value::as_bool) == Some(true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let event = Event::new("refused").with("user", "a\n\"b").with("n", 3);
        let line = render(7, "now", &event);
        let mut whole = line.clone();
        close(&mut whole, LineMac([0xab; 32]));
        let text = String::from_utf8(whole).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let (split_line, mac) = split(text.trim_end().as_bytes()).unwrap();
        assert_eq!((split_line, mac), (&line[..], LineMac([0xab; 32])));
        let said = Said::parse(split_line).unwrap();
        assert_eq!((said.seq, said.event.as_str()), (7, "refused"));
        assert_eq!(said.text("user"), Some("a\n\"b"));
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["n"], 3);
    }

    #[test]
    fn what_is_no_line_is_not_split() {
        for other in [&b""[..], b"\"}", b"{}", &[0; 200], b",\"mac\":\"00\"}"] {
            assert!(split(other).is_none());
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let event = Event::new("x").with("name", "ä".repeat(5000));
        let name = event.fields["name"].as_str().unwrap();
        assert!(name.len() <= LONGEST_TEXT + 3 && name.ends_with("ä…"));
    }

    #[test]
    fn times_have_milliseconds() {
        for _ in 0..20 {
            let time = now();
            assert_eq!(time.len(), "2026-01-01T00:00:00.000Z".len(), "{time}");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}
