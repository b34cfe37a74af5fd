//! Logins as they pass by, with the test in the place of client and MongoDB.

#![allow(clippy::unwrap_used, reason = "tests")]

use bson::{Bson, Document, doc};

use super::*;
use crate::wire::testing::{body, msg};

const CLIENT: &str = "10.0.0.1:5000";

fn login() -> Login {
    Login::new(
        CLIENT.to_owned(),
        &Principal::default(),
        &Access::default(),
        1,
    )
}

fn start_as(user: &str, mechanism: &str) -> Document {
    let payload = format!("n,,n={user},r=abcdef");
    let payload = bson::Binary {
        subtype: bson::spec::BinarySubtype::Generic,
        bytes: payload.into_bytes(),
    };
    doc! {"saslStart": 1, "mechanism": mechanism, "payload": payload, "$db": "admin"}
}

fn begin(user: &str) -> Document {
    start_as(user, "SCRAM-SHA-256")
}

fn hello(user: &str) -> Document {
    let mut login = begin(user);
    login.remove("$db");
    login.insert("db", "admin");
    doc! {"hello": 1, "speculativeAuthenticate": login, "$db": "admin"}
}

fn proceed() -> Document {
    doc! {"saslContinue": 1, "conversationId": 1, "payload": "", "$db": "admin"}
}

fn logout(database: &str) -> Document {
    doc! {"logout": 1, "$db": database}
}

fn step(done: impl Into<Bson>) -> Document {
    doc! {"conversationId": 1, "done": done.into(), "payload": "", "ok": 1.0}
}

fn refused() -> Document {
    doc! {"ok": 0.0, "errmsg": "Authentication failed.", "code": 18, "done": true}
}

