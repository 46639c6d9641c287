//! A process of this example, and the lines that it reports.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context as _;
use tokio::sync::mpsc::UnboundedSender;

/// What a process reports.
#[derive(Debug)]
pub(crate) struct Report {
    /// The process, by the number that it was started with.
    pub(crate) from: usize,
    /// A line, or `None` once its standard output is closed.
    pub(crate) line: Option<String>,
}

/// A running process. It is killed when this value is dropped.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts this program again with other arguments.
    pub(crate) fn start(
        number: usize,
        arguments: &[String],
        reports: UnboundedSender<Report>,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C in a terminal reaches the processes of one group: this one ends with its guard.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().context("cannot start a process")?;
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().context("standard output is piped")?).lines();
        std::thread::spawn(move || {
            // A line is whole: the process writes its lines at once, and a killed one writes none after its death.
            for line in lines.map_while(Result::ok) {
                let _ = reports.send(Report { from: number, line: Some(line) });
            }
            let _ = reports.send(Report { from: number, line: None });
        });
        Ok(Self { child, stdin })
    }

    /// Kills the process, by SIGKILL on Unix.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Closes the standard input of the process, which asks it to end.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
