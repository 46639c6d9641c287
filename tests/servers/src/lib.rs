//! Servers that tests start: whether they are there, where they listen, and when they are up.

use std::net::TcpListener;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Where `program` is, or nothing, and then the test is to be left out; `install` says how to get it.
///
/// # Panics
///
/// If it is missing where it has to be there.
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

/// A port that nobody listens on, for a server that cannot choose one and tell.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// Tries ten times a second, as another process does not tell when it is ready; fails with what was wrong the last time.
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
