//! Runs an example and says what became of it.

use std::fmt;

use mongodb::bson::{Bson, Document, doc};

use super::answer::{Answer, LAST, Order, Side, same};
use super::decision::{self, Decided};
use super::ground::{self, Ground};
use super::notation;
use super::table::{Example, Frame, Group, Kind, Row, Verdict};

/// What became of an example.
#[derive(Debug, Clone)]
pub(super) enum Found {
    /// It succeeds, with the same answers as on plaintext.
    Works,
    /// MongoDB's own answer or error comes back; the text says which.
    Passes(String),
    /// The proxy refuses it.
    Refused { code: i32, message: String },
    /// The answers differ, which is a bug.
    Differs(String),
    /// The proxy lets it through, and the tested server cannot be asked.
    LetThrough,
    /// It makes no sense.
    NotRun,
}

impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works => write!(out, "works"),
            Self::Passes(told) => write!(out, "passes: {told}"),
            Self::Refused { code, message } => write!(out, "refused: {code}: {message}"),
            Self::Differs(told) => write!(out, "differs: {told}"),
            Self::LetThrough => write!(out, "let through"),
            Self::NotRun => write!(out, "not run"),
        }
    }
}

impl Found {
    /// Whether it is what the verdict says.
    pub(super) fn is(&self, verdict: &Verdict) -> bool {
        match (self, verdict) {
            (Self::Works, Verdict::Works)
            | (Self::Passes(_), Verdict::Passes)
            | (Self::LetThrough, Verdict::Works | Verdict::Passes)
            | (Self::NotRun, Verdict::NotApplicable(_)) => true,
            (Self::Refused { code, message }, Verdict::Refused(reason)) => {
                reason.code == Some(*code) && message.contains(&reason.text)
            }
            _ => false,
        }
    }
}

/// What became of an example for one kind of field.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) group: &'static str,
    pub(super) line: usize,
    pub(super) kind: Kind,
    row: String,
    text: String,
    pub(super) verdict: Verdict,
    pub(super) found: Found,
}

impl Outcome {
    /// Whether the table says what was found.
    pub(super) fn holds(&self) -> bool {
        self.found.is(&self.verdict)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}{}.txt:{} {} ({:?}): {} | the table: {} | found: {}",
            if self.holds() { "" } else { "! " },
            self.group,
            self.line + 1,
            self.row,
            self.kind,
            self.text,
            self.verdict.written(),
            self.found,
        )
    }
}

/// Runs the examples of the group's rows, one after the other, in collections named after `lane`.
pub(super) async fn rows(group: Group, lane: String, ground: Ground) -> Vec<Outcome> {
    let mut sides = ground.sides().await;
    for side in &mut sides {
        ground::fill(side, &format!("s_{lane}")).await;
    }
    let mut outcomes = Vec::new();
    for row in &group.rows {
        for example in &row.examples {
            for (name, (kind, verdict)) in runs_of(row, example) {
                let run = Run {
                    ground: &ground,
                    case: Case {
                        group: &group,
                        lane: &lane,
                        row,
                        example,
                        kind,
                        name,
                    },
                };
                let found = match verdict {
                    Verdict::NotApplicable(_) => Found::NotRun,
                    _ => run.found(&mut sides).await,
                };
                outcomes.push(Outcome {
                    group: group.name,
                    line: example.line,
                    kind,
                    row: name.to_owned(),
                    text: example.text.clone(),
                    verdict: verdict.clone(),
                    found,
                });
            }
        }
    }
    outcomes
}

/// Each kind of field with each of the names that the example stands for.
pub(super) fn runs_of<'e>(
    row: &'e Row,
    example: &'e Example,
) -> Vec<(&'e str, (Kind, &'e Verdict))> {
    let names = if example.text.contains("NAME") {
        row.names.len()
    } else {
        1
    };
    let names = row.names.iter().take(names);
    names
        .flat_map(|name| {
            example
                .verdicts()
                .into_iter()
                .map(move |kind| (name.as_str(), kind))
        })
        .collect()
}

/// One example on its way.
struct Run<'a> {
    ground: &'a Ground,
    case: Case<'a>,
}

/// One example for one kind of field and one of the row's names.
pub(super) struct Case<'a> {
    pub(super) group: &'a Group,
    /// What collections are named after.
    pub(super) lane: &'a str,
    pub(super) row: &'a Row,
    pub(super) example: &'a Example,
    pub(super) kind: Kind,
    pub(super) name: &'a str,
}

impl<'a> std::ops::Deref for Run<'a> {
    type Target = Case<'a>;

    fn deref(&self) -> &Case<'a> {
        &self.case
    }
}

/// The commands of an example, by what they are run on.
pub(super) struct Steps {
    pub(super) commands: Vec<Document>,
    /// The collection that they change, to be filled before and looked at afterwards.
    changes: Option<String>,
}

