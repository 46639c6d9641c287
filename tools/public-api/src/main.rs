//! Lists the public API of turbostream, with all features, and compares it with `docs/public-api.txt`.
//! So every change of the API is visible in a diff.
//!
//! ```text
//! cargo run --manifest-path tools/public-api/Cargo.toml             # prints differences; exit code 1 if there are any
//! cargo run --manifest-path tools/public-api/Cargo.toml -- --write  # writes the list
//! ```
//!
//! The list is derived from rustdoc's JSON, which differs between Rust releases. So the list names the release that
//! wrote it. On another release nothing is compared.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use anyhow::{Context, ensure};

const LIST: &str = "docs/public-api.txt";
const WRITE: &str = "cargo run --manifest-path tools/public-api/Cargo.toml -- --write";

fn main() -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let rustc = rustc()?;
    let path = root.join(LIST);
    if env::args().any(|argument| argument == "--write") {
        let list = list(&root)?;
        fs::write(&path, head(&rustc) + &list.join("\n") + "\n")?;
        println!("{LIST}: {} items written", list.len());
        return Ok(ExitCode::SUCCESS);
    }
    let recorded = fs::read_to_string(&path).with_context(|| format!("cannot read {LIST}"))?;
    let Some(recorded) = recorded.strip_prefix(&head(&rustc)) else {
        let by = recorded.lines().next().unwrap_or_default();
        println!("SKIPPED, as this is {rustc}: {LIST} begins with {by:?}");
        return Ok(ExitCode::SUCCESS);
    };
    Ok(compare(recorded, &list(&root)?))
}

/// The Rust release, without the commit.
fn rustc() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("--version").output().context("cannot run rustc")?;
    let version = String::from_utf8(output.stdout)?;
    Ok(version.split(' ').take(2).collect::<Vec<_>>().join(" ").trim().to_string())
}

fn head(rustc: &str) -> String {
    format!("# By {rustc}, with all features. Change nothing by hand: {WRITE}\n")
}

/// All public items, one per line.
fn list(root: &Path) -> anyhow::Result<Vec<String>> {
    let api = public_api::Builder::from_rustdoc_json(rustdoc_json(root)?).omit_blanket_impls(true).build();
    let items = api.context("this version of public-api does not know this rustdoc")?;
    // Auto traits that users do not rely on.
    let omitted = ["::Freeze for ", "::UnwindSafe for ", "::RefUnwindSafe for ", "::UnsafeUnpin for "];
    let lines = items.items().map(ToString::to_string);
    Ok(lines.filter(|line| !omitted.iter().any(|part| line.contains(part))).collect())
}

/// Runs rustdoc; returns the path of its JSON.
fn rustdoc_json(root: &Path) -> anyhow::Result<PathBuf> {
    let target = root.join("target/public-api");
    let status = Command::new("cargo")
        .current_dir(root)
        .args(["rustdoc", "--quiet", "--locked", "--lib", "--all-features", "--target-dir"])
        .arg(&target)
        .args(["--", "-Zunstable-options", "--output-format", "json"])
        // The JSON output is unstable; RUSTC_BOOTSTRAP enables it on a stable release.
        .env("RUSTC_BOOTSTRAP", "1")
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "rustdoc failed: {status}");
    Ok(target.join("doc/turbostream.json"))
}

/// Prints the differences between the recorded and the current list.
fn compare(recorded: &str, list: &[String]) -> ExitCode {
    let old: BTreeSet<&str> = recorded.lines().collect();
    let new: BTreeSet<&str> = list.iter().map(String::as_str).collect();
    old.difference(&new).for_each(|line| println!("- {line}"));
    new.difference(&old).for_each(|line| println!("+ {line}"));
    if old == new {
        println!("{} items, as in {LIST}", list.len());
        return ExitCode::SUCCESS;
    }
    println!(
        "the public API differs from {LIST}; if the change is intended, update CHANGELOG.md and run\n  {WRITE}"
    );
    ExitCode::FAILURE
}
