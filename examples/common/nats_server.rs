//! Servers of the tests: one `nats-server`, or a cluster of three, on free ports of 127.0.0.1 with temporary storage.
//!
//! A server ends when its guard is dropped, also when a test panics. The module uses the standard library and
//! `tempfile` only.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How many lines of a server's log are kept for a failed start.
const LOG_LINES: usize = 30;

/// How to get the server.
pub(crate) const HOW_TO_INSTALL: &str = "nats-server is not installed: `apt-get install nats-server` on Debian or Ubuntu, \
                                  `brew install nats-server` on macOS, or https://github.com/nats-io/nats-server/releases";

/// Returns whether `nats-server` is installed.
pub(crate) fn is_installed() -> bool {
    Command::new("nats-server").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// One server. It is killed when this value is dropped.
pub(crate) struct NatsServer {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
    log: Arc<Mutex<Vec<String>>>,
}

impl NatsServer {
    /// Starts a server with JetStream in a temporary folder, on a free port. `config` is added to its configuration.
    ///
    /// # Panics
    ///
    /// If the server does not start.
    pub(crate) fn start(config: &str) -> Self {
        for _ in 0..5 {
            let mut server = Self::prepare(free_port(), config, "");
            if server.try_start().is_ok() {
                return server;
            }
        }
        Self::prepare(free_port(), config, "").started()
    }

    /// Writes the configuration of a server. `cluster` is its part that concerns the cluster.
    fn prepare(port: u16, config: &str, cluster: &str) -> Self {
        let folder =
            tempfile::Builder::new().prefix("turbostream-nats-").tempdir().expect("a temporary folder");
        let mut text = format!("listen: \"127.0.0.1:{port}\"\n");
        if !config.contains("jetstream:") {
            writeln!(text, "jetstream: {{ store_dir: {:?} }}", folder.path().join("jetstream"))
                .expect("a string");
        }
        text.push_str(cluster);
        text.push_str(config);
        std::fs::write(folder.path().join("server.conf"), text).expect("the configuration is written");
        Self { folder, port, child: None, log: Arc::default() }
    }

    fn started(mut self) -> Self {
        self.restart();
        self
    }

    /// Replaces `from` by `to` in the configuration. A restart makes it take effect.
    pub(crate) fn reconfigure(&self, from: &str, to: &str) {
        let path = self.folder.path().join("server.conf");
        let config = std::fs::read_to_string(&path).expect("the configuration is there");
        std::fs::write(path, config.replace(from, to)).expect("the configuration is written");
    }

    /// Starts the server again, on the same port and storage.
    ///
    /// # Panics
    ///
    /// If the server does not start.
    pub(crate) fn restart(&mut self) {
        if let Err(log) = self.try_start() {
            panic!("nats-server did not start:\n{log}");
        }
    }

    fn try_start(&mut self) -> Result<(), String> {
        self.kill();
        let mut command = Command::new("nats-server");
        command.arg("-c").arg(self.folder.path().join("server.conf"));
        // Ctrl-C in a terminal reaches the processes of one group: the server ends with its guard, and not before.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let lines = BufReader::new(child.stderr.take().expect("the log is piped")).lines();
        self.child = Some(child);
        let log = Arc::clone(&self.log);
        log.lock().expect("the log").clear();
        let (ready, is_ready) = mpsc::channel();
        // The thread ends when the server closes its log, that is, when it ends.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if line.contains("Server is ready") {
                    let _ = ready.send(());
                }
                let mut log = log.lock().expect("the log");
                if log.len() == LOG_LINES {
                    log.remove(0);
                }
                log.push(line);
            }
        });
        match is_ready.recv_timeout(START_TIMEOUT) {
            Ok(()) => Ok(()),
            Err(_) => {
                self.kill();
                Err(self.log.lock().expect("the log").join("\n"))
            }
        }
    }

    /// Returns the server's address for clients.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Returns the server's port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server with SIGKILL. Its storage stays.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Makes the server read its configuration again.
    pub(crate) fn reload(&self) {
        self.signal("-HUP");
    }

    /// Stops the server's process with SIGSTOP.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    /// Continues the server's process with SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("the server runs").id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().expect("kill is installed");
        assert!(status.success(), "kill {signal} {pid}");
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three servers that form a cluster.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<NatsServer>,
}

impl Cluster {
    /// Starts three servers. `config` is added to the configuration of each.
    ///
    /// # Panics
    ///
    /// If a server does not start.
    pub(crate) fn start(config: &str) -> Self {
        let routes: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let urls: Vec<String> = routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        let servers = routes.iter().enumerate().map(|(index, port)| {
            let cluster = format!(
                "server_name: s{index}\ncluster: {{ name: c, listen: \"127.0.0.1:{port}\", routes: [{}] }}\n",
                urls.join(", ")
            );
            NatsServer::prepare(free_port(), config, &cluster).started()
        });
        Self { servers: servers.collect() }
    }

    /// Returns the addresses of all servers.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.servers.iter().map(NatsServer::url).collect()
    }

    /// Returns the server of this name, as JetStream calls it.
    pub(crate) fn named(&mut self, name: &str) -> &mut NatsServer {
        let index: usize =
            name.strip_prefix('s').and_then(|index| index.parse().ok()).expect("a server's name");
        &mut self.servers[index]
    }
}

/// Returns a port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}
