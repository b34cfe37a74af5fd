//! What is known of the documents between two stages of a pipeline: where sealed
//! values stand, and of which fields they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::policy::{Collection, Field};
use crate::raw::kind;
use crate::schema::{NodeId, OnPlaintext, Step, Tree, Types, is_position};

/// How many places a shape may have. A stage can double them, so they are bounded.
pub(super) const PLACES: usize = 10_000;

/// How deep places may lie: as deep as MongoDB takes paths.
const DEEPEST: usize = 200;

/// What may stand at a path, or come of an expression.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Nothing at all, or null.
    Nothing,
    /// Anything but what is sealed.
    Open,
    /// The same, and constants of the service may be among it, of these types.
    Constant(Types),
    /// What a field stores: a sealed value, null, or nothing.
    Sealed(Sealed),
    /// The same of a field that who asks may not read. It may be passed on as it is;
    /// whatever would look at it takes no content but others, and refuses this one.
    Masked(Sealed),
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
    /// How deep in arrays one may stand, at least, that is an array sealed as one
    /// value; none if nowhere.
    whole: Option<usize>,
    /// Whether null may stand beside them in such an array, though the field
    /// itself may be one of a `domain`, which stores no such array.
    pub(super) beside_null: bool,
}

/// Documents: what stands at their names.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    named: BTreeMap<String, Content>,
    /// What stands at every other name.
    any: Option<Box<Content>>,
    /// Whether a document has no other names.
    closed: bool,
    /// Whether a number leads to documents of the same shape: below the top level
    /// of a collection it may be an array's index, and in documents it is sealed
    /// like one.
    numbered: bool,
    /// The types of constants that may stand where the documents do.
    constants: Option<Types>,
}

impl Sealed {
    /// Sealed values of `field`, where the field stores them.
    pub(super) fn stored(field: &Arc<Field>) -> Self {
        let depth = usize::from(field.elements);
        Self {
            field: Arc::clone(field),
            arrays: field.arrays,
            whole: field.types.allows(kind::ARRAY).then_some(depth),
            beside_null: field.beside_null,
        }
    }

    /// The same, in so many arrays more at most.
    fn within_arrays(&self, more: usize) -> Self {
        Self {
            arrays: self.arrays + more,
            beside_null: self.beside_null || more > 0,
            ..self.clone()
        }
    }

    /// An array of them.
    fn in_array(&self) -> Self {
        Self {
            whole: self.whole.map(|depth| depth + 1),
            ..self.within_arrays(1)
        }
    }

    /// What stands in an array of them.
    pub(super) fn item(&self) -> Self {
        Self {
            arrays: self.arrays.saturating_sub(1),
            whole: self.whole.map(|depth| depth.saturating_sub(1)),
            ..self.clone()
        }
    }

    /// Whether an array may stand there that MongoDB does not see, as it is sealed
    /// as one value.
    pub(super) fn hides_arrays(&self) -> bool {
        self.whole == Some(0)
    }

    /// The field as it is where these values stand; none if an array may be sealed
    /// as one value there or by its elements.
    fn field_here(&self) -> Option<Arc<Field>> {
        let field = &self.field;
        let elements = match (self.arrays, self.hides_arrays()) {
            (0, true) => false,
            (0, false) => field.elements,
            (_, false) => true,
            (_, true) => return None,
        };
        let same = elements == field.elements
            && self.arrays == field.arrays
            && self.beside_null == field.beside_null;
        Some(if same {
            Arc::clone(field)
        } else {
            Arc::new(field.moved(elements, self.arrays, self.beside_null))
        })
    }

    /// Whether these may be stored where `other` belongs: where they are not seen by who
    /// may not read them here.
    fn fits(&self, other: &Self) -> bool {
        let deep = |sealed: &Self| sealed.whole.unwrap_or(usize::MAX);
        self.field.stored_alike(&other.field)
            && (!self.field.is_masked() || other.field.is_masked())
            && self.arrays <= other.arrays
            && deep(self) >= deep(other)
            && (!self.beside_null || other.beside_null || !self.field.is_joined())
    }
}

