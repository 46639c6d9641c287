//! One run of one contender in a separate process, so that runs share no heap, threads or hangs.

use crate::alloc::{self, Allocator};
use crate::cli::RunArgs;
use crate::contenders::{self, Entry};
use crate::workloads::{Job, Outcome, Workload, log::Log};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// The parameters of a run.
pub struct Run<'a> {
    pub workload: &'a Workload,
    pub allocator: Allocator,
    pub contender: &'a Entry,
    pub job: Job,
    pub timeout: u64,
    pub log: Option<&'a Path>,
}

impl Run<'_> {
    /// Runs in a child process and waits for it. The child exits at its timeout.
    pub fn in_a_child(&self) -> Result<Outcome, String> {
        let program = std::env::current_exe().map_err(|error| format!("own program not found: {error}"))?;
        let mut command = Command::new(program);
        command
            .arg("run")
            .arg(self.workload.name)
            .arg(self.contender.name)
            .arg(self.job.messages.to_string())
            .arg(self.job.capacity.to_string())
            .arg(self.timeout.to_string())
            .env(Allocator::VARIABLE, self.allocator.name())
            .stdin(Stdio::null());
        if self.workload.measures_rest() {
            command.env(Allocator::COUNT_VARIABLE, "1");
        }
        if let Some(log) = self.log {
            command.arg("--log").arg(log);
        }
        let output = command.output().map_err(|error| format!("no child process: {error}"))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{}: {}", output.status, stderr.trim()));
        }
        let (allocator, outcome): (Allocator, Outcome) =
            serde_json::from_slice(&output.stdout).map_err(|error| format!("unreadable outcome: {error}"))?;
        if allocator != self.allocator {
            return Err(format!("ran on the {} allocator", allocator.name()));
        }
        Ok(outcome)
    }
}

/// Runs in this process, the child, and prints the outcome as JSON.
pub fn in_this_process(args: &RunArgs) -> Result<(), String> {
    let contender =
        contenders::find(&args.contender).ok_or_else(|| format!("no contender {}", args.contender))?;
    let job = Job { messages: args.messages, capacity: args.capacity };
    let timeout = args.timeout;
    // A separate thread detects even a hang that keeps every worker busy. It ends with the process.
    let (done, watched) = mpsc::channel::<()>();
    thread::spawn(move || {
        if watched.recv_timeout(Duration::from_secs(timeout)) == Err(RecvTimeoutError::Timeout) {
            eprintln!("hang: not done after {timeout} s");
            std::process::exit(3);
        }
    });
    Log::open(args.log.as_deref())?;
    let outcome = (contender.run)(args.workload, job)?;
    drop(done);
    let line = serde_json::to_string(&(alloc::current(), outcome)).map_err(|error| error.to_string())?;
    println!("{line}");
    Ok(())
}
