//! Warnings of key versions that seal and are old, or have sealed much.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::reload::Running;
use crate::keyring::Suite;
use crate::policy::{Aged, Nearness, Policy, Use};

/// How often the counts are looked at: too short for the last sixteenth of a bound to be used up.
const PERIOD: Duration = Duration::from_secs(1);

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Logs what is near its bound, and what is too old: at the start, after each
/// reload, and every day.
pub(super) async fn watch(running: Arc<Running>) {
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked: Option<(u64, Instant)> = None;
    loop {
        period.tick().await;
        let policy = running.policy.load_full();
        let now = SystemTime::now();
        for (nearness, used) in policy.newly_near(now) {
            let words = near(nearness, &used);
            match nearness {
                Nearness::Half | Nearness::Near => tracing::warn!("{words}"),
                Nearness::Past => tracing::error!("{words}"),
            }
        }
        let same = |(serial, at): (u64, Instant)| serial == policy.serial() && at.elapsed() < DAY;
        if !looked.is_some_and(same) {
            looked = Some((policy.serial(), Instant::now()));
            let max_age = running.config.load().keyring.max_age;
            for warning in ages(max_age, &policy, now) {
                tracing::warn!("{warning}");
            }
        }
    }
}

/// A line for each active version that is older than the configuration wants.
pub(super) fn ages(max_age: Option<Duration>, policy: &Policy, now: SystemTime) -> Vec<String> {
    let Some(most) = max_age else {
        return Vec::new();
    };
    let line = |Aged { key, version, age }| {
        format!(
            "version {version} of the key {key:?} is {} old, more than the {} of `max_age`; run `fieldseal keys rotate {key}`",
            span(age),
            span(most)
        )
    };
    policy.aged(most, now).into_iter().map(line).collect()
}

fn near(nearness: Nearness, used: &Use) -> String {
    let part = match nearness {
        Nearness::Half => "half of the",
        Nearness::Near => "nearly the",
        Nearness::Past => "more than the",
    };
    format!(
        "{}: this process has sealed {} values of `{}` under version {} of the key {:?}, {part} 2^32 that {} should seal under one version; \
         run `fieldseal keys rotate {}`, or give the field `suite = {:?}`",
        used.namespace,
        used.seals,
        used.path,
        used.version,
        used.key,
        used.suite.word(),
        used.key,
        Suite::Xaes256Gcm.word()
    )
}

/// In the largest of days, hours and seconds that says it.
fn span(time: Duration) -> String {
    let (number, unit) = if time >= 2 * DAY {
        (time.as_secs() / DAY.as_secs(), "day")
    } else if time >= 2 * HOUR {
        (time.as_secs() / HOUR.as_secs(), "hour")
    } else {
        (time.as_secs(), "second")
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::policy::fixture;

    #[test]
    fn a_warning_of_age_says_how_old_and_what_to_run() {
        let policy = fixture::policy();
        let created = SystemTime::UNIX_EPOCH + 20_454 * DAY;
        let lines = |max_age| ages(max_age, &policy, created + 400 * DAY);
        assert_eq!(lines(None), Vec::<String>::new());
        assert_eq!(lines(Some(400 * DAY)), Vec::<String>::new());
        assert_eq!(
            lines(Some(365 * DAY)),
            [
                "version 2 of the key \"default\" is 400 days old, more than the 365 days of `max_age`; run `fieldseal keys rotate default`"
            ]
        );
    }

    #[test]
    fn a_warning_of_use_names_the_field_the_count_and_both_ways_out() {
        let policy = fixture::policy();
        let mut used = policy
            .uses(SystemTime::now())
            .into_iter()
            .find(|used| used.namespace == "shop.moving")
            .unwrap();
        used.seals = 1 << 31;
        let line = near(Nearness::Half, &used);
        for words in [
            "shop.moving:",
            "2147483648 values of `ssn`",
            "version 2 of the key \"default\"",
            "half of the 2^32",
            "keys rotate default",
            "suite = \"xaes-256-gcm\"",
        ] {
            assert!(line.contains(words), "{line}");
        }
        assert!(near(Nearness::Past, &used).contains("more than the 2^32"));
    }

    #[test]
    fn a_span_is_told_in_a_unit_that_fits() {
        for (seconds, words) in [
            (1, "1 second"),
            (7199, "7199 seconds"),
            (7200, "2 hours"),
            (172_799, "47 hours"),
            (172_800, "2 days"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), words);
        }
    }
}
