//! Logins for a certificate, with a MongoDB that may not be the one it says it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::*;
use crate::access::Access;
use crate::access::scram::salt;
use crate::config::{AccessConfig, Credential};
use crate::tls::ClientCertificate;

const PASSWORD: &str = "pencil";

/// A session of a client whose certificate stands for `shop@admin`.
fn vouched(name: &str) -> Both {
    let file =
        std::env::temp_dir().join(format!("fieldseal-vouched-{name}-{}", std::process::id()));
    std::fs::write(&file, PASSWORD).unwrap();
    let access = Access::load(&AccessConfig {
        credentials: vec![Credential {
            certificate: "CN=shop".to_owned(),
            user: "shop".to_owned(),
            database: "admin".to_owned(),
            password: file.clone(),
        }],
        ..AccessConfig::default()
    });
    std::fs::remove_file(file).unwrap();
    let keyring = Keyring {
        generation: 0,
        keys: Vec::new(),
    };
    let access = Arc::new(access.unwrap());
    let policy = Policy::with_access(Arc::default(), Arc::new(keyring), access).unwrap();
    let shared = shared();
    shared.policy.store(Arc::new(policy));
    let certificate = ClientCertificate {
        subject: "CN=shop".to_owned(),
        names: Vec::new(),
    };
    let principal = Principal {
        certificate: Some(certificate),
        ..Principal::default()
    };
    both_as(Arc::new(shared), principal)
}

/// What a MongoDB does with a login.
#[derive(Debug, Clone, Copy)]
struct Manner {
    password: &'static str,
    iterations: u32,
    /// Whether it wants the empty exchange all the same.
    empty: bool,
    /// What it says first, in the place of all.
    first: Option<&'static str>,
    /// Whether it says that all is done with its first answer.
    done_at_once: bool,
    last: Option<&'static str>,
}

const HONEST: Manner = Manner {
    password: PASSWORD,
    iterations: 4096,
    empty: false,
    first: None,
    done_at_once: false,
    last: None,
};

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

impl Both {
    /// The next request, which must be this step of a login; gives its message.
    async fn step(&mut self, name: &str) -> String {
        let frame = read(&mut self.mongodb).await;
        let command = content(&frame);
        assert_eq!(command.keys().next().unwrap(), name, "{command}");
        assert_eq!(command.get_str("$db").unwrap(), "admin");
        String::from_utf8(command.get_binary_generic("payload").unwrap().clone()).unwrap()
    }

    async fn tell(&mut self, message: &str, done: bool) {
        let payload = bson::Binary {
            subtype: bson::spec::BinarySubtype::Generic,
            bytes: message.as_bytes().to_vec(),
        };
        let answer = doc! {"conversationId": 1, "done": done, "payload": payload, "ok": 1.0};
        let frame = numbered(msg(0, &body(&answer)), 1, OWN_REQUEST);
        self.mongodb.write_all(&frame).await.unwrap();
    }

    /// Whether the session goes on after its login at such a MongoDB.
    async fn log_in(&mut self, manner: Manner) -> bool {
        self.client.write_all(&ping(7)).await.unwrap();
        let first = self.step("saslStart").await;
        let bare = first.strip_prefix("n,,").unwrap();
        let (user, nonce) = bare.split_once(",r=").unwrap();
        assert_eq!((user, nonce.len()), ("n=shop", 32));
        let iterations = manner.iterations;
        let challenge = format!(
            "r={nonce}server,s={},i={iterations}",
            STANDARD.encode("salt")
        );
        let told = manner.first.unwrap_or(&challenge);
        self.tell(told, manner.done_at_once).await;
        if manner.first.is_some() || manner.done_at_once || iterations < 4096 {
            return self.goes_on().await;
        }
        let last = self.step("saslContinue").await;
        let (without, _) = last.split_once(",p=").unwrap();
        let said = format!("{bare},{challenge},{without}");
        let salted = salt(manner.password.as_bytes(), b"salt", iterations);
        let key = mac(&salted[..], b"Server Key");
        let signature = format!("v={}", STANDARD.encode(mac(&key, said.as_bytes())));
        self.tell(manner.last.unwrap_or(&signature), !manner.empty)
            .await;
        if manner.empty {
            assert_eq!(self.step("saslContinue").await, "");
            self.tell("", true).await;
        }
        self.goes_on().await
    }

    async fn goes_on(&mut self) -> bool {
        tokio::select! {
            // Before the end of the other connection, which follows it.
            biased;
            answer = read(&mut self.client) => {
                let answer = content(&answer);
                assert_eq!(answer.get_i32("code").unwrap(), 18, "{answer}");
                assert!(!answer.to_string().contains(PASSWORD));
                false
            }
            request = read(&mut self.mongodb) => {
                assert_eq!(request, ping(7));
                true
            }
        }
    }
}

#[tokio::test]
async fn the_first_command_goes_on_after_the_login() {
    for empty in [false, true] {
        let mut both = vouched(&format!("honest-{empty}"));
        assert!(both.log_in(Manner { empty, ..HONEST }).await);
    }
}

#[tokio::test]
async fn no_command_reaches_a_mongodb_that_does_not_know_the_password() {
    let wrong = [
        Manner {
            password: "another",
            ..HONEST
        },
        Manner {
            iterations: 4095,
            ..HONEST
        },
        Manner {
            last: Some("v="),
            ..HONEST
        },
        Manner {
            last: Some(""),
            ..HONEST
        },
        Manner {
            last: Some("e=other-error"),
            ..HONEST
        },
        Manner {
            first: Some("r=another,s=c2FsdA==,i=4096"),
            ..HONEST
        },
        Manner {
            first: Some(""),
            ..HONEST
        },
        Manner {
            done_at_once: true,
            ..HONEST
        },
    ];
    for (number, manner) in wrong.into_iter().enumerate() {
        let mut both = vouched(&format!("wrong-{number}"));
        assert!(!both.log_in(manner).await, "{manner:?}");
        let ended = both.session.await.unwrap();
        assert!(matches!(ended, Ended::Credential(_)), "{ended}");
    }
}

#[tokio::test]
async fn hello_goes_on_without_a_login() {
    let mut both = vouched("hello");
    let hello = numbered(msg(0, &body(&doc! {"hello": 1, "$db": "admin"})), 3, 0);
    both.client.write_all(&hello).await.unwrap();
    assert_eq!(read(&mut both.mongodb).await, hello);
}

#[tokio::test]
async fn a_login_that_is_refused_here_does_not_make_the_proxy_log_in() {
    let mut both = vouched("refused");
    let start = doc! {"saslStart": 1, "mechanism": "PLAIN", "payload": "", "$db": "admin"};
    let start = numbered(msg(0, &body(&start)), 3, 0);
    both.client.write_all(&start).await.unwrap();
    let answer = content(&read(&mut both.client).await);
    assert_eq!(answer.get_i32("code").unwrap(), 18);
    drop(both.client);
    assert!(read_to_end(&mut both.mongodb).await.is_empty());
}
