//! Who writes the log of the proxy: one thread, to which all else sends events.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::chain::Head;
use super::line::{Event, now};
use super::{AuditError, AuditKey, Log, Rotation};
use crate::code::{Code, Coded};

/// How many events wait to be written before those that send more wait too.
const QUEUE: usize = 4096;

/// How many lines are written at once.
const BATCH: usize = 512;

/// How long a start waits for another process to end that has the log.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often what was written is made to stay.
const SYNC: Duration = Duration::from_secs(1);

/// How often the head is logged, if it changed.
const HEAD: Duration = Duration::from_secs(60);

/// How often a log that cannot be written is told of.
const COMPLAINT: Duration = Duration::from_secs(10);

/// How often a line is written of one thing that happens at the request of anybody.
const SELDOM: Duration = Duration::from_secs(1);

/// What can be changed while the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// When a file is put aside.
    pub rotation: Rotation,
    /// Whether what cannot be written down is not done.
    pub refuses: bool,
}

/// What was to be written down could not be, and is not to be done then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written")]
pub struct NotWritten;

/// The way to the log; none leads nowhere.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<Way>>);

struct Way {
    orders: mpsc::Sender<Order>,
    refuses: AtomicBool,
    /// Events that found no room in the queue.
    dropped: Arc<AtomicU64>,
    seldom: Mutex<HashMap<&'static str, (Instant, u64)>>,
}

enum Order {
    Write {
        time: String,
        event: Event,
        done: Option<oneshot::Sender<bool>>,
    },
    Renew(AuditKey, Rotation),
    Close(oneshot::Sender<()>),
}

impl Audit {
    /// Opens the log at `path` and begins a segment; what is told `about` the writer comes into
    /// every start line.
    pub fn open(
        path: &Path,
        key: AuditKey,
        settings: Settings,
        about: Event,
    ) -> Result<Self, AuditError> {
        let mut log = Log::open(path, key, settings.rotation, about, PATIENCE)?;
        log.begin().map_err(AuditError::io(path, "written"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(AuditError::io(path, "written"))?;
        let (orders, queue) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let mut writer = Writer {
            log,
            dropped: Arc::clone(&dropped),
            lost: 0,
            dirty: false,
            complained: None,
            told: None,
        };
        writer.tell_head();
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || runtime.block_on(writer.run(queue)))
            .map_err(AuditError::io(path, "written"))?;
        Ok(Self(Some(Arc::new(Way {
            orders,
            refuses: AtomicBool::new(settings.refuses),
            dropped,
            seldom: Mutex::default(),
        }))))
    }

    /// Whether anything is written.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Has an event written, soon.
    pub async fn note(&self, event: Event) {
        if let Some(way) = &self.0 {
            // Fails only if the writer has ended, which is told by whoever waits for it.
            let _ = way.orders.send(write(event, None)).await;
        }
    }

    /// Has an event written before anything else is done. An error means that it must not be done.
    pub async fn ensure(&self, event: Event) -> Result<(), NotWritten> {
        let Some(way) = &self.0 else {
            return Ok(());
        };
        let (done, written) = oneshot::channel();
        let sent = way.orders.send(write(event, Some(done))).await.is_ok();
        let written = sent && written.await == Ok(true);
        if written || !way.refuses.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(NotWritten)
        }
    }

