//! Several readers stream lines of text through one channel to one writer; the same through
//! `tokio::sync::mpsc` beside it.
//!
//! ```text
//! cargo run --release --example log_pipeline               # a generated access log of 2 million lines
//! cargo run --release --example log_pipeline -- --verify a.log b.log --output all.log
//! tail -f a.log | cargo run --release --example log_pipeline -- - --output copy.log
//! ```
//!
//! Each line is one message. `through_turbostream.rs` is the part to read first; `round.rs` shows the
//! shutdown.

mod channel;
mod generate;
mod lines;
mod memory;
mod options;
mod output;
mod report;
mod round;
mod tag;
mod through_mpsc;
mod through_turbostream;
mod verify;
mod writer;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::channel::Channel;
use crate::lines::Input;
use crate::options::Options;
use crate::output::Output;
use crate::report::{Column, count};
use crate::round::{Extent, Failure, Job};
use crate::through_mpsc::TokioMpsc;
use crate::through_turbostream::Turbostream;

const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let code = runtime.block_on(work(&options)).unwrap_or_else(|Failure { error, lines_written }| {
        fail(&format!("{error:#}; {} written", count(lines_written, "line")))
    });
    runtime.shutdown_background(); // a read of standard input may go on for ever
    code
}

/// One line on standard error. If that is closed too, the exit code has to do.
fn fail(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "log_pipeline: {message}");
    ExitCode::FAILURE
}

async fn work(options: &Options) -> Result<ExitCode, Failure> {
    let job = prepare(options).map_err(Failure::before_writing)?;
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_ctrl_c(stop.clone()));

    let rounds = if job.is_repeatable() { options.rounds } else { 1 };
    let (mut ours, mut theirs) = (Column::default(), Column::default());
    for number in 1..=rounds {
        let go_on = one_round::<Turbostream>(&job, &stop, (number, rounds), &mut ours).await?
            && job.is_repeatable()
            && one_round::<TokioMpsc>(&job, &stop, (number, rounds), &mut theirs).await?;
        if !go_on {
            break;
        }
    }
    finish(job, &stop, &[ours, theirs])
}

/// Everything that can be refused before the output is touched.
fn prepare(options: &Options) -> anyhow::Result<Job> {
    let inputs = Input::from_arguments(&options.files, options.lines);
    let stdins = inputs.iter().filter(|input| matches!(input, Input::Stdin)).count();
    ensure!(stdins <= 1, "standard input can be named only once");
    let mut rereadable = true;
    for input in &inputs {
        rereadable &= input.check().with_context(|| format!("cannot read {}", input.name()))?;
    }
    let output = Output::from_argument(options.output.as_deref(), &inputs)?;
    ensure!(
        !options.verify || output.readable().is_some(),
        "cannot verify: {} cannot be read back",
        output.name()
    );
    Ok(Job { inputs, output, verify: options.verify, rereadable })
}

/// The first Ctrl-C stops the readers; a second one does not wait for the writer.
async fn cancel_on_ctrl_c(stop: CancellationToken) {
    if tokio::signal::ctrl_c().await.is_ok() {
        stop.cancel();
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(i32::from(INTERRUPTED));
        }
    }
}

/// Runs and verifies one round and takes it down; `false` if it was the last because of Ctrl-C.
async fn one_round<C: Channel>(
    job: &Job,
    stop: &CancellationToken,
    (number, rounds): (u32, u32),
    column: &mut Column,
) -> Result<bool, Failure> {
    column.name = C::NAME;
    if stop.is_cancelled() {
        return Ok(false);
    }
    let title = format!("{}, round {number} of {rounds}", C::NAME);
    let progress = progress_bar(job, title.clone());
    let round = round::run::<C>(job, stop, &progress).await;
    progress.finish_and_clear();
    let mut round = round?;
    if let Some(output) = job.output.readable().filter(|_| job.verify) {
        let verified = verify::verify(job, &round, output);
        let failure = |error: anyhow::Error| Failure { error, lines_written: round.lines };
        verified.with_context(|| format!("{title} does not verify")).map_err(failure)?;
    }
    round.trail = None; // it has served, and a thousand rounds would keep a thousand of them
    let complete = round.is_complete();
    if !complete {
        let lines = count(round.lines, "line");
        column.interrupted = Some(format!("interrupted in {title}: {lines} accepted, and as many written"));
    }
    if complete || column.rounds.is_empty() {
        column.rounds.push(round); // half a round is shown only if there is no other
    }
    Ok(complete)
}

/// A bar where the end is known, else a spinner; neither is drawn unless standard error is a terminal.
fn progress_bar(job: &Job, title: String) -> ProgressBar {
    let (bar, template) = match job.extent() {
        Extent::Lines(lines) => {
            (ProgressBar::new(lines), "{msg} {wide_bar} {human_pos} of {human_len} lines")
        }
        Extent::Bytes(bytes) => (ProgressBar::new(bytes), "{msg} {wide_bar} {bytes} of {total_bytes}"),
        Extent::Unknown => (ProgressBar::new_spinner(), "{spinner} {msg} {bytes} {bytes_per_sec}"),
    };
    let style = ProgressStyle::with_template(template).expect("the templates are fine");
    bar.with_style(style).with_message(title)
}

/// Prints the report and says where the output is.
fn finish(job: Job, stop: &CancellationToken, columns: &[Column]) -> Result<ExitCode, Failure> {
    let lines_written =
        columns.iter().flat_map(|column| &column.rounds).map(|round| round.lines).next().unwrap_or(0);
    let failure = |error: anyhow::Error| Failure { error, lines_written };
    let text = summary(&job, stop, columns);
    let (mut out, name) = (job.output.report_to(), job.output.name());
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    printed.context("cannot print the report").map_err(failure)?;
    job.output.keep().with_context(|| format!("cannot keep {name}")).map_err(failure)?;
    Ok(if stop.is_cancelled() { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

fn summary(job: &Job, stop: &CancellationToken, columns: &[Column]) -> String {
    let rounds = columns.iter().map(|column| column.rounds.len()).max().unwrap_or(0) as u64;
    let readers = count(job.inputs.len() as u64, "reader");
    let compared = columns.iter().all(|column| !column.rounds.is_empty());
    let mut text = format!("{readers}, 1 writer, {}", count(rounds, "round"));
    text += if compared { " through each channel in turn" } else { "" };
    text += if rounds > 1 { ", medians\n" } else { "\n" };
    if rounds > 0 {
        text += &format!("{}\n", report::table(columns));
    }
    let mut note = |line: &str| text = format!("{text}{line}\n");
    if !job.rereadable {
        note("an input can be read only once: one round and nothing to compare with");
    } else if !job.is_repeatable() {
        note("the output can be written only once: one round and nothing to compare with");
    }
    if job.verify && rounds > 0 {
        note("verified: each line sent is in the output exactly once, byte for byte, each reader's in order");
    }
    match columns.iter().find_map(|column| column.interrupted.as_ref()) {
        Some(interrupted) => note(interrupted),
        None if stop.is_cancelled() => note("interrupted between two rounds"),
        None => {}
    }
    match &job.output {
        Output::Temporary(path) => note(&format!("output: {} (a temporary file, kept)", path.display())),
        output => note(&format!("output: {}", output.name())),
    }
    text
}