impl Content {
    /// What is read where these values stand.
    pub(super) fn of(sealed: Sealed) -> Self {
        match sealed.field.is_masked() {
            true => Self::Masked(sealed),
            false => Self::Sealed(sealed),
        }
    }

    /// What may be written where this stands: who may not read a field may still write it.
    pub(super) fn writable(self) -> Self {
        match self {
            Self::Masked(sealed) => Self::Sealed(sealed),
            Self::Document(shape) => Self::Document(shape.writable()),
            content => content,
        }
    }

    /// The same as it is read once it is written.
    pub(super) fn written(self) -> Self {
        match self {
            Self::Sealed(sealed) => Self::of(sealed),
            Self::Document(shape) => Self::Document(shape.written()),
            content => content,
        }
    }

    /// A field in it that who asks may not read.
    pub(super) fn masked(&self) -> Option<&Field> {
        match self {
            Self::Masked(sealed) => Some(&sealed.field),
            Self::Document(shape) => shape.contents().find_map(Self::masked),
            Self::Nothing | Self::Open | Self::Constant(_) | Self::Sealed(_) | Self::Mixed => None,
        }
    }

    /// Whether there is a place in it of which it is not known what stands there.
    pub(super) fn is_mixed(&self) -> bool {
        match self {
            Self::Mixed => true,
            Self::Document(shape) => shape.contents().any(Self::is_mixed),
            Self::Nothing | Self::Open | Self::Constant(_) | Self::Sealed(_) | Self::Masked(_) => {
                false
            }
        }
    }

