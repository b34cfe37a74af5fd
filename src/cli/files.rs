//! How many files the process may have open, of which every connection is one.

/// Those of the program itself: listeners, event loops, logs, watched files, members that are asked.
const SPARE: u64 = 128;

/// A client's connection, and the one to MongoDB for it.
const EACH: u64 = 2;

/// Takes as many as the system gives without asking anyone, and says if these are too few for
/// so many clients.
pub(super) fn raise(connections: usize) -> Option<String> {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(most) => shortage(connections, most),
        Err(error) => {
            tracing::warn!(%error, "how many files may be open is not known");
            None
        }
    }
}

fn shortage(connections: usize, most: u64) -> Option<String> {
    let connections = u64::try_from(connections).unwrap_or(u64::MAX);
    let needed = connections.saturating_mul(EACH).saturating_add(SPARE);
    (needed > most).then(|| {
        let fitting = most.saturating_sub(SPARE) / EACH;
        format!(
            "limits.connections = {connections} needs {needed} open files, and this process may have {most}: \
             allow it more (LimitNOFILE= of systemd, `ulimit -Hn`, --ulimit nofile= of a container), or set \
             limits.connections = {fitting}; beyond that, clients are not accepted until others leave"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_files_are_told_with_what_would_do() {
        assert_eq!(shortage(10_000, 20_128), None);
        let told = shortage(10_000, 1024);
        for part in [
            "20128 open files",
            "may have 1024",
            "LimitNOFILE=",
            "limits.connections = 448",
        ] {
            assert!(
                told.as_ref().is_some_and(|told| told.contains(part)),
                "{told:?}"
            );
        }
        // Less than the program itself needs.
        assert!(shortage(1, 3).is_some_and(|told| told.contains("limits.connections = 0")));
        assert!(shortage(usize::MAX, u64::MAX - 1).is_some());
    }
}
