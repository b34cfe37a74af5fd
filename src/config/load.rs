//! The configuration, checked.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::host_and_port;
use super::merge::{PREFIX, merge};
use super::span::span;
use super::{
    AccessConfig, Address, Config, ConfigErrors, KeyringConfig, Limits, Log, LogFormat, Route,
    TlsConfig,
};
use crate::document::{self, Keys, Node, Place, Reader, Table, Value};
use crate::keyring::UnsealSource;

const TOP: Keys = Keys {
    of: "the configuration",
    known: &[
        "schema",
        "keyring",
        "route",
        "tls",
        "limits",
        "access",
        "admin",
        "audit",
        "log",
        "telemetry",
        "workers",
    ],
    later: &[],
};

/// More threads than any machine has cores.
const MOST_WORKERS: i64 = 1024;

const KEYRING: Keys = Keys {
    of: "`keyring`",
    known: &["file", "unseal", "max_age"],
    later: &[],
};

const UNSEAL: Keys = Keys {
    of: "`unseal`",
    known: &["file", "env", "command"],
    later: &[],
};

const SECRET: Keys = Keys {
    of: "a secret",
    ..UNSEAL
};

const ROUTE: Keys = Keys {
    of: "a route",
    known: &["listen", "upstream", "advertise", "insecure", "reuse_port"],
    later: &[],
};

const LOG: Keys = Keys {
    of: "`log`",
    known: &["format", "level", "slow_milliseconds"],
    later: &[],
};

impl Config {
    /// Loads the configuration at `path`, with what the environment says of it;
    /// every mistake is reported.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            let name = name
                .into_string()
                .ok()
                .filter(|name| name.starts_with(PREFIX))?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        let text = document::read(path).map_err(|mistake| ConfigErrors(vec![mistake]))?;
        Self::parse(&text, path, environment)
    }

    /// Parses the text of the configuration file `path`, and of `environment`
    /// what begins with `FIELDSEAL__`. Relative paths begin where the file is.
    pub fn parse(
        text: &str,
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let name = path.display().to_string();
        let raw = merge(text, &name, environment).map_err(|mistake| ConfigErrors(vec![mistake]))?;
        let mut checker = Checker {
            reader: Reader::new(&name),
            directory: path.parent().unwrap_or(Path::new("")).to_owned(),
            listens_with_tls: false,
        };
        let config = checker.config(&raw);
        checker.reader.finish(config)
    }
}

/// Checks the raw configuration, and notes all that is wrong with it.
pub(super) struct Checker {
    pub(super) reader: Reader,
    directory: PathBuf,
    /// Whether there is a `[tls.listen]`, right or wrong.
    listens_with_tls: bool,
}

impl Checker {
    fn config(&mut self, raw: &Node) -> Option<Config> {
        let top = Place::default();
        let table = self.reader.table(&top, raw, &TOP);
        let schema = self
            .required(&top, table, "schema")
            .and_then(|(at, node)| self.path(&at, node));
        let keyring = self
            .required(&top, table, "keyring")
            .and_then(|(at, node)| self.keyring(&at, node));
        let tls = table.entry(&top, "tls");
        if let Some((_, node)) = &tls
            && let Value::Table(entries) = &node.value
        {
            self.listens_with_tls = entries.iter().any(|entry| entry.key == "listen");
        }
        let routes = self
            .required(&top, table, "route")
            .and_then(|(at, node)| self.routes(&at, node));
        let tls = match tls {
            Some((at, node)) => {
                let tls = self.tls(&at, node);
                self.names_to_check(&at, &tls, routes.as_deref().unwrap_or_default());
                tls
            }
            None => TlsConfig::default(),
        };
        let limits = match table.entry(&top, "limits") {
            Some((at, node)) => self.limits(&at, node),
            None => Limits::default(),
        };
        let access = match table.entry(&top, "access") {
            Some((at, node)) => self.access(&at, node),
            None => AccessConfig::default(),
        };
        let audit = table.entry(&top, "audit");
        let audit = audit.map(|(at, node)| self.audit(&at, node));
        let log = match table.entry(&top, "log") {
            Some((at, node)) => self.log(&at, node),
            None => Log::default(),
        };
        let admin = table.entry(&top, "admin");
        let admin = admin.map(|(at, node)| self.admin(&at, node));
        let telemetry = table.entry(&top, "telemetry");
        let telemetry = telemetry.map(|(at, node)| self.telemetry(&at, node));
        let workers = (table.entry(&top, "workers"))
            .and_then(|(at, node)| self.reader.integer(&at, node, 1, MOST_WORKERS));
        Some(Config {
            schema: schema?,
            keyring: keyring?,
            routes: routes?,
            tls,
            limits,
            access,
            // What is wrong with it was noted.
            audit: audit.flatten(),
            admin: admin.flatten(),
            telemetry: telemetry.flatten(),
            log,
            workers: workers
                .and_then(|workers| usize::try_from(workers).ok())
                .and_then(NonZeroUsize::new),
        })
    }

