//! A service under load that Prometheus can scrape, with a live page.
//!
//! ```text
//! cargo run --release --features forward,prometheus --example metrics_server   # then open http://127.0.0.1:9464/
//! ```

mod load;
mod service;

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use load::Rates;
use service::Service;

/// A service under load, with its metrics at /metrics and on a live page at /
#[derive(Parser)]
struct Options {
    /// Where to listen; port 0 is any free port
    #[arg(long, default_value = "127.0.0.1:9464")]
    listen: SocketAddr,
    /// How many seconds to run [default: until Ctrl-C]
    #[arg(long)]
    seconds: Option<u64>,
    /// Small messages per second
    #[arg(long, default_value_t = Rates::default().small)]
    small: u32,
    /// Messages of 1 KiB per second; their channel switches at 3 MiB
    #[arg(long, default_value_t = Rates::default().bulky)]
    bulky: u32,
    /// Messages of 256 bytes per second that are forwarded; their destination confirms after 100 ms, and is away for one
    /// second in twelve
    #[arg(long, default_value_t = Rates::default().forwarded)]
    forwarded: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let rates = Rates { small: options.small, bulky: options.bulky, forwarded: options.forwarded };
    let mut service = Service::start(options.listen, rates).await?;
    println!("http://{}/ plots http://{}/metrics", service.address(), service.address());
    match options.seconds {
        Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
        None => tokio::signal::ctrl_c().await?,
    }
    for sent in service.stop_load().await? {
        println!("{}: {} messages, {} bytes", sent.channel, sent.messages, sent.bytes);
    }
    Ok(())
}
