//! The table: groups of rows, rows of examples, and a verdict for each kind of field.

use std::path::PathBuf;

/// The files of `table/`, in the order of the page.
const GROUPS: &[&str] = &[
    "commands",
    "options",
    "query_operators",
    "projections",
    "update_operators",
    "stages",
    "accumulators",
    "window_operators",
    "expressions",
    "indexes",
    "collections",
    "change_streams",
];

/// The version of MongoDB that the tests have.
pub(super) const TESTED: &str = "6.0";

/// A kind of field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Sealed, without queries.
    Sealed,
    /// Sealed, with equality.
    Equality,
    /// Open, in a collection that has sealed fields.
    Beside,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Sealed, Self::Equality, Self::Beside];

    /// What takes the place of `@` in an example.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Sealed => "sealed_",
            Self::Equality => "equal_",
            Self::Beside => "open_",
        }
    }
}

/// What becomes of an example.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// It succeeds, and is answered as on plaintext.
    Works,
    /// It goes to MongoDB as it came, and what MongoDB says comes back.
    Passes,
    /// The proxy refuses it.
    Refused(Reason),
    /// It makes no sense there.
    NotApplicable(Reason),
    /// Nobody has said yet.
    Unknown,
}

impl Verdict {
    /// The verdict in a word.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Passes => "passes",
            Self::Refused(_) => "refused",
            Self::NotApplicable(_) => "n/a",
            Self::Unknown => "?",
        }
    }

    /// The verdict as the files write it.
    pub(super) fn written(&self) -> &str {
        match self {
            Self::Refused(reason) | Self::NotApplicable(reason) => &reason.name,
            other => other.word(),
        }
    }
}

/// Why something is refused or makes no sense: a line of `table/reasons.txt`.
#[derive(Debug, Clone)]
pub(super) struct Reason {
    /// What the rows call it.
    pub(super) name: String,
    /// The code of the error; none if the example makes no sense.
    pub(super) code: Option<i32>,
    /// What the message of the error says, word for word.
    pub(super) text: String,
}

/// A file of the table.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// The file, without its ending.
    pub(super) name: &'static str,
    pub(super) title: String,
    /// What the page says of the group.
    pub(super) about: String,
    pub(super) frame: Frame,
    pub(super) rows: Vec<Row>,
}

impl Group {
    /// The examples of all rows.
    pub(super) fn examples(&self) -> impl Iterator<Item = &Example> {
        self.rows.iter().flat_map(|row| &row.examples)
    }
}

/// What an example of a group is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// A command, or a list of them that run one after the other.
    Command,
    /// The filter of a find.
    Filter,
    /// The projection of a find.
    Projection,
    /// The update of the document with `_id` 1.
    Update,
    /// A stage, or a list of stages.
    Pipeline,
    /// An accumulator of `$group`.
    Accumulator,
    /// A field of `output` in `$setWindowFields`.
    Window,
    /// What `$project` computes.
    Expression,
    /// The stages of a change stream.
    ChangeStream,
}

/// A name of MongoDB's language, or several that share their examples.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) names: Vec<String>,
    /// The heading that it stands under; may be empty.
    pub(super) section: String,
    pub(super) since: Since,
    pub(super) examples: Vec<Example>,
}

/// Where MongoDB has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Since {
    /// The first of the versions from 6.0 on.
    pub(super) version: String,
    /// `mongos`, `enterprise` or `atlas`, if only they have it; `part` of another operator;
    /// `tests`, if only servers of MongoDB's own tests have it.
    pub(super) only: Option<String>,
    /// It would stop or change the server that other tests use.
    pub(super) unsafe_to_run: bool,
}

impl Since {
    /// Whether the tested server has it, and may be asked.
    pub(super) fn can_run(&self) -> bool {
        self.version == TESTED && !self.unsafe_to_run
    }
}

/// A request, and what becomes of it for each kind of field.
#[derive(Debug, Clone)]
pub(super) struct Example {
    /// The line of the file, counted from 0.
    pub(super) line: usize,
    /// The request, with `@` for the kind of field and `NAME` for each of the row's names.
    pub(super) text: String,
    /// Nothing but success is the same twice.
    pub(super) volatile: bool,
    /// The order in arrays is MongoDB's secret.
    pub(super) unordered: bool,
    /// It fails on plaintext too; where it does not say so, that is a mistake in the example.
    pub(super) fails: bool,
    /// It is about the fields of a kind without naming one.
    each: bool,
    verdicts: Vec<Verdict>,
}

impl Example {
    /// The kinds of field that it is run for, each with its verdict; one for all where it names none.
    pub(super) fn verdicts(&self) -> Vec<(Kind, &Verdict)> {
        if self.has_field() {
            Kind::ALL.into_iter().zip(&self.verdicts).collect()
        } else {
            vec![(Kind::Beside, &self.verdicts[0])]
        }
    }

    /// The verdict for one kind of field.
    pub(super) fn verdict(&self, kind: Kind) -> &Verdict {
        let verdicts = self.verdicts();
        let own = verdicts.iter().find(|(known, _)| *known == kind);
        own.unwrap_or(&verdicts[0]).1
    }