impl Case<'_> {
    /// The collection of its own, for an example that changes it.
    fn own(&self) -> String {
        format!("{}_{}_{}", self.lane, self.example.line, self.kind.prefix())
    }

    fn parsed(&self, database: &str, own: &str) -> Bson {
        self.check_fields();
        let text = self
            .example
            .text
            .replace('@', self.kind.prefix())
            .replace("NAME", self.name);
        notation::parse(&text, &|word| ground::name(word, database, own))
    }

    /// An example that names a field which the kind does not have would show nothing.
    fn check_fields(&self) {
        for word in self.example.text.split('@').skip(1) {
            let end = word
                .find(|letter: char| !letter.is_alphanumeric())
                .unwrap_or(word.len());
            let name = &word[..end];
            assert!(
                ground::has(self.kind, name),
                "no {name} of {:?}: {}",
                self.kind,
                self.example.text
            );
        }
    }

    /// What is sent for it.
    pub(super) fn steps(&self, database: &str) -> Steps {
        let value = self.parsed(database, self.lane);
        let shared = format!("s_{}", self.lane);
        if let Some(script) = script_of(&value, self.group.frame) {
            let (mut commands, collection) = if script.iter().all(changes_documents_alone) {
                (script, shared)
            } else {
                let own = self.own();
                let again = script_of(&self.parsed(database, &own), self.group.frame);
                (again.unwrap_or_default(), format!("s_{own}"))
            };
            commands.push(state(&collection));
            return Steps {
                commands,
                changes: Some(collection),
            };
        }
        if self.group.frame == Frame::Update {
            let update = doc! { "update": &shared, "updates": [{ "q": { "_id": 1 }, "u": value }] };
            return Steps {
                commands: vec![update, state(&shared)],
                changes: Some(shared),
            };
        }
        Steps {
            commands: vec![framed(self.group.frame, &shared, value)],
            changes: None,
        }
    }
}

impl Run<'_> {
    async fn found(&self, sides: &mut [Side; 2]) -> Found {
        if !self.row.since.can_run() {
            return self.decided();
        }
        if self.group.frame == Frame::ChangeStream {
            return self.watched(sides).await;
        }
        let [sealed, plain] = [&self.ground.sealed_database, &self.ground.plain_database];
        let (ours, theirs) = (self.steps(sealed), self.steps(plain));
        if let Some(collection) = &ours.changes {
            for side in sides.iter_mut() {
                ground::fill(side, collection).await;
            }
        }
        let mut passed = None;
        for (index, (our, their)) in ours.commands.iter().zip(&theirs.commands).enumerate() {
            let sealed = sides[0].run(our).await;
            if let Answer::Refused { code, message } = sealed {
                let mistaken = self
                    .mistaken(&mut sides[1], &theirs.commands[index..])
                    .await;
                return mistaken.unwrap_or(Found::Refused { code, message });
            }
            let plain = sides[1].run(their).await;
            match self.compared(our, &sealed, &plain) {
                Found::Works => {}
                Found::Passes(text) => passed = passed.or(Some(text)),
                other => return other,
            }
        }
        passed.map_or(Found::Works, Found::Passes)
    }

    /// What is refused for every kind of field may be refused for a mistake in the example,
    /// which MongoDB then tells of.
    async fn mistaken(&self, plain: &mut Side, commands: &[Document]) -> Option<Found> {
        let may_fail =
            self.example.fails || self.row.since.only.is_some() || self.group.name == "commands";
        if may_fail || self.kind != Kind::Beside {
            return None;
        }
        for command in commands {
            if let Answer::Failed { code, message } = plain.run(command).await {
                return Some(Found::Differs(format!(
                    "it fails on plaintext too: {code}: {message}"
                )));
            }
        }
        None
    }

    /// What the proxy decides, where MongoDB cannot be asked.
    fn decided(&self) -> Found {
        let database = &self.ground.sealed_database;
        for command in self.steps(database).commands {
            let decided = decision::on(&self.ground.policy, database, &command);
            if let Decided::Refused { code, message } = decided {
                return Found::Refused { code, message };
            }
        }
        Found::LetThrough
    }

    fn compared(&self, command: &Document, sealed: &Answer, plain: &Answer) -> Found {
        let untouched = || {
            let database = &self.ground.sealed_database;
            matches!(
                decision::on(&self.ground.policy, database, command),
                Decided::Untouched
            )
        };
        match (sealed, plain) {
            (Answer::Reply(ours), Answer::Reply(theirs)) => {
                if self.example.volatile && untouched() && self.group.frame == Frame::Command {
                    return Found::Passes("success".to_owned());
                }
                if self.example.volatile || same(ours, theirs, self.order()) {
                    return Found::Works;
                }
            }
            (Answer::Failed { code, message }, Answer::Failed { code: other, .. })
                if code == other =>
            {
                let untouched = untouched();
                return match (self.example.fails, self.group.frame) {
                    (true, _) if !untouched => Found::Works,
                    (true, _) => Found::Passes(format!("{code}: {message}")),
                    (false, Frame::Command) if untouched && self.is_one_command() => {
                        Found::Passes(format!("{code}: {message}"))
                    }
                    _ => Found::Differs(format!("it fails on plaintext too: {code}: {message}")),
                };
            }
            _ => {}
        }
        Found::Differs(format!(
            "{command}\n    through the proxy: {sealed:?}\n    plain: {plain:?}"
        ))
    }

    /// Of the commands that concern no documents, many need what the test does not have.
    fn is_one_command(&self) -> bool {
        self.group.name == "commands" && !self.example.text.starts_with('[')
    }

    fn order(&self) -> Order {
        if self.example.unordered {
            Order::Nothing
        } else if self.example.text.contains("sort: ") && !self.example.text.contains("$group") {
            Order::Documents
        } else {
            Order::Fields
        }
    }

    async fn watched(&self, sides: &mut [Side; 2]) -> Found {
        let own = self.own();
        let collection = format!("s_{own}");
        let field = format!("{}text", self.kind.prefix());
        let list = format!("{}list", self.kind.prefix());
        let update = |id: i32, update: Document| doc! { "update": &collection, "updates": [{ "q": { "_id": id }, "u": update }] };
        let writes = [
            doc! { "insert": &collection, "documents": [{ "_id": 9, &field: "new", "n": 9 }] },
            update(1, doc! { "$set": { &field: "changed", "n": 10 } }),
            update(
                1,
                doc! { "$push": { &list: "pushed" }, "$unset": { &field: "" } },
            ),
            update(2, doc! { "_id": 2, &field: "replaced" }),
            doc! { "delete": &collection, "deletes": [{ "q": { "_id": 3 }, "limit": 1 }] },
            doc! { "insert": &collection, "documents": [{ "_id": LAST, &field: "new" }] },
        ];
        let mut answers = Vec::new();
        for (side, database) in sides
            .iter_mut()
            .zip([&self.ground.sealed_database, &self.ground.plain_database])
        {
            ground::fill(side, &collection).await;
            side.must(doc! { "collMod": &collection, "changeStreamPreAndPostImages": { "enabled": true } }).await;
            let open = match self.parsed(database, &own) {
                Bson::Document(command) if command.contains_key("aggregate") => command,
                stages => framed(Frame::Pipeline, &collection, stages),
            };
            let answer = side.watch(&open, &collection, &writes).await;
            if let Answer::Refused { code, message } = answer {
                return Found::Refused { code, message };
            }
            answers.push((open, answer));
        }
        self.compared(&answers[0].0, &answers[0].1, &answers[1].1)
    }
}

