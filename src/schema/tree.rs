//! The field tree: which paths of a document are sealed.
//!
//! MongoDB's paths go through arrays, whose indexes are numbers. So a numeric
//! component below the top level, and a positional one (`$`, `$[]`, `$[name]`),
//! stays on the node it is met at, in documents, queries and updates alike.

/// A node of a [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId(u32);

/// The sealed paths of one collection.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: Vec<Node>,
    /// Whether numbers stay where they are at the top level as well.
    numbered: bool,
    /// Whether any node is a mixed place.
    mixed: bool,
}

#[derive(Debug, Clone, Default)]
struct Node {
    children: Vec<(Box<str>, NodeId)>,
    /// Where among the children a name is, from 1 on, at its [`spread`] or the next places
    /// after it; 0 ends the search. At least half of it is 0.
    places: Box<[u32]>,
    any: Option<NodeId>,
    leaf: Option<usize>,
    mixed: bool,
}

/// Where one component leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing sealed is there or below.
    Open,
    /// A field that holds sealed fields.
    Inner(NodeId),
    /// A sealed field: its index.
    Sealed(usize),
    /// Sealed values may stand there or anywhere below. Only documents that a
    /// pipeline made have such places.
    Mixed,
    /// A number or position at a node whose children may have any name: it
    /// could be an array's index or a field's name.
    Ambiguous,
}

/// Why paths do not make a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A sealed field inside another, or the same twice.
    #[error("`{inner}` lies within the sealed field `{outer}`")]
    Nested {
        /// The field above.
        outer: String,
        /// The field below.
        inner: String,
    },
    /// `*` beside a name it could stand for, at one level.
    #[error("`{0}` overlaps another path: `*` stands for every name at its level")]
    Overlap(String),
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
            numbered: false,
            mixed: false,
        }
    }
}

impl Tree {
    /// The top level of a document.
    pub const ROOT: NodeId = NodeId(0);

    /// Compiles `paths`; a leaf is the index of its path.
    pub fn build<'p>(paths: impl IntoIterator<Item = &'p str>) -> Result<Self, TreeError> {
        let mut tree = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for (index, path) in paths.into_iter().enumerate() {
            let mut at = Self::ROOT;
            for component in path.split('.') {
                if let Some(outer) = tree.node(at).leaf {
                    return Err(TreeError::Nested {
                        outer: seen[outer].to_owned(),
                        inner: path.to_owned(),
                    });
                }
                at = tree.child_or_new(at, component, path)?;
            }
            let node = &mut tree.nodes[at.0 as usize];
            if let Some(outer) = node.leaf {
                return Err(TreeError::Nested {
                    outer: seen[outer].to_owned(),
                    inner: path.to_owned(),
                });
            }
            if !node.children.is_empty() || node.any.is_some() {
                let inner = seen.iter().find(|other| {
                    other
                        .strip_prefix(path)
                        .is_some_and(|rest| rest.starts_with('.'))
                });
                return Err(TreeError::Nested {
                    outer: path.to_owned(),
                    inner: inner.map_or_else(|| path.to_owned(), ToString::to_string),
                });
            }
            node.leaf = Some(index);
            seen.push(path);
        }
        tree.finish(false);
        Ok(tree)
    }

    fn child_or_new(
        &mut self,
        at: NodeId,
        component: &str,
        path: &str,
    ) -> Result<NodeId, TreeError> {
        let next = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let node = &mut self.nodes[at.0 as usize];
        if component == "*" {
            if !node.children.is_empty() {
                return Err(TreeError::Overlap(path.to_owned()));
            }
            if let Some(child) = node.any {
                return Ok(child);
            }
            node.any = Some(next);
        } else {
            if node.any.is_some() {
                return Err(TreeError::Overlap(path.to_owned()));
            }
            if let Some((_, child)) = node.children.iter().find(|(name, _)| **name == *component) {
                return Ok(*child);
            }
            node.children.push((component.into(), next));
        }
        self.nodes.push(Node::default());
        Ok(next)
    }

    fn node(&self, at: NodeId) -> &Node {
        &self.nodes[at.0 as usize]
    }

    fn at(&self, at: NodeId) -> Step {
        let node = self.node(at);
        match node.leaf {
            _ if node.mixed => Step::Mixed,
            Some(field) => Step::Sealed(field),
            None => Step::Inner(at),
        }
    }

    /// The names at `at` that lead to something sealed, and where; none for any other name.
    pub fn children(&self, at: NodeId) -> impl Iterator<Item = (Option<&str>, Step)> {
        let node = self.node(at);
        let named = node
            .children
            .iter()
            .map(|(name, child)| (Some(&**name), *child));
        let any = node.any.map(|child| (None, child));
        named.chain(any).map(|(name, child)| (name, self.at(child)))
    }

    /// Adds a node to a tree that is made by hand: `name` below `at`, or any name.
    ///
    /// [`Tree::finish`] ends the making.
    pub fn add(&mut self, at: NodeId, name: Option<&str>) -> NodeId {
        let next = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let node = &mut self.nodes[at.0 as usize];
        match name {
            Some(name) => node.children.push((name.into(), next)),
            None => node.any = Some(next),
        }
        self.nodes.push(Node::default());
        next
    }

    /// Makes a node the sealed field of this index, or, without one, a mixed place.
    pub fn seal(&mut self, at: NodeId, leaf: Option<usize>) {
        let node = &mut self.nodes[at.0 as usize];
        node.leaf = leaf;
        node.mixed = leaf.is_none();
        self.mixed |= leaf.is_none();
    }

    /// Ends the making of a tree by hand. `numbered` says that its top level is no
    /// collection's, but was below one, where numbers are not names.
    pub fn finish(&mut self, numbered: bool) {
        self.numbered = numbered;
        self.mixed = self.nodes.iter().any(|node| node.mixed);
        for node in &mut self.nodes {
            node.children.sort_by(|(a, _), (b, _)| a.cmp(b));
            node.find_places();
        }
    }

    /// Whether a number at the top level may be a position.
    pub fn numbered(&self) -> bool {
        self.numbered
    }

    /// Whether there is a place where sealed values of several fields may stand.
    pub fn has_mixed(&self) -> bool {
        self.mixed
    }

    /// Whether nothing is sealed.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// Where the component `name` leads from `at`.
    pub fn step(&self, at: NodeId, name: &str) -> Step {
        let node = self.node(at);
        let below = at != Self::ROOT || self.numbered;
        if node.any.is_some() && below && is_position(name) {
            return Step::Ambiguous;
        }
        match node.child(name).or(node.any) {
            Some(child) => self.at(child),
            None if below && is_position(name) => Step::Inner(at),
            None => Step::Open,
        }
    }

    /// Where the element `name` of a document leads: as [`Tree::step`], but `*` takes numbers too.
    pub fn element(&self, at: NodeId, name: &str) -> Step {
        match self.step(at, name) {
            Step::Ambiguous => match self.node(at).any {
                Some(child) => self.at(child),
                None => Step::Open,
            },
            step => step,
        }
    }
}

