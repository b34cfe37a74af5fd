//! `docs/operators.md`: the table as a page.

use std::path::PathBuf;

use super::table::{self, Example, Group, Kind, Row, TESTED, Verdict};

const HEAD: &str = "\
# MongoDB's language over sealed fields

What becomes of every command, query operator, update operator, aggregation stage, accumulator, expression, index
and option that MongoDB 6.0 to 8 document. This page is made from the table of the tests
(`tests/it/operators/table`), each example of which is run through the proxy and on a plaintext collection
with the same documents; `make docs` writes it anew, and a test fails where it is not what the table says.

By kind of field:

- **sealed**: a field of the schema without `queries`. MongoDB has its ciphertext, and knows only whether it is there.
- **equality**: a sealed field with `queries = [\"equality\"]`. MongoDB can compare its tokens.
- **beside**: an open field of a collection that has sealed fields. Collections without sealed fields are not
  touched: everything passes there but what reaches into a sealed collection.

What becomes of it:

- **works**: the answer, or the state that it leaves, is that of MongoDB on plaintext.
- **passes**: it goes to MongoDB as it came, and MongoDB's own answer or error comes back: it may need a role, a
  sharded cluster, Atlas or MongoDB Enterprise.
- **refused**: the proxy answers with an error that names the command, the path, the operator and what to do instead.
  The last column has that advice, and the error's code. Nothing of it is sent to MongoDB.
- **—**: it makes no sense there.

The tested server is MongoDB 6.0. A † marks what is decided but not run: the tested server does not have it, or
it would stop or change the server. A ~ marks answers that differ from time to time, of which only success is compared.
Where an example fails on plaintext too, the errors have the same code.

In the examples, `people` is a collection with sealed fields, `others` another one, `plain` one without, `fresh` one that is not
there yet and `DB` the database; `text`, `number`, `date`, `list`… are the fields of the kind in question, with a value of that type.
Fields of one name in `people` and `others` share a `domain`.
";

/// Compares the page with the table, or writes it, as asked for.
///
/// # Panics
/// When the page is not what the table says.
pub(super) fn check() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/operators.md");
    let rendered = render(&table::groups());
    if std::env::var_os("FIELDSEAL_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, rendered).unwrap();
        return;
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    if page == rendered {
        return;
    }
    let same = page
        .lines()
        .zip(rendered.lines())
        .take_while(|(one, other)| one == other);
    panic!(
        "{} is not what the table says, from line {} on; `make docs` writes it anew",
        path.display(),
        same.count() + 1
    );
}

fn render(groups: &[Group]) -> String {
    let mut page = HEAD.to_owned();
    page += &summary(groups);
    for group in groups {
        page += &format!("\n## {}\n", group.title);
        if !group.about.is_empty() {
            page += &format!("\n{}", group.about);
        }
        let mut section = None;
        for row in &group.rows {
            if section != Some(&row.section) {
                section = Some(&row.section);
                if !row.section.is_empty() {
                    page += &format!("\n### {}\n", row.section);
                }
                page += "\n| | since | example | sealed | equality | beside | refused: code, what to do |\n";
                page += "| --- | --- | --- | --- | --- | --- | --- |\n";
            }
            for (number, example) in row.examples.iter().enumerate() {
                page += &line(row, example, number == 0);
            }
        }
    }
    page
}

/// The groups, with how many of their examples work or pass for each kind of field.
fn summary(groups: &[Group]) -> String {
    let mut text = "\nExamples that work or pass:\n\n".to_owned();
    text += "| | names | sealed | equality | beside |\n| --- | --- | --- | --- | --- |\n";
    for group in groups {
        let names: usize = group.rows.iter().map(|row| row.names.len()).sum();
        let mut cells = String::new();
        for kind in Kind::ALL {
            let (mut accepted, mut all) = (0, 0);
            for example in group.examples() {
                let verdict = example.verdict(kind);
                all += usize::from(!matches!(verdict, Verdict::NotApplicable(_)));
                accepted += usize::from(matches!(verdict, Verdict::Works | Verdict::Passes));
            }
            cells += &format!(" {accepted} of {all} |");
        }
        let title = &group.title;
        text += &format!("| [{title}](#{}) | {names} |{cells}\n", anchor(title));
    }
    text
}

fn anchor(title: &str) -> String {
    let kept = title.to_lowercase();
    kept.chars()
        .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-'))
        .map(|letter| if letter == ' ' { '-' } else { letter })
        .collect()
}

fn line(row: &Row, example: &Example, first: bool) -> String {
    let names = if first {
        let names: Vec<String> = row.names.iter().map(|name| format!("`{name}`")).collect();
        names.join(", ")
    } else {
        String::new()
    };
    let since = if first { since(row) } else { String::new() };
    let verdicts = example.verdicts();
    let cells = Kind::ALL.map(|kind| cell(row, example, kind));
    let text = example.text.replace('@', "").replace("NAME", &row.names[0]);
    format!(
        "| {names} | {since} | `{text}` | {} | {} |\n",
        cells.join(" | "),
        reasons(&verdicts)
    )
}

fn since(row: &Row) -> String {
    let version = match row.since.version.as_str() {
        TESTED => "",
        newer => newer,
    };
    let only = match row.since.only.as_deref() {
        Some("mongos") => "sharded clusters",
        Some("enterprise") => "Enterprise",
        Some("atlas") => "Atlas",
        Some("tests") => "MongoDB's tests",
        _ => "",
    };
    [version, only].join(" ").trim().to_owned()
}

fn cell(row: &Row, example: &Example, kind: Kind) -> String {
    let mark = if row.since.can_run() { "" } else { " †" };
    match example.verdict(kind) {
        Verdict::NotApplicable(_) => "—".to_owned(),
        Verdict::Refused(_) => format!("**refused**{mark}"),
        Verdict::Works if example.volatile => format!("works{mark} ~"),
        other => format!("{}{mark}", other.word()),
    }
}

/// The reasons of a line, each once, with the kinds that they are for where these differ.
fn reasons(verdicts: &[(Kind, &Verdict)]) -> String {
    let mut told: Vec<(String, Vec<&str>)> = Vec::new();
    for (kind, verdict) in verdicts {
        let text = match verdict {
            Verdict::Refused(reason) => {
                format!(
                    "{}: {}",
                    reason.code.unwrap_or_default(),
                    reason.text.replace('|', "\\|")
                )
            }
            Verdict::NotApplicable(reason) => format!("— {}", reason.text),
            _ => continue,
        };
        let kind = match kind {
            Kind::Sealed => "sealed",
            Kind::Equality => "equality",
            Kind::Beside => "beside",
        };
        match told.iter_mut().find(|(known, _)| *known == text) {
            Some((_, kinds)) => kinds.push(kind),
            None => told.push((text, vec![kind])),
        }
    }
    match told.as_slice() {
        [] => String::new(),
        [(text, _)] => text.clone(),
        several => {
            let each: Vec<String> = several
                .iter()
                .map(|(text, kinds)| format!("{}: {text}", kinds.join(", ")))
                .collect();
            each.join("; ")
        }
    }
}
