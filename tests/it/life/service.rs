//! What the proxy tells the service manager, and asks of the system.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::SCHEMA;
use crate::support::wire::Wire;
use crate::support::{
    PATIENCE, Process, ProxyOptions, command, error_text, fieldseal, new_directory,
    shared_replica_set, write_configuration,
};

/// A directory with a configuration, to serve from.
async fn place(configuration: &str) -> (std::path::PathBuf, std::path::PathBuf) {
    let set = shared_replica_set().await;
    let directory = new_directory("life");
    let options = ProxyOptions {
        schema: SCHEMA,
        log_level: "info",
        configuration,
        ..ProxyOptions::default()
    };
    let file = write_configuration(&directory, &set.addresses(), options);
    let done = fieldseal(&["keys", "init"], &file);
    assert!(done.status.success(), "{}", error_text(&done));
    (directory, file)
}

async fn wait_for(process: &mut Process, words: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let log = process.output();
        if let Some(line) = log.lines().find(|line| line.contains(words)) {
            return line.to_owned();
        }
        assert!(process.ended().is_none(), "{log}");
        assert!(Instant::now() < deadline, "no {words}: {log}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The other end of `NOTIFY_SOCKET`.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).expect("the proxy tells nothing");
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// The next that is no sign of life.
    fn told(&self) -> String {
        loop {
            let told = self.next();
            if told != "WATCHDOG=1\n" {
                return told;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_is_told_of_the_start_reloads_the_stop_and_signs_of_life() {
    let (directory, file) = place("[limits]\ndrain_timeout_seconds = 3\n").await;
    let socket = directory.join("notify");
    let manager = Manager::listen(&socket);
    let mut serve = command(&["serve"], &file);
    serve.env("NOTIFY_SOCKET", &socket);
    serve.env("WATCHDOG_USEC", "300000");
    let mut process = Process::start(&serve, directory);
    assert_eq!(manager.told(), "READY=1\nSTATUS=serving\n");
    // It does serve by then.
    let line = wait_for(&mut process, "address=").await;
    let (_, rest) = line.split_once("address=").unwrap();
    let address = rest.split_whitespace().next().unwrap();
    let mut wire = Wire::connect(address).await;
    assert!(wire.works().await);
    while manager.next() != "WATCHDOG=1\n" {}
    while manager.next() != "WATCHDOG=1\n" {}

    process.signal("HUP");
    let reloading = manager.told();
    let time = reloading
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .and_then(|rest| rest.split_once('\n'))
        .unwrap_or_else(|| panic!("{reloading}"));
    assert!(time.0.parse::<u64>().unwrap() > 0);
    assert_eq!(manager.told(), "READY=1\nSTATUS=serving\n");

    process.signal("TERM");
    let stopping = manager.told();
    assert_eq!(
        stopping,
        "STOPPING=1\nSTATUS=stopping: what is under way has 3 s to end\nEXTEND_TIMEOUT_USEC=13000000\n"
    );
    assert_eq!(process.wait().await.code(), Some(0));
}

#[tokio::test]
async fn too_few_files_are_told_at_the_start_and_as_many_as_there_may_be_are_taken() {
    for (limits, connections, said) in [
        (
            "ulimit -n 200",
            10_000,
            Some("10000 needs 20128 open files, and this process may have 200"),
        ),
        ("ulimit -n 200", 20, None),
        // What it may take without asking.
        ("ulimit -Hn 600; ulimit -Sn 100", 100, None),
    ] {
        let configuration = format!("[limits]\nconnections = {connections}\n");
        let (directory, file) = place(&configuration).await;
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("{limits}; exec \"$@\""), "sh"])
            .arg(env!("CARGO_BIN_EXE_fieldseal"))
            .args(["serve", "-c"])
            .arg(&file);
        let mut process = Process::start(&shell, directory);
        wait_for(&mut process, " serving").await;
        let output = process.output();
        match said {
            Some(said) => assert!(output.contains(said), "{output}"),
            None => assert!(!output.contains("open files"), "{output}"),
        }
    }
}
