//! What a process has taken of the machine, as Linux tells it.

use std::fs;
use std::io;
use std::time::Duration;

/// The CPU time of all threads of a process so far, to the nanosecond.
///
/// Of threads that have ended it knows nothing any more.
pub fn cpu(process: u32) -> io::Result<Duration> {
    let mut total = 0_u64;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // It may have ended between the two.
        let Ok(line) = fs::read_to_string(thread?.path().join("schedstat")) else {
            continue;
        };
        total += number(line.split_whitespace().next())?;
    }
    Ok(Duration::from_nanos(total))
}

/// The memory of a process that is in RAM and its own, in bytes.
pub fn memory(process: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = number(line.and_then(|line| line.split_whitespace().next()))?;
    Ok(kibibytes * 1024)
}

fn number(word: Option<&str>) -> io::Result<u64> {
    word.and_then(|word| word.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc has another form here"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_process_that_works_takes_cpu_time_and_memory() {
        let before = cpu(std::process::id()).unwrap();
        let work: u64 = (0..50_000_000_u64).fold(0, |sum, value| sum ^ std::hint::black_box(value));
        std::hint::black_box(work);
        assert!(cpu(std::process::id()).unwrap() > before);
        assert!(memory(std::process::id()).unwrap() > 100_000);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(cpu(u32::MAX).is_err());
        assert!(memory(u32::MAX).is_err());
    }
}
