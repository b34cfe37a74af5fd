//! What is known of the documents between two stages of a pipeline: where sealed
//! values stand, and of which fields they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::policy::{Collection, Field};
use crate::schema::{NodeId, OnPlaintext, Step, Tree, is_position};

/// What may stand at a path, or come of an expression.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Nothing at all, or null.
    Nothing,
    /// Anything but what is sealed.
    Open,
    /// What a field stores: a sealed value, null, or nothing.
    Sealed(Sealed),
    /// Sealed values may stand there or anywhere below, of one field or another.
    Mixed,
    /// Documents of a shape, or an array of them, or open values.
    Document(Shape),
}

/// Sealed values of one field.
#[derive(Debug, Clone)]
pub(super) struct Sealed {
    /// The field whose values they are.
    pub(super) field: Arc<Field>,
    /// How deep in arrays they may stand, at most.
    pub(super) arrays: usize,
}

/// Documents: what stands at their names.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    named: BTreeMap<String, Content>,
    /// What stands at every other name.
    any: Option<Box<Content>>,
    /// Whether a document has no other names.
    closed: bool,
}

impl Sealed {
    /// Sealed values of `field`, where the field stores them.
    pub(super) fn stored(field: &Arc<Field>) -> Self {
        Self {
            field: Arc::clone(field),
            arrays: usize::from(field.elements),
        }
    }

    fn within_arrays(&self, more: usize) -> Self {
        Self {
            field: Arc::clone(&self.field),
            arrays: self.arrays + more,
        }
    }
}

impl Content {
    /// Whether nothing sealed is in it.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Nothing | Self::Open => true,
            Self::Sealed(_) | Self::Mixed => false,
            Self::Document(shape) => shape.is_open(),
        }
    }

    /// What may be there if it is one or the other.
    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, content) | (content, Self::Nothing) => content,
            (Self::Sealed(one), Self::Sealed(other)) if one.field.id == other.field.id => {
                Self::Sealed(Sealed {
                    arrays: one.arrays.max(other.arrays),
                    field: one.field,
                })
            }
            (Self::Document(one), Self::Document(other)) => Self::Document(one.or(other)),
            (Self::Document(shape), Self::Open) | (Self::Open, Self::Document(shape)) => {
                Self::Document(shape.or(Shape::default()))
            }
            (one, other) if one.is_open() && other.is_open() => Self::Open,
            _ => Self::Mixed,
        }
    }

    /// An array of it.
    pub(super) fn in_array(self) -> Self {
        match self {
            Self::Sealed(sealed) => Self::Sealed(sealed.within_arrays(1)),
            // Documents are seen through arrays anyway.
            content => content,
        }
    }

    /// What an expression reads at `path` below it; none where that depends on
    /// whether a number is a name.
    pub(super) fn at<'p>(&self, path: impl IntoIterator<Item = &'p str>) -> Read {
        let mut at = self;
        let mut arrays = 0_usize;
        for component in path {
            match at {
                Self::Nothing => return Read::Content(Self::Nothing),
                Self::Open => return Read::Content(Self::Open),
                Self::Mixed => return Read::Content(Self::Mixed),
                Self::Sealed(sealed) => return Read::Inside(Arc::clone(&sealed.field)),
                Self::Document(shape) => match shape.get(component) {
                    Some(next) => {
                        arrays += 1;
                        at = next;
                    }
                    None if shape.any.is_some() && is_position(component) => {
                        return Read::Ambiguous;
                    }
                    // A number may be an array's index or a name; seen from the
                    // documents' side it stays where it is, as in a Tree.
                    None if is_position(component) && arrays > 0 => {}
                    None if shape.closed => return Read::Content(Self::Nothing),
                    None => return Read::Content(Self::Open),
                },
            }
        }
        Read::Content(match at {
            // Each document on the way may have been an array of them; the last
            // component's own arrays are counted already.
            Self::Sealed(sealed) => Self::Sealed(sealed.within_arrays(arrays.saturating_sub(1))),
            content => content.clone(),
        })
    }

    /// Whether values of this content may be stored where `target` belongs.
    pub(super) fn fits(&self, target: &Self) -> bool {
        match (self, target) {
            (Self::Nothing, _) => true,
            (Self::Sealed(one), Self::Sealed(other)) => {
                one.field.id == other.field.id && one.arrays <= other.arrays
            }
            (Self::Document(one), Self::Document(other)) => one.fits(other),
            (one, other) => one.is_open() && other.is_open(),
        }
    }

    /// The path of something in it that is not open, for messages.
    pub(super) fn sealed_path(&self) -> String {
        match self {
            Self::Sealed(sealed) => sealed.field.path.clone(),
            Self::Document(shape) => shape
                .contents()
                .find(|content| !content.is_open())
                .map_or_else(String::new, Self::sealed_path),
            _ => String::new(),
        }
    }
}

