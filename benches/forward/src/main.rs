//! Measures what it costs to forward messages into NATS JetStream. See `--help` and this crate's README.

mod cli;
mod client;
mod contenders;
mod driver;
mod plan;
#[allow(dead_code, reason = "the delay is all that is used of it")]
#[path = "../../../tests/nats/proxy.rs"]
mod proxy;
mod report;
#[allow(dead_code, reason = "one server is all that is used of it")]
#[path = "../../../examples/common/nats_server.rs"]
mod server;
mod targets;
mod usage;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Run(args)) => client::run(&args),
        None => driver::drive(&cli.plan),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
