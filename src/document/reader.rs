//! Walks a parsed file and gathers what is wrong with it.

use std::fmt;

use super::{Entry, Mistake, Mistakes, Node, Value, nearest};

/// Where in a file a value stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub(crate) path: String,
    pub(crate) line: Option<usize>,
}

impl Place {
    /// The place of `entry` in the table at this place.
    pub(crate) fn of(&self, entry: &Entry) -> Self {
        Self {
            path: self.join(&entry.key),
            line: entry.line.or(self.line),
        }
    }

    /// The place of the element `index` of the list at this place.
    pub(crate) fn element(&self, index: usize, node: &Node) -> Self {
        Self {
            path: format!("{}[{index}]", self.path),
            line: node.line.or(self.line),
        }
    }

    fn join(&self, key: &str) -> String {
        let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let key = if !key.is_empty() && key.bytes().all(bare) {
            key.to_owned()
        } else {
            format!("{key:?}")
        };
        if self.path.is_empty() {
            key
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

/// The keys that a table takes.
pub(crate) struct Keys {
    /// What the table is, for messages: `a field`.
    pub(crate) of: &'static str,
    pub(crate) known: &'static [&'static str],
    /// Part of the contract, but of a later version: ignoring them would promise what is not done.
    pub(crate) later: &'static [&'static str],
}

/// Gathers the mistakes of one file.
#[derive(Debug)]
pub(crate) struct Reader {
    file: String,
    mistakes: Vec<Mistake>,
}

impl Reader {
    pub(crate) fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            mistakes: Vec::new(),
        }
    }

    /// Notes a mistake.
    pub(crate) fn mistake(&mut self, place: &Place, what: impl fmt::Display) {
        self.mistakes.push(Mistake {
            file: self.file.clone(),
            line: place.line,
            path: place.path.clone(),
            what: what.to_string(),
        });
    }

    /// What was found, in the order of the file.
    pub(crate) fn into_mistakes(mut self) -> Vec<Mistake> {
        self.mistakes.sort_by_key(|mistake| mistake.line);
        self.mistakes
    }

    /// `Ok` if nothing was wrong.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Mistakes> {
        match value {
            Some(value) if self.mistakes.is_empty() => Ok(value),
            _ => Err(Mistakes(self.into_mistakes())),
        }
    }

    fn expected(&mut self, place: &Place, what: &str, node: &Node) {
        self.mistake(
            place,
            format_args!("must be {what}, not {}", node.value.kind()),
        );
    }

    /// The entries of a table; the keys are not looked at.
    pub(crate) fn entries<'n>(&mut self, place: &Place, node: &'n Node) -> &'n [Entry] {
        match &node.value {
            Value::Table(entries) => entries,
            _ => {
                self.expected(place, "a table", node);
                &[]
            }
        }
    }

    /// The entries of a table whose keys are among `keys`; others are mistakes.
    pub(crate) fn table<'n>(&mut self, place: &Place, node: &'n Node, keys: &Keys) -> Table<'n> {
        let entries = self.entries(place, node);
        for entry in entries {
            let at = place.of(entry);
            let key = entry.key.as_str();
            if keys.later.contains(&key) {
                self.mistake(&at, "is not supported by this version of fieldseal");
            } else if !keys.known.contains(&key) {
                let all = || keys.known.iter().chain(keys.later).copied();
                match nearest(key, all()) {
                    Some(word) => self.mistake(
                        &at,
                        format_args!("unknown key of {}; did you mean `{word}`?", keys.of),
                    ),
                    None => {
                        let known = keys.known.join(", ");
                        self.mistake(
                            &at,
                            format_args!("unknown key of {}; it takes: {known}", keys.of),
                        );
                    }
                }
            }
        }
        Table(entries)
    }

    /// A string.
    pub(crate) fn text<'n>(&mut self, place: &Place, node: &'n Node) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) => Some(text),
            _ => {
                self.expected(place, "a string", node);
                None
            }
        }
    }

    /// A string that is not empty and holds no NUL.
    pub(crate) fn name<'n>(&mut self, place: &Place, node: &'n Node) -> Option<&'n str> {
        let text = self.text(place, node)?;
        if text.is_empty() {
            self.mistake(place, "must not be empty");
            return None;
        }
        if text.contains('\0') {
            self.mistake(place, "must not hold a NUL character");
            return None;
        }
        Some(text)
    }

    /// One of `words`.
    pub(crate) fn word<'n>(
        &mut self,
        place: &Place,
        node: &'n Node,
        words: &[&str],
    ) -> Option<&'n str> {
        let text = self.text(place, node)?;
        if words.contains(&text) {
            return Some(text);
        }
        let known = words
            .iter()
            .map(|word| format!("{word:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        match nearest(text, words.iter().copied()) {
            Some(word) => self.mistake(
                place,
                format_args!("unknown word {text:?}; did you mean {word:?}?"),
            ),
            None => self.mistake(
                place,
                format_args!("unknown word {text:?}; it takes: {known}"),
            ),
        }
        None
    }

    /// A boolean.
    pub(crate) fn boolean(&mut self, place: &Place, node: &Node) -> Option<bool> {
        match node.value {
            Value::Bool(value) => Some(value),
            _ => {
                self.expected(place, "true or false", node);
                None
            }
        }
    }

    /// An integer from `least` to `most`.
    pub(crate) fn integer(
        &mut self,
        place: &Place,
        node: &Node,
        least: i64,
        most: i64,
    ) -> Option<i64> {
        match node.value {
            Value::Integer(value) if (least..=most).contains(&value) => Some(value),
            Value::Integer(_) => {
                self.mistake(place, format_args!("must be from {least} to {most}"));
                None
            }
            _ => {
                self.expected(place, "an integer", node);
                None
            }
        }
    }

    /// A list; the elements are not looked at.
    pub(crate) fn list<'n>(&mut self, place: &Place, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Value::List(nodes) => nodes,
            _ => {
                self.expected(place, "a list", node);
                &[]
            }
        }
    }
}

/// The entries of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'n>(&'n [Entry]);

impl<'n> Table<'n> {
    /// The entry of `key`, with its place.
    pub(crate) fn entry(&self, place: &Place, key: &str) -> Option<(Place, &'n Node)> {
        let entry = self.0.iter().find(|entry| entry.key == key)?;
        Some((place.of(entry), &entry.node))
    }
}
