//! Taking up changed files while the proxy runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::signal::unix::Signal;

use super::serve::LogLevel;
use super::{Failure, audit, load, service};
use crate::code::{Code, Coded};
use crate::config::{AuditConfig, Config, KeyringConfig, Log, TlsConfig};
use crate::keyring::{KeyFile, UnsealSource};
use crate::observe::Observers;
use crate::observe::audit::{Audit, AuditKey, Event, Standing};
use crate::policy::{Collection, Policy};
use crate::proxy::{LimitsCell, PolicyCell};
use crate::schema::files_of;
use crate::tls::TlsCell;

/// How often the files are looked at.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

const NOT_TAKEN_UP: &str = "not taken up, the old configuration, schema and keyring stay";

/// What of a running proxy its files can change.
pub(super) struct Running {
    /// The configuration file.
    pub(super) file: PathBuf,
    /// The configuration in force.
    pub(super) config: ArcSwap<Config>,
    pub(super) policy: PolicyCell,
    pub(super) tls: TlsCell,
    pub(super) limits: LimitsCell,
    pub(super) level: LogLevel,
    pub(super) audit: Audit,
    pub(super) observers: Observers,
    /// What the audit log knows to be in force.
    pub(super) standing: ArcSwap<Standing>,
}

/// What was taken up.
#[derive(Debug, PartialEq, Eq)]
struct TakenUp {
    /// That of the keyring.
    generation: u64,
    /// What of the configuration was changed and is not in force.
    needs_restart: Vec<&'static str>,
    /// The fields that were sealed before and are stored in plain from now on.
    unsealed: Vec<String>,
}

/// The files as they were tried, with or without success.
struct Attempt {
    /// Names the files.
    config: Arc<Config>,
    seen: Fingerprint,
    done: Result<TakenUp, Failure>,
}