    /// Whether nothing sealed is in it.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Nothing | Self::Open | Self::Constant(_) => true,
            Self::Sealed(_) | Self::Masked(_) | Self::Mixed => false,
            Self::Document(shape) => shape.is_open(),
        }
    }

    /// What may be there if it is one or the other.
    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, content) | (content, Self::Nothing) => content,
            (Self::Sealed(one) | Self::Masked(one), Self::Sealed(other) | Self::Masked(other))
                if one.field.is(&other.field)
                    && one.field.is_masked() == other.field.is_masked() =>
            {
                Self::of(Sealed {
                    arrays: one.arrays.max(other.arrays),
                    whole: one.whole.into_iter().chain(other.whole).min(),
                    beside_null: one.beside_null || other.beside_null,
                    field: one.field,
                })
            }
            (Self::Document(one), Self::Document(other)) => Self::Document(one.or(other)),
            (Self::Document(shape), Self::Open) | (Self::Open, Self::Document(shape)) => {
                Self::Document(shape.or(Shape::default()))
            }
            (Self::Document(shape), Self::Constant(types))
            | (Self::Constant(types), Self::Document(shape)) => {
                Self::Document(shape.or(Shape::beside(types)))
            }
            (Self::Constant(one), Self::Constant(other)) => Self::Constant(one.union(other)),
            (Self::Constant(types), Self::Open) | (Self::Open, Self::Constant(types)) => {
                Self::Constant(types)
            }
            (one, other) if one.is_open() && other.is_open() => Self::Open,
            _ => Self::Mixed,
        }
    }

    /// How many places it has; none if they are more, or lie deeper, than is followed.
    pub(super) fn places(&self) -> Option<usize> {
        self.places_below(0)
    }

    fn places_below(&self, depth: usize) -> Option<usize> {
        let Self::Document(shape) = self else {
            return Some(1);
        };
        if depth > DEEPEST {
            return None;
        }
        let mut places = 1;
        for content in shape.contents() {
            places += content.places_below(depth + 1)?;
            if places > PLACES {
                return None;
            }
        }
        Some(places)
    }

    /// An array of it.
    pub(super) fn in_array(self) -> Self {
        match self {
            Self::Sealed(sealed) => Self::Sealed(sealed.in_array()),
            Self::Masked(sealed) => Self::Masked(sealed.in_array()),
            // Documents are seen through arrays anyway.
            content => content,
        }
    }

    /// What stands in it, if it is an array.
    pub(super) fn item(&self) -> Self {
        match self {
            Self::Sealed(sealed) => Self::Sealed(sealed.item()),
            Self::Masked(sealed) => Self::Masked(sealed.item()),
            content => content.clone(),
        }
    }

    /// What an expression reads at `path` below it, which may itself be an array if
    /// a variable holds it.
    pub(super) fn at<'p>(&self, path: impl IntoIterator<Item = &'p str>, variable: bool) -> Read {
        let mut at = self;
        let mut arrays = 0_usize;
        for component in path {
            match at {
                Self::Nothing => return Read::Content(Self::Nothing),
                Self::Open | Self::Constant(_) => return Read::Content(at.clone()),
                Self::Mixed => return Read::Unknown,
                Self::Sealed(sealed) | Self::Masked(sealed) => {
                    return Read::Inside(Arc::clone(&sealed.field));
                }
                Self::Document(shape) => match shape.get(component) {
                    Some(next) => {
                        arrays += 1;
                        at = next;
                    }
                    None if shape.any.is_some() && is_position(component) => {
                        return Read::Ambiguous;
                    }
                    None if shape.stays(component) => {}
                    None if shape.closed => return Read::Content(Self::Nothing),
                    None => return Read::Content(Self::Open),
                },
            }
        }
        // Each document on the way may have been an array of them; the last
        // component's own arrays are counted already.
        let more = match variable {
            true => arrays,
            false => arrays.saturating_sub(1),
        };
        Read::Content(match at {
            Self::Sealed(sealed) => Self::Sealed(sealed.within_arrays(more)),
            Self::Masked(sealed) => Self::Masked(sealed.within_arrays(more)),
            content => content.clone(),
        })
    }

    /// Whether values of this content may be stored where `target` belongs.
    pub(super) fn fits(&self, target: &Self) -> bool {
        match (self, target) {
            (Self::Nothing, _) => true,
            (Self::Sealed(one) | Self::Masked(one), Self::Sealed(other) | Self::Masked(other)) => {
                one.fits(other)
            }
            (Self::Document(one), Self::Document(other)) => one.fits(other),
            (one, other) => one.is_open() && other.is_open(),
        }
    }

    /// The path of what keeps it from fitting `target`, for messages.
    pub(super) fn misfit(&self, target: &Self) -> String {
        match (self, target) {
            (Self::Document(one), Self::Document(other)) => {
                let names = one.named.keys().chain(other.named.keys());
                names
                    .map(|name| (one.named(name), other.named(name)))
                    .find(|(one, other)| !one.fits(other))
                    .map_or_else(|| target.sealed_path(), |(one, other)| one.misfit(&other))
            }
            _ if target.is_open() => self.sealed_path(),
            _ => target.sealed_path(),
        }
    }

    /// The path of something in it that is not open, for messages.
    pub(super) fn sealed_path(&self) -> String {
        match self {
            Self::Sealed(sealed) | Self::Masked(sealed) => sealed.field.path.clone(),
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
    /// Something below a place where sealed and open values may stand: of a document
    /// that is sealed as one value, MongoDB would find what it is sealed in.
    Unknown,
}

impl Shape {
    /// Documents of which nothing is known, and constants beside them.
    fn beside(types: Types) -> Self {
        Self {
            constants: Some(types),
            ..Self::default()
        }
    }

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
        let mut shape = Self {
            numbered: node != Tree::ROOT || collection.tree.numbered(),
            ..Self::default()
        };
        for (name, step) in collection.tree.children(node) {
            let content = match step {
                Step::Sealed(leaf) => Content::of(Sealed::stored(collection.field(leaf))),
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
        tree.finish(self.numbered);
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
                Content::Nothing | Content::Open | Content::Constant(_) => {}
                Content::Document(shape) => shape.plant(tree, node, fields),
                Content::Mixed => tree.seal(node, None),
                Content::Sealed(sealed) | Content::Masked(sealed) => match sealed.field_here() {
                    Some(field) => {
                        tree.seal(node, Some(fields.len()));
                        fields.push(field);
                    }
                    None => tree.seal(node, None),
                },
            }
        }
    }

    /// What tells of changes in such documents: a changed field may stand there whole,
    /// in part, or under the name of its path.
    pub(super) fn changes(&self) -> Self {
        let content = |content: &Content| match content {
            content if content.is_open() => Content::Open,
            _ => Content::Mixed,
        };
        Self {
            named: self
                .named
                .iter()
                .map(|(name, of)| (name.clone(), content(of)))
                .collect(),
            any: self.any.as_deref().map(|of| Box::new(content(of))),
            closed: false,
            numbered: true,
            constants: None,
        }
    }

    fn writable(self) -> Self {
        self.each(Content::writable)
    }

    fn written(self) -> Self {
        self.each(Content::written)
    }

    fn each(self, of: impl Fn(Content) -> Content) -> Self {
        let named = self.named.into_iter();
        Self {
            named: named.map(|(name, content)| (name, of(content))).collect(),
            any: self.any.map(|content| Box::new(of(*content))),
            ..self
        }
    }

    /// The types of all constants in the documents, or beside them.
    pub(super) fn constants(&self) -> Types {
        let beside = self.constants.unwrap_or(Types::NONE);
        self.contents()
            .fold(beside, |types, content| types.union(content.constants()))
    }

    /// Whether there is nothing in the documents but constants.
    pub(super) fn only_constants(&self) -> bool {
        self.closed
            && self.contents().all(|content| match content {
                Content::Nothing | Content::Constant(_) => true,
                Content::Document(shape) => shape.only_constants(),
                _ => false,
            })
    }

    /// Whether constants beside the documents, or any in them, are values of these types.
    pub(super) fn told_as(&self, types: Types) -> bool {
        let beside = self
            .constants
            .is_some_and(|constants| constants.meets(types));
        beside || types.allows(kind::DOCUMENT) && self.constants() != Types::NONE
    }

    /// The path of a sealed field of either, among whose values constants of the other
    /// would stand.
    pub(super) fn mixed_at(&self, other: &Self, met: Types) -> Option<String> {
        let mut names = self.named.keys().chain(other.named.keys());
        names
            .find_map(|name| self.named(name).mixed_at(&other.named(name), met))
            .or_else(|| self.any.as_deref()?.mixed_at(other.any.as_deref()?, met))
    }

    /// The same as fields hold them.
    pub(super) fn settled(self) -> Self {
        Self {
            constants: None,
            ..self.each(Content::settled)
        }
    }

    /// Whether something sealed stands at other names than these.
    pub(super) fn has_more_than(&self, names: &[&str]) -> bool {
        let mut named = self.named.iter();
        let any = self.any.as_deref().is_some_and(|any| !any.is_open());
        any || named.any(|(name, content)| !names.contains(&name.as_str()) && !content.is_open())
    }

    /// Whether nothing sealed is in the documents.
    pub(super) fn is_open(&self) -> bool {
        self.contents().all(Content::is_open)
    }

    pub(super) fn contents(&self) -> impl Iterator<Item = &Content> {
        self.named.values().chain(self.any.as_deref())
    }

    /// What stands at a name, if that is known.
    pub(super) fn get(&self, name: &str) -> Option<&Content> {
        self.named
            .get(name)
            .or_else(|| self.any.as_deref().filter(|_| !is_position(name)))
    }

    /// Whether a path stays at these documents when it goes on with this component.
    fn stays(&self, component: &str) -> bool {
        self.numbered && is_position(component) && !self.is_open()
    }

    /// Whether something is known of a number among the names. A copy for a second
    /// number would hold the first, and so on: they would double each time.
    fn has_position(&self) -> bool {
        self.named.keys().any(|name| is_position(name))
    }

    /// What documents have at a name, which is no array's index.
    pub(super) fn named(&self, name: &str) -> Content {
        match self.named.get(name).or(self.any.as_deref()) {
            Some(content) => content.clone(),
            None if self.stays(name) => Content::Document(self.clone()),
            None if self.closed => Content::Nothing,
            None => Content::Open,
        }
    }

    /// What stands at a path, apart from the arrays that documents on the way may
    /// be in. None if the path goes inside a sealed value, or of what may be one.
    pub(super) fn stands(&self, path: &str) -> Option<Content> {
        if path.split('.').count() > DEEPEST {
            return None;
        }
        // No copies on the way: this is asked for every field of a stage.
        let mut shape = self;
        let mut components = path.split('.').peekable();
        while let Some(component) = components.next() {
            let at = match shape.get(component) {
                Some(content) => content,
                None if shape.stays(component) => match components.peek() {
                    Some(_) => continue,
                    None => return Some(Content::Document(shape.clone())),
                },
                None => return Some(shape.named(component)),
            };
            match (at, components.peek()) {
                (content, None) => return Some(content.clone()),
                (Content::Document(next), Some(_)) => shape = next,
                (Content::Sealed(_) | Content::Masked(_) | Content::Mixed, Some(_)) => {
                    return None;
                }
                (content, Some(_)) => return Some(content.clone()),
            }
        }
        None
    }

    /// Puts `content` at a name.
    pub(super) fn put(&mut self, name: &str, content: Content) {
        self.named.insert(name.to_owned(), content);
    }

    /// Puts `content` at a path. False if the path goes inside a sealed value or
    /// through a place of which too little is known.
    pub(super) fn set(&mut self, path: &str, content: Content) -> bool {
        if path.split('.').count() > DEEPEST {
            return false;
        }
        let mut components = path.split('.').peekable();
        let mut at = self;
        while let Some(component) = components.next() {
            if components.peek().is_none() {
                at.put(component, content);
                return true;
            }
            if !at.named.contains_key(component) {
                if at.stays(component) && at.has_position() {
                    return false;
                }
                let now = match at.named(component) {
                    Content::Nothing => Content::Document(Self::closed()),
                    content => content,
                };
                at.named.insert(component.to_owned(), now);
            }
            let Some(next) = at.named.get_mut(component) else {
                return false;
            };
            match next {
                Content::Open | Content::Constant(_) => {
                    *next = Content::Document(Self::default());
                }
                Content::Nothing => *next = Content::Document(Self::closed()),
                Content::Document(_) => {}
                Content::Sealed(_) | Content::Masked(_) | Content::Mixed => return false,
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
                if at.stays(component) && at.has_position() {
                    return false;
                }
                match at.named(component) {
                    Content::Nothing | Content::Open | Content::Constant(_) => return true,
                    content => at.named.insert(component.to_owned(), content),
                };
            }
            match at.named.get_mut(component) {
                Some(Content::Document(shape)) => at = shape,
                Some(Content::Sealed(_) | Content::Masked(_) | Content::Mixed) => return false,
                _ => return true,
            }
        }
        true
    }

    /// What documents may be that are of one shape or the other.
    pub(super) fn or(self, other: Self) -> Self {
        let mut both = Self {
            closed: self.closed && other.closed,
            numbered: self.numbered || other.numbered,
            constants: match (self.constants, other.constants) {
                (Some(one), Some(other)) => Some(one.union(other)),
                (one, other) => one.or(other),
            },
            ..Self::default()
        };
        let names: std::collections::BTreeSet<&String> =
            self.named.keys().chain(other.named.keys()).collect();
        // Copies of whole documents at every number would grow without bounds.
        let at = |shape: &Self, name: &str| match shape.get(name) {
            None if shape.stays(name) => Content::Mixed,
            _ => shape.named(name),
        };
        for name in names {
            both.named
                .insert(name.clone(), at(&self, name).or(at(&other, name)));
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
