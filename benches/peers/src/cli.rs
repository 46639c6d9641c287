//! What a user can ask for.

use crate::alloc::Allocator;
use crate::workloads::Workload;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Measures turbostream side by side with other async channels.
///
/// Every run is a process of its own; runs of all contenders alternate, and the median of the rounds is told.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    pub plan: PlanArgs,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Fewer rounds of fewer messages: done in under three minutes
    #[arg(long)]
    pub quick: bool,
    /// Only these workloads
    #[arg(long, value_name = "W1,W2", value_delimiter = ',')]
    pub only: Vec<Workload>,
    /// Only this allocator (default: both, one after the other)
    #[arg(long)]
    pub allocator: Option<Allocator>,
    /// Write one JSON row per workload, allocator and contender to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the tables as Markdown to this file
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Only these contenders, by name or by the crate's name
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub contender: Vec<String>,
    /// Rounds, instead of 7 (quick: 5)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
    /// Messages per run (round trips for a ping-pong), instead of the workload's own number
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: Option<u64>,
    /// Capacity for every contender, in its own unit, instead of the one it is at its best with
    #[arg(long)]
    pub capacity: Option<usize>,
    /// Seconds after which a run counts as hanging
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// One run, in this process: what the driver starts
    #[command(hide = true)]
    Run(RunArgs),
}

#[derive(Debug, Args)]
pub struct RunArgs {
    pub workload: Workload,
    pub contender: String,
    pub messages: u64,
    pub capacity: usize,
    pub timeout: u64,
}
