//! A server that ends with the test process, however that ends, and takes its
//! directory with it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to start; no test measures it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `"$@"` and obeys standard input: each line is a signal to send. When it
/// closes, which happens too when the test process is killed, the server dies.
/// `$DIRECTORY` goes with it, unless a file `keep` is in it.
const WATCH: &str = r#"
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
{
    while read -r signal <&3; do kill -s "$signal" $server; done
    kill -s KILL $server
} 2>/dev/null &
obey=$!
wait $server
status=$?
kill $obey 2>/dev/null
exec 3<&-
if [ ! -e "$DIRECTORY/keep" ]; then
    rm -rf "$DIRECTORY"
    rmdir "$(dirname "$DIRECTORY")" 2>/dev/null
fi
exit $status
"#;

static DIRECTORIES: AtomicU32 = AtomicU32::new(0);

/// A new directory under cargo's one for integration tests.
pub(crate) fn new_directory(name: &str) -> PathBuf {
    let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("it-{}", std::process::id()))
        .join(format!("{name}-{number}"));
    while let Err(error) = fs::create_dir_all(&directory) {
        // The last test directory to go takes its parent with it, perhaps just now.
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    directory
}

/// A running server with its own directory. Dropping it kills the server and
/// removes the directory.
pub(crate) struct Process {
    watch: Command,
    child: Child,
    orders: Option<ChildStdin>,
    directory: PathBuf,
}

impl Process {
    /// Starts `command`, both of its outputs added to the file `output` in `directory`.
    pub(crate) fn start(command: &Command, directory: PathBuf) -> Self {
        let mut watch = watched(command, &directory);
        let mut child = watch.spawn().unwrap();
        let orders = child.stdin.take();
        Self {
            watch,
            child,
            orders,
            directory,
        }
    }

    /// Starts the same command again, after [`Process::kill_and_keep`].
    pub(crate) fn start_again(&mut self) {
        self.child = self.watch.spawn().unwrap();
        self.orders = self.child.stdin.take();
    }

    /// Where the server keeps its files.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the server wrote to its standard output and error so far.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.join("output")).unwrap_or_default())
            .into_owned()
    }

    /// Sends a signal by its name without SIG: `HUP`, `TERM`.
    pub(crate) fn signal(&mut self, name: &str) {
        let orders = self.orders.as_mut().unwrap();
        writeln!(orders, "{name}").unwrap();
    }

    /// The process id of the server itself.
    pub(crate) fn server(&self) -> u32 {
        let watch = self.child.id();
        let children = format!("/proc/{watch}/task/{watch}/children");
        let children = fs::read_to_string(children).unwrap();
        let is_server = |process: &&str| {
            let program = self.watch.get_args().nth(3).unwrap();
            fs::read_link(format!("/proc/{process}/exe")).is_ok_and(|exe| exe == Path::new(program))
        };
        let server = children.split_whitespace().find(is_server).unwrap();
        server.parse().unwrap()
    }

    /// The exit status, if the server has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until the server has ended by itself.
    ///
    /// # Panics
    /// When it does not.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server goes on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills the server at once and keeps its directory, to look at or start again from.
    pub(crate) fn kill_and_keep(&mut self) {
        fs::write(self.directory.join("keep"), "").unwrap();
        self.kill();
        fs::remove_file(self.directory.join("keep")).unwrap();
    }

    fn kill(&mut self) {
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // Already gone, unless the server had ended in `kill_and_keep`.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn watched(command: &Command, directory: &Path) -> Command {
    let output = File::options()
        .create(true)
        .append(true)
        .open(directory.join("output"))
        .unwrap();
    let mut watch = Command::new("sh");
    watch
        .args(["-c", WATCH, "watch"])
        .arg(command.get_program())
        .args(command.get_args())
        .env("DIRECTORY", directory)
        .stdin(Stdio::piped())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        // Ctrl-C in a terminal is for the tests alone: this one then cleans up.
        .process_group(0);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => watch.env(name, value),
            None => watch.env_remove(name),
        };
    }
    watch
}
