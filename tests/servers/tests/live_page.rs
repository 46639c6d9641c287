//! Opens the example's live page in a real browser, under load.
//!
//! The test needs `chromium` and `chromedriver` (Debian: `apt-get install chromium chromium-driver`). If one is missing, the
//! test prints `SKIPPED` and passes, unless `TURBOSTREAM_REQUIRE_SERVERS` is set: then it fails. If `TURBOSTREAM_SCREENSHOT`
//! is set to a path, the test writes a screenshot of the page there.

#[path = "../../common/mod.rs"]
mod common;
#[path = "../../../examples/metrics_server/load.rs"]
mod load;
#[path = "../../../examples/metrics_server/service.rs"]
mod service;

use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::multi;
use load::Rates;
use serde_json::{Value, json};
use service::Service;
use turbostream_server_tests::{free_port, installed, until};

/// Returns the series of all plots: name and channel, current value, and number of points of the line.
const PLOTTED_SERIES: &str = r#"
    return [...document.querySelectorAll("section")].flatMap(section =>
        [...section.querySelectorAll("output")].map((output, at) => ({
            series: section.id + " " + output.dataset.channel,
            value: Number(output.dataset.value),
            points: section.querySelectorAll("polyline")[at].getAttribute("points").split(" ").length,
        })));
"#;

/// A browser, controlled by the WebDriver protocol. Dropping it ends the browser and its driver.
struct Browser {
    driver: Child,
    /// The URL of the driver until the session is created, then the URL of the session.
    url: String,
}

impl Browser {
    async fn start(driver: &str, chromium: &str) -> Self {
        let port = free_port();
        let driver = Command::new(driver)
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let mut browser = Self { driver, url: format!("http://127.0.0.1:{port}/session") };
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1000,1730",
        ];
        let options = json!({"goog:chromeOptions": {"binary": chromium, "args": args}});
        let capabilities = json!({"capabilities": {"alwaysMatch": options}});
        let session = until("a browser", || browser.command("", Some(&capabilities))).await;
        browser.url += "/";
        browser.url += session["sessionId"].as_str().expect("a session has an id");
        browser
    }

    /// Sends a POST with `body`, or a GET without one, and returns the `value` of the response.
    async fn command(&self, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let (url, body) = (format!("{}{path}", self.url), body.map(Value::to_string));
        let call = move || match body {
            Some(body) => ureq::post(&url).content_type("application/json").send(body),
            None => ureq::get(&url).call(),
        };
        let response = tokio::task::spawn_blocking(move || call()?.body_mut().read_to_string()).await;
        let text = response.expect("no panic").map_err(|error| error.to_string())?;
        let response: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        Ok(response["value"].clone())
    }

    async fn open(&self, url: &str) {
        self.command("/url", Some(&json!({ "url": url }))).await.expect("a page");
    }

    async fn execute(&self, script: &str) -> Value {
        let body = json!({"script": script, "args": []});
        self.command("/execute/sync", Some(&body)).await.expect("a result")
    }

    /// Returns a screenshot of the page as PNG.
    async fn screenshot(&self) -> Vec<u8> {
        let screenshot = self.command("/screenshot", None).await.expect("a screenshot");
        STANDARD.decode(screenshot.as_str().expect("text")).expect("base64")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = ureq::delete(&self.url).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Series that the plots must have. The other channels have a latency only if they switch while the test runs.
const SERIES: [&str; 22] = [
    "throughput small",
    "throughput bulky",
    "throughput forwarded",
    "queued small",
    "queued bulky",
    "queued forwarded",
    "lent small",
    "lent bulky",
    "lent forwarded",
    "memory small",
    "memory bulky",
    "memory forwarded",
    "waiting small",
    "waiting bulky",
    "waiting forwarded",
    "drops small",
    "drops bulky",
    "drops forwarded",
    "latency bulky",
    "forwarding in flight",
    "forwarding confirmed",
    "forwarding published again",
];

/// Returns all series if every one of [`SERIES`] has a line of at least `points` points.
async fn plotted(browser: &Browser, points: u64) -> Result<Vec<Value>, String> {
    let plotted = browser.execute(PLOTTED_SERIES).await.as_array().cloned().unwrap_or_default();
    let is_complete = |name: &str| {
        let series = plotted.iter().find(|series| series["series"] == name);
        series.is_some_and(|series| series["points"].as_u64() >= Some(points))
    };
    if SERIES.into_iter().all(is_complete) { Ok(plotted) } else { Err(format!("{plotted:?}")) }
}

#[test]
fn live_page_plots_change_under_load() {
    let (Some(driver), Some(chromium)) = (
        installed("chromedriver", "apt-get install chromium-driver"),
        installed("chromium", "apt-get install chromium"),
    ) else {
        return;
    };
    multi(async move {
        let address = "127.0.0.1:0".parse().expect("an address");
        let rates = Rates { small: 20_000, bulky: 6_000, ..Rates::default() };
        let mut service = Service::start(address, rates).await.expect("started");
        let browser = Browser::start(&driver, &chromium).await;
        browser.open(&format!("http://{}/", service.address())).await;
        let first = until("all plots", || plotted(&browser, 2)).await;
        let later = until("more points", || plotted(&browser, 12)).await;
        let value = |plotted: &[Value], name: &str| {
            let series = plotted.iter().find(|series| series["series"] == name).expect("plotted");
            series["value"].as_f64().expect("a number")
        };
        assert!(value(&later, "throughput small") > 0.0, "{later:?}");
        assert!(value(&later, "lent small") > 0.0, "{later:?}");
        assert!(value(&later, "latency bulky") > 0.0, "{later:?}");
        let share = value(&later, "memory bulky");
        assert!(share > 0.0 && share <= 1.0, "{later:?}");
        assert!(value(&later, "forwarding confirmed") > 0.0, "{later:?}");
        let changing = ["throughput small", "queued bulky", "forwarding confirmed"];
        for series in changing {
            assert_ne!(value(&first, series), value(&later, series), "{series} does not change");
        }
        let error = browser.execute("return document.querySelector('#error').textContent").await;
        assert_eq!(error, json!(""));
        if let Some(path) = std::env::var_os("TURBOSTREAM_SCREENSHOT") {
            let _ = until("half of a minute", || plotted(&browser, 60)).await;
            let _ = until("most of a minute", || plotted(&browser, 85)).await;
            std::fs::write(path, browser.screenshot().await).expect("written");
        }
        service.stop_load().await.expect("sent");
    });
}
