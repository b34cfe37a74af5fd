//! `fieldseal serve`: the proxy, from start to stop.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::{Failure, load};
use crate::config::{Config, Log, LogFormat};
use crate::proxy::{PolicyCell, Proxy};
use crate::schema::files_of;

/// How often the files are looked at.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

pub(super) fn run(file: &Path) -> Result<(), Failure> {
    let config = Config::load(file)?;
    start_log(&config.log);
    for warning in load::warnings(&config) {
        tracing::warn!("{warning}");
    }
    // Before the files are read, so that no change after it is missed.
    let seen = Fingerprint::of(&config);
    let policy = load::load(&config)?.policy;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format_args!("cannot start: {error}")))?
        .block_on(serve(config, seen, Arc::new(ArcSwap::from_pointee(policy))))
}

async fn serve(config: Config, seen: Fingerprint, policy: PolicyCell) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let hangup = listen_for(SignalKind::hangup())?;
    let proxy = Proxy::bind(&config, Arc::clone(&policy)).await?;
    for (route, (address, advertised)) in config
        .routes
        .iter()
        .zip(proxy.addresses().iter().zip(proxy.advertised()))
    {
        tracing::info!(%address, upstream = %route.upstream, advertise = %advertised, "listening");
    }
    tracing::info!(generation = policy.load().generation(), "serving");
    let watch = tokio::spawn(watch(config, seen, policy, hangup));
    let (told, first) = tokio::sync::oneshot::channel::<()>();
    let twice = async {
        stop.asked().await;
        tracing::info!("stopping: operations under way may end; a second signal ends them at once");
        // An error means that the proxy has stopped by itself.
        let _ = told.send(());
        stop.asked().await;
        tracing::warn!("stopped at once; operations under way were cut off");
    };
    tokio::select! {
        () = proxy.run(first) => tracing::info!("stopped"),
        () = twice => {}
    }
    watch.abort();
    Ok(())
}

/// Logs go to standard error. Other crates are heard only when they warn: what
/// they tell at lower levels is not ours to vouch for.
fn start_log(log: &Log) {
    let filter = Targets::new()
        .with_default(log.level.min(tracing::Level::WARN))
        .with_target("fieldseal", log.level);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    // Fails only if there is a log already, which then goes on.
    let _ = match log.format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
}

fn listen_for(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::new(format_args!("cannot listen for signals: {error}")))
}

/// SIGINT and SIGTERM.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: listen_for(SignalKind::interrupt())?,
            terminate: listen_for(SignalKind::terminate())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Takes up schema and keyring anew on SIGHUP, and when their files change.
