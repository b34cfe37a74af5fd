//! Tables: each of them can be read aloud, and on a narrow screen each row becomes a card.
//!
//! The roles are said, since a table that is laid out in another way is no table to some readers.

use super::markup::Markup;

/// A table with its caption.
pub(super) fn table(
    markup: &mut Markup,
    class: &str,
    caption: &str,
    inner: impl FnOnce(&mut Markup),
) {
    markup.within(
        "table",
        &[("class", &class), ("role", &"table")],
        |markup| {
            markup.leaf("caption", &[], caption);
            inner(markup);
        },
    );
}

/// The widths of the columns, by classes.
pub(super) fn widths(markup: &mut Markup, classes: &[&str]) {
    markup.within("colgroup", &[], |markup| {
        for class in classes {
            markup.empty("col", &[("class", class)]);
        }
    });
}

/// The head of a table, with its one row.
pub(super) fn head(markup: &mut Markup, inner: impl FnOnce(&mut Markup)) {
    markup.within("thead", &[("role", &"rowgroup")], |markup| {
        row(markup, inner)
    });
}

/// Rows that belong together.
pub(super) fn body(markup: &mut Markup, inner: impl FnOnce(&mut Markup)) {
    markup.within("tbody", &[("role", &"rowgroup")], inner);
}

/// A row.
pub(super) fn row(markup: &mut Markup, inner: impl FnOnce(&mut Markup)) {
    markup.within("tr", &[("role", &"row")], inner);
}

/// What stands above a column.
pub(super) fn column(markup: &mut Markup, class: &str, inner: impl FnOnce(&mut Markup)) {
    markup.within(
        "th",
        &[
            ("class", &class),
            ("scope", &"col"),
            ("role", &"columnheader"),
        ],
        inner,
    );
}

/// What stands above two columns.
pub(super) fn columns(markup: &mut Markup, inner: impl FnOnce(&mut Markup)) {
    markup.within(
        "th",
        &[
            ("colspan", &2),
            ("scope", &"colgroup"),
            ("role", &"columnheader"),
        ],
        inner,
    );
}

/// What stands above rows that belong together, over so many columns.
pub(super) fn heading(markup: &mut Markup, columns: usize, inner: impl FnOnce(&mut Markup)) {
    markup.within("tr", &[("class", &"heading"), ("role", &"row")], |markup| {
        markup.within(
            "th",
            &[
                ("colspan", &columns),
                ("scope", &"rowgroup"),
                ("role", &"rowheader"),
            ],
            inner,
        );
    });
}

/// What a row is about.
pub(super) fn about(markup: &mut Markup, inner: impl FnOnce(&mut Markup)) {
    markup.within("th", &[("scope", &"row"), ("role", &"rowheader")], inner);
}

/// What two rows are about.
pub(super) fn about_both(markup: &mut Markup, inner: impl FnOnce(&mut Markup)) {
    markup.within(
        "th",
        &[
            ("rowspan", &2),
            ("scope", &"rowgroup"),
            ("role", &"rowheader"),
        ],
        inner,
    );
}

/// A cell over so many columns.
pub(super) fn over(markup: &mut Markup, columns: usize, inner: impl FnOnce(&mut Markup)) {
    markup.within(
        "td",
        &[
            ("colspan", &columns),
            ("class", &"words"),
            ("role", &"cell"),
        ],
        inner,
    );
}

/// A cell; `label` stands before it where the row is a card.
pub(super) fn cell(markup: &mut Markup, class: &str, label: &str, inner: impl FnOnce(&mut Markup)) {
    markup.within(
        "td",
        &[("class", &class), ("data-label", &label), ("role", &"cell")],
        inner,
    );
}
