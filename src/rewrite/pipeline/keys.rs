//! The keys of a local field that a join cannot read by the path of its tokens.

use crate::policy::Equality;
use crate::raw::Writer;

/// An array of what a join finds at the path below `base`: tokens and null.
///
/// It goes through documents in arrays, but not through arrays in arrays; what is
/// missing is left out.
pub(super) fn write_keys(
    writer: &mut Writer<'_>,
    key: &str,
    base: &str,
    components: &[&str],
    equality: &Equality,
) {
    let Some((first, rest)) = components.split_first() else {
        return;
    };
    let path = format!("{base}{first}");
    // Null has no token, and stays what it is.
    let token = |writer: &mut Writer<'_>, key: &str, of: &str| {
        let open = writer.begin_doc(key);
        let operands = writer.begin_array("$ifNull");
        writer.string("0", &format!("{of}{}", equality.suffix));
        writer.string("1", of);
        writer.end(operands);
        writer.end(open);
    };
    let is_array = |writer: &mut Writer<'_>| {
        let open = writer.begin_doc("0");
        let operand = writer.begin_array("$isArray");
        writer.string("0", &path);
        writer.end(operand);
        writer.end(open);
    };
    let is_type = |writer: &mut Writer<'_>, of: &str, name: &str| {
        let open = writer.begin_doc("0");
        let equal = writer.begin_array("$eq");
        let kind = writer.begin_doc("0");
        writer.string("$type", of);
        writer.end(kind);
        writer.string("1", name);
        writer.end(equal);
        writer.end(open);
    };
    let nothing = |writer: &mut Writer<'_>, key: &str| {
        let open = writer.begin_array(key);
        writer.end(open);
    };
    let open = writer.begin_doc(key);
    if rest.is_empty() {
        let cond = writer.begin_array("$cond");
        is_array(writer);
        let mapped = writer.begin_doc("1");
        let map = writer.begin_doc("$map");
        writer.string("input", &path);
        token(writer, "in", "$$this");
        writer.end(map);
        writer.end(mapped);
        let one = writer.begin_doc("2");
        let present = writer.begin_array("$cond");
        is_type(writer, &path, "missing");
        nothing(writer, "1");
        let alone = writer.begin_array("2");
        token(writer, "0", &path);
        writer.end(alone);
        writer.end(present);
        writer.end(one);
        writer.end(cond);
        writer.end(open);
        return;
    }
    let reduce = writer.begin_doc("$reduce");
    let input = writer.begin_doc("input");
    let cond = writer.begin_array("$cond");
    is_array(writer);
    writer.string("1", &path);
    let alone = writer.begin_array("2");
    writer.string("0", &path);
    writer.end(alone);
    writer.end(cond);
    writer.end(input);
    nothing(writer, "initialValue");
    let within = writer.begin_doc("in");
    let concat = writer.begin_array("$concatArrays");
    writer.string("0", "$$value");
    let below = writer.begin_doc("1");
    let cond = writer.begin_array("$cond");
    is_type(writer, "$$this", "object");
    write_keys(writer, "1", "$$this.", rest, equality);
    nothing(writer, "2");
    writer.end(cond);
    writer.end(below);
    writer.end(concat);
    writer.end(within);
    writer.end(reduce);
    writer.end(open);
}
