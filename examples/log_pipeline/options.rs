//! The command line.

use std::path::PathBuf;

const NOTES: &str = "\
Lines:
  A line is a message: its bytes up to and including the newline, whatever they are (CR LF stays CR LF).
  The lines of one input keep their order; those of several inputs mix as they come. A last line without a
  newline stays so if it is the only input, so the output is the input byte for byte. With several inputs
  it gets a newline (LF), for another input's line may follow it. A line of more than 1 MiB is an error.

Rounds:
  The job is done N times through each channel, in turn, and each round writes the output anew.
  There is one round, through turbostream alone and so without the comparison, if an input cannot be read
  twice (standard input, a pipe) or the output cannot be written twice (standard output, a pipe, a device;
  /dev/null can). --verify keeps a copy of such an input in a temporary file, while it is read.

Ending:
  Ctrl-C stops the readers, writes what the channel holds, reports and exits with 130; a second one exits at
  once. Any failure is one line on standard error that says how many lines were written, and exit code 1.
  If the lines go to standard output, the table goes to standard error.";

/// Streams lines of text from several reader tasks through one channel into a file, and does the same through
/// tokio::sync::mpsc to compare
#[derive(clap::Parser, Debug)]
#[command(name = "log_pipeline", after_help = NOTES)]
pub(crate) struct Options {
    /// Files to read, each by a task of its own; `-` is standard input [default: a generated access log]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Where the lines go; `-` is standard output [default: a temporary file, named in the report and kept]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Rounds through each channel; the table shows medians
    #[arg(short, long, value_name = "N", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,

    /// Length of the generated access log
    #[arg(short, long, value_name = "N", default_value_t = 2_000_000, conflicts_with = "files",
        value_parser = clap::value_parser!(u64).range(..=10_000_000_000))]
    pub(crate) lines: u64,

    /// After each round read the output back and prove that every line of every input is there exactly once,
    /// byte for byte, and the lines of each input in order
    #[arg(long)]
    pub(crate) verify: bool,
}