/// What an expression reads at a path.
#[derive(Debug, Clone)]
pub(super) enum Read {
    Content(Content),
    /// Something inside a sealed value.
    Inside(Arc<Field>),
    /// A number or position below `*`.
    Ambiguous,
}

impl Shape {
    /// Documents without any name but those that are set.
    pub(super) fn closed() -> Self {
        Self {
            closed: true,
            ..Self::default()
        }
    }

    /// The documents of a collection.
    pub(super) fn of(collection: &Collection) -> Self {
        Self::of_node(collection, Tree::ROOT)
    }

    fn of_node(collection: &Collection, node: NodeId) -> Self {
        let mut shape = Self::default();
        for (name, step) in collection.tree.children(node) {
            let content = match step {
                Step::Sealed(leaf) => Content::Sealed(Sealed::stored(collection.field(leaf))),
                Step::Inner(next) => Content::Document(Self::of_node(collection, next)),
                Step::Mixed => Content::Mixed,
                Step::Open | Step::Ambiguous => Content::Open,
            };
            match name {
                Some(name) => {
                    shape.named.insert(name.to_owned(), content);
                }
                None => shape.any = Some(Box::new(content)),
            }
        }
        shape
    }

    /// A collection that has this shape, for filters, projections and replies.
    pub(super) fn collection(&self, namespace: &str, on_plaintext: OnPlaintext) -> Collection {
        let mut tree = Tree::default();
        let mut fields = Vec::new();
        self.plant(&mut tree, Tree::ROOT, &mut fields);
        tree.finish();
        Collection::derived(namespace, on_plaintext, tree, fields)
    }

    fn plant(&self, tree: &mut Tree, at: NodeId, fields: &mut Vec<Arc<Field>>) {
        let named = self
            .named
            .iter()
            .map(|(name, content)| (Some(name.as_str()), content));
        let any = self.any.iter().map(|content| (None, &**content));
        // Open names beside `*` must be known, or `*` would stand for them.
        for (name, content) in named.chain(any) {
            if content.is_open() && self.any.is_none() {
                continue;
            }
            let node = tree.add(at, name);
            match content {
                Content::Nothing | Content::Open => {}
                Content::Document(shape) => shape.plant(tree, node, fields),
                Content::Mixed => tree.seal(node, None),
                Content::Sealed(sealed) => {
                    tree.seal(node, Some(fields.len()));
                    fields.push(if sealed.arrays > 0 && !sealed.field.elements {
                        Arc::new(sealed.field.by_elements())
                    } else {
                        Arc::clone(&sealed.field)
                    });
                }
            }
        }
    }

    /// Whether nothing sealed is in the documents.
    pub(super) fn is_open(&self) -> bool {
        self.contents().all(Content::is_open)
    }

    fn contents(&self) -> impl Iterator<Item = &Content> {
        self.named.values().chain(self.any.as_deref())
    }

    /// What stands at a name, if that is known.
    pub(super) fn get(&self, name: &str) -> Option<&Content> {
        self.named
            .get(name)
            .or_else(|| self.any.as_deref().filter(|_| !is_position(name)))
    }

    /// What `$getField` finds at a name: no number is an array's index there.
    pub(super) fn named(&self, name: &str) -> Content {
        match self.named.get(name).or(self.any.as_deref()) {
            Some(content) => content.clone(),
            None if self.closed => Content::Nothing,
            None => Content::Open,
        }
    }

