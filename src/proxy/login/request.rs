//! What a client's message asks of a login. MongoDB reads the same bytes: what it might read
//! otherwise than here is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::raw::{Doc, Element, Malformed, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::rewrite::hello::{LOGIN, is_hello, unwrapped};
use crate::rewrite::login::{X509, is_passed_on, is_scram};
use crate::wire::Message;

/// More than the first message of SCRAM needs.
const MOST_PAYLOAD_BYTES: usize = 4096;

/// A login that is begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::proxy) struct Start {
    /// Known here, or none of those.
    pub(super) mechanism: Mechanism,
    /// The database that the user was made in.
    pub(super) database: String,
}

/// How a client logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::proxy) enum Mechanism {
    /// SCRAM, with the user's name.
    Scram {
        /// As the client spells it.
        name: &'static str,
        /// Who it says it is.
        user: String,
    },
    /// One that does not tell its user here.
    Other(String),
}

/// What a message asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// `hello`, which may begin a login.
    Hello(Option<Start>),
    /// `saslStart`.
    Start(Start),
    /// `saslContinue`.
    Continue { conversation: i64, database: String },
    /// `authenticate` by certificate, perhaps with the name that it has.
    Certificate { user: Option<String> },
    /// `logout`, of the users of one database.
    Leave { database: String },
    /// Nothing of a login.
    Other,
}

impl Start {
    /// `user@db`, if it is told.
    pub(super) fn name(&self) -> Option<String> {
        match &self.mechanism {
            Mechanism::Scram { user, .. } => Some(format!("{user}@{}", self.database)),
            Mechanism::Other(_) => None,
        }
    }

    /// The mechanism's name.
    pub(super) fn mechanism(&self) -> &str {
        match &self.mechanism {
            Mechanism::Scram { name, .. } => name,
            Mechanism::Other(name) => name,
        }
    }
}

impl Request {
    /// What `message` asks. What is no command at all is left to whoever decides on it.
    pub(super) fn of(message: &Message<'_>) -> Result<Self, Refusal> {
        let Ok(body) = body(message) else {
            return Ok(Self::Other);
        };
        let Ok(Some(first)) = body.first() else {
            return Ok(Self::Other);
        };
        let name = first.key;
        let asked = match name {
            name if is_hello(name) => Self::hello(body),
            "saslStart" => database(message, body).and_then(|db| Ok(Self::Start(start(body, db)?))),
            "saslContinue" => Self::proceed(message, body),
            "authenticate" => Self::certificate(message, body),
            "logout" => database(message, body).map(|database| Self::Leave { database }),
            _ => return Ok(Self::Other),
        };
        let asked = asked.map_err(|Malformed(what)| {
            Refusal::new(RefusalKind::Malformed, format_args!("{name}: {what}"))
        })?;
        // Nobody would learn how it ended.
        if !message.wants_reply() && asked != Self::Hello(None) {
            let what = format_args!("{name}: a login wants a reply; do not set moreToCome");
            return Err(Refusal::new(RefusalKind::Malformed, what));
        }
        Ok(asked)
    }

    fn hello(body: Doc<'_>) -> Result<Self, Malformed> {
        let mut login = None;
        for element in body.elements() {
            let element = element?;
            if element.key != LOGIN || !is_passed_on(&element)? {
                continue;
            }
            let begun = element.doc()?;
            if begun.find_once("$db")?.is_some() {
                return Err(Malformed("`$db` in speculativeAuthenticate"));
            }
            let database = text(begun.find_once("db")?, "`db` is not a string, or missing")?;
            if login.replace(start(begun, sound(database)?)?).is_some() {
                return Err(Malformed("speculativeAuthenticate is given twice"));
            }
        }
        Ok(Self::Hello(login))
    }

