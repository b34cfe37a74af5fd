//! What paths and variables of an expression read.

use std::cell::Cell;

use super::names::INTERNAL_VARIABLES;
use super::{Content, Expressions, Result};
use crate::raw::{Element, Malformed, kind};
use crate::rewrite::scope::{DEEPEST, Scope};
use crate::rewrite::shape::Read;
use crate::schema::Types;

/// How many constants a `let` may have: each use of one goes through them.
const CONSTANTS: usize = 1_000;

/// Where an expression stands: the document it reads and the variables it sees.
#[derive(Debug, Clone, Copy)]
pub(in crate::rewrite) struct Environment<'e> {
    /// The documents of the stage.
    pub(in crate::rewrite) root: &'e Content,
    /// Variables, the innermost first.
    pub(in crate::rewrite) variables: Option<&'e Variable<'e>>,
    /// The command's `let`.
    pub(in crate::rewrite) constants: Option<&'e Constants<'e>>,
}

/// A variable that an operator or a stage binds.
#[derive(Debug)]
pub(in crate::rewrite) struct Variable<'e> {
    pub(in crate::rewrite) name: &'e str,
    pub(in crate::rewrite) content: Content,
    /// Whether it is one document, and no array of them.
    pub(in crate::rewrite) document: bool,
    pub(in crate::rewrite) outer: Option<&'e Variable<'e>>,
}

impl Variable<'_> {
    /// Runs `run` where all of `bound` are variables: their names, what they hold, and
    /// whether that is one document.
    pub(in crate::rewrite) fn bind<R>(
        bound: &[(&str, Content, bool)],
        outer: Option<&Variable<'_>>,
        run: &mut dyn FnMut(Option<&Variable<'_>>) -> Result<R>,
    ) -> Result<R> {
        if bound.len() > DEEPEST {
            return Err(Malformed("too many variables are bound at once").into());
        }
        match bound.split_first() {
            None => run(outer),
            Some(((name, content, document), rest)) => {
                let variable = Variable {
                    name,
                    content: content.clone(),
                    document: *document,
                    outer,
                };
                Self::bind(rest, Some(&variable), run)
            }
        }
    }
}

/// The constants of a command's `let`.
#[derive(Debug, Default)]
pub(in crate::rewrite) struct Constants<'m> {
    all: Vec<Constant<'m>>,
    /// Whether a statement was refused, which may have been what a constant was for.
    refused: Cell<bool>,
}

/// One of them, and what it is used for.
#[derive(Debug)]
pub(in crate::rewrite) struct Constant<'m> {
    pub(in crate::rewrite) value: Element<'m>,
    /// Compared with a sealed field, or put into one: its token or sealed value
    /// stands there instead, and it may not go to MongoDB.
    pub(in crate::rewrite) sealed: Cell<bool>,
    /// Used in any other way.
    pub(in crate::rewrite) open: Cell<bool>,
}

impl<'m> Constants<'m> {
    /// The constants in the `let` of a command.
    pub(in crate::rewrite) fn of(element: &Element<'m>) -> Result<Self> {
        let mut constants: Vec<Constant<'m>> = Vec::new();
        for value in element.object()?.elements() {
            let value = value?;
            if INTERNAL_VARIABLES.contains(&value.key) {
                // Paths would be read from it.
                return Err(Malformed("a variable of let has a name that is MongoDB's own").into());
            }
            if constants.len() >= CONSTANTS {
                return Err(Malformed("let has too many variables").into());
            }
            if constants.iter().any(|known| known.value.key == value.key) {
                return Err(Malformed("a variable of let is given twice").into());
            }
            if super::is_constant(&value, 0)? {
                constants.push(Constant {
                    value,
                    sealed: Cell::new(false),
                    open: Cell::new(false),
                });
            }
        }
        Ok(Self {
            all: constants,
            refused: Cell::new(false),
        })
    }

    /// All of them.
    pub(in crate::rewrite) fn iter(&self) -> std::slice::Iter<'_, Constant<'m>> {
        self.all.iter()
    }

