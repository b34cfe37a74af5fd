//! `$jsonSchema`, in filters and validators: what it says of open fields stays, what it
//! says of a sealed field is its presence and its types; anything else is refused.

use super::document::seal_below;
use super::kinds::{Look, Stored, named};
use super::scope::{DEEPEST, Scope};
use crate::policy::Field;
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::refusal::Refusal;
use crate::schema::{NodeId, Step, Types};

/// What a schema is about.
#[derive(Debug, Clone, Copy)]
enum Subject<'c> {
    /// A value that holds sealed fields, if it is a document or an array.
    Parent(NodeId),
    /// The value of a sealed field.
    Sealed(&'c Field),
    /// An element of one whose elements are sealed.
    Element(&'c Field),
}

const INSTEAD: &str = "of a sealed field a schema may say `bsonType` or `type`, with all types that the field may have or none of them, and `minItems` and `maxItems` of an array; leave the rest to the service";

/// Rewrites the schema of documents whose top level is at `node`.
pub(super) fn rewrite<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
    node: NodeId,
) -> Result<(), Refusal> {
    let walk = Walk { scope };
    walk.schema(splicer, element, Subject::Parent(node), "", 0)
}

struct Walk<'s, 'c> {
    scope: &'s Scope<'c>,
}

impl<'c> Walk<'_, 'c> {
    fn schema<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        schema: &Element<'m>,
        subject: Subject<'c>,
        path: &str,
        depth: usize,
    ) -> Result<(), Refusal> {
        if depth > DEEPEST {
            return Err(Malformed("a JSON schema is nested too deep").into());
        }
        let doc = schema.object()?;
        let mark = splicer.mark();
        for keyword in doc.elements() {
            let keyword = keyword?;
            match keyword.key {
                "title" | "description" => {}
                "not" => self.schema(splicer, &keyword, subject, path, depth + 1)?,
                "allOf" | "anyOf" | "oneOf" => {
                    self.list(splicer, &keyword, subject, path, depth)?
                }
                _ => match subject {
                    Subject::Parent(node) => {
                        self.of_parent(splicer, &keyword, node, path, depth)?
                    }
                    Subject::Sealed(field) => {
                        self.of_sealed(splicer, &keyword, field, path, depth)?
                    }
                    Subject::Element(field) => self.of_element(splicer, &keyword, field, path)?,
                },
            }
        }
        splicer.mend_length(doc.start(), mark)?;
        Ok(())
    }

    fn list<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        list: &Element<'m>,
        subject: Subject<'c>,
        path: &str,
        depth: usize,
    ) -> Result<(), Refusal> {
        let array = list.array()?;
        let mark = splicer.mark();
        for schema in array.elements() {
            self.schema(splicer, &schema?, subject, path, depth + 1)?;
        }
        splicer.mend_length(array.start(), mark)?;
        Ok(())
    }

    /// Of a value that holds sealed fields: its own shape is stored as it is.
    fn of_parent<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        keyword: &Element<'m>,
        node: NodeId,
        path: &str,
        depth: usize,
    ) -> Result<(), Refusal> {
        match keyword.key {
            "bsonType" | "type" | "required" | "minProperties" | "maxProperties" | "minItems"
            | "maxItems" | "minLength" | "maxLength" | "minimum" | "maximum"
            | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" | "pattern" => Ok(()),
            "uniqueItems" | "additionalProperties" | "additionalItems"
                if keyword.kind == kind::BOOL
                    && (keyword.key != "uniqueItems" || !keyword.truthy()) =>
            {
                Ok(())
            }
            "properties" => self.properties(splicer, keyword.object()?, node, path, depth),
            "dependencies" => self.dependencies(splicer, keyword.object()?, node, path, depth),
            // The path of an array is that of its elements.
            "items" if keyword.kind == kind::ARRAY => {
                self.list(splicer, keyword, Subject::Parent(node), path, depth)
            }
            "items" | "additionalItems" if keyword.kind == kind::DOCUMENT => {
                self.schema(splicer, keyword, Subject::Parent(node), path, depth + 1)
            }
            "enum" => self.values(splicer, keyword, node, path),
            "patternProperties" | "additionalProperties" => Err(self.refuse(
                path,
                keyword.key,
                "it could meet sealed fields: name the fields in `properties`",
            )),
            other => Err(self.refuse(path, other, "it would compare what is sealed")),
        }
    }

    fn properties<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        properties: Doc<'m>,
        node: NodeId,
        path: &str,
        depth: usize,
    ) -> Result<(), Refusal> {
        let mark = splicer.mark();
        for property in properties.elements() {
            let property = property?;
            let subject = match self.scope.tree().element(node, property.key) {
                Step::Open => continue,
                Step::Inner(next) => Subject::Parent(next),
                Step::Sealed(leaf) => Subject::Sealed(self.scope.collection.field(leaf)),
                Step::Mixed => return Err(self.scope.mixed(property.key)),
                Step::Ambiguous => return Err(Malformed("a field name is ambiguous").into()),
            };
            let path = match path {
                "" => property.key.to_owned(),
                path => format!("{path}.{}", property.key),
            };
            self.schema(splicer, &property, subject, &path, depth + 1)?;
        }
        splicer.mend_length(properties.start(), mark)?;
        Ok(())
    }

    /// What must be there if a field is: a list of names, or a schema of the same value.
    fn dependencies<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        dependencies: Doc<'m>,
        node: NodeId,
        path: &str,
        depth: usize,
    ) -> Result<(), Refusal> {
        let mark = splicer.mark();
        for dependency in dependencies.elements() {
            let dependency = dependency?;
            if dependency.kind == kind::DOCUMENT {
                let subject = Subject::Parent(node);
                self.schema(splicer, &dependency, subject, path, depth + 1)?;
            }
        }
        splicer.mend_length(dependencies.start(), mark)?;
        Ok(())
    }

    /// Values in which nothing is sealed are stored as they are.
    fn values(
        &self,
        splicer: &Splicer<'_, '_>,
        list: &Element<'_>,
        node: NodeId,
        path: &str,
    ) -> Result<(), Refusal> {
        let mut scratch = Vec::new();
        let mut dry = Splicer::new(splicer.input(), &mut scratch);
        for value in list.array()?.elements() {
            let sealed = seal_below(&mut dry, self.scope, &value?, node, 0);
            if sealed.is_err() || dry.changed() {
                return Err(self.refuse(path, "enum", "it would compare what is sealed"));
            }
        }
        Ok(())
    }

    fn of_sealed<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        keyword: &Element<'m>,
        field: &'c Field,
        path: &str,
        depth: usize,
    ) -> Result<(), Refusal> {
        match keyword.key {
            "bsonType" | "type" => self.types(splicer, keyword, field, Look::Value, path),
            "minItems" | "maxItems" if field.elements => Ok(()),
            "items" | "additionalItems" if field.elements && keyword.kind == kind::BOOL => Ok(()),
            "items" if field.elements && keyword.kind == kind::ARRAY => {
                self.list(splicer, keyword, Subject::Element(field), path, depth)
            }
            "items" | "additionalItems" if field.elements => {
                self.schema(splicer, keyword, Subject::Element(field), path, depth + 1)
            }
            other => Err(self.refuse(path, other, INSTEAD)),
        }
    }

    fn of_element<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        keyword: &Element<'m>,
        field: &'c Field,
        path: &str,
    ) -> Result<(), Refusal> {
        match keyword.key {
            "bsonType" | "type" => self.types(splicer, keyword, field, Look::Element, path),
            other => Err(self.refuse(path, other, INSTEAD)),
        }
    }

    fn types<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        keyword: &Element<'m>,
        field: &Field,
        look: Look,
        path: &str,
    ) -> Result<(), Refusal> {
        if self.scope.collection.on_plaintext.is_expected() {
            return Err(self.refuse(
                path,
                keyword.key,
                "the collection allows plaintext: end the migration and set on_plaintext = \"reject\"",
            ));
        }
        let mut asked = Types::NONE;
        let mut add =
            |name: &Element<'_>| match name.str().and_then(|name| type_of(keyword.key, name)) {
                Some(types) => {
                    asked = asked.union(types);
                    Ok(())
                }
                None => Err(self.refuse(path, keyword.key, "it names no type that MongoDB has")),
            };
        match keyword.kind {
            kind::ARRAY => {
                for name in keyword.doc()?.elements() {
                    add(&name?)?;
                }
            }
            _ => add(keyword)?,
        }
        let Some(stored) = Stored::of(field, asked, look) else {
            return Err(self.refuse(path, keyword.key, INSTEAD));
        };
        splicer.replace(keyword.start, keyword.end, |out| {
            stored.write_names(&mut Writer::new(out), field)
        });
        Ok(())
    }

    /// The names of a schema's keywords are MongoDB's; others may be anything.
    fn refuse(&self, path: &str, keyword: &str, advice: &str) -> Refusal {
        let keyword = match KEYWORDS.contains(&keyword) {
            true => format!("`{keyword}` of `$jsonSchema`"),
            false => "an unknown keyword of `$jsonSchema`".to_owned(),
        };
        match path {
            "" => self.scope.refuse_command(&keyword, advice),
            path => self.scope.refuse(path, &keyword, advice),
        }
    }
}

/// The types of `bsonType`, or of `type`, which has the names of JSON.
fn type_of(keyword: &str, name: &str) -> Option<Types> {
    match (keyword, name) {
        ("type", "boolean") => named("bool"),
        ("type", "object" | "array" | "number" | "string" | "null") => named(name),
        ("type", _) => None,
        _ => named(name),
    }
}

const KEYWORDS: &[&str] = &[
    "additionalItems",
    "additionalProperties",
    "bsonType",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "patternProperties",
    "properties",
    "required",
    "dependencies",
    "type",
    "uniqueItems",
];