impl Login {
    fn asked(&mut self, command: &Document) -> Result<Step, Refusal> {
        let frame = msg(0, &body(command));
        let request = Request::of(&Message::recognise(&frame).unwrap())?;
        match self.examine(request, &Principal::default()) {
            Admitted::Passes(step) => Ok(step),
            Admitted::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// What comes of a command and its answer.
    fn exchange(&mut self, command: &Document, answer: &Document) -> Option<Change> {
        let step = self.asked(command).unwrap();
        let frame = msg(0, &body(answer));
        let reply = Reply::recognise(&frame).unwrap();
        self.learn(&step, &reply).unwrap()
    }

    #[track_caller]
    fn refuses(&mut self, command: &Document, why: &str) {
        let refusal = self.asked(command).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::AuthenticationFailed);
        assert!(refusal.message.contains(why), "{refusal}");
    }
}

fn is(user: &str) -> Option<Change> {
    Some(Change::LoggedIn(Some(format!("{user}@admin"))))
}

fn logged_in(user: &str) -> Login {
    let mut login = login();
    assert_eq!(login.exchange(&begin(user), &step(false)), None);
    assert_eq!(login.exchange(&proceed(), &step(true)), is(user));
    login
}

#[test]
fn a_user_is_known_once_mongodb_says_that_the_login_is_done() {
    logged_in("ada");
    // With the empty exchange at the end, as older drivers have it.
    let mut login = login();
    assert_eq!(login.exchange(&begin("ada"), &step(false)), None);
    assert_eq!(login.exchange(&proceed(), &step(false)), None);
    assert_eq!(login.exchange(&proceed(), &step(true)), is("ada"));
}

#[test]
fn a_login_may_begin_with_hello() {
    let mut login = login();
    let answer =
        doc! {"isWritablePrimary": true, "speculativeAuthenticate": step(false), "ok": 1.0};
    assert_eq!(login.exchange(&hello("ada"), &answer), None);
    assert_eq!(login.exchange(&proceed(), &step(true)), is("ada"));
}

#[test]
fn only_an_answer_that_is_ok_and_done_lets_a_user_in() {
    let mut also_done = refused();
    also_done.insert("conversationId", 1);
    for answer in [
        refused(),
        also_done,
        doc! {"done": true, "conversationId": 1},
        doc! {"done": true, "conversationId": 1, "ok": 0},
        doc! {"done": true, "conversationId": 1, "ok": 0.5},
        doc! {"done": true, "conversationId": 1, "ok": "1"},
        step(1),
        step("true"),
        step(Bson::Null),
        doc! {"conversationId": 1, "ok": 1.0},
    ] {
        let mut login = login();
        login.exchange(&begin("ada"), &step(false));
        assert_eq!(login.exchange(&proceed(), &answer), None, "{answer}");
        assert!(login.logged_in.is_none());
    }
}

#[test]
fn scram_that_is_done_at_its_beginning_has_proven_nothing() {
    let mut login = login();
    let asked = login.asked(&begin("ada")).unwrap();
    let frame = msg(0, &body(&step(true)));
    let reply = Reply::recognise(&frame).unwrap();
    login.learn(&asked, &reply).unwrap_err();
    let asked = login.asked(&hello("ada")).unwrap();
    let answer = doc! {"speculativeAuthenticate": step(true), "ok": 1.0};
    let frame = msg(0, &body(&answer));
    let reply = Reply::recognise(&frame).unwrap();
    login.learn(&asked, &reply).unwrap_err();
    assert!(login.logged_in.is_none());
}

#[test]
fn the_answer_to_another_command_lets_nobody_in() {
    let mut login = login();
    login.exchange(&begin("ada"), &step(false));
    let find = doc! {"find": "c", "$db": "d"};
    assert_eq!(login.exchange(&find, &step(true)), None);
    let plain = doc! {"hello": 1, "$db": "admin"};
    let answer = doc! {"speculativeAuthenticate": step(true), "ok": 1.0};
    assert_eq!(login.exchange(&plain, &answer), None);
    // Which leaves the login where it was, at MongoDB as here.
    assert_eq!(login.exchange(&proceed(), &step(true)), is("ada"));
}

#[test]
fn a_login_goes_on_only_where_it_was_begun() {
    let with = |key: &str, value: Bson| {
        let mut command = proceed();
        command.insert(key, value);
        command
    };
    login().refuses(&proceed(), "no such login");
    for other in [with("conversationId", 2.into()), with("$db", "shop".into())] {
        let mut login = login();
        login.exchange(&begin("ada"), &step(false));
        login.refuses(&other, "no such login");
        // It is over.
        login.refuses(&proceed(), "no such login");
    }
}

#[test]
fn the_login_that_began_last_is_the_one_that_goes_on() {
    let mut login = login();
    login.exchange(&begin("ada"), &step(false));
    login.exchange(&begin("bob"), &step(false));
    assert_eq!(login.exchange(&proceed(), &step(true)), is("bob"));
    let mut login = self::login();
    login.exchange(&begin("ada"), &step(false));
    let answer = doc! {"speculativeAuthenticate": step(false), "ok": 1.0};
    login.exchange(&hello("bob"), &answer);
    assert_eq!(login.exchange(&proceed(), &step(true)), is("bob"));
    // MongoDB does not say which of them it knows.
    for answer in [doc! {"ok": 1.0}, refused()] {
        let mut login = self::login();
        login.exchange(&begin("ada"), &step(false));
        login.exchange(&hello("bob"), &answer);
        login.refuses(&proceed(), "no such login");
    }
}

#[test]
fn a_login_that_failed_or_is_over_does_not_go_on() {
    let mut login = login();
    login.exchange(&begin("ada"), &refused());
    login.refuses(&proceed(), "no such login");
    login.exchange(&begin("ada"), &step(false));
    login.exchange(&proceed(), &refused());
    login.refuses(&proceed(), "no such login");
    let mut login = logged_in("ada");
    login.refuses(&proceed(), "no such login");
    login.exchange(&begin("ada"), &step(false));
    login.exchange(&logout("other"), &doc! {"ok": 1.0});
    login.refuses(&proceed(), "no such login");
}

#[test]
fn a_connection_is_one_users() {
    let mut login = logged_in("ada");
    login.refuses(&begin("bob"), "as another user");
    login.refuses(&start_as("", "PLAIN"), "as another user");
    let mut elsewhere = begin("ada");
    elsewhere.insert("$db", "shop");
    login.refuses(&elsewhere, "as another user");
    // The same one again, by whichever of its passwords' forms.
    login.exchange(&start_as("ada", "SCRAM-SHA-1"), &step(false));
    assert_eq!(login.exchange(&proceed(), &step(true)), is("ada"));
    // A login that fails takes nothing away.
    assert_eq!(login.exchange(&begin("ada"), &refused()), None);
    login.refuses(&begin("bob"), "as another user");
}

#[test]
fn a_second_users_login_that_begins_with_hello_does_not_go_on() {
    let mut login = logged_in("ada");
    let answer = doc! {"speculativeAuthenticate": step(false), "ok": 1.0};
    assert_eq!(login.exchange(&hello("bob"), &answer), None);
    login.refuses(&proceed(), "as another user");
    login.refuses(&proceed(), "no such login");
}

#[test]
fn a_logout_counts_if_mongodb_did_it_and_it_was_of_the_users_database() {
    let mut login = logged_in("ada");
    let ok = doc! {"ok": 1.0};
    assert_eq!(login.exchange(&logout("shop"), &ok), None);
    assert_eq!(login.exchange(&logout("admin"), &refused()), None);
    login.refuses(&begin("bob"), "as another user");
    assert_eq!(
        login.exchange(&logout("admin"), &ok),
        Some(Change::LoggedOut)
    );
    assert_eq!(login.exchange(&logout("admin"), &ok), None);
    login.exchange(&begin("bob"), &step(false));
    assert_eq!(login.exchange(&proceed(), &step(true)), is("bob"));
}

#[test]
fn a_login_that_does_not_tell_its_user_gives_none_and_keeps_others_out() {
    let mut login = login();
    let plain = start_as("ada", "PLAIN");
    assert_eq!(
        login.exchange(&plain, &step(true)),
        Some(Change::LoggedIn(None))
    );
    login.refuses(&begin("ada"), "as another user");
    let mut login = self::login();
    login.exchange(&start_as("ada", "GSSAPI"), &step(false));
    assert_eq!(
        login.exchange(&proceed(), &step(true)),
        Some(Change::LoggedIn(None))
    );
    assert_eq!(
        login.exchange(&logout("admin"), &doc! {"ok": 1}),
        Some(Change::LoggedOut)
    );
    assert_eq!(login.exchange(&begin("ada"), &step(false)), None);
}