    fn proceed(message: &Message<'_>, body: Doc<'_>) -> Result<Self, Malformed> {
        let conversation = body.find_once("conversationId")?;
        let conversation = conversation.and_then(|conversation| conversation.integer());
        payload(body)?;
        Ok(Self::Continue {
            conversation: conversation.ok_or(Malformed("conversationId is not an integer"))?,
            database: database(message, body)?,
        })
    }

    /// By another mechanism, or of another database: that is refused by whoever decides.
    fn certificate(message: &Message<'_>, body: Doc<'_>) -> Result<Self, Malformed> {
        let mechanism = body.find_once("mechanism")?;
        let by_certificate = mechanism.is_some_and(|mechanism| mechanism.str() == Some(X509));
        if !by_certificate || database(message, body)? != "$external" {
            return Ok(Self::Other);
        }
        let user = match body.find_once("user")? {
            Some(user) => Some(text(Some(user), "`user` is not a string")?.to_owned()),
            None => None,
        };
        Ok(Self::Certificate { user })
    }
}

fn body<'m>(message: &Message<'m>) -> Result<Doc<'m>, Malformed> {
    match message {
        Message::Msg(message) => Doc::at(message.frame, message.body.start, message.body.end),
        Message::Query(query) => unwrapped(query.frame, query.query.clone()),
    }
}

/// The database of a command that has to do with a login.
fn database(message: &Message<'_>, body: Doc<'_>) -> Result<String, Malformed> {
    let named = body.find_once("$db")?;
    let database = match message {
        Message::Msg(message) if !message.sequences.is_empty() => {
            return Err(Malformed("a login has no sections beside its body"));
        }
        Message::Msg(_) => text(named, "$db is not a string, or missing")?,
        Message::Query(_) if named.is_some() => return Err(Malformed("$db in an OP_QUERY")),
        Message::Query(query) => {
            let name = query.namespace.split_once('.');
            name.ok_or(Malformed("an OP_QUERY without a database"))?.0
        }
    };
    sound(database)
}

/// `a@b` of `c` and `a` of `b@c` would be the same user.
fn sound(database: &str) -> Result<String, Malformed> {
    if database.is_empty() || database.contains(['@', '\0']) {
        return Err(Malformed(
            "the name of a user's database is empty, or holds an @",
        ));
    }
    Ok(database.to_owned())
}

fn text<'m>(element: Option<Element<'m>>, what: &'static str) -> Result<&'m str, Malformed> {
    element
        .and_then(|element| element.str())
        .ok_or(Malformed(what))
}

fn start(body: Doc<'_>, database: String) -> Result<Start, Malformed> {
    let mechanism = body.find_once("mechanism")?;
    let mechanism = text(mechanism, "the mechanism is not a string, or missing")?;
    let payload = payload(body)?;
    let mechanism = if is_scram(mechanism) {
        Mechanism::Scram {
            name: match mechanism {
                "SCRAM-SHA-1" => "SCRAM-SHA-1",
                _ => "SCRAM-SHA-256",
            },
            user: user(&payload)?,
        }
    } else {
        Mechanism::Other(mechanism.chars().take(64).collect())
    };
    Ok(Start {
        mechanism,
        database,
    })
}

/// The payload: a binary value, or a string in base64.
fn payload(body: Doc<'_>) -> Result<Vec<u8>, Malformed> {
    let payload = body.find_once("payload")?;
    let payload = payload.ok_or(Malformed("the payload is missing"))?;
    let bytes = match payload.kind {
        kind::BINARY => match payload.binary() {
            Some((0, bytes)) => Some(bytes.to_vec()),
            _ => None,
        },
        _ => (payload.str()).and_then(|text| STANDARD.decode(text).ok()),
    };
    bytes.ok_or(Malformed("the payload is neither binary nor base64"))
}