async fn watch(config: Config, mut seen: Fingerprint, policy: PolicyCell, mut hangup: Signal) {
    let config = Arc::new(config);
    let mut period = tokio::time::interval(WATCH_PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut changing = None;
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            _ = period.tick() => false,
        };
        let now = Fingerprint::of(&config);
        if !asked && !settled(&seen, &now, &mut changing) {
            continue;
        }
        seen = now;
        changing = None;
        let (config, policy) = (Arc::clone(&config), Arc::clone(&policy));
        // A passphrase takes its time.
        let done = tokio::task::spawn_blocking(move || reload(&config, &policy)).await;
        match done {
            Ok(Ok(generation)) => tracing::info!(generation, "schema and keyring taken up anew"),
            Ok(Err(failure)) => {
                for line in failure.lines() {
                    tracing::error!("not taken up, the old schema and keyring stay: {line}");
                }
            }
            Err(error) => tracing::error!(%error, "not taken up, the old schema and keyring stay"),
        }
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

/// Puts what the files say now in force, all or nothing. Answers the generation of the keyring.
fn reload(config: &Config, policy: &PolicyCell) -> Result<u64, Failure> {
    let fresh = load::load(config)?.policy;
    let generation = fresh.generation();
    let loaded = policy.load().generation();
    if generation < loaded {
        // An old copy would bring back what was revoked since.
        return Err(Failure::new(format_args!(
            "{}: went back from generation {loaded} to {generation}; put the newer file back, or restart the proxy",
            config.keyring.file.display()
        )));
    }
    policy.store(Arc::new(fresh));
    Ok(generation)
}

/// What changes with the files of schema and keyring, without reading them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fingerprint(Vec<(PathBuf, Option<Stamp>)>);

/// Which file it is, its length, and when it was written.
type Stamp = (u64, u64, SystemTime);

impl Fingerprint {
    fn of(config: &Config) -> Self {
        use std::os::unix::fs::MetadataExt as _;

        let schema = files_of(&config.schema).unwrap_or_default();
        let files = schema
            .into_iter()
            .map(|(file, _)| file)
            .chain([config.keyring.file.clone()]);
        let stamp = |file: &Path| {
            let metadata = std::fs::metadata(file).ok()?;
            Some((metadata.ino(), metadata.len(), metadata.modified().ok()?))
        };
        Self(
            files
                .map(|file| (stamp(&file), file))
                .map(|(stamp, file)| (file, stamp))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::keys::tests::{Workplace, init, rotate_key};
    use super::*;

    const SCHEMA: &str = "[collections.\"a.b\".fields]\nx = {}\n";

    fn start(place: &Workplace) -> (Config, PolicyCell) {
        init(place);
        let config = Config::load(&place.config()).unwrap();
        let policy = load::load(&config).unwrap().policy;
        (config, Arc::new(ArcSwap::from_pointee(policy)))
    }

    #[test]
    fn a_rotated_key_and_a_new_schema_are_taken_up() {
        let place = Workplace::new("reload", SCHEMA);
        let (config, policy) = start(&place);
        rotate_key(&place, "default").unwrap();
        place.write("schema.toml", "[collections.\"c.d\".fields]\nx = {}\n");
        assert_eq!(reload(&config, &policy), Ok(2));
        assert_eq!(policy.load().generation(), 2);
        assert!(policy.load().may_seal_in("c") && !policy.load().may_seal_in("a"));
    }

    #[test]
    fn a_bad_new_file_is_reported_and_the_old_one_stays() {
        let place = Workplace::new("reload-bad", SCHEMA);
        let (config, policy) = start(&place);
        rotate_key(&place, "default").unwrap();
        place.write(
            "schema.toml",
            "[collections.\"a.b\".fields]\nx = { type = \"strng\" }\n",
        );
        let failure = reload(&config, &policy).unwrap_err();
        assert!(failure.lines()[0].contains("schema.toml:2"), "{failure:?}");
        assert_eq!(policy.load().generation(), 1);
        assert!(policy.load().may_seal_in("a"));
    }

    #[test]
    fn a_key_file_that_went_back_is_refused() {
        let place = Workplace::new("reload-back", SCHEMA);
        let (config, policy) = start(&place);
        let old = std::fs::read_to_string(place.path("keyring.json")).unwrap();
        rotate_key(&place, "default").unwrap();
        assert_eq!(reload(&config, &policy), Ok(2));
        place.write("keyring.json", &old);
        let failure = reload(&config, &policy).unwrap_err();
        assert!(
            failure.lines()[0].contains("went back from generation 2 to 1"),
            "{failure:?}"
        );
        assert_eq!(policy.load().generation(), 2);
    }

    #[test]
    fn a_change_is_taken_up_once_and_only_when_it_has_settled() {
        let place = Workplace::new("watch", SCHEMA);
        let (config, _) = start(&place);
        let seen = Fingerprint::of(&config);
        let mut changing = None;
        assert!(!settled(&seen, &Fingerprint::of(&config), &mut changing));
        place.write("schema.toml", &format!("{SCHEMA}y = {{}}\n"));
        let first = Fingerprint::of(&config);
        assert!(!settled(&seen, &first, &mut changing));
        place.write("schema.toml", &format!("{SCHEMA}yy = {{}}\n"));
        let second = Fingerprint::of(&config);
        assert!(!settled(&seen, &second, &mut changing));
        assert!(settled(&seen, &second, &mut changing));
        assert!(!settled(&second, &Fingerprint::of(&config), &mut changing));
    }

    #[test]
    fn a_rotation_changes_the_fingerprint() {
        let place = Workplace::new("watch-keys", SCHEMA);
        let (config, _) = start(&place);
        let seen = Fingerprint::of(&config);
        rotate_key(&place, "default").unwrap();
        assert_ne!(seen, Fingerprint::of(&config));
    }
}
