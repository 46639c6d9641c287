//! A `nats-server` with JetStream in a temporary folder, on a free port of 127.0.0.1.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{interval, timeout};

/// A running server. It is killed when this is dropped, also by a test that panics.
pub(crate) struct NatsServer {
    process: Child,
    port: u16,
    store: TempDir,
}

impl NatsServer {
    /// Starts a server; `None` if none is installed, unless `TURBOSTREAM_REQUIRE_SERVERS=1` demands it.
    pub(crate) async fn start() -> Option<Self> {
        let store = tempfile::tempdir().expect("a temporary folder");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        match spawn(port, &store) {
            Ok(process) => {
                let server = Self { process, port, store };
                server.until_ready().await;
                Some(server)
            }
            Err(error) => {
                let required =
                    std::env::var_os("TURBOSTREAM_REQUIRE_SERVERS").is_some_and(|value| value == "1");
                assert!(!required, "nats-server does not start: {error}; on Debian: apt install nats-server");
                eprintln!("skipped: nats-server does not start: {error}; on Debian: apt install nats-server");
                None
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Ends the server by SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("the server runs");
        self.process.wait().expect("the server was a child");
    }

    /// Starts the server again after [`kill`](Self::kill), with the same port and folder.
    pub(crate) async fn restart(&mut self) {
        self.process = spawn(self.port, &self.store).expect("it was started before");
        self.until_ready().await;
    }

    async fn until_ready(&self) {
        let mut ticks = interval(Duration::from_millis(20));
        let ready = async {
            loop {
                ticks.tick().await;
                let Ok(client) = async_nats::connect(self.url()).await else { continue };
                if client.request("$JS.API.INFO", "".into()).await.is_ok() {
                    return;
                }
            }
        };
        timeout(Duration::from_secs(20), ready).await.expect("the server is ready in time");
    }
}

fn spawn(port: u16, store: &TempDir) -> std::io::Result<Child> {
    Command::new("nats-server")
        .args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"])
        .arg(store.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // It fails if the test has killed the server already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
