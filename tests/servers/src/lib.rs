//! Helpers for tests that start servers: they find a program, find a free port, and wait until a server is up.

use std::net::TcpListener;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Returns the path of `program`, or `None` if it is missing.
///
/// If it is missing, the caller must skip its test. `install` is the command that installs the program.
///
/// # Panics
///
/// If the program is missing and `TURBOSTREAM_REQUIRE_SERVERS` is set.
pub fn installed(program: &str, install: &str) -> Option<String> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file());
    let required = std::env::var_os("TURBOSTREAM_REQUIRE_SERVERS").is_some();
    assert!(found.is_some() || !required, "{program} is missing: {install}");
    if found.is_none() {
        eprintln!("SKIPPED: {program} is missing; {install}");
    }
    found.map(|path| path.display().to_string())
}

/// Returns a free port, for a server that cannot choose and report one itself.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// Retries `attempt` ten times a second for up to 45 s, and returns its first success.
///
/// Another process does not signal that it is ready, so its state must be polled.
///
/// # Panics
///
/// If no attempt succeeds. The message contains `what` and the last error.
pub async fn until<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + Duration::from_secs(45);
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(problem) if Instant::now() > end => panic!("{what}: {problem}"),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}
