//! Text in columns.

/// A heading and rows of the same number of cells, aligned; each line ends in a line break.
pub(super) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = std::iter::once(heading.map(str::to_owned))
        .chain(rows.iter().cloned())
        .map(|row| row.map(|cell| printable(&cell)))
        .collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Names may hold anything; a terminal must not obey them.
pub(super) fn printable(cell: &str) -> String {
    cell.chars()
        .flat_map(|character| {
            let escaped = character.is_control().then(|| character.escape_default());
            let plain = escaped.is_none().then_some(character);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "1"], ["größer", "22"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            table(["name", "n"], &rows),
            "name    n\na       1\ngrößer  22\n"
        );
    }

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        let rows = [["\u{1b}[2J\n".to_owned()]];
        assert_eq!(table(["x"], &rows), "x\n\\u{1b}[2J\\n\n");
    }
}
