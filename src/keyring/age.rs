//! How old a version is.

use std::time::{Duration, SystemTime};

use super::KeyVersion;

impl KeyVersion {
    /// How long ago it was made; zero if that is yet to come, none if its date cannot be read.
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        let created = bson::DateTime::parse_rfc3339_str(&self.created).ok()?;
        Some(
            now.duration_since(created.to_system_time())
                .unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::Keyring;
    use super::*;

    #[test]
    fn a_version_is_as_old_as_its_date_says() {
        let mut keyring = Keyring::generate(["default"]).unwrap();
        let version = &mut keyring.keys[0].versions[0];
        let now = SystemTime::now();
        assert!(version.age(now).unwrap() < Duration::from_secs(3600));
        version.created = "2026-01-01T00:00:00Z".to_owned();
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        // 20,454 days lie between 1970 and 2026.
        let then = SystemTime::UNIX_EPOCH + days(20_454 + 7);
        assert_eq!(version.age(then), Some(days(7)));
        assert_eq!(version.age(SystemTime::UNIX_EPOCH), Some(Duration::ZERO));
        version.created = "long ago".to_owned();
        assert_eq!(version.age(now), None);
    }
}
