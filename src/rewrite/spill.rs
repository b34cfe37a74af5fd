//! Constants of the service that would stand, as they are, among sealed values: MongoDB
//! would have a value of the field in plain.
//!
//! Whatever brings values together goes through [`Content::mixes`], so that the rule
//! holds for every operator and stage, known by its name or not.

use super::shape::{Content, Shape};
use crate::raw::{Element, kind};
use crate::refusal::Refusal;
use crate::rewrite::scope::DEEPEST;
use crate::schema::Types;

impl Content {
    /// What a constant is; without depth it would be refused elsewhere.
    pub(super) fn of_constant(constant: &Element<'_>, depth: usize) -> Result<Self, Refusal> {
        if constant.is_null() {
            return Ok(Self::Nothing);
        }
        let itself = Types::of(constant.kind);
        if depth > DEEPEST {
            return Ok(Self::Constant(Types::ANY));
        }
        match constant.kind {
            kind::DOCUMENT => {
                let mut shape = Shape::closed();
                for field in constant.doc()?.elements() {
                    let field = field?;
                    shape.put(field.key, Self::of_constant(&field, depth + 1)?);
                }
                Ok(Self::Document(shape))
            }
            kind::ARRAY => {
                let mut content = Self::Constant(itself);
                for item in constant.doc()?.elements() {
                    content = content.or(Self::of_constant(&item?, depth + 1)?);
                }
                Ok(content)
            }
            _ => Ok(Self::Constant(itself)),
        }
    }

    /// Whether constants of the one would stand where sealed values of the other do, of
    /// a type that they may have. `met` are the types of sealed values where it is not
    /// known of which field they are.
    pub(super) fn mixes(&self, other: &Self, met: Types) -> bool {
        self.mixed_at(other, met).is_some()
    }

    /// The path of the sealed field, or an empty one, if they do.
    pub(super) fn mixed_at(&self, other: &Self, met: Types) -> Option<String> {
        self.told_at(other, met)
            .or_else(|| other.told_at(self, met))
    }

    fn told_at(&self, sealed: &Self, met: Types) -> Option<String> {
        if self.constants() == Types::NONE || sealed.is_open() {
            return None;
        }
        let told = match (self, sealed) {
            (Self::Constant(types), Self::Sealed(of) | Self::Masked(of)) => {
                types.meets(of.field.types)
            }
            (Self::Constant(types), Self::Mixed) => types.meets(met),
            // Else it is none, and has no names that those of the documents have.
            (Self::Constant(types), Self::Document(_)) => types.allows(kind::DOCUMENT),
            (Self::Document(shape), Self::Sealed(of) | Self::Masked(of)) => {
                shape.told_as(of.field.types)
            }
            (Self::Document(shape), Self::Mixed) => shape.told_as(met),
            (Self::Document(one), Self::Document(other)) => return one.mixed_at(other, met),
            _ => false,
        };
        told.then(|| sealed.sealed_path())
    }

    /// The types of all constants in it.
    pub(super) fn constants(&self) -> Types {
        match self {
            Self::Constant(types) => *types,
            Self::Document(shape) => shape.constants(),
            _ => Types::NONE,
        }
    }

    /// The types that sealed values in it may have.
    pub(super) fn sealed_types(&self) -> Types {
        match self {
            Self::Sealed(sealed) | Self::Masked(sealed) => sealed.field.types,
            Self::Mixed => Types::ANY,
            Self::Document(shape) => shape.contents().fold(Types::NONE, |types, content| {
                types.union(content.sealed_types())
            }),
            Self::Nothing | Self::Open | Self::Constant(_) => Types::NONE,
        }
    }

    /// The same as a field holds it, which is the service's own.
    pub(super) fn settled(self) -> Self {
        match self {
            Self::Constant(_) => Self::Open,
            Self::Document(shape) if shape.constants() != Types::NONE => {
                Self::Document(shape.settled())
            }
            content => content,
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::{Bson, doc};

    use super::*;
    use crate::raw::Doc;

    fn constant(value: impl Into<Bson>) -> Content {
        let bytes = bson::serialize_to_vec(&doc! {"v": value.into()}).unwrap();
        let element = Doc::whole(&bytes).unwrap().first().unwrap().unwrap();
        Content::of_constant(&element, 0).unwrap()
    }

    #[test]
    fn what_a_constant_holds_is_not_forgotten_when_it_is_put_together() {
        let string = Types::named("string").unwrap();
        let both = constant(doc! {"a": 1}).or(constant("x"));
        assert!(both.constants().meets(string));
        assert!(both.mixes(&Content::Mixed, string));
        assert!(!constant(1).or(Content::Open).mixes(&Content::Mixed, string));
        assert!(!both.settled().mixes(&Content::Mixed, string));
        assert!(!constant(Bson::Null).mixes(&Content::Mixed, Types::ANY));
        assert!(constant(vec!["x"]).mixes(&Content::Mixed, string));
    }
}