impl Running {
    /// Takes up the files anew on SIGHUP, and when they change.
    pub(super) async fn watch(self: Arc<Self>, mut seen: Fingerprint, mut hangup: Signal) {
        let mut period = tokio::time::interval(WATCH_PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut changing = None;
        let mut config = self.config.load_full();
        loop {
            let asked = tokio::select! {
                _ = hangup.recv() => true,
                _ = period.tick() => false,
            };
            let now = Fingerprint::of(&self.file, &config);
            if !asked && !settled(&seen, &now, &mut changing) {
                continue;
            }
            changing = None;
            service::reloading();
            let running = Arc::clone(&self);
            // A passphrase takes its time.
            match tokio::task::spawn_blocking(move || running.take_up()).await {
                Ok(attempt) => {
                    tell(&attempt.done);
                    (config, seen) = (attempt.config, attempt.seen);
                }
                Err(error) => {
                    let error = Coded(error, Code::BrokeOff);
                    tracing::error!(%error, "{NOT_TAKEN_UP}");
                    seen = now;
                }
            }
            service::ready();
        }
    }

    /// Puts what the files say now in force, all or nothing.
    fn take_up(&self) -> Attempt {
        let attempt = self.attempt();
        self.observers.metrics.reloaded(attempt.done.is_ok());
        if let Err(failure) = &attempt.done {
            let why = failure.lines().join("; ");
            let event = Event::new("reload_refused").with("why", why);
            self.audit.note_blocking(event);
        }
        attempt
    }

    fn attempt(&self) -> Attempt {
        let stamp = Stamp::of(&self.file);
        let before = self.config.load_full();
        let (config, needs_restart) = match Config::load(&self.file) {
            Ok(fresh) => within_reach(&before, fresh),
            Err(mistakes) => {
                return Attempt {
                    seen: Fingerprint::of(&self.file, &before).with(stamp),
                    config: before,
                    done: Err(mistakes.into()),
                };
            }
        };
        let config = Arc::new(config);
        let seen = Fingerprint::of(&self.file, &config).with(stamp);
        let done = self
            .put_in_force(&config)
            .map(|(generation, unsealed)| TakenUp {
                generation,
                needs_restart,
                unsealed,
            });
        Attempt { config, seen, done }
    }

    /// Answers the generation of the keyring, and the fields that are no longer sealed.
    fn put_in_force(&self, config: &Arc<Config>) -> Result<(u64, Vec<String>), Failure> {
        let before = self.policy.load_full();
        let fresh = load::load_after(config, &before)?;
        let generation = fresh.policy.generation();
        let loaded = before.generation();
        if generation < loaded {
            // An old copy would bring back what was revoked since.
            return Err(Failure::coded(
                Code::KeyFileWentBack,
                format_args!(
                    "{}: went back from generation {loaded} to {generation}; put the newer file back, or restart the proxy",
                    config.keyring.file.display()
                ),
            ));
        }
        let lost = fresh.policy.keys_lost_since(&before);
        if !lost.is_empty() {
            // No command takes a key out. One machine's file was put over another's.
            return Err(Failure::coded(
                Code::NotTakenUp,
                format_args!(
                    "{}: lacks keys that are in use, of {}: it is not a later state of the same key file; put that one back, or restart the proxy",
                    config.keyring.file.display(),
                    lost.join(", ")
                ),
            ));
        }
        if fresh.policy.is_empty() && !before.is_empty() {
            // So it looks when a file was emptied to be written anew, and the disk was full.
            return Err(Failure::coded(
                Code::NotTakenUp,
                format_args!(
                    "{}: seals nothing any more; restart the proxy if all is to be stored in plain",
                    config.schema.display()
                ),
            ));
        }
        let unsealed = unsealed(&before, &fresh.policy);
        let key = audit::key_of(config, &fresh.keyring)?;
        let standing = audit::standing(&self.file, config, &fresh);
        // Nothing fails from here on.
        self.policy.store(Arc::new(fresh.policy));
        // Connections that are open stay with the certificates that they began with.
        self.tls.store(Arc::new(fresh.tls));
        self.limits.store(Arc::new(config.limits.clone()));
        self.level.set(&config.log);
        self.observers.slow.set(config.log.slow);
        self.config.store(Arc::clone(config));
        remember(&config.keyring.file, generation);
        self.tell_audit(config, key, standing);
        Ok((generation, unsealed))
    }

    /// Writes down what changed. Under the old key, if that is another one now.
    fn tell_audit(&self, config: &Config, key: Option<AuditKey>, standing: Standing) {
        for event in standing.changes_since(&self.standing.load()) {
            self.audit.note_blocking(event);
        }
        self.standing.store(Arc::new(standing));
        if let (Some(audit), Some(key)) = (&config.audit, key) {
            self.audit.renew(key, audit::settings(audit));
        }
    }
}

fn tell(done: &Result<TakenUp, Failure>) {
    match done {
        Ok(done) => {
            let generation = done.generation;
            tracing::info!(
                generation,
                "configuration, schema and keyring taken up anew"
            );
            for field in &done.unsealed {
                tracing::warn!(
                    "{field}: the new schema does not seal it: what is written there is stored in plain"
                );
            }
            for part in &done.needs_restart {
                tracing::warn!(
                    "the configuration's `{part}` was changed, which needs a restart; the old one stays in force"
                );
            }
        }
        Err(failure) => {
            for line in failure.lines() {
                tracing::error!("{NOT_TAKEN_UP}: {line}");
            }
        }
    }
}

/// The fields that the policy `before` seals, and `fresh` does not.
fn unsealed(before: &Policy, fresh: &Policy) -> Vec<String> {
    let mut unsealed = Vec::new();
    for collection in before.sealed_in(None) {
        // A pattern is looked for among the patterns.
        let of = fresh.collection(&collection.namespace).or_else(|| {
            let mut rules = fresh.sealed_in(None);
            let same = rules.find(|rule| rule.namespace == collection.namespace);
            same.map(Arc::clone)
        });
        for field in collection
            .fields()
            .iter()
            .filter(|field| !field.stores_plain)
        {
            let path = &field.path;
            let within = |outer: &str| {
                let rest = path.strip_prefix(outer);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            let sealed = |of: &Arc<Collection>| of.fields().iter().any(|of| within(&of.path));
            if !of.as_ref().is_some_and(sealed) {
                unsealed.push(format!("{}: `{path}`", collection.namespace));
            }
        }
    }
    unsealed
}

/// What of the configuration `fresh` can be put in force without a restart, with the
/// rest as it was, and the names of what was changed of that rest. A route that waits
/// for a restart must not keep a revoked key in use until then.
///
/// Neither does a side begin or cease to speak TLS: the addresses in force were allowed with
/// what was there when they were bound.
fn within_reach(before: &Config, fresh: Config) -> (Config, Vec<&'static str>) {
    let listen = before.tls.listen.is_some() != fresh.tls.listen.is_some();
    let upstream = before.tls.upstream.is_some() != fresh.tls.upstream.is_some();
    let tls = TlsConfig {
        listen: if listen {
            before.tls.listen.clone()
        } else {
            fresh.tls.listen.clone()
        },
        upstream: if upstream {
            before.tls.upstream.clone()
        } else {
            fresh.tls.upstream.clone()
        },
    };
    let changes = [
        ("route", before.routes != fresh.routes),
        ("keyring.file", before.keyring.file != fresh.keyring.file),
        ("log.format", before.log.format != fresh.log.format),
        (
            "log.slow_milliseconds",
            before.log.slow.is_some() != fresh.log.slow.is_some(),
        ),
        ("admin", before.admin != fresh.admin),
        ("telemetry", before.telemetry != fresh.telemetry),
        ("workers", before.workers != fresh.workers),
        ("tls.listen", listen),
        ("tls.upstream", upstream),
        (
            "audit.file",
            file_of(&before.audit) != file_of(&fresh.audit),
        ),
    ];
    let audit = match (&before.audit, fresh.audit) {
        (Some(before), Some(fresh)) => Some(AuditConfig {
            file: before.file.clone(),
            ..fresh
        }),
        // Neither does it begin or end.
        (before, _) => before.clone(),
    };
    let config = Config {
        routes: before.routes.clone(),
        tls,
        audit,
        keyring: KeyringConfig {
            file: before.keyring.file.clone(),
            ..fresh.keyring
        },
        log: Log {
            format: before.log.format,
            slow: before.log.slow.and(fresh.log.slow).or(before.log.slow),
            ..fresh.log
        },
        admin: before.admin.clone(),
        telemetry: before.telemetry.clone(),
        workers: before.workers,
        ..fresh
    };
    let changed = changes.into_iter().filter(|(_, changed)| *changed);
    (config, changed.map(|(part, _)| part).collect())
}

fn file_of(audit: &Option<AuditConfig>) -> Option<&Path> {
    audit.as_ref().map(|audit| audit.file.as_path())
}

/// Keeps an older copy of the key file from being taken up later, also after a restart.
pub(super) fn remember(key_file: &Path, generation: u64) {
    if let Err(error) = KeyFile::remember(key_file, generation) {
        tracing::info!(
            %error,
            "the generation of the key file cannot be noted beside it: a restart will not notice if an older copy is put in its place"
        );
    }
}

/// Whether the files changed, and then stayed the same for a period: an editor
/// may write in several steps.
fn settled(seen: &Fingerprint, now: &Fingerprint, changing: &mut Option<Fingerprint>) -> bool {
    if now == seen {
        *changing = None;
        return false;
    }
    let quiet = changing.as_ref() == Some(now);
    *changing = Some(now.clone());
    quiet
}

/// Which file it is, its length, and when it was written; none if it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(Option<(u64, u64, SystemTime)>);

impl Stamp {
    pub(super) fn of(file: &Path) -> Self {
        use std::os::unix::fs::MetadataExt as _;

        let stamp = |metadata: std::fs::Metadata| {
            Some((metadata.ino(), metadata.len(), metadata.modified().ok()?))
        };
        Self(std::fs::metadata(file).ok().and_then(stamp))
    }
}

/// What changes with the files that are taken up, without reading them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    configuration: Stamp,
    others: Vec<(PathBuf, Stamp)>,
}

impl Fingerprint {
    /// Of the configuration `file`, and of the files that it names.
    pub(super) fn of(file: &Path, config: &Config) -> Self {
        let schema = files_of(&config.schema).unwrap_or_default();
        let mut others: Vec<PathBuf> = schema.into_iter().map(|(file, _)| file).collect();
        others.push(config.keyring.file.clone());
        if let UnsealSource::File(secret) = &config.keyring.unseal {
            others.push(secret.clone());
        }
        others.extend(config.tls.files());
        let credentials = config.access.credentials.iter();
        others.extend(credentials.map(|credential| credential.password.clone()));
        Self {
            configuration: Stamp::of(file),
            others: others
                .into_iter()
                .map(|file| (Stamp::of(&file), file))
                .map(|(stamp, file)| (file, stamp))
                .collect(),
        }
    }

