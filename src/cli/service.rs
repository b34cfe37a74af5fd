//! What the service manager is told: systemd, or whoever else set `NOTIFY_SOCKET`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::code::{Code, Coded};
use crate::proxy::{Pulse, Stage};

/// How much longer than the proxy lets what is under way go on it may take to end.
const MARGIN: Duration = Duration::from_secs(10);

/// Whether the process ends, after which nothing else is told.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Tells that clients are served, when they are.
pub(super) async fn tell_ready(mut stage: watch::Receiver<Stage>) {
    // An error means that the proxy has ended before.
    if stage
        .wait_for(|stage| *stage == Stage::Serving)
        .await
        .is_ok()
    {
        ready();
    }
}

/// Clients are served, under what the files say.
pub(super) fn ready() {
    if !STOPPING.load(Ordering::Relaxed) {
        tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
    }
}

/// The files are being taken up anew; `ready` ends it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        _ if STOPPING.load(Ordering::Relaxed) => {}
        Ok(now) => tell(&[
            NotifyState::Reloading,
            now,
            NotifyState::Status("reloading"),
        ]),
        Err(error) => tracing::debug!(%error, "the time since the start is not known"),
    }
}

/// The proxy ends what is under way, for so long at most.
pub(super) fn stopping(within: Duration) {
    STOPPING.store(true, Ordering::Relaxed);
    let status = format!(
        "stopping: what is under way has {} s to end",
        within.as_secs()
    );
    let longest = (within + MARGIN).as_micros();
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status(&status),
        NotifyState::ExtendTimeoutUsec(u32::try_from(longest).unwrap_or(u32::MAX)),
    ]);
}

/// Tells that the proxy's threads do what they are given, as often as the service manager wants
/// to hear it; for ever, or not at all.
pub(super) async fn keep_telling(pulse: Pulse) {
    let Some(most) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut period = interval((most / 3).max(Duration::from_millis(1)));
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        match timeout(most, pulse.beat()).await {
            Ok(()) => tell(&[NotifyState::Watchdog]),
            Err(_) => {
                let said = "a thread that serves connections is stuck";
                tracing::error!("{}", Coded(said, Code::BrokeOff));
            }
        }
    }
}

fn tell(news: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(news) {
        let error = Coded(error, Code::Start);
        tracing::warn!(%error, "the service manager cannot be told (NOTIFY_SOCKET)");
    }
}