/// All documents of a collection, as they are afterwards.
fn state(collection: &str) -> Document {
    doc! { "find": collection, "sort": { "_id": 1 } }
}

/// A list of commands, which is no list of stages.
fn script_of(value: &Bson, frame: Frame) -> Option<Vec<Document>> {
    if frame == Frame::Expression {
        return None;
    }
    let commands = value.as_array()?;
    let commands: Vec<Document> = commands
        .iter()
        .map(|command| command.as_document().cloned())
        .collect::<Option<_>>()?;
    let operators = commands.first()?.keys().next()?.starts_with('$');
    (!operators).then_some(commands)
}

/// Whether a collection that is filled anew shows nothing of the command.
fn changes_documents_alone(command: &Document) -> bool {
    let name = command.keys().next().map_or("", String::as_str);
    matches!(
        name,
        "insert" | "update" | "delete" | "findAndModify" | "find"
    ) && !command
        .values()
        .any(|value| value.as_str().is_some_and(|name| name.contains('.')))
}

/// The command that an example is a part of.
fn framed(frame: Frame, collection: &str, value: Bson) -> Document {
    let aggregate =
        |stages: Vec<Bson>| doc! { "aggregate": collection, "pipeline": stages, "cursor": {} };
    match frame {
        Frame::Filter => doc! { "find": collection, "filter": value },
        Frame::Projection => doc! { "find": collection, "projection": value },
        Frame::Expression => aggregate(vec![
            doc! { "$match": { "_id": { "$lte": 3 } } }.into(),
            doc! { "$project": { "out": value } }.into(),
        ]),
        Frame::Accumulator => aggregate(vec![
            doc! { "$match": { "_id": { "$lte": 3 } } }.into(),
            doc! { "$sort": { "_id": 1 } }.into(),
            doc! { "$group": { "_id": "$group", "out": value } }.into(),
        ]),
        Frame::Window => {
            let window =
                doc! { "partitionBy": "$group", "sortBy": { "n": 1 }, "output": { "out": value } };
            aggregate(vec![
                doc! { "$match": { "_id": { "$lte": 3 } } }.into(),
                doc! { "$setWindowFields": window }.into(),
            ])
        }
        Frame::Pipeline | Frame::ChangeStream | Frame::Command | Frame::Update => match value {
            Bson::Array(stages) => aggregate(stages),
            Bson::Document(stage)
                if stage
                    .keys()
                    .next()
                    .is_some_and(|name| name.starts_with('$')) =>
            {
                aggregate(vec![stage.into()])
            }
            Bson::Document(command) => command,
            other => panic!("neither a command nor stages: {other}"),
        },
    }
}