    /// With the stamp of the configuration from before it was read.
    #[must_use]
    pub(super) fn with(self, configuration: Stamp) -> Self {
        Self {
            configuration,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::keys::tests::{Workplace, init, rotate_key};
    use super::*;
    use crate::observe::Slow;
    use crate::observe::metrics::Metrics;

    const SCHEMA: &str = "[collections.\"a.b\".fields]\nx = {}\n";

    fn start(place: &Workplace) -> Running {
        init(place);
        let config = Config::load(&place.config()).unwrap();
        let policy = load::load(&config).unwrap().policy;
        Running {
            file: place.config(),
            policy: Arc::new(ArcSwap::from_pointee(policy)),
            tls: TlsCell::default(),
            limits: Arc::new(ArcSwap::from_pointee(config.limits.clone())),
            config: ArcSwap::from_pointee(config),
            level: LogLevel::unheard(),
            audit: Audit::default(),
            observers: Observers {
                metrics: Metrics::on(),
                slow: Slow::from(Some(Duration::from_millis(100))),
                ..Observers::default()
            },
            standing: ArcSwap::default(),
        }
    }

    fn taken_up(generation: u64) -> Result<TakenUp, Failure> {
        Ok(TakenUp {
            generation,
            needs_restart: Vec::new(),
            unsealed: Vec::new(),
        })
    }

    fn failure(running: &Running) -> String {
        running.take_up().done.unwrap_err().lines()[0].clone()
    }

    fn configure(place: &Workplace, from: &str, to: &str) {
        let text = std::fs::read_to_string(place.config()).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        place.write("fieldseal.toml", &text.replace(from, to));
    }

    #[test]
    fn what_was_sealed_before_a_reload_is_still_counted_after_it() {
        let place = Workplace::new("reload-counts", SCHEMA);
        let running = start(&place);
        let seal = || {
            let collection = running.policy.load().collection("a.b").unwrap();
            collection.field(0).seal(0x08, &[1], &mut Vec::new());
        };
        seal();
        running.take_up().done.unwrap();
        seal();
        let uses = running.policy.load().uses(SystemTime::now());
        assert_eq!(uses.len(), 1);
        assert_eq!((uses[0].path.as_str(), uses[0].seals), ("x", 2));
    }

    #[test]
    fn reloads_are_counted_and_change_from_when_on_a_command_is_slow() {
        let place = Workplace::new("reload-slow", SCHEMA);
        let running = start(&place);
        let slow = |milliseconds| {
            running
                .observers
                .slow
                .is(Duration::from_millis(milliseconds))
        };
        let text = std::fs::read_to_string(place.config()).unwrap();
        let with = |log: &str| place.write("fieldseal.toml", &format!("{text}\n[log]\n{log}"));
        let within = running.config.load().log.clone();
        running.config.store(Arc::new(Config {
            log: Log {
                slow: Some(Duration::from_millis(100)),
                ..within
            },
            ..Config::clone(&running.config.load())
        }));
        assert!(slow(100) && !slow(99));
        with("slow_milliseconds = 7");
        assert_eq!(running.take_up().done.unwrap().needs_restart.len(), 0);
        assert!(slow(7) && !slow(6));
        // To end it needs a restart, and is said again until there is one.
        with("level = \"warn\"");
        for _ in 0..2 {
            let done = running.take_up().done.unwrap();
            assert_eq!(done.needs_restart, ["log.slow_milliseconds"]);
            assert!(slow(7) && !slow(6));
        }
        with("level = 3");
        running.take_up().done.unwrap_err();
        let counted = running.observers.metrics.snapshot();
        assert_eq!((counted.reloads, counted.reloads_refused), (3, 1));
    }

    #[test]
    fn no_side_begins_or_ceases_to_speak_tls_without_a_restart() {
        let place = Workplace::new("reload-tls", SCHEMA);
        let running = start(&place);
        // Without files: it would not be taken up if they were looked for.
        let side = "[tls.listen]\ncert = \"none.pem\"\n[keyring]";
        configure(&place, "[keyring]", side);
        let done = running.take_up().done.unwrap();
        assert_eq!(done.needs_restart, ["tls.listen"]);
        assert!(running.config.load().tls.listen.is_none());
        // And back: what was bound with TLS does not go on without it.
        let with = Config::load(&place.config()).unwrap();
        configure(&place, side, "[tls.upstream]\n[keyring]");
        let without = Config::load(&place.config()).unwrap();
        let (reached, changed) = within_reach(&with, without);
        assert_eq!(changed, ["tls.listen", "tls.upstream"]);
        assert!(reached.tls.listen.is_some() && reached.tls.upstream.is_none());
    }

    #[test]
    fn who_has_which_roles_and_passwords_are_taken_up_without_a_restart() {
        let place = Workplace::new("reload-access", SCHEMA);
        let running = start(&place);
        let serial = running.policy.load().serial();
        let access = "[[access.principals]]\nuser = \"ada@admin\"\nroles = [\"agent\"]\n\
                      [[access.credential]]\ncertificate = \"CN=a\"\nuser = \"a@admin\"\n\
                      password = { file = \"password\" }\n[keyring]";
        configure(&place, "[keyring]", access);
        let line = failure(&running);
        assert!(
            line.contains("access.credential[0]: the password"),
            "{line}"
        );
        assert!(running.policy.load().access().role("agent").is_none());
        place.write("password", "pencil");
        let attempt = running.take_up();
        assert!(attempt.done.unwrap().needs_restart.is_empty());
        let policy = running.policy.load();
        assert_ne!(policy.serial(), serial);
        assert!(policy.access().role("agent").is_some());
        // And it is watched from now on.
        place.write("password", "another pencil");
        assert_ne!(
            Fingerprint::of(&running.file, &attempt.config),
            attempt.seen
        );
    }

    #[test]
    fn a_rotated_key_and_a_new_schema_are_taken_up() {
        let place = Workplace::new("reload", SCHEMA);
        let running = start(&place);
        rotate_key(&place, "default").unwrap();
        place.write("schema.toml", "[collections.\"c.d\".fields]\nx = {}\n");
        let done = running.take_up().done.unwrap();
        assert_eq!(done.generation, 2);
        let policy = running.policy.load();
        assert_eq!(policy.generation(), 2);
        assert!(policy.may_seal_in("c") && !policy.may_seal_in("a"));
    }

    #[test]
    fn a_field_that_is_no_longer_sealed_is_told_of() {
        let schema = "[collections.\"a.b\".fields]\nx = {}\n\"y.z\" = {}\n[collections.\"t_*.c\".fields]\np = {}\nq = {}\n";
        let place = Workplace::new("reload-unsealed", schema);
        let running = start(&place);
        place.write(
            "schema.toml",
            "[collections.\"a.b\".fields]\ny = {}\n[collections.\"t_*.c\".fields]\nq = {}\n",
        );
        let done = running.take_up().done.unwrap();
        assert_eq!(done.unsealed, ["a.b: `x`", "t_*.c: `p`"]);
        assert_eq!(running.take_up().done, taken_up(1));
    }

    #[test]
    fn a_schema_that_was_emptied_is_not_taken_up() {
        let place = Workplace::new("reload-emptied", SCHEMA);
        let running = start(&place);
        place.write("schema.toml", "");
        let line = failure(&running);
        assert!(line.contains("schema.toml: seals nothing"), "{line}");
        assert!(running.policy.load().may_seal_in("a"));
    }

    #[test]
    fn limits_another_schema_and_another_secret_are_taken_up_from_the_configuration() {
        let place = Workplace::new("reload-config", SCHEMA);
        let running = start(&place);
        place.write("other.toml", "[collections.\"c.d\".fields]\nx = {}\n");
        place.write("secret", &"5a".repeat(32));
        configure(&place, "schema.toml", "other.toml");
        configure(&place, "\"unseal\"", "\"secret\"");
        configure(&place, "[keyring]", "[limits]\nconnections = 7\n[keyring]");
        let attempt = running.take_up();
        assert_eq!(attempt.done.as_ref().unwrap().unsealed, ["a.b: `x`"]);
        assert_eq!(running.limits.load().connections, 7);
        assert!(running.policy.load().may_seal_in("c"));
        // From now on the files that are named now are watched.
        let now = || Fingerprint::of(&running.file, &attempt.config);
        assert_eq!(now(), attempt.seen);
        place.write("schema.toml", "");
        assert_eq!(now(), attempt.seen);
        place.write("other.toml", SCHEMA);
        assert_ne!(now(), attempt.seen);
    }

    #[test]
    fn what_needs_a_restart_is_told_and_keeps_nothing_else_from_being_taken_up() {
        let place = Workplace::new("reload-restart", SCHEMA);
        let running = start(&place);
        rotate_key(&place, "default").unwrap();
        configure(&place, "127.0.0.1:1\"", "127.0.0.1:2\"");
        configure(&place, "keyring.json", "other.json");
        configure(
            &place,
            "[keyring]",
            "[log]\nformat = \"json\"\nlevel = \"warn\"\n[keyring]",
        );
        for _ in 0..2 {
            let done = running.take_up().done.unwrap();
            assert_eq!(done.generation, 2);
            assert_eq!(done.needs_restart, ["route", "keyring.file", "log.format"]);
        }
        let config = running.config.load();
        assert_eq!(config.log.level, tracing::Level::WARN);
        assert!(config.keyring.file.ends_with("keyring.json"));
    }

    #[test]
    fn the_audit_log_stays_where_it_is_and_needs_its_key() {
        let place = Workplace::new("reload-audit", SCHEMA);
        let audit = "[audit]\nfile = \"a.jsonl\"\n[keyring]";
        configure(&place, "[keyring]", audit);
        let running = start(&place);
        configure(&place, "\"a.jsonl\"", "\"b.jsonl\"\nkeep = 7");
        let done = running.take_up().done.unwrap();
        assert_eq!(done.needs_restart, ["audit.file"]);
        let config = running.config.load();
        let audit = config.audit.as_ref().unwrap();
        assert!(audit.file.ends_with("a.jsonl"));
        assert_eq!(audit.keep, Some(7));
        configure(&place, "keep = 7", "key = \"other\"");
        let line = failure(&running);
        assert!(line.contains("fieldseal keys rotate other"), "{line}");
        // Neither does it end.
        configure(&place, "[audit]\nfile = \"b.jsonl\"\nkey = \"other\"\n", "");
        let done = running.take_up().done.unwrap();
        assert_eq!(done.needs_restart, ["audit.file"]);
        assert!(running.config.load().audit.is_some());
    }

    #[test]
    fn a_bad_new_file_is_reported_and_all_old_ones_stay() {
        let place = Workplace::new("reload-bad", SCHEMA);
        let running = start(&place);
        rotate_key(&place, "default").unwrap();
        configure(&place, "[keyring]", "[limits]\nconnections = 7\n[keyring]");
        place.write(
            "schema.toml",
            "[collections.\"a.b\".fields]\nx = { type = \"strng\" }\n",
        );
        let line = failure(&running);
        assert!(line.contains("schema.toml:2"), "{line}");
        place.write("schema.toml", "[collections.\"c.d\".fields]\nx = {}\n");
        configure(&place, "connections", "conections");
        let line = failure(&running);
        assert!(
            line.contains("fieldseal.toml:3: limits.conections"),
            "{line}"
        );
        let policy = running.policy.load();
        assert_eq!(policy.generation(), 1);
        assert!(policy.may_seal_in("a"));
        assert_eq!(running.limits.load().connections, 10_000);
    }

    #[test]
    fn the_files_of_a_refused_configuration_are_watched_too() {
        let place = Workplace::new("reload-refused", SCHEMA);
        let running = start(&place);
        place.write("other.toml", "collections = 3");
        configure(&place, "schema.toml", "other.toml");
        let attempt = running.take_up();
        assert!(attempt.done.is_err());
        let now = || Fingerprint::of(&running.file, &attempt.config);
        assert_eq!(now(), attempt.seen);
        place.write("other.toml", "[collections.\"c.d\".fields]\nx = {}\n");
        assert_ne!(now(), attempt.seen);
        running.take_up().done.unwrap();
        assert!(running.policy.load().may_seal_in("c"));
    }

    #[test]
    fn a_key_file_that_went_back_is_refused() {
        let place = Workplace::new("reload-back", SCHEMA);
        let running = start(&place);
        let old = std::fs::read_to_string(place.path("keyring.json")).unwrap();
        rotate_key(&place, "default").unwrap();
        assert_eq!(running.take_up().done, taken_up(2));
        place.write("keyring.json", &old);
        for mark in [true, false] {
            if !mark {
                std::fs::remove_file(place.path("keyring.json.lock")).unwrap();
            }
            let line = failure(&running);
            assert!(line.contains("went back from generation 2 to 1"), "{line}");
            assert_eq!(running.policy.load().generation(), 2);
        }
    }

    #[test]
    fn a_key_file_that_went_another_way_is_refused() {
        let place = Workplace::new("reload-fork", SCHEMA);
        let running = start(&place);
        let old = std::fs::read_to_string(place.path("keyring.json")).unwrap();
        rotate_key(&place, "default").unwrap();
        assert_eq!(running.take_up().done, taken_up(2));
        // The old one, rotated elsewhere and then brought here.
        place.write("keyring.json", &old);
        std::fs::remove_file(place.path("keyring.json.lock")).unwrap();
        rotate_key(&place, "default").unwrap();
        rotate_key(&place, "default").unwrap();
        let line = failure(&running);
        assert!(
            line.contains("lacks keys that are in use, of default"),
            "{line}"
        );
        assert_eq!(running.policy.load().generation(), 2);
    }

    #[test]
    fn a_change_is_taken_up_once_and_only_when_it_has_settled() {
        let place = Workplace::new("watch", SCHEMA);
        let running = start(&place);
        let now = || Fingerprint::of(&running.file, &running.config.load());
        let seen = now();
        let mut changing = None;
        assert!(!settled(&seen, &now(), &mut changing));
        place.write("schema.toml", &format!("{SCHEMA}y = {{}}\n"));
        let first = now();
        assert!(!settled(&seen, &first, &mut changing));
        place.write("schema.toml", &format!("{SCHEMA}yy = {{}}\n"));
        let second = now();
        assert!(!settled(&seen, &second, &mut changing));
        assert!(settled(&seen, &second, &mut changing));
        assert!(!settled(&second, &now(), &mut changing));
    }

    #[test]
    fn every_file_that_is_read_changes_the_fingerprint() {
        let place = Workplace::new("watch-files", SCHEMA);
        let running = start(&place);
        let now = || Fingerprint::of(&running.file, &running.config.load());
        let seen = now();
        rotate_key(&place, "default").unwrap();
        let rotated = now();
        assert_ne!(seen, rotated);
        place.write("unseal", "another secret that is longer");
        let unsealed = now();
        assert_ne!(rotated, unsealed);
        configure(&place, "[keyring]", "# nothing\n[keyring]");
        assert_ne!(unsealed, now());
    }
}