/// The user's name in the first message of SCRAM: `n,,n=user,r=nonce`.
fn user(payload: &[u8]) -> Result<String, Malformed> {
    if payload.len() > MOST_PAYLOAD_BYTES {
        return Err(Malformed("the first message of SCRAM is too long"));
    }
    let message = std::str::from_utf8(payload);
    let message = message.map_err(|_| Malformed("the first message of SCRAM is not UTF-8"))?;
    // The user whom one logs in as is the one whose password it is.
    let bare = ["n,,n=", "y,,n="];
    let bare = bare.iter().find_map(|header| message.strip_prefix(header));
    let (name, rest) = bare
        .and_then(|bare| bare.split_once(','))
        .filter(|(name, rest)| !name.is_empty() && rest.starts_with("r="))
        .ok_or(Malformed("the first message is not one of SCRAM"))?;
    let user = decoded(name).filter(|user| !user.contains('\0') && !rest.contains('\0'));
    user.ok_or(Malformed("the user's name is not as SCRAM writes it"))
}

/// `=2C` is a comma and `=3D` an equals sign. MongoDB replaces one after the other, and leaves
/// an equals sign that stands by itself, as some drivers send it: where it matters which of
/// them is the first, there is no name.
fn decoded(name: &str) -> Option<String> {
    let user = name.replace("=2C", ",").replace("=3D", "=");
    let other = name.replace("=3D", "=").replace("=2C", ",");
    (user == other).then_some(user)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Binary, Bson, Document, doc, spec::BinarySubtype};

    use super::*;
    use crate::wire::flag;
    use crate::wire::testing::{body, document, msg, query, sequence};

    const FIRST: &str = "n,,n=ada,r=fyko+d2lbbFgONRv9qkxdawL";

    fn binary(subtype: BinarySubtype, bytes: &[u8]) -> Bson {
        Bson::Binary(Binary {
            subtype,
            bytes: bytes.to_vec(),
        })
    }

    fn begin(payload: &str) -> Document {
        doc! {
            "saslStart": 1, "mechanism": "SCRAM-SHA-256",
            "payload": binary(BinarySubtype::Generic, payload.as_bytes()), "$db": "admin",
        }
    }

    fn of_frame(frame: &[u8]) -> Result<Request, Refusal> {
        Request::of(&Message::recognise(frame).unwrap())
    }

    fn of(command: &Document) -> Result<Request, Refusal> {
        of_frame(&msg(0, &body(command)))
    }

    /// With this field put last, though there may be one of its name.
    fn with(command: &Document, key: &str, value: impl Into<Bson>) -> Vec<u8> {
        let mut bytes = document(command);
        let last = document(&doc! {key: value});
        bytes.pop();
        bytes.extend(&last[4..]);
        let length = i32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        msg(0, &[vec![0], bytes].concat())
    }

    fn ada(mechanism: &'static str, database: &str) -> Start {
        Start {
            mechanism: Mechanism::Scram {
                name: mechanism,
                user: "ada".to_owned(),
            },
            database: database.to_owned(),
        }
    }

    #[track_caller]
    fn malformed(asked: Result<Request, Refusal>) {
        assert_eq!(asked.unwrap_err().kind, RefusalKind::Malformed);
    }

    #[test]
    fn the_user_is_the_one_of_the_first_message_of_scram() {
        let expected = Request::Start(ada("SCRAM-SHA-256", "admin"));
        assert_eq!(of(&begin(FIRST)).unwrap(), expected);
        let mut text = begin(FIRST);
        text.insert("payload", STANDARD.encode(FIRST));
        assert_eq!(of(&text).unwrap(), expected);
        let mut legacy = begin(FIRST);
        legacy.remove("$db");
        let frame = query("admin.$cmd", &document(&legacy));
        assert_eq!(of_frame(&frame).unwrap(), expected);
        let frame = query("admin.$cmd", &document(&doc! {"$query": legacy}));
        assert_eq!(of_frame(&frame).unwrap(), expected);
        let mut old = begin(FIRST);
        old.insert("mechanism", "SCRAM-SHA-1");
        old.insert("$db", "shop");
        assert_eq!(
            of(&old).unwrap(),
            Request::Start(ada("SCRAM-SHA-1", "shop"))
        );
    }

    #[test]
    fn a_name_is_decoded_as_scram_writes_it_and_in_no_other_way() {
        let name = |name: &str| match of(&begin(&format!("n,,n={name},r=abcdef"))) {
            Ok(Request::Start(start)) => Some(start.name().unwrap()),
            _ => None,
        };
        for (written, user) in [
            ("ada", "ada@admin"),
            ("a=2Cb=3Dc", "a,b=c@admin"),
            ("ada@shop", "ada@shop@admin"),
            ("\u{e9}", "\u{e9}@admin"),
            ("=3D", "=@admin"),
            ("=2C3D", ",3D@admin"),
            ("a=b", "a=b@admin"),
            ("=2c=", "=2c=@admin"),
            ("==2C", "=,@admin"),
            ("=3D3D", "=3D@admin"),
        ] {
            assert_eq!(name(written).as_deref(), Some(user));
        }
        for written in ["", "=3D2C", "a\0"] {
            assert_eq!(name(written), None, "{written}");
        }
    }

    #[test]
    fn a_first_message_that_another_could_read_otherwise_is_refused() {
        for payload in [
            "",
            "n,,",
            "n,,n=ada",
            "n,a=ada,n=ada,r=abcdef",
            "n,a=bob,n=ada,r=abcdef",
            "p=tls-unique,,n=ada,r=abcdef",
            "N,,n=ada,r=abcdef",
            "n,,m=x,n=ada,r=abcdef",
            "n,,,n=ada,r=abcdef",
            "n,,n=ada,,r=abcdef",
            "n,,n=ada,n=bob,r=abcdef",
            "n,,r=abcdef,n=ada",
            " n,,n=ada,r=abcdef",
        ] {
            malformed(of(&begin(payload)));
        }
        malformed(of(&begin(&format!("n,,n={},r=abcdef", "a".repeat(5000)))));
        let raw = |bytes: &[u8]| {
            let mut command = begin("");
            command.insert("payload", binary(BinarySubtype::Generic, bytes));
            command
        };
        malformed(of(&raw(b"n,,n=\xFF,r=abcdef")));
    }

    #[test]
    fn a_payload_is_binary_or_base64_and_there_is_one() {
        for payload in [
            binary(BinarySubtype::BinaryOld, FIRST.as_bytes()),
            binary(BinarySubtype::UserDefined(0x80), FIRST.as_bytes()),
            FIRST.into(),
            "bi".into(),
            7.into(),
            Bson::Null,
            doc! {"payload": FIRST}.into(),
        ] {
            let mut command = begin(FIRST);
            command.insert("payload", payload);
            malformed(of(&command));
        }
        let other = binary(BinarySubtype::Generic, b"n,,n=bob,r=abcdef");
        malformed(of_frame(&with(&begin(FIRST), "payload", other)));
        let mut without = begin(FIRST);
        without.remove("payload");
        malformed(of(&without));
    }

    #[test]
    fn nothing_that_a_login_goes_by_may_be_given_twice_or_beside_the_body() {
        malformed(of_frame(&with(&begin(FIRST), "$db", "shop")));
        malformed(of_frame(&with(&begin(FIRST), "mechanism", "PLAIN")));
        let proceed = doc! {"saslContinue": 1, "conversationId": 1, "payload": "", "$db": "admin"};
        malformed(of_frame(&with(&proceed, "conversationId", 2)));
        malformed(of_frame(&with(&proceed, "$db", "shop")));
        let sections = [body(&begin(FIRST)), sequence("payload", &[doc! {}])].concat();
        malformed(of_frame(&msg(0, &sections)));
        let legacy = query("admin.$cmd", &document(&begin(FIRST)));
        malformed(of_frame(&legacy));
        malformed(of_frame(&with(
            &doc! {"logout": 1, "$db": "admin"},
            "$db",
            "shop",
        )));
    }

    #[test]
    fn a_database_cannot_make_one_user_look_like_another() {
        for database in ["b@admin", "@", "", "a\0"] {
            let mut command = begin(FIRST);
            command.insert("$db", database);
            malformed(of(&command));
        }
    }

    #[test]
    fn other_mechanisms_have_no_user_here() {
        for mechanism in [
            "PLAIN",
            "GSSAPI",
            "MONGODB-AWS",
            "MONGODB-OIDC",
            "scram-sha-256",
        ] {
            let mut command = begin(FIRST);
            command.insert("mechanism", mechanism);
            let Request::Start(start) = of(&command).unwrap() else {
                panic!("it begins a login");
            };
            assert_eq!((start.name(), start.mechanism()), (None, mechanism));
        }
    }

    #[test]
    fn a_hello_may_begin_a_login_by_scram_alone() {
        let mut login = begin(FIRST);
        login.remove("$db");
        login.insert("db", "shop");
        let hello = |login: &Document| {
            doc! {"hello": 1, "speculativeAuthenticate": login.clone(), "$db": "admin"}
        };
        let expected = Request::Hello(Some(ada("SCRAM-SHA-256", "shop")));
        assert_eq!(of(&hello(&login)).unwrap(), expected);
        let frame = query(
            "admin.$cmd",
            &document(&doc! {"isMaster": 1, "speculativeAuthenticate": login.clone()}),
        );
        assert_eq!(of_frame(&frame).unwrap(), expected);
        malformed(of_frame(&with(
            &hello(&login),
            "speculativeAuthenticate",
            login.clone(),
        )));
        let mut other = login.clone();
        other.insert("mechanism", "PLAIN");
        assert_eq!(of(&hello(&other)).unwrap(), Request::Hello(None));
        let two = with(&hello(&other), "speculativeAuthenticate", login.clone());
        assert_eq!(of_frame(&two).unwrap(), expected);
        for (key, value) in [("$db", "admin"), ("db", "a@b"), ("payload", "x")] {
            let mut wrong = login.clone();
            wrong.insert(key, value);
            malformed(of(&hello(&wrong)));
        }
        login.remove("db");
        malformed(of(&hello(&login)));
        assert_eq!(
            of(&doc! {"hello": 1, "$db": "admin"}).unwrap(),
            Request::Hello(None)
        );
    }

    #[test]
    fn a_login_that_wants_no_reply_is_refused() {
        let commands = [
            begin(FIRST),
            doc! {"saslContinue": 1, "conversationId": 1, "payload": "", "$db": "admin"},
            doc! {"logout": 1, "$db": "admin"},
            doc! {"authenticate": 1, "mechanism": X509, "$db": "$external"},
        ];
        for command in commands {
            of(&command).unwrap();
            malformed(of_frame(&msg(flag::MORE_TO_COME, &body(&command))));
        }
        let hello = msg(
            flag::MORE_TO_COME,
            &body(&doc! {"hello": 1, "$db": "admin"}),
        );
        assert_eq!(of_frame(&hello).unwrap(), Request::Hello(None));
    }

    #[test]
    fn a_certificate_is_asked_for_by_its_own_mechanism_and_database() {
        let command = |mechanism: &str, database: &str| {
            doc! {"authenticate": 1, "mechanism": mechanism, "user": "CN=a", "$db": database}
        };
        let asked = of(&command(X509, "$external")).unwrap();
        let user = Some("CN=a".to_owned());
        assert_eq!(asked, Request::Certificate { user });
        for (mechanism, database) in [("MONGODB-CR", "$external"), (X509, "admin")] {
            assert_eq!(of(&command(mechanism, database)).unwrap(), Request::Other);
        }
    }

    #[test]
    fn what_is_no_login_is_left_alone() {
        for command in [
            doc! {"find": "c", "$db": "d"},
            doc! {"saslstart": 1, "$db": "d"},
            doc! {"insert": "c", "saslStart": 1, "$db": "d"},
        ] {
            assert_eq!(of(&command).unwrap(), Request::Other);
        }
    }
}