    /// Has an event written, from where nobody can wait; if too much is under way, it is only counted.
    pub fn note_now(&self, event: Event) {
        if let Some(way) = &self.0
            && way.orders.try_send(write(event, None)).is_err()
        {
            way.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The same for what anybody can bring about as often as they like: of each `kind`, a line is
    /// written once a second at most, and says how many were passed over before it.
    pub fn note_seldom(&self, kind: &'static str, event: Event) {
        let Some(way) = &self.0 else {
            return;
        };
        let passed_over = {
            let mut seldom = way.seldom.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            match seldom.get_mut(kind) {
                Some((last, passed_over)) if now.duration_since(*last) < SELDOM => {
                    *passed_over = passed_over.saturating_add(1);
                    return;
                }
                Some(known) => std::mem::replace(known, (now, 0)).1,
                None => {
                    seldom.insert(kind, (now, 0));
                    0
                }
            }
        };
        self.note_now(event.with_some("passed_over", (passed_over > 0).then_some(passed_over)));
    }

    /// Takes up another key and other settings, from where blocking is allowed.
    pub fn renew(&self, key: AuditKey, settings: Settings) {
        if let Some(way) = &self.0 {
            way.refuses.store(settings.refuses, Ordering::Relaxed);
            // As in `note`.
            let _ = (way.orders).blocking_send(Order::Renew(key, settings.rotation));
        }
    }

    /// The same as [`Audit::note`], from where blocking is allowed.
    pub fn note_blocking(&self, event: Event) {
        if let Some(way) = &self.0 {
            let _ = way.orders.blocking_send(write(event, None));
        }
    }

    /// Has all written that came before, and the end.
    pub async fn close(&self) {
        if let Some(way) = &self.0 {
            let (done, closed) = oneshot::channel();
            if way.orders.send(Order::Close(done)).await.is_ok() {
                // An error means that the writer has ended.
                let _ = closed.await;
            }
        }
    }
}

fn write(event: Event, done: Option<oneshot::Sender<bool>>) -> Order {
    Order::Write {
        time: now(),
        event,
        done,
    }
}

struct Writer {
    log: Log,
    dropped: Arc<AtomicU64>,
    /// Events that could not be written, and were not told of yet.
    lost: u64,
    /// Whether something was written that may not stay.
    dirty: bool,
    complained: Option<Instant>,
    /// The head that was logged last, and when.
    told: Option<(Instant, Option<Head>)>,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Order>) {
        let mut tick = tokio::time::interval(SYNC);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut orders = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                _ = tick.tick() => self.settle(),
                received = queue.recv_many(&mut orders, BATCH) => {
                    if received == 0 {
                        break;
                    }
                    if let Some(closed) = self.follow(&mut orders) {
                        self.end();
                        // Nobody may wait for it any more.
                        let _ = closed.send(());
                        return;
                    }
                }
            }
        }
        self.end();
    }

    /// Does what was ordered; gives whom to tell if that was the end.
    fn follow(&mut self, orders: &mut Vec<Order>) -> Option<oneshot::Sender<()>> {
        let mut events = Vec::new();
        let mut waiting = Vec::new();
        for order in orders.drain(..) {
            match order {
                Order::Write { time, event, done } => {
                    events.push((time, event));
                    waiting.extend(done);
                }
                Order::Renew(key, rotation) => {
                    self.write(&mut events, &mut waiting);
                    if let Err(error) = self.log.renew(key, rotation) {
                        self.complain(&error);
                    }
                }
                Order::Close(closed) => {
                    self.write(&mut events, &mut waiting);
                    return Some(closed);
                }
            }
        }
        self.write(&mut events, &mut waiting);
        None
    }

    fn write(
        &mut self,
        events: &mut Vec<(String, Event)>,
        waiting: &mut Vec<oneshot::Sender<bool>>,
    ) {
        self.lost = (self.lost).saturating_add(self.dropped.swap(0, Ordering::Relaxed));
        let count = events.len() as u64;
        if count == 0 {
            return;
        }
        if self.lost > 0 {
            let lost = Event::new("lost").with("lines", self.lost);
            events.insert(0, (now(), lost));
        }
        let written = self.log.append(events);
        match &written {
            Ok(()) => {
                self.dirty = true;
                self.lost = 0;
                if self.complained.take().is_some() {
                    tracing::info!(file = %self.log.path().display(), "the audit log is written again");
                }
            }
            Err(error) => {
                self.lost = self.lost.saturating_add(count);
                self.complain(error);
            }
        }
        for done in waiting.drain(..) {
            // The connection that waited may be gone.
            let _ = done.send(written.is_ok());
        }
        events.clear();
    }

    fn complain(&mut self, error: &std::io::Error) {
        let file = self.log.path().display();
        if (self.complained).is_none_or(|complained| complained.elapsed() >= COMPLAINT) {
            self.complained = Some(Instant::now());
            let error = Coded(error, Code::AuditUnwritable);
            tracing::error!(%file, %error, lost = self.lost, "the audit log cannot be written");
        }
    }

    /// What is done now and then.
    fn settle(&mut self) {
        if self.dirty {
            self.dirty = false;
            if let Err(error) = self.log.sync() {
                self.complain(&error);
            }
        }
        if (self.told).is_none_or(|(told, _)| told.elapsed() >= HEAD) {
            self.tell_head();
        }
    }

    fn tell_head(&mut self) {
        let head = self.log.head();
        let changed = self.told.is_none_or(|(_, told)| told != head);
        if let Some(head) = head.filter(|_| changed) {
            tracing::info!(file = %self.log.path().display(), %head, "audit head");
        }
        self.told = Some((Instant::now(), head));
    }

    fn end(&mut self) {
        if let Err(error) = self.log.end("stop") {
            self.complained = None;
            self.complain(&error);
        }
        self.tell_head();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::verify;
    use super::*;
    use crate::keyring::Keyring;

    const RULES: Settings = Settings {
        rotation: Rotation {
            max_bytes: u64::MAX,
            keep: None,
        },
        refuses: true,
    };

    fn key(keyring: &Keyring) -> AuditKey {
        AuditKey::active(keyring, "default").unwrap()
    }

    /// A path in a directory of its own.
    fn new(name: &str) -> std::path::PathBuf {
        let folder =
            std::env::temp_dir().join(format!("fieldseal-writer-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder.join("audit.jsonl")
    }

    fn count(path: &Path, event: &str) -> usize {
        let text = std::fs::read_to_string(path).unwrap();
        text.matches(&format!("\"event\":\"{event}\"")).count()
    }

    #[tokio::test]
    async fn what_many_send_at_once_is_all_there_and_one_chain() {
        let (path, keyring) = (new("many"), Keyring::generate(["default"]).unwrap());
        let audit = Audit::open(&path, key(&keyring), RULES, Event::new("")).unwrap();
        let senders: Vec<_> = (0..50)
            .map(|number| {
                let audit = audit.clone();
                tokio::spawn(async move {
                    for _ in 0..20 {
                        audit.note(Event::new("noted").with("by", number)).await;
                        audit.ensure(Event::new("ensured")).await.unwrap();
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.await.unwrap();
        }
        // Nobody waits for what was only noted, but it comes before what was ensured after it.
        assert_eq!(
            (count(&path, "noted"), count(&path, "ensured")),
            (1000, 1000)
        );
        audit.close().await;
        let verdict = verify(std::slice::from_ref(&path), &keyring, None).unwrap();
        assert!(verdict.is_whole() && verdict.unfinished.is_empty());
        assert_eq!(verdict.lines, 2002);
        assert_eq!(audit.ensure(Event::new("late")).await, Err(NotWritten));
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_refused_only_if_that_was_asked_for_and_told_of_later() {
        let (path, keyring) = (new("lost"), Keyring::generate(["default"]).unwrap());
        let audit = Audit::open(&path, key(&keyring), RULES, Event::new("")).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(audit.ensure(Event::new("a")).await, Err(NotWritten));
        audit.note(Event::new("b")).await;
        let same = key(&keyring);
        let other = audit.clone();
        let lenient = Settings {
            refuses: false,
            ..RULES
        };
        let renewed = tokio::task::spawn_blocking(move || other.renew(same, lenient));
        renewed.await.unwrap();
        assert_eq!(audit.ensure(Event::new("c")).await, Ok(()));
        std::fs::remove_dir(&path).unwrap();
        audit.ensure(Event::new("d")).await.unwrap();
        assert_eq!((count(&path, "c"), count(&path, "d")), (0, 1));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"event\":\"lost\",\"lines\":3"), "{text}");
        audit.close().await;
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn what_anybody_can_bring_about_is_told_once_and_counted() {
        let (path, keyring) = (new("seldom"), Keyring::generate(["default"]).unwrap());
        let audit = Audit::open(&path, key(&keyring), RULES, Event::new("")).unwrap();
        let begun = Instant::now();
        for _ in 0..100 {
            audit.note_seldom("one", Event::new("limit"));
        }
        audit.note_seldom("other", Event::new("turned_away"));
        let quick = begun.elapsed() < SELDOM;
        audit.close().await;
        assert!(!quick || count(&path, "limit") == 1);
        assert_eq!(count(&path, "turned_away"), 1);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn without_a_log_all_goes_on() {
        let audit = Audit::default();
        assert!(!audit.is_on());
        assert_eq!(audit.ensure(Event::new("a")).await, Ok(()));
        audit.close().await;
    }
}
