//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::contenders::{self, Contender};
use crate::plan::{self, Workload};

/// Measures what it costs to forward messages into NATS JetStream.
///
/// Every run is a separate client process with a server of its own. The runs of all contenders alternate; the result is
/// the median of the rounds.
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
    /// Fewer rounds of fewer messages, and one window for the hand-written loops
    #[arg(long)]
    pub quick: bool,
    /// Only these workloads
    #[arg(long, value_name = "W1,W2", value_delimiter = ',', value_parser = plan::find)]
    pub only: Vec<&'static Workload>,
    /// Only these contenders
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', value_parser = contenders::find)]
    pub contender: Vec<&'static Contender>,
    /// Rounds, instead of 5 (quick: 3)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
    /// Messages per run, instead of the workload's own number
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: Option<u64>,
    /// Window of every contender, in messages, instead of its own
    #[arg(long)]
    pub window: Option<usize>,
    /// Capacity of every contender's channel, in its own unit, instead of its own
    #[arg(long)]
    pub capacity: Option<usize>,
    /// Another build of this program for the contenders named turbostream: its rows are marked `other`
    #[arg(long, value_name = "PROGRAM")]
    pub other: Option<PathBuf>,
    /// Write one JSON row per workload and contender to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write forwarding-benchmarks.md and its charts into this directory (default: the project's docs, if nothing narrows the run)
    #[arg(long, value_name = "DIR")]
    pub docs: Option<PathBuf>,
}

impl PlanArgs {
    /// Whether this is a complete run with default settings.
    pub fn is_whole(&self) -> bool {
        let narrowed = self.quick || !self.only.is_empty() || !self.contender.is_empty();
        let altered = self.rounds.is_some() || self.messages.is_some() || self.other.is_some();
        !narrowed && !altered && self.window.is_none() && self.capacity.is_none()
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
    #[arg(value_parser = contenders::find)]
    pub contender: &'static Contender,
    pub url: String,
    pub size: usize,
    pub messages: u64,
    pub window: usize,
    pub capacity: usize,
    pub timeout: u64,
}
