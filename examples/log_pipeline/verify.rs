//! Proof that the output is right, from the files alone.
//!
//! The writer has noted from which reader each line came. If the lines of the output, dealt out by that note,
//! are the lines of each input from the first on, byte for byte, with none left over on either side, then
//! every line is there exactly once and each reader's lines are in order.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::lines::Replay;
use crate::round::{Job, Round};

/// Compares the output of a round with its inputs.
pub(crate) fn verify(job: &Job, round: &Round, output: &Path) -> anyhow::Result<()> {
    let mut replays = replays(job, round)?;
    let mut output = BufReader::with_capacity(1 << 20, File::open(output)?);
    let mut found = Vec::new();
    let mut number = 0_u64;
    for &(reader, count) in round.trail.iter().flatten() {
        let (input, replay) = (&job.inputs[usize::from(reader)], &mut replays[usize::from(reader)]);
        for _ in 0..count {
            number += 1;
            found.clear();
            output.read_until(b'\n', &mut found)?;
            let expected =
                replay.next_line().with_context(|| format!("cannot read {} again", input.name()))?;
            ensure!(
                expected == Some(&found[..]),
                "line {number} of the output is not the next line of {}",
                input.name()
            );
        }
    }
    ensure!(output.fill_buf()?.is_empty(), "the output goes on after line {number}, the last one");
    check_ends(job, round, &mut replays, number)
}

fn replays(job: &Job, round: &Round) -> anyhow::Result<Vec<Replay>> {
    let open = |(input, end): (_, &crate::round::ReaderEnd)| {
        let copy = end.copy.as_ref().map(File::try_clone).transpose()?;
        if let Some(mut copy) = copy.as_ref() {
            copy.rewind()?;
        }
        Replay::open(input, job.terminate(), copy)
    };
    let replays = job.inputs.iter().zip(&round.readers).map(open).collect::<std::io::Result<_>>();
    replays.context("cannot read an input again")
}

/// Nothing may be missing at the end: neither what was accepted nor, if the round was complete, anything
/// read.
fn check_ends(job: &Job, round: &Round, replays: &mut [Replay], written: u64) -> anyhow::Result<()> {
    let accepted: u64 = round.readers.iter().map(|reader| reader.accepted).sum();
    ensure!(written == accepted, "{accepted} lines were accepted, {written} are in the output");
    for ((input, end), replay) in job.inputs.iter().zip(&round.readers).zip(replays) {
        if end.complete && replay.next_line()?.is_some() {
            bail!("lines of {} are missing from the output", input.name());
        }
    }
    Ok(())
}
