//! Null and lists of values: what holds null among others takes several conditions.

use super::{Parts, write_tokens};
use crate::raw::{Element, Malformed, Writer, kind};
use crate::refusal::Refusal;
use crate::schema::Types;
use crate::seal::Token;

/// The values of a `$in`, `$nin` or `$all` on a sealed field.
struct Values {
    tokens: Vec<Token>,
    null: bool,
}

impl<'m> Parts<'_, '_, 'm> {
    /// MongoDB takes `tags.0` for the first element and for a field `0` of every
    /// element that is a document. Elements are documents once they are sealed, so that
    /// null, which a missing field meets, would be found too often. Where no array lies
    /// above, and no element can be a document or an array, its presence and type tell.
    fn null_branches(&self, what: &str) -> Result<Vec<Vec<u8>>, Refusal> {
        let mut is_null = Vec::new();
        let mut writer = Writer::new(&mut is_null);
        if !self.by_number() {
            writer.null(self.path);
            return Ok(vec![is_null]);
        }
        let (top, _) = self.path.rsplit_once('.').unwrap_or_default();
        let nesting = Types::of(kind::DOCUMENT).union(Types::of(kind::ARRAY));
        if top.contains('.') || self.field.types.meets(nesting) || !self.top_level() {
            return Err(self.refuse(
                &format!("`{what}` with null by an array's index"),
                "use $exists, or ask for null in the array as a whole",
            ));
        }
        let open = writer.begin_doc(self.path);
        let types = writer.begin_array("$type");
        writer.int32("0", kind::NULL.into());
        writer.int32("1", kind::UNDEFINED.into());
        writer.end(types);
        writer.end(open);
        // Behind the end of an array MongoDB finds no null, but where there is no array.
        let mut missing = Vec::new();
        let mut writer = Writer::new(&mut missing);
        let open = writer.begin_doc(top);
        let not = writer.begin_doc("$not");
        writer.int32("$type", kind::ARRAY.into());
        writer.end(not);
        writer.end(open);
        Ok(vec![is_null, missing])
    }

    /// Whether the path begins at the top of the document, as far as it says.
    fn top_level(&self) -> bool {
        let top = self.path.split('.').next().unwrap_or_default();
        self.field.path == top
    }

    /// `$eq` or `$ne` of null.
    pub(super) fn null(&mut self, operator: &str, operand: &Element<'_>) -> Result<(), Refusal> {
        if !self.by_number() {
            self.stays(operator, operand);
            return Ok(());
        }
        let either = match operator {
            "$ne" => "$nor",
            _ => "$or",
        };
        let branches = self.null_branches(operator)?;
        self.either(either, &branches);
        Ok(())
    }

