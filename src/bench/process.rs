//! What a process has taken of the machine, as Linux tells it.

use std::fs;
use std::io;
use std::time::Duration;

/// How often in a second Linux counts in /proc/PID/stat, whatever the kernel's own clock.
const TICKS: u64 = 100;

/// The CPU time of all threads of a process so far, to the nanosecond.
///
/// Of threads that have ended it knows nothing any more, so that it can go back: for
/// processes that keep their threads, such as the proxy. For MongoDB there is
/// [`cpu_with_ended`].
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

/// The CPU time of a process so far, threads that have ended included, to 10 ms.
pub fn cpu_with_ended(process: u32) -> io::Result<Duration> {
    let line = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name of the program, in brackets, may hold anything; what comes after it begins
    // with the third field of proc(5). The 14th and 15th are the time as a user and as the system.
    let (_, fields) = line.rsplit_once(')').unwrap_or_default();
    let mut fields = fields.split_whitespace().skip(14 - 3);
    let ticks = number(fields.next())? + number(fields.next())?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}

/// The memory of a process that is in RAM and its own, in bytes.
pub fn memory(process: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = number(line.and_then(|line| line.split_whitespace().next()))?;
    Ok(kibibytes * 1024)
}

/// The processor, as the system names it; the kind of it, where it does not.
pub fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = text.lines().find_map(|line| {
        let (key, name) = line.split_once(':')?;
        (key.trim() == "model name").then(|| name.trim().to_owned())
    });
    named.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
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
        assert!(cpu_with_ended(std::process::id()).unwrap() > Duration::ZERO);
        assert!(memory(std::process::id()).unwrap() > 100_000);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(cpu(u32::MAX).is_err());
        assert!(cpu_with_ended(u32::MAX).is_err());
        assert!(memory(u32::MAX).is_err());
    }

    #[test]
    fn what_ended_threads_took_is_not_forgotten() {
        let own = std::process::id();
        let before = cpu_with_ended(own).unwrap();
        let worker = std::thread::spawn(|| {
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_millis(200) {
                std::hint::black_box(begun);
            }
            // Its own time, as others may have had the core meanwhile.
            let line = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
            Duration::from_nanos(number(line.split_whitespace().next()).unwrap())
        });
        let took = worker.join().unwrap();
        let counted = cpu_with_ended(own).unwrap() - before;
        assert!(
            counted + Duration::from_millis(20) >= took,
            "{counted:?} of {took:?}"
        );
    }
}