    /// Whether it names a field of a kind.
    pub(super) fn has_field(&self) -> bool {
        self.each || self.text.contains('@')
    }
}

/// The folder of the table's files.
pub(super) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/operators/table")
}

fn read(name: &str) -> String {
    let path = folder().join(name).with_extension("txt");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The reasons that rows may name.
pub(super) fn reasons() -> Vec<Reason> {
    read("reasons")
        .lines()
        .filter(|line| !is_silent(line))
        .map(|line| {
            let parts: Vec<&str> = line.splitn(3, " | ").map(str::trim).collect();
            let [name, code, text] = parts[..] else {
                panic!("a reason has a name, a code and a text: {line}");
            };
            Reason {
                name: name.to_owned(),
                code: code.parse().ok(),
                text: text.to_owned(),
            }
        })
        .collect()
}

/// All groups of the table.
pub(super) fn groups() -> Vec<Group> {
    let reasons = reasons();
    GROUPS.iter().map(|name| group(name, &reasons)).collect()
}

fn is_silent(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with("//")
}

fn group(name: &'static str, reasons: &[Reason]) -> Group {
    let text = read(name);
    let mut group = Group {
        name,
        title: String::new(),
        about: String::new(),
        frame: Frame::Command,
        rows: Vec::new(),
    };
    let mut section = String::new();
    for (number, line) in text.lines().enumerate() {
        if is_silent(line) {
            continue;
        }
        if let Some(title) = line.strip_prefix("# ") {
            title.clone_into(&mut group.title);
        } else if let Some(title) = line.strip_prefix("## ") {
            title.clone_into(&mut section);
        } else if let Some(about) = line.strip_prefix("> ") {
            group.about += &format!("{about}\n");
        } else if let Some(frame) = line.strip_prefix("frame: ") {
            group.frame = frame_of(frame);
        } else {
            row(&mut group, &section, number, line, reasons);
        }
    }
    group
}

fn frame_of(word: &str) -> Frame {
    match word {
        "command" => Frame::Command,
        "filter" => Frame::Filter,
        "projection" => Frame::Projection,
        "update" => Frame::Update,
        "pipeline" => Frame::Pipeline,
        "accumulator" => Frame::Accumulator,
        "window" => Frame::Window,
        "expression" => Frame::Expression,
        "change stream" => Frame::ChangeStream,
        other => panic!("no such frame: {other}"),
    }
}

/// `name | since | example | verdicts`; without a name, one more example of the row before.
fn row(group: &mut Group, section: &str, number: usize, line: &str, reasons: &[Reason]) {
    let parts: Vec<&str> = line.split('|').map(str::trim).collect();
    let at = format!("{}.txt, line {}", group.name, number + 1);
    let [name, since, text, verdicts] = parts[..] else {
        panic!("{at}: a row has a name, a version, an example and verdicts");
    };
    let example =
        example(number, text, verdicts, reasons).unwrap_or_else(|told| panic!("{at}: {told}"));
    if name.is_empty() {
        let row = group.rows.last_mut();
        row.unwrap_or_else(|| panic!("{at}: no row to add to"))
            .examples
            .push(example);
        return;
    }
    group.rows.push(Row {
        names: name.split(", ").map(str::to_owned).collect(),
        section: section.to_owned(),
        since: since_of(since),
        examples: vec![example],
    });
}

fn since_of(text: &str) -> Since {
    let mut words = text.split_whitespace();
    let mut since = Since {
        version: words.next().unwrap_or_default().to_owned(),
        only: None,
        unsafe_to_run: false,
    };
    for word in words {
        match word {
            "unsafe" => since.unsafe_to_run = true,
            other => since.only = Some(other.to_owned()),
        }
    }
    since
}

fn example(line: usize, text: &str, verdicts: &str, reasons: &[Reason]) -> Result<Example, String> {
    let (flags, text) = match text.split_once(": ") {
        Some((flags @ ("volatile" | "unordered" | "each" | "fails"), text)) => (flags, text),
        _ => ("", text),
    };
    let mut example = Example {
        line,
        text: text.to_owned(),
        volatile: flags == "volatile",
        unordered: flags == "unordered",
        each: flags == "each",
        fails: flags == "fails",
        verdicts: verdicts
            .split_whitespace()
            .map(|word| verdict(word, reasons))
            .collect::<Result<_, _>>()?,
    };
    let kinds = if example.has_field() { 3 } else { 1 };
    match example.verdicts.len() {
        count if count == kinds => {}
        1 => example.verdicts = vec![example.verdicts[0].clone(); kinds],
        count => return Err(format!("{count} verdicts, where there are {kinds} kinds")),
    }
    Ok(example)
}

fn verdict(word: &str, reasons: &[Reason]) -> Result<Verdict, String> {
    Ok(match word {
        "works" => Verdict::Works,
        "passes" => Verdict::Passes,
        "?" => Verdict::Unknown,
        name => {
            let reason = reasons.iter().find(|reason| reason.name == name);
            let reason = reason.ok_or_else(|| format!("no such reason: {name}"))?;
            match reason.code {
                Some(_) => Verdict::Refused(reason.clone()),
                None => Verdict::NotApplicable(reason.clone()),
            }
        }
    })
}