    /// The one value of a list that MongoDB takes for an equality: the first of a
    /// `$in` whose values are all equal, the only one of an `$all`.
    pub(super) fn one_value(
        &mut self,
        operator: &str,
        list: &Element<'m>,
    ) -> Result<Option<Element<'m>>, Refusal> {
        let mut values = list.array()?.elements();
        let Some(first) = values.next().transpose()? else {
            return Ok(None);
        };
        let token = match first.is_null() {
            true => None,
            false => Some(self.token(operator, &first)?),
        };
        for value in values {
            let value = value?;
            let equal = operator == "$in"
                && match &token {
                    None => value.is_null(),
                    Some(_) if value.is_null() => false,
                    Some(token) => self.token(operator, &value)? == *token,
                };
            if !equal {
                return Ok(None);
            }
        }
        Ok(Some(first))
    }

    pub(super) fn list(&mut self, operator: &str, list: &Element<'m>) -> Result<(), Refusal> {
        match operator {
            "$in" => self.any_of("$in", "$or", list),
            "$nin" => self.any_of("$nin", "$nor", list),
            _ => self.all_of(list),
        }
    }

    fn all_of(&mut self, list: &Element<'m>) -> Result<(), Refusal> {
        if is_element_matches(list)? {
            return self.all_element_matches(list);
        }
        let values = self.values("$all", list)?;
        if values.tokens.is_empty() && !(values.null && self.by_number()) {
            // Nothing but null, or nothing at all: presence answers it.
            self.stays("$all", list);
            return Ok(());
        }
        if values.null {
            // All of them must be there, so each may be asked for by itself.
            let branches = self.null_branches("$all")?;
            self.moves_position = true;
            match branches.as_slice() {
                [_] => {
                    let mut writer = Writer::new(&mut self.presence);
                    let open = writer.begin_array("$all");
                    writer.null("0");
                    writer.end(open);
                }
                branches => self.either("$or", branches),
            }
        }
        if !values.tokens.is_empty() {
            self.token_list("$all", &values.tokens);
        }
        Ok(())
    }

    fn all_element_matches(&mut self, list: &Element<'m>) -> Result<(), Refusal> {
        let mut branches = Vec::new();
        let mut same = true;
        // Each of them may give one, rather than the list.
        self.positions = self.positions.saturating_sub(1);
        for item in list.array()?.elements() {
            let mut inner = self.inner()?;
            inner.operators(&item?.object()?)?;
            same &= inner.same;
            self.moves_position |= inner.moves_position();
            self.reorders |= inner.reorders;
            self.positions += inner.positions;
            let mut branch = Vec::new();
            inner.write(&mut branch);
            branches.push(branch);
        }
        match same {
            true => self.stays("$all", list),
            false => self.either("$and", &branches),
        }
        Ok(())
    }

    fn values(&mut self, operator: &str, list: &Element<'_>) -> Result<Values, Refusal> {
        let mut values = Values {
            tokens: Vec::new(),
            null: false,
        };
        for value in list.array()?.elements() {
            let value = value?;
            if value.is_null() {
                values.null = true;
            } else {
                values.tokens.push(self.token(operator, &value)?);
            }
        }
        Ok(values)
    }

    /// `$in` or `$nin`; `either` is `$or` or `$nor`, for a list that holds null among others.
    fn any_of(&mut self, operator: &str, either: &str, list: &Element<'_>) -> Result<(), Refusal> {
        let values = self.values(operator, list)?;
        if !values.null && !values.tokens.is_empty() {
            self.token_list(operator, &values.tokens);
            return Ok(());
        }
        if values.tokens.is_empty() && !(values.null && self.by_number()) {
            // Nothing but null, or nothing at all: presence answers it.
            self.stays(operator, list);
            return Ok(());
        }
        let mut branches = self.null_branches(operator)?;
        if !values.tokens.is_empty() {
            let suffix = &self.equality(operator)?.suffix;
            let mut by_token = Vec::new();
            let mut writer = Writer::new(&mut by_token);
            writer.joined_name(kind::DOCUMENT, self.path, suffix);
            let condition = writer.begin();
            write_tokens(&mut writer, "$in", &values.tokens);
            writer.end(condition);
            branches.insert(0, by_token);
        }
        self.either(either, &branches);
        Ok(())
    }
}

/// Whether null is among the values of a list.
pub(super) fn holds_null(list: &Element<'_>) -> Result<bool, Malformed> {
    for value in list.array()?.elements() {
        if value?.is_null() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the values of an `$all` are `$elemMatch` conditions, each of which must hold.
pub(super) fn is_element_matches(list: &Element<'_>) -> Result<bool, Malformed> {
    if list.kind != kind::ARRAY {
        return Ok(false);
    }
    let mut any = false;
    for item in list.doc()?.elements() {
        let item = item?;
        let only = match item.kind {
            kind::DOCUMENT => {
                let mut operators = item.doc()?.elements();
                let first = operators.next().transpose()?;
                first.is_some_and(|first| first.key == "$elemMatch") && operators.next().is_none()
            }
            _ => false,
        };
        if !only {
            return Ok(false);
        }
        any = true;
    }
    Ok(any)
}