    /// What stands at a path, apart from the arrays that documents on the way may
    /// be in. None if the path goes inside a sealed value.
    pub(super) fn stands(&self, path: &str) -> Option<Content> {
        let mut at = Content::Document(self.clone());
        for component in path.split('.') {
            at = match at {
                Content::Document(shape) => match shape.get(component) {
                    Some(content) => content.clone(),
                    None => shape.named(component),
                },
                Content::Sealed(_) => return None,
                content => content,
            };
        }
        Some(at)
    }

    /// Puts `content` at a name.
    pub(super) fn put(&mut self, name: &str, content: Content) {
        self.named.insert(name.to_owned(), content);
    }

    /// Puts `content` at a path. False if the path goes inside a sealed value or
    /// through a place of which too little is known.
    pub(super) fn set<'p>(
        &mut self,
        path: impl IntoIterator<Item = &'p str>,
        content: Content,
    ) -> bool {
        let mut components = path.into_iter().peekable();
        let mut at = self;
        while let Some(component) = components.next() {
            if components.peek().is_none() {
                at.put(component, content);
                return true;
            }
            if !at.named.contains_key(component) {
                let now = match (&at.any, at.closed) {
                    (Some(content), _) => Content::clone(content),
                    (None, true) => Content::Document(Self::closed()),
                    (None, false) => Content::Open,
                };
                at.named.insert(component.to_owned(), now);
            }
            let Some(next) = at.named.get_mut(component) else {
                return false;
            };
            match next {
                Content::Open => *next = Content::Document(Self::default()),
                Content::Nothing => *next = Content::Document(Self::closed()),
                Content::Document(_) => {}
                Content::Sealed(_) | Content::Mixed => return false,
            }
            match next {
                Content::Document(shape) => at = shape,
                _ => return false,
            }
        }
        false
    }

    /// Takes away what stands at a path. False as for [`Shape::set`].
    pub(super) fn unset(&mut self, path: &str) -> bool {
        let mut components = path.split('.').peekable();
        let mut at = self;
        while let Some(component) = components.next() {
            if components.peek().is_none() {
                at.put(component, Content::Nothing);
                return true;
            }
            if !at.named.contains_key(component) {
                match &at.any {
                    Some(content) => {
                        let content = Content::clone(content);
                        at.named.insert(component.to_owned(), content);
                    }
                    None => return true,
                }
            }
            match at.named.get_mut(component) {
                Some(Content::Document(shape)) => at = shape,
                Some(Content::Sealed(_) | Content::Mixed) => return false,
                _ => return true,
            }
        }
        true
    }

    /// What documents may be that are of one shape or the other.
    pub(super) fn or(self, other: Self) -> Self {
        let mut both = Self {
            closed: self.closed && other.closed,
            ..Self::default()
        };
        let names: std::collections::BTreeSet<&String> =
            self.named.keys().chain(other.named.keys()).collect();
        for name in names {
            both.named
                .insert(name.clone(), self.named(name).or(other.named(name)));
        }
        if self.any.is_some() || other.any.is_some() {
            let rest = |shape: &Self| match &shape.any {
                Some(content) => Content::clone(content),
                None if shape.closed => Content::Nothing,
                None => Content::Open,
            };
            both.any = Some(Box::new(rest(&self).or(rest(&other))));
        }
        both
    }

    /// What documents are that have all names of `self` and then those of `over`.
    pub(super) fn merged(self, over: Self) -> Self {
        if over.any.is_some() || !over.closed {
            // Any name of `over` may stand in the place of one of `self`.
            let either = self.clone().or(over.clone());
            return Self {
                closed: false,
                ..over
                    .named
                    .into_iter()
                    .fold(either, |mut shape, (name, content)| {
                        let below = match self.named(&name) {
                            Content::Nothing => content,
                            other => content.or(other),
                        };
                        shape.named.insert(name, below);
                        shape
                    })
            };
        }
        over.named
            .into_iter()
            .fold(self, |mut shape, (name, content)| {
                shape.put(&name, content);
                shape
            })
    }

    fn fits(&self, target: &Self) -> bool {
        let names = self.named.keys().chain(target.named.keys());
        for name in names {
            if !self.named(name).fits(&target.named(name)) {
                return false;
            }
        }
        let rest = |shape: &Self| match &shape.any {
            Some(content) => Content::clone(content),
            None if shape.closed => Content::Nothing,
            None => Content::Open,
        };
        rest(self).fits(&rest(target))
    }
}
