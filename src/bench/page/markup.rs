//! Markup that is whole by construction: what is opened is closed, and every text is escaped.

use std::fmt::{self, Display, Write as _};

/// The attributes of an element, by name; values are escaped.
pub(super) type Attributes<'a> = [(&'a str, &'a dyn Display)];

/// Markup under way, good as HTML and as XML.
#[derive(Default)]
pub(super) struct Markup {
    text: String,
}

impl Markup {
    /// An element with what `inner` puts into it.
    pub(super) fn within(
        &mut self,
        name: &str,
        attributes: &Attributes<'_>,
        inner: impl FnOnce(&mut Self),
    ) {
        self.begin(name, attributes);
        self.text.push('>');
        inner(self);
        self.put(format_args!("</{name}>"));
        if ENDS_A_LINE.contains(&name) {
            self.text.push('\n');
        }
    }

    /// An element that holds a text.
    pub(super) fn leaf(&mut self, name: &str, attributes: &Attributes<'_>, text: impl Display) {
        self.within(name, attributes, |inner| inner.text(text));
    }

    /// An element that holds nothing.
    pub(super) fn empty(&mut self, name: &str, attributes: &Attributes<'_>) {
        self.begin(name, attributes);
        self.text.push_str("/>");
    }

    /// A text.
    pub(super) fn text(&mut self, text: impl Display) {
        write!(Escaping(&mut self.text), "{text}").expect("a string takes all");
    }

    /// A name that comes from the schema or the report: set apart, so that no direction of
    /// writing spreads from it. A long one may be broken after a dot.
    pub(super) fn name(&mut self, name: &str) {
        self.within("bdi", &[("class", &"name")], |inner| {
            let may_break = name.chars().count() > 12;
            for part in name.split_inclusive('.') {
                inner.text(part);
                if may_break && part.ends_with('.') {
                    inner.empty("wbr", &[]);
                }
            }
        });
    }

    /// Text of our own, as it is: the style.
    pub(super) fn verbatim(&mut self, text: &'static str) {
        self.text.push_str(text);
    }

    /// All of it.
    pub(super) fn finish(self) -> String {
        self.text
    }

    fn begin(&mut self, name: &str, attributes: &Attributes<'_>) {
        self.put(format_args!("<{name}"));
        for (key, value) in attributes {
            self.put(format_args!(" {key}=\""));
            write!(Escaping(&mut self.text), "{value}").expect("a string takes all");
            self.text.push('"');
        }
    }

    fn put(&mut self, text: fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("a string takes all");
    }
}

/// Elements after which a line of the file ends, so that it can be read and compared.
const ENDS_A_LINE: [&str; 12] = [
    "head", "header", "title", "tr", "p", "li", "h1", "h2", "h3", "section", "div", "svg",
];

/// Text becomes markup that shows it. Control characters, and those that turn the direction of
/// writing, are shown by their numbers: neither is well-formed, or what it seems.
struct Escaping<'a>(&'a mut String);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                _ if is_unseen(character) => self.0.extend(character.escape_unicode()),
                _ => self.0.push(character),
            }
        }
        Ok(())
    }
}

/// Whether a character does something else than to be seen.
pub(in crate::bench) fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// A length or place in a drawing, to a hundredth; 0 for what is no number.
pub(super) struct Px(pub(super) f64);

impl Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.0.is_finite() { self.0 } else { 0.0 };
        // Without a minus before a zero.
        write!(f, "{}", (value * 100.0).round() / 100.0 + 0.0)
    }
}

/// The same in hundredths of the width.
pub(super) struct Percent(pub(super) f64);

impl Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", Px(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_put_in_as_text_becomes_markup() {
        let mut markup = Markup::default();
        markup.leaf("p", &[("title", &"\"><script>'")], "</p><script>&amp;");
        assert_eq!(
            markup.finish(),
            "<p title=\"&quot;&gt;&lt;script&gt;&#39;\">&lt;/p&gt;&lt;script&gt;&amp;amp;</p>\n"
        );
    }

    #[test]
    fn characters_that_are_not_seen_are_shown_by_their_numbers() {
        let mut markup = Markup::default();
        markup.text("a\u{0}b\u{202e}c\u{2066}");
        assert_eq!(markup.finish(), "a\\u{0}b\\u{202e}c\\u{2066}");
    }

    #[test]
    fn places_that_are_no_numbers_are_not_written() {
        let shown = [f64::NAN, f64::INFINITY, -0.001, 1.0 / 3.0].map(|place| Px(place).to_string());
        assert_eq!(shown, ["0", "0", "0", "0.33"]);
    }
}
