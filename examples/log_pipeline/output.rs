//! Where the lines go.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tempfile::TempPath;

use crate::lines::Input;

pub(crate) enum Output {
    /// Standard output, also where a file was named that is the same.
    Stdout,
    File(PathBuf),
    Temporary(TempPath),
}

impl Output {
    /// Decides on the output and refuses one that would overwrite an input. Nothing is opened for writing
    /// yet.
    pub(crate) fn from_argument(argument: Option<&Path>, inputs: &[Input]) -> anyhow::Result<Self> {
        let Some(path) = argument else {
            let file = tempfile::Builder::new().prefix("log_pipeline-").suffix(".log").tempfile();
            return Ok(Self::Temporary(file.context("cannot make a temporary file")?.into_temp_path()));
        };
        let target = fs::metadata(path);
        let stdout = raw_stdout().and_then(|file| file.metadata());
        let is_stdout = path == Path::new("-")
            || matches!((&target, &stdout), (Ok(target), Ok(stdout)) if is_same_file(target, stdout));
        let output = if is_stdout { Self::Stdout } else { Self::File(path.to_owned()) };
        let Ok(target) = (if is_stdout { stdout } else { target }) else { return Ok(output) };
        for input in inputs {
            let source = match input {
                Input::File(path) => fs::metadata(path),
                Input::Stdin => raw_stdin().and_then(|file| file.metadata()),
                Input::Generated { .. } => continue,
            };
            if source.is_ok_and(|source| source.is_file() && is_same_file(&source, &target)) {
                bail!("cannot write {}: it is an input as well", output.name());
            }
        }
        Ok(output)
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Stdout => "standard output".into(),
            Self::File(path) => path.display().to_string(),
            Self::Temporary(path) => path.display().to_string(),
        }
    }

    /// Opens the output, emptied.
    pub(crate) fn open(&self) -> io::Result<File> {
        match self {
            Self::Stdout => raw_stdout(),
            Self::File(path) => File::create(path),
            Self::Temporary(path) => File::create(path),
        }
    }

    /// The output as a file that can be read again.
    pub(crate) fn readable(&self) -> Option<&Path> {
        match self {
            Self::Stdout => None,
            Self::Temporary(path) => Some(path),
            Self::File(path) => fs::metadata(path).map_or(true, |file| file.is_file()).then_some(path),
        }
    }

    /// Whether a second round can start over.
    pub(crate) fn is_rewritable(&self) -> bool {
        self.readable().is_some() || matches!(self, Self::File(path) if path == Path::new("/dev/null"))
    }

    /// Keeps the output if it is a temporary file.
    pub(crate) fn keep(self) -> io::Result<()> {
        match self {
            Self::Temporary(path) => path.keep().map(drop).map_err(|error| error.error),
            Self::Stdout | Self::File(_) => Ok(()),
        }
    }

    /// Where the report goes: away from the lines.
    pub(crate) fn report_to(&self) -> Box<dyn Write> {
        match self {
            Self::Stdout => Box::new(io::stderr()),
            Self::File(_) | Self::Temporary(_) => Box::new(io::stdout()),
        }
    }
}

/// Standard output without the buffer that the standard library puts before it.
#[cfg(unix)]
fn raw_stdout() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

#[cfg(unix)]
fn raw_stdin() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

#[cfg(windows)]
fn raw_stdout() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    Ok(File::from(io::stdout().as_handle().try_clone_to_owned()?))
}

#[cfg(windows)]
fn raw_stdin() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    Ok(File::from(io::stdin().as_handle().try_clone_to_owned()?))
}

#[cfg(unix)]
fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Cannot be told here.
#[cfg(not(unix))]
fn is_same_file(_: &Metadata, _: &Metadata) -> bool {
    false
}
