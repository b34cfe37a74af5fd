//! `fieldseal serve`: the proxy, from start to stop.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::reload::{Fingerprint, Running, Stamp, remember};
use super::{Failure, audit, files, limits, load, operators, service};
use crate::code::{Code, Coded};
use crate::config::{Config, Log, LogFormat};
use crate::observe::audit::{AuditKey, Standing};
use crate::observe::metrics::Metrics;
use crate::observe::telemetry::Telemetry;
use crate::observe::{Observers, Slow};
use crate::proxy::{PolicyCell, Proxy};
use crate::tls::TlsCell;

/// How long the last traces may take.
const LAST_TRACES: Duration = Duration::from_secs(2);

/// How long the end of the audit log may take.
const LAST_LINES: Duration = Duration::from_secs(5);

pub(super) fn run(file: &Path) -> Result<(), Failure> {
    // Before the files are read, so that no change after it is missed.
    let stamp = Stamp::of(file);
    let config = Config::load(file)?;
    let level = LogLevel::start(&config.log);
    std::panic::set_hook(Box::new(tell_panic));
    for warning in load::warnings(&config) {
        tracing::warn!("{warning}");
    }
    let seen = Fingerprint::of(file, &config).with(stamp);
    // Nothing else may keep the keyring: keys that are destroyed later are to be wiped.
    let (policy, tls, key, standing) = {
        let loaded = load::load(&config)?;
        for warning in load::access_warnings(&config, &loaded.schema) {
            tracing::warn!("{warning}");
        }
        let key = audit::key_of(&config, &loaded.keyring)?;
        let standing = audit::standing(file, &config, &loaded);
        (loaded.policy, loaded.tls, key, standing)
    };
    remember(&config.keyring.file, policy.generation());
    let start = Start {
        file,
        config,
        level,
        seen,
        policy: Arc::new(ArcSwap::from_pointee(policy)),
        tls: tls.into_cell(),
        key,
        standing,
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::coded(Code::Start, format_args!("cannot start: {error}")))?
        .block_on(serve(start))
}

/// What is known before the proxy listens.
struct Start<'p> {
    file: &'p Path,
    config: Config,
    level: LogLevel,
    seen: Fingerprint,
    policy: PolicyCell,
    tls: TlsCell,
    key: Option<AuditKey>,
    standing: Standing,
}

async fn serve(start: Start<'_>) -> Result<(), Failure> {
    let Start {
        config,
        policy,
        tls,
        key,
        standing,
        ..
    } = start;
    let mut stop = Stop::new()?;
    let hangup = listen_for(SignalKind::hangup())?;
    let proxy = Proxy::bind(&config, Arc::clone(&policy), Arc::clone(&tls)).await?;
    let observers = observers(&config)?;
    let telemetry = observers.telemetry.clone();
    let proxy = proxy.observed(observers.clone());
    let admin = operators::start(&config, &proxy, &policy, &tls, &observers).await?;
    // After it: one that cannot listen says that alone.
    if let Some(shortage) = files::raise(config.limits.connections) {
        tracing::warn!("{shortage}");
    }
    // After it: of a proxy that cannot listen there is nothing to remember.
    let audit = audit::open(&config, key, &standing)?;
    let proxy = proxy.audited(audit.clone());
    for (route, (address, advertised)) in config
        .routes
        .iter()
        .zip(proxy.addresses().iter().zip(proxy.advertised()))
    {
        tracing::info!(%address, upstream = %route.upstream, advertise = %advertised, "listening");
    }
    tracing::info!(generation = policy.load().generation(), "serving");
    let running = Arc::new(Running {
        file: start.file.to_owned(),
        config: ArcSwap::from_pointee(config),
        policy,
        tls,
        limits: proxy.limits(),
        level: start.level,
        audit: audit.clone(),
        observers,
        standing: ArcSwap::from_pointee(standing),
    });
    let bounds = proxy.limits();
    let mut tasks = JoinSet::new();
    tasks.spawn(service::tell_ready(proxy.stage()));
    tasks.spawn(service::keep_telling(proxy.pulse()));
    tasks.spawn(limits::watch(Arc::clone(&running)));
    let watch = tokio::spawn(running.watch(start.seen, hangup));
    let (told, first) = tokio::sync::oneshot::channel::<()>();
    let twice = async {
        stop.asked().await;
        if let Some(admin) = &admin {
            admin.draining();
        }
        let within = bounds.load().drain_timeout;
        service::stopping(within);
        tracing::info!(
            seconds = within.as_secs(),
            "stopping: what is under way may end; a second signal ends it at once"
        );
        // An error means that the proxy has stopped by itself.
        let _ = told.send(());
        stop.asked().await;
        let said = "stopped at once; operations under way were cut off";
        tracing::warn!("{}", Coded(said, Code::CutOff));
    };
    tokio::select! {
        () = proxy.run(first) => tracing::info!("stopped"),
        () = twice => {}
    }
    watch.abort();
    tasks.shutdown().await;
    if tokio::time::timeout(LAST_LINES, audit.close())
        .await
        .is_err()
    {
        let said = "the audit log could not be ended in time";
        tracing::error!("{}", Coded(said, Code::AuditUnwritable));
    }
    telemetry.close(LAST_TRACES).await;
    Ok(())
}

/// Those who are told of every command, as the configuration says.
fn observers(config: &Config) -> Result<Observers, Failure> {
    let metrics = match config.admin {
        Some(_) => Metrics::on(),
        None => Metrics::default(),
    };
    let telemetry = config.telemetry.as_ref().map(Telemetry::start).transpose();
    Ok(Observers {
        metrics,
        telemetry: (telemetry.map_err(|error| Failure::coded(Code::Telemetry, error))?)
            .unwrap_or_default(),
        slow: Slow::from(config.log.slow),
    })
}

/// Logs where a part of the proxy panicked. Not what it said, which may hold values.
fn tell_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let said = "a part of the proxy panicked, which is a mistake in it; please report it";
    tracing::error!(place, "{}", Coded(said, Code::BrokeOff));
}

/// The level of the log, which can be changed while the proxy runs.
pub(super) struct LogLevel(Option<tracing_subscriber::reload::Handle<Targets, Registry>>);

impl LogLevel {
    /// Begins the log, which goes to standard error.
    fn start(log: &Log) -> Self {
        let (filter, handle) = tracing_subscriber::reload::Layer::new(targets(log));
        let registry = tracing_subscriber::registry().with(filter);
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
        // Fails only if there is a log already, which then goes on.
        let started = match log.format {
            LogFormat::Text => registry.with(lines).try_init(),
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        };
        Self(started.is_ok().then_some(handle))
    }

    /// A level of which nobody hears.
    #[cfg(test)]
    pub(super) fn unheard() -> Self {
        Self(None)
    }

    /// Changes the level to that of `log`.
    pub(super) fn set(&self, log: &Log) {
        if let Some(handle) = &self.0 {
            // Fails only if there is no log any more.
            let _ = handle.reload(targets(log));
        }
    }
}

/// Other crates are heard only when they warn: what they tell at lower levels is not
/// ours to vouch for.
fn targets(log: &Log) -> Targets {
    Targets::new()
        .with_default(log.level.min(tracing::Level::WARN))
        .with_target("fieldseal", log.level)
}

fn listen_for(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| {
        Failure::coded(
            Code::Start,
            format_args!("cannot listen for signals: {error}"),
        )
    })
}

/// SIGINT and SIGTERM, which end the process no more by themselves.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// Listens from now on.
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: listen_for(SignalKind::interrupt())?,
            terminate: listen_for(SignalKind::terminate())?,
        })
    }

    /// Waits for either.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
