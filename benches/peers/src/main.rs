//! Compares turbostream with other async channels. See `--help` and this crate's README.

mod alloc;
mod capacities;
mod cli;
mod contenders;
mod driver;
mod report;
mod run;
mod targets;
mod workloads;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

#[global_allocator]
static GLOBAL: alloc::Dispatch = alloc::Dispatch;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Run(args)) => run::in_this_process(&args),
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