    pub(super) fn required<'n>(
        &mut self,
        place: &Place,
        table: Table<'n>,
        key: &str,
    ) -> Option<(Place, &'n Node)> {
        let entry = table.entry(place, key);
        if entry.is_none() {
            self.reader
                .mistake(place, format_args!("`{key}` is missing"));
        }
        entry
    }

    /// A path, from where the configuration file is.
    pub(super) fn path(&mut self, place: &Place, node: &Node) -> Option<PathBuf> {
        let path = self.reader.name(place, node)?;
        Some(self.directory.join(path))
    }

    fn keyring(&mut self, place: &Place, node: &Node) -> Option<KeyringConfig> {
        let table = self.reader.table(place, node, &KEYRING);
        let file = self
            .required(place, table, "file")
            .and_then(|(at, node)| self.path(&at, node));
        let unseal = self
            .required(place, table, "unseal")
            .and_then(|(at, node)| self.source(&at, node, &UNSEAL));
        let max_age = table
            .entry(place, "max_age")
            .and_then(|(at, node)| self.span(&at, node));
        Some(KeyringConfig {
            file: file?,
            unseal: unseal?,
            max_age,
        })
    }

    fn span(&mut self, place: &Place, node: &Node) -> Option<Duration> {
        let time = span(self.reader.text(place, node)?);
        if time.is_none() {
            let what = "must be a number and `s`, `m`, `h`, `d`, `w` or `y`, such as \"90d\"";
            self.reader.mistake(place, what);
        }
        time
    }

    /// Where a secret is.
    pub(super) fn secret(&mut self, place: &Place, node: &Node) -> Option<UnsealSource> {
        self.source(place, node, &SECRET)
    }

    fn source(&mut self, place: &Place, node: &Node, keys: &Keys) -> Option<UnsealSource> {
        // Someone may write the secret itself here: it is not repeated.
        let Value::Table(entries) = &node.value else {
            let forms =
                "{ file = \"…\" }, { env = \"NAME\" } or { command = [\"program\", \"argument\"] }";
            self.reader.mistake(
                place,
                format_args!("must be {forms}, not {}", node.value.kind()),
            );
            return None;
        };
        let table = self.reader.table(place, node, keys);
        let sources: Vec<_> = (keys.known)
            .iter()
            .filter_map(|key| table.entry(place, key))
            .collect();
        if sources.len() != 1 && entries.len() == sources.len() {
            self.reader
                .mistake(place, "must have one of `file`, `env` and `command`");
        }
        if let Some((at, node)) = table.entry(place, "file") {
            return self.path(&at, node).map(UnsealSource::File);
        }
        if let Some((at, node)) = table.entry(place, "env") {
            return self
                .reader
                .name(&at, node)
                .map(|name| UnsealSource::Env(name.to_owned()));
        }
        let (at, node) = table.entry(place, "command")?;
        let words = match &node.value {
            Value::List(words) => words.as_slice(),
            _ => &[],
        };
        let words: Option<Vec<String>> = words
            .iter()
            .enumerate()
            .map(|(index, word)| {
                self.reader
                    .text(&at.element(index, word), word)
                    .map(str::to_owned)
            })
            .collect();
        let words = words?;
        if words.first().is_none_or(String::is_empty) {
            self.reader
                .mistake(&at, "must be a list of a program and its arguments");
            return None;
        }
        Some(UnsealSource::Command(words))
    }

    fn routes(&mut self, place: &Place, node: &Node) -> Option<Vec<Route>> {
        let nodes = self.reader.list(place, node);
        if nodes.is_empty() {
            self.reader.mistake(place, "needs at least one [[route]]");
        }
        let mut routes: Vec<Route> = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let at = place.element(index, node);
            let Some(route) = self.route(&at, node) else {
                continue;
            };
            let twice =
                |other: &Route| other.listen == route.listen && route.listen.port() != Some(0);
            if routes.iter().any(twice) {
                self.reader.mistake(
                    &at,
                    format_args!("listens on {}, as another route does", route.listen),
                );
            }
            routes.push(route);
        }
        (routes.len() == nodes.len() && !routes.is_empty()).then_some(routes)
    }

    fn route(&mut self, place: &Place, node: &Node) -> Option<Route> {
        let table = self.reader.table(place, node, &ROUTE);
        let listen = self
            .required(place, table, "listen")
            .and_then(|(at, node)| self.address(&at, node));
        let upstream = self
            .required(place, table, "upstream")
            .and_then(|(at, node)| {
                let address = self.address(&at, node)?;
                if address.port() == Some(0) {
                    self.reader.mistake(&at, "must have a port other than 0");
                }
                Some(address)
            });
        let advertise = table
            .entry(place, "advertise")
            .and_then(|(at, node)| self.advertise(&at, node));
        let insecure = table
            .entry(place, "insecure")
            .and_then(|(at, node)| self.reader.boolean(&at, node))
            .unwrap_or(false);
        let reuse_port = table
            .entry(place, "reuse_port")
            .and_then(|(at, node)| self.reader.boolean(&at, node))
            .unwrap_or(false);
        let (listen, upstream) = (listen?, upstream?);
        if reuse_port && matches!(listen, Address::Unix(_)) {
            let what = "has `reuse_port`, which Unix sockets do not have";
            self.reader.mistake(place, what);
        }
        if listen == upstream && listen.port() != Some(0) {
            self.reader.mistake(place, "listens where it connects to");
        }
        if !listen.is_local() && !insecure && !self.listens_with_tls {
            let what = "other machines can reach it, and without TLS the network between sees plaintext: \
                        add [tls.listen], listen on loopback or a unix socket, or say `insecure = true`";
            self.reader
                .mistake(place, format_args!("listens on {listen}: {what}"));
        }
        Some(Route {
            listen,
            upstream,
            advertise,
            insecure,
            reuse_port,
        })
    }

    pub(super) fn address(&mut self, place: &Place, node: &Node) -> Option<Address> {
        match self.reader.text(place, node)?.parse::<Address>() {
            Ok(address) => Some(address.within(&self.directory)),
            Err(error) => {
                self.reader.mistake(place, error);
                None
            }
        }
    }

    fn advertise(&mut self, place: &Place, node: &Node) -> Option<String> {
        let text = self.reader.text(place, node)?;
        match host_and_port(text) {
            Some((_, port)) if port != 0 => Some(text.to_owned()),
            _ => {
                self.reader
                    .mistake(place, "must be `host:port`, as drivers are to connect");
                None
            }
        }
    }

    fn log(&mut self, place: &Place, node: &Node) -> Log {
        let table = self.reader.table(place, node, &LOG);
        let format = table
            .entry(place, "format")
            .and_then(|(at, node)| self.reader.word(&at, node, &["text", "json"]));
        let level = table.entry(place, "level").and_then(|(at, node)| {
            self.reader
                .word(&at, node, &["error", "warn", "info", "debug", "trace"])
        });
        let slow = table
            .entry(place, "slow_milliseconds")
            .and_then(|(at, node)| self.reader.integer(&at, node, 0, 24 * 3600 * 1000));
        let default = Log::default();
        Log {
            format: match format {
                Some("json") => LogFormat::Json,
                _ => default.format,
            },
            level: level
                .and_then(|level| level.parse().ok())
                .unwrap_or(default.level),
            slow: slow
                .and_then(|slow| u64::try_from(slow).ok())
                .map(Duration::from_millis),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const LEAST: &str = r#"
schema = "schema.toml"
[keyring]
file = "keyring.json"
unseal = { file = "/run/secrets/unseal" }
[[route]]
listen = "127.0.0.1:27117"
upstream = "127.0.0.1:27017"
"#;

    fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::parse(
            text,
            Path::new("/etc/fieldseal/fieldseal.toml"),
            environment,
        )
    }

    fn mistakes(text: &str) -> Vec<String> {
        match parse(text, &[]) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
        }
    }

    #[track_caller]
    fn one(found: &[String], place: &str, what: &str) {
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(
            found[0].starts_with(&format!("/etc/fieldseal/fieldseal.toml{place}")),
            "{found:#?}"
        );
        assert!(found[0].contains(what), "{found:#?}");
    }

    #[test]
    fn relative_paths_begin_where_the_file_is() {
        let config = parse(&LEAST.replace("127.0.0.1:27017", "unix:mongod.sock"), &[]).unwrap();
        assert_eq!(config.schema, Path::new("/etc/fieldseal/schema.toml"));
        assert_eq!(
            config.keyring.file,
            Path::new("/etc/fieldseal/keyring.json")
        );
        assert_eq!(
            config.keyring.unseal,
            UnsealSource::File("/run/secrets/unseal".into())
        );
        assert_eq!(
            config.routes[0].upstream,
            Address::Unix("/etc/fieldseal/mongod.sock".into())
        );
        assert_eq!(config.routes[0].advertise, None);
    }

    #[test]
    fn limits_and_log_have_defaults_and_can_be_set() {
        let config = parse(LEAST, &[]).unwrap();
        assert_eq!(config.limits.message_bytes, 48_000_000);
        assert_eq!(
            (config.log.format, config.log.level),
            (LogFormat::Text, tracing::Level::INFO)
        );
        let text = format!(
            "{LEAST}[limits]\nconnections = 7\nmessage_bytes = 20000000\nhandshake_timeout_seconds = 9\n[log]\nformat = \"json\"\nlevel = \"debug\"\n"
        );
        let config = parse(&text, &[]).unwrap();
        assert_eq!(
            (config.limits.connections, config.limits.message_bytes),
            (7, 20_000_000)
        );
        assert_eq!(config.limits.handshake_timeout, Duration::from_secs(9));
        assert_eq!(
            (config.log.format, config.log.level),
            (LogFormat::Json, tracing::Level::DEBUG)
        );
    }

    #[test]
    fn the_greatest_age_of_keys_is_a_span_of_time_and_has_no_default() {
        assert_eq!(parse(LEAST, &[]).unwrap().keyring.max_age, None);
        let aged = |age: &str| LEAST.replace("[keyring]", &format!("[keyring]\nmax_age = {age}"));
        let config = parse(&aged("\"90d\""), &[]).unwrap();
        let days = |days: u64| Some(Duration::from_secs(days * 24 * 3600));
        assert_eq!(config.keyring.max_age, days(90));
        let config = parse(LEAST, &[("FIELDSEAL__KEYRING__MAX_AGE", "1y")]).unwrap();
        assert_eq!(config.keyring.max_age, days(365));
        one(
            &mistakes(&aged("\"90 days\"")),
            ":4: keyring.max_age",
            "such as \"90d\"",
        );
        one(
            &mistakes(&aged("90")),
            ":4: keyring.max_age",
            "must be a string",
        );
    }

    #[test]
    fn every_key_can_be_set_by_the_environment() {
        let config = parse(
            LEAST,
            &[
                ("FIELDSEAL__SCHEMA", "/other/schema"),
                ("FIELDSEAL__KEYRING__FILE", "/other/keyring.json"),
                ("FIELDSEAL__ROUTE__0__LISTEN", "127.0.0.1:1"),
                ("FIELDSEAL__LIMITS__CONNECTIONS", "5"),
                ("FIELDSEAL__LOG__LEVEL", "trace"),
                ("FIELDSEAL_MONGOD", "/not/ours"),
                ("PATH", "/bin"),
            ],
        )
        .unwrap();
        assert_eq!(config.schema, Path::new("/other/schema"));
        assert_eq!(config.keyring.file, Path::new("/other/keyring.json"));
        assert_eq!(config.routes[0].listen, Address::Tcp("127.0.0.1:1".into()));
        assert_eq!(
            config.routes[0].upstream,
            Address::Tcp("127.0.0.1:27017".into())
        );
        assert_eq!(config.limits.connections, 5);
        assert_eq!(config.log.level, tracing::Level::TRACE);
    }

    #[test]
    fn the_environment_can_hold_lists_and_tables() {
        let command = "{ command = [\"vault\", \"read\"] }";
        let config = parse(LEAST, &[("FIELDSEAL__KEYRING__UNSEAL", command)]).unwrap();
        assert_eq!(
            config.keyring.unseal,
            UnsealSource::Command(vec!["vault".into(), "read".into()])
        );
        let routes = "[{ listen = \"127.0.0.1:1\", upstream = \"db:2\" }]";
        let config = parse(LEAST, &[("FIELDSEAL__ROUTE", routes)]).unwrap();
        assert_eq!(config.routes[0].upstream, Address::Tcp("db:2".into()));
    }

    #[test]
    fn the_unseal_source_of_the_environment_takes_the_place_of_the_files() {
        let config = parse(LEAST, &[("FIELDSEAL__KEYRING__UNSEAL__ENV", "SECRET")]).unwrap();
        assert_eq!(config.keyring.unseal, UnsealSource::Env("SECRET".into()));
    }

    #[test]
    fn a_variable_that_names_no_key_is_a_mistake() {
        for name in [
            "FIELDSEAL__",
            "FIELDSEAL____X",
            "FIELDSEAL__LOG__",
            "FIELDSEAL__LOG LEVEL",
            // Not a list that fills memory.
            "FIELDSEAL__ROUTE__99999999__LISTEN",
        ] {
            let errors = parse(LEAST, &[(name, "secret value")])
                .unwrap_err()
                .to_string();
            assert!(
                errors.contains("FIELDSEAL__") || errors.contains("unknown key"),
                "{errors}"
            );
            assert!(!errors.contains("secret value"), "{errors}");
        }
    }

    #[test]
    fn an_unknown_variable_is_a_mistake_like_an_unknown_key() {
        let errors = parse(LEAST, &[("FIELDSEAL__LIMITS__CONECTIONS", "5")])
            .unwrap_err()
            .to_string();
        assert!(
            errors.ends_with(
                "limits.conections: unknown key of `limits`; did you mean `connections`?"
            ),
            "{errors}"
        );
    }

    #[test]
    fn the_number_of_workers_is_that_of_the_cores_unless_it_is_given() {
        let workers = |line: &str| {
            let text = format!(
                "schema = \"s\"\n{line}\n[keyring]\nfile = \"k\"\nunseal = {{ file = \"u\" }}\n\
                 [[route]]\nlisten = \"127.0.0.1:1\"\nupstream = \"127.0.0.1:2\"\n"
            );
            Config::parse(&text, Path::new("fieldseal.toml"), []).map(|config| config.workers)
        };
        assert_eq!(workers("").unwrap(), None);
        assert_eq!(workers("workers = 3").unwrap(), NonZeroUsize::new(3));
        let error = workers("workers = 0").unwrap_err().to_string();
        assert!(
            error.contains(":2: workers: must be from 1 to 1024"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_the_nearest_known_one() {
        one(
            &mistakes(&LEAST.replace(
                "upstream =",
                "insecure = false\nupstrem = \"a:1\"\nupstream =",
            )),
            ":9: route[0].upstrem",
            "did you mean `upstream`?",
        );
        one(
            &mistakes(&format!("shema = 1\n{LEAST}")),
            ":1: shema",
            "did you mean `schema`?",
        );
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let found =
            mistakes("schema = 3\n[[route]]\nlisten = \"nowhere\"\n[log]\nlevel = \"infp\"\n");
        assert_eq!(found.len(), 5, "{found:#?}");
        for part in [
            ": `keyring` is missing",
            ":1: schema: must be a string, not an integer",
            ":2: route[0]: `upstream` is missing",
            ":3: route[0].listen: must be `host:port`",
            ":5: log.level: unknown word \"infp\"; did you mean \"info\"?",
        ] {
            assert!(
                found.iter().any(|mistake| mistake.contains(part)),
                "{part}: {found:#?}"
            );
        }
    }

    #[test]
    fn other_machines_are_let_in_without_tls_only_if_that_is_said() {
        let open = LEAST.replace("127.0.0.1:27117", "0.0.0.0:27117");
        one(
            &mistakes(&open),
            ":6: route[0]: listens on 0.0.0.0:27117",
            "insecure = true",
        );
        let said = format!("{open}insecure = true\n");
        assert!(parse(&said, &[]).unwrap().routes[0].insecure);
        let far = LEAST.replace("127.0.0.1:27017", "db.example:27017");
        assert!(mistakes(&far).is_empty());
    }

    #[test]
    fn routes_that_cannot_work_are_refused() {
        let second = "[[route]]\nlisten = \"127.0.0.1:27117\"\nupstream = \"127.0.0.1:27018\"\n";
        one(
            &mistakes(&format!("{LEAST}{second}")),
            ":9: route[1]",
            "as another route does",
        );
        one(
            &mistakes(&LEAST.replace("27017", "27117")),
            ":6: route[0]",
            "where it connects to",
        );
        one(
            &mistakes(&LEAST.replace("27017", "0")),
            ":8: route[0].upstream",
            "port",
        );
        one(
            &mistakes(&format!("{LEAST}advertise = \"unix:/x\"\n")),
            ":9: route[0].advertise",
            "host:port",
        );
        let none = LEAST.split("[[route]]").next().unwrap();
        one(&mistakes(none), "", "`route` is missing");
    }

    #[test]
    fn the_unseal_secret_has_one_source_and_is_never_repeated() {
        let with =
            |unseal: &str| mistakes(&LEAST.replace("{ file = \"/run/secrets/unseal\" }", unseal));
        let secret = with("\"the secret itself\"");
        one(&secret, ":5: keyring.unseal", "must be { file");
        assert!(!secret[0].contains("the secret itself"));
        one(
            &with("{ file = \"a\", env = \"B\" }"),
            ":5: keyring.unseal",
            "one of",
        );
        one(&with("{}"), ":5: keyring.unseal", "one of");
        one(
            &with("{ command = [] }"),
            ":5: keyring.unseal.command",
            "program",
        );
        one(
            &with("{ command = \"vault read\" }"),
            ":5: keyring.unseal.command",
            "a list of a program",
        );
        one(
            &with("{ fil = \"a\" }"),
            ":5: keyring.unseal.fil",
            "did you mean `file`?",
        );
    }

    #[test]
    fn a_syntax_error_and_a_missing_file_are_one_line() {
        one(&mistakes("schema = \n"), ":1: is not valid TOML", "");
        let missing = Config::load(Path::new("/no/such.toml"))
            .unwrap_err()
            .to_string();
        assert!(
            missing.starts_with("/no/such.toml: cannot be read") && !missing.contains('\n'),
            "{missing}"
        );
    }

    #[test]
    fn the_example_configuration_is_right() {
        let path = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/fieldseal.example.toml"
        ));
        let text = std::fs::read_to_string(path).unwrap();
        let config = Config::parse(&text, path, []).unwrap();
        assert!(config.schema.is_file(), "{:?}", config.schema);
    }
}