impl Node {
    fn find_places(&mut self) {
        let mut places = match self.children.len() {
            0 => Vec::new(),
            some => vec![0; 2 * some.next_power_of_two()],
        };
        for ((name, _), number) in self.children.iter().zip(1..) {
            let mut at = spread(name) & (places.len() - 1);
            while places[at] != 0 {
                at = (at + 1) & (places.len() - 1);
            }
            places[at] = number;
        }
        self.places = places.into();
    }

    fn child(&self, name: &str) -> Option<NodeId> {
        let last = self.places.len().checked_sub(1)?;
        let mut at = spread(name) & last;
        loop {
            let number = (*self.places.get(at)? as usize).checked_sub(1)?;
            let (known, child) = self.children.get(number)?;
            if **known == *name {
                return Some(*child);
            }
            at = (at + 1) & last;
        }
    }
}

/// Spreads names over the places of a node. Whoever chooses the names that are looked up
/// does not choose those that are there, so nothing is gained by names that fall together.
fn spread(name: &str) -> usize {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let (words, rest) = name.as_bytes().as_chunks::<8>();
    let mut sum = name.len() as u64;
    for word in words {
        sum = (sum.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(ODD);
    }
    let tail = rest
        .iter()
        .fold(0, |tail, byte| tail << 8 | u64::from(*byte));
    sum = (sum.rotate_left(5) ^ tail).wrapping_mul(ODD);
    (sum >> 32) as usize
}

/// Whether a path component is an array index or a positional operator.
pub(crate) fn is_position(name: &str) -> bool {
    name.starts_with('$') || (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn tree() -> Tree {
        Tree::build(["ssn", "payment.card", "visits.note", "contacts.*.phone"]).unwrap()
    }

    fn inner(step: Step) -> NodeId {
        match step {
            Step::Inner(node) => node,
            other => panic!("not an inner node: {other:?}"),
        }
    }

    #[test]
    fn leaves_are_the_indexes_of_their_paths() {
        let tree = tree();
        assert_eq!(tree.step(Tree::ROOT, "ssn"), Step::Sealed(0));
        assert_eq!(tree.step(Tree::ROOT, "name"), Step::Open);
        let payment = inner(tree.step(Tree::ROOT, "payment"));
        assert_eq!(tree.step(payment, "card"), Step::Sealed(1));
        assert_eq!(tree.step(payment, "exp"), Step::Open);
    }

    #[test]
    fn every_name_of_many_is_found_and_no_other() {
        let names: Vec<String> = (0..3_000).map(|n| format!("{:0>1$}", n, n % 23)).collect();
        let names: std::collections::BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let tree = Tree::build(names.iter().copied()).unwrap();
        for (leaf, name) in names.iter().enumerate() {
            assert_eq!(tree.step(Tree::ROOT, name), Step::Sealed(leaf), "{name}");
            for other in [
                format!("{name}x"),
                format!("x{name}"),
                name.replace('1', "x"),
            ] {
                if !names.contains(&*other) {
                    assert_eq!(tree.step(Tree::ROOT, &other), Step::Open, "{other}");
                }
            }
        }
    }

    #[test]
    fn positions_stay_on_their_node() {
        let tree = tree();
        let visits = inner(tree.step(Tree::ROOT, "visits"));
        for position in ["0", "17", "$", "$[]", "$[v]"] {
            assert_eq!(tree.step(visits, position), Step::Inner(visits));
        }
        assert_eq!(tree.step(Tree::ROOT, "0"), Step::Open);
    }

    #[test]
    fn a_number_below_a_star_is_ambiguous_in_a_path_but_a_name_in_a_document() {
        let tree = tree();
        let contacts = inner(tree.step(Tree::ROOT, "contacts"));
        assert_eq!(tree.step(contacts, "0"), Step::Ambiguous);
        let zero = inner(tree.element(contacts, "0"));
        assert_eq!(tree.step(zero, "phone"), Step::Sealed(3));
    }

    #[test]
    fn a_field_within_a_sealed_field_is_refused_in_either_order() {
        let nested = Err(TreeError::Nested {
            outer: "a".into(),
            inner: "a.b".into(),
        });
        assert_eq!(Tree::build(["a", "a.b"]).map(|_| ()), nested);
        assert_eq!(Tree::build(["a.b", "a"]).map(|_| ()), nested);
        assert!(Tree::build(["a", "a"]).is_err());
        assert!(Tree::build(["a.*.b", "a.c"]).is_err());
    }
}
