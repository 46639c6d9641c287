//! The command line.

use crate::alloc::Allocator;
use crate::workloads::{self, Workload};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Compares turbostream with other async channels.
///
/// Every run is a separate process. The runs of all contenders alternate; the result is the median of the rounds.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    pub plan: PlanArgs,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Args)]
pub struct PlanArgs {
    /// Fewer rounds of fewer messages: done in under three minutes
    #[arg(long)]
    pub quick: bool,
    /// Only these workloads
    #[arg(long, value_name = "W1,W2", value_delimiter = ',', value_parser = workloads::find)]
    pub only: Vec<&'static Workload>,
    /// Only this allocator (default: both)
    #[arg(long)]
    pub allocator: Option<Allocator>,
    /// Write one JSON row per workload, allocator and contender to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write benchmarks.md and its charts into this directory (default: the project's docs, if nothing narrows the run)
    #[arg(long, value_name = "DIR")]
    pub docs: Option<PathBuf>,
    /// Read the lines for log_lines from this file (default: generated lines)
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Only these contenders, by name or by the crate's name
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub contender: Vec<String>,
    /// Rounds, instead of 7 (quick: 5)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
    /// Messages per run (round trips for a ping-pong), instead of the workload's own number
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: Option<u64>,
    /// Capacity for every contender, in its own unit, instead of its best one
    #[arg(long)]
    pub capacity: Option<usize>,
    /// Find the best capacity of each contender and write it to capacities.csv for the next build
    #[arg(long, conflicts_with_all = ["json", "docs", "capacity"])]
    pub tune: bool,
    /// Seconds after which a run counts as hanging
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}

impl PlanArgs {
    /// Whether this is a complete run with default settings.
    pub fn is_whole(&self) -> bool {
        let narrowed = self.quick || !self.only.is_empty() || !self.contender.is_empty();
        let altered = self.allocator.is_some() || self.rounds.is_some() || self.capacity.is_some();
        !narrowed && !altered && self.messages.is_none()
    }
}

#[derive(Subcommand)]
pub enum Command {
    /// One run in this process, started by the driver
    #[command(hide = true)]
    Run(RunArgs),
}

#[derive(Args)]
pub struct RunArgs {
    #[arg(value_parser = workloads::find)]
    pub workload: &'static Workload,
    pub contender: String,
    pub messages: u64,
    pub capacity: usize,
    pub timeout: u64,
    #[arg(long)]
    pub log: Option<PathBuf>,
}
