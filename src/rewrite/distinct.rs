//! `distinct` on a sealed field: an aggregation that groups by tokens, whose one
//! document holds the values.

use std::sync::Arc;

use super::command::{Command, is_generic};
use super::crud::no_sequences;
use super::options::{Collation, filter, hint};
use super::scope::{Place, Scope, by_content};
use super::shape::{Content, Shape};
use crate::policy::{Collection, Equality};
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::refusal::Refusal;

type Result<T = ()> = std::result::Result<T, Refusal>;

/// The name under which the values come back.
pub(crate) const VALUES: &str = "values";

/// How a `distinct` is answered.
#[derive(Debug)]
pub(super) enum Answered {
    /// By MongoDB, as the command that it is.
    AsItIs,
    /// By an aggregation, whose reply has to be turned back: what it holds.
    ByAggregation(Arc<Collection>),
}

pub(super) fn rewrite<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    command: &Command<'m>,
) -> Result<Answered> {
    no_sequences(scope, command)?;
    let key = command
        .find("key")?
        .ok_or(Malformed("distinct has no key"))?;
    let path = key
        .str()
        .ok_or(Malformed("the key of distinct is not a string"))?;
    match scope.place(path)? {
        Place::Open => {
            by_command(splicer, scope, command)?;
            Ok(Answered::AsItIs)
        }
        Place::Sealed {
            field,
            element: false,
        } if !path.split('.').any(crate::schema::is_position) => {
            let equality = field.equality.as_ref();
            let equality =
                equality.ok_or_else(|| scope.refuse(path, "distinct", by_content::EQUALITY))?;
            if scope.collection.on_plaintext.is_expected() {
                return Err(scope.refuse(
                    path,
                    "distinct",
                    "the collection allows plaintext, which has no tokens: end the migration and set on_plaintext = \"reject\"",
                ));
            }
            scope.compared.set(true);
            by_aggregation(splicer, scope, command, path, equality)?;
            Ok(Answered::ByAggregation(values(scope, path)))
        }
        Place::Sealed { .. } => {
            Err(scope.refuse(path, "distinct by an array's index", "take the whole array"))
        }
        Place::Inner(_) => Err(scope.refuse(path, "distinct", by_content::LOOK)),
    }
}

/// The reply, once it is that of a distinct: values of the field, under their name.
fn values(scope: &Scope<'_>, path: &str) -> Arc<Collection> {
    let stored = Shape::of(scope.collection).stands(path);
    let mut reply = Shape::closed();
    reply.put(VALUES, stored.unwrap_or(Content::Mixed));
    Arc::new(reply.collection(&scope.collection.namespace, scope.collection.on_plaintext))
}

fn by_command<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    command: &Command<'m>,
) -> Result {
    let mut collation = Collation::default();
    super::options::fields(splicer, scope, command.body, 1, |splicer, element| {
        match element.key {
            "key" => {}
            "query" => filter(splicer, scope, element)?,
            "hint" => hint(splicer, scope, element)?,
            "collation" => collation.note(element)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    collation.check(scope)
}

fn by_aggregation<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    command: &Command<'m>,
    path: &str,
    equality: &Equality,
) -> Result {
    let mut collation = Collation::default();
    let matching = match command.find("query")? {
        Some(query) if !query.is_null() => Some(rewritten(splicer.input(), scope, &query)?),
        _ => None,
    };
    let body = command.body;
    let mark = splicer.mark();
    for (index, element) in body.elements().enumerate() {
        let element = element?;
        match element.key {
            _ if index == 0 => splicer.replace(element.start, element.end, |out| {
                let mut writer = Writer::new(out);
                writer.value(element.kind, "aggregate", element.value());
                pipeline(&mut writer, matching.as_deref(), path, equality);
                let cursor = writer.begin_doc("cursor");
                writer.end(cursor);
            }),
            "key" | "query" => splicer.replace(element.start, element.end, |_| ()),
            "hint" => hint(splicer, scope, &element)?,
            "collation" => collation.note(&element)?,
            known if is_generic(known) => {}
            other => {
                return Err(scope.refuse_command(
                    &format!("the option `{other}`"),
                    "this version does not know it; leave it out",
                ));
            }
        }
    }
    splicer.mend_length(body.start(), mark)?;
    collation.check(scope)
}

/// The filter in `query`, rewritten.
fn rewritten(input: &[u8], scope: &Scope<'_>, query: &Element<'_>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut splicer = Splicer::new(input, &mut out);
    filter(&mut splicer, scope, query)?;
    if !splicer.finish() {
        return Ok(query.value().to_vec());
    }
    // Nothing before it was changed, so it begins where it began.
    let doc = Doc::at(&out, query.value_start, out.len())?;
    Ok(doc.bytes().to_vec())
}

/// The stages: each array on the way is taken apart, what is missing is left out,
/// and one value of each token is kept.
fn pipeline(writer: &mut Writer<'_>, matching: Option<&[u8]>, path: &str, equality: &Equality) {
    let mut number = 0_usize;
    let mut stage = |writer: &mut Writer<'_>, write: &dyn Fn(&mut Writer<'_>)| {
        let open = writer.begin_doc(&number.to_string());
        write(writer);
        writer.end(open);
        number += 1;
    };
    let pipeline = writer.begin_array("pipeline");
    if let Some(matching) = matching {
        stage(writer, &|writer| {
            writer.value(kind::DOCUMENT, "$match", matching);
        });
    }
    let ends = path.match_indices('.').map(|(at, _)| at);
    for end in ends.chain([path.len()]) {
        stage(writer, &|writer| {
            let unwind = writer.begin_doc("$unwind");
            writer.string("path", &format!("${}", &path[..end]));
            writer.bool("preserveNullAndEmptyArrays", true);
            writer.end(unwind);
        });
    }
    stage(writer, &|writer| {
        let present = writer.begin_doc("$match");
        let exists = writer.begin_doc(path);
        writer.bool("$exists", true);
        writer.end(exists);
        // An array within an array is not gone through, here as in plain.
        if path.contains('.') {
            let expr = writer.begin_doc("$expr");
            let not = writer.begin_array("$not");
            let is_array = writer.begin_doc("0");
            let operand = writer.begin_array("$isArray");
            writer.string("0", &format!("${path}"));
            writer.end(operand);
            writer.end(is_array);
            writer.end(not);
            writer.end(expr);
        }
        writer.end(present);
    });
    stage(writer, &|writer| {
        let group = writer.begin_doc("$group");
        let id = writer.begin_doc("_id");
        let operands = writer.begin_array("$ifNull");
        writer.string("0", &format!("${path}{}", equality.suffix));
        writer.string("1", &format!("${path}"));
        writer.end(operands);
        writer.end(id);
        let value = writer.begin_doc("value");
        writer.string("$first", &format!("${path}"));
        writer.end(value);
        writer.end(group);
    });
    stage(writer, &|writer| {
        let group = writer.begin_doc("$group");
        writer.null("_id");
        let values = writer.begin_doc(VALUES);
        writer.string("$push", "$value");
        writer.end(values);
        writer.end(group);
    });
    writer.end(pipeline);
}