    /// Those that do not go to MongoDB.
    pub(in crate::rewrite) fn withheld(&self) -> impl Iterator<Item = &Constant<'m>> {
        let refused = self.refused.get();
        self.iter()
            .filter(move |constant| constant.sealed.get() || refused && !constant.open.get())
    }

    /// Rewrites one statement of several. If it is refused, it has used no constant.
    pub(in crate::rewrite) fn used_by<R>(&self, rewrite: impl FnOnce() -> Result<R>) -> Result<R> {
        let used = |constant: &Constant<'_>| (constant.sealed.get(), constant.open.get());
        let before: Vec<_> = self.iter().map(used).collect();
        let result = rewrite();
        if result.is_err() {
            self.refused.set(true);
            for (constant, (sealed, open)) in self.iter().zip(before) {
                constant.sealed.set(sealed);
                constant.open.set(open);
            }
        }
        result
    }

    /// Whether there are none.
    pub(in crate::rewrite) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl<'e> Environment<'e> {
    /// Documents of `root`, and what variables `scope` knows.
    pub(in crate::rewrite) fn of(scope: &Scope<'e>, root: &'e Content) -> Self {
        Self {
            root,
            variables: scope.variables,
            constants: scope.constants,
        }
    }

    /// The same with another variable.
    pub(in crate::rewrite) fn with(self, variable: &'e Variable<'e>) -> Self {
        Self {
            variables: Some(variable),
            ..self
        }
    }

    /// The constant that the text of an expression names.
    pub(super) fn constant(&self, text: &str) -> Option<&'e Constant<'e>> {
        let name = text.strip_prefix("$$")?;
        if self.variable(name).is_some() {
            return None;
        }
        self.constants?
            .iter()
            .find(|constant| constant.value.key == name)
    }

    fn variable(&self, name: &str) -> Option<&'e Variable<'e>> {
        let mut at = self.variables;
        while let Some(variable) = at {
            if variable.name == name {
                return Some(variable);
            }
            at = variable.outer;
        }
        None
    }
}

impl Expressions<'_, '_> {
    /// What the text of an expression, `$path` or `$$variable.path`, reads.
    pub(super) fn read(&self, text: &str, path: &str, env: Environment<'_>) -> Result<Content> {
        let mut of_variable = false;
        let constant_content;
        let (from, rest) = match path.strip_prefix('$') {
            None => (env.root, path),
            Some(variable) => {
                let (name, rest) = variable.split_once('.').unwrap_or((variable, ""));
                match (name, env.variable(name)) {
                    (_, Some(variable)) => {
                        of_variable = !variable.document;
                        (&variable.content, rest)
                    }
                    ("ROOT" | "CURRENT", None) => (env.root, rest),
                    ("REMOVE", None) => return Ok(Content::Nothing),
                    _ => {
                        let mut constants = env.constants.iter().flat_map(|known| known.iter());
                        let constant = constants.find(|constant| constant.value.key == name);
                        if let (Some(constant), false) = (constant, self.looks_ahead()) {
                            constant.open.set(true);
                        }
                        constant_content = match constant {
                            Some(constant) => self.of_constant(&constant.value)?,
                            // MongoDB's own begin with a capital letter.
                            None if name.starts_with(|first: char| !first.is_ascii_uppercase())
                                && !self.filling.get() =>
                            {
                                Content::Constant(Types::ANY)
                            }
                            None => Content::Open,
                        };
                        of_variable = true;
                        (&constant_content, rest)
                    }
                }
            }
        };
        // What a field of the documents holds is the service's own.
        let own = std::ptr::eq(from, env.root);
        let components = rest.split('.').filter(|_| !rest.is_empty());
        match from.at(components, of_variable) {
            Read::Content(content) if own => Ok(content.settled()),
            Read::Content(content) => Ok(content),
            Read::Ambiguous => {
                Err(self
                    .scope
                    .refuse(text, "a number below `*`", "name the field itself"))
            }
            Read::Unknown => Err(self.refuse_whole(&Content::Mixed)),
            Read::Inside(field) => {
                let last = rest.rsplit('.').next().unwrap_or_default();
                let token = field
                    .equality
                    .as_ref()
                    .is_some_and(|equality| equality.writes(last));
                if self.scope.stored && token && !field.is_masked() {
                    return Ok(Content::Open);
                }
                let refuse = |what: &str| {
                    self.scope.refuse(
                        &field.path,
                        what,
                        "the field is sealed as one value: read it whole",
                    )
                };
                let told = refuse(&format!("the path `{text}`, which goes inside it,"));
                Err(told.logged_as(refuse("a path that goes inside it")))
            }
        }
    }
}

/// Whether a value may be a name in an expression: a string that is no path.
pub(super) fn plain_name<'m>(element: &Element<'m>) -> Option<&'m str> {
    if element.kind == kind::STRING {
        return element.str().filter(|name| !name.starts_with('$'));
    }
    None
}
