//! The structure of `src/`: imports go strictly downward, and no folder is part of a circle.
//!
//! The order of the top level is stated here. Below it, each folder orders its own children: their imports of each other
//! form no circle. Between a module and its parent, imports go both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the top level. Each imports only from rows below its own.
const LAYERS: &[&[&str]] = &[
    &["tests"],
    &["lib"],
    &["forward"],
    &["adapter"],
    &["builder"],
    &["sender", "receiver"],
    &["monitor"],
    &["channel"],
    &["queue"],
    &["wait"],
    &["telemetry"],
    &["error"],
    &["sync"],
];

const MAX_FILES: usize = 8;
const MAX_FOLDERS: usize = 10;

/// One path into the crate, as a line of code names it.
struct Import {
    file: PathBuf,
    line: usize,
    /// The module that imports, as path segments.
    from: Vec<String>,
    /// The path that is imported, as path segments below the crate.
    to: Vec<String>,
}

impl Import {
    fn at(&self) -> String {
        let path = self.to.join("::");
        format!("{}:{}: crate::{path}", self.file.display(), self.line)
    }
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false if path.extension().is_some_and(|extension| extension == "rs") => files.push(path),
            false => {}
        }
    }
    files.sort();
    files
}

/// Returns the module that a file holds: `queue/head/mod.rs` is `queue::head`.
fn module_of(file: &Path) -> Vec<String> {
    let relative = file.strip_prefix(src()).expect("a file of src").with_extension("");
    let mut module: Vec<_> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// Returns the code of a file without comments, strings and its unit tests, with as many lines.
fn code_of(text: &str) -> String {
    let without_tests = text.find("\n#[cfg(all(test").or_else(|| text.find("\n#[cfg(test)]\nmod tests"));
    let text = &text[..without_tests.unwrap_or(text.len())];
    let without_comment = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    text.lines().map(without_comment).collect::<Vec<_>>().join("\n")
}

/// Expands `a::{b, c::{d, e}}` to all paths that it names. The text starts after the root.
fn expand(text: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut stack: Vec<Vec<String>> = vec![Vec::new()];
    let mut current: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut depth = 0;
    for character in text.chars().chain([';']) {
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => word.push(character),
            ':' if !word.is_empty() => current.push(std::mem::take(&mut word)),
            '{' => {
                stack.push(current.clone());
                depth += 1;
            }
            ',' | '}' | ';' | '*' => {
                if !word.is_empty() {
                    current.push(std::mem::take(&mut word));
                    paths.push(current.clone());
                }
                if character == '}' {
                    depth -= 1;
                    current = stack.pop().unwrap_or_default();
                }
                current = if depth == 0 { current } else { stack.last().cloned().unwrap_or_default() };
                if character == ';' || (character != '*' && depth == 0) {
                    break;
                }
            }
            _ => {
                // `as` renames, and the end of a path outside of a `use`.
                if depth == 0 && !word.is_empty() {
                    current.push(std::mem::take(&mut word));
                    paths.push(current);
                    break;
                }
            }
        }
    }
    paths
}

fn imports_of(file: &Path) -> Vec<Import> {
    let code = code_of(&fs::read_to_string(file).expect("a source file"));
    let from = module_of(file);
    let mut imports = Vec::new();
    for (root, depth) in
        [("crate::", None), ("super::super::", Some(2)), ("super::", Some(1)), ("self::", Some(0))]
    {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || before == ':' || before == '_') {
                continue;
            }
            let rest = &code[at + root.len()..];
            if rest.starts_with("super::") {
                continue;
            }
            let base = match depth {
                None => Vec::new(),
                Some(up) => from[..from.len().saturating_sub(up)].to_vec(),
            };
            let line = code[..at].matches('\n').count() + 1;
            for path in expand(rest) {
                let to = base.iter().cloned().chain(path).collect();
                imports.push(Import { file: file.to_owned(), line, from: from.clone(), to });
            }
        }
    }
    imports
}

fn all_imports() -> Vec<Import> {
    files_below(&src()).iter().flat_map(|file| imports_of(file)).collect()
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

#[test]
fn top_level_is_small_and_every_module_has_a_layer() {
    let (mut files, mut folders) = (0, 0);
    for entry in fs::read_dir(src()).expect("src") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(layer_of(&name).is_some(), "src/{name} has no layer in LAYERS");
        if path.is_dir() { folders += 1 } else { files += 1 }
    }
    assert!(files <= MAX_FILES, "{files} files on the top level of src, at most {MAX_FILES}");
    assert!(folders <= MAX_FOLDERS, "{folders} folders on the top level of src, at most {MAX_FOLDERS}");
}

#[test]
fn imports_between_top_level_modules_go_downward() {
    let mut broken = Vec::new();
    for import in all_imports() {
        let from = import.from.first().map_or("lib", String::as_str);
        let Some(to) = import.to.first() else { continue };
        // A name that the crate root re-exports stands above every layer but the tests.
        let to = if layer_of(to).is_some() { to.as_str() } else { "lib" };
        if from != to && layer_of(from) >= layer_of(to) && from != "lib" {
            broken.push(format!("{} goes upward: {from} is not above {to}", import.at()));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// Finds a circle among `edges`, if there is one.
fn circle(edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        node: &str,
        edges: &BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(start) = path.iter().position(|visited| visited == node) {
            return Some(path[start..].to_vec());
        }
        if !done.insert(node.to_owned()) {
            return None;
        }
        path.push(node.to_owned());
        let found = edges.get(node).into_iter().flatten().find_map(|next| visit(next, edges, path, done));
        path.pop();
        found
    }
    let mut done = BTreeSet::new();
    edges.keys().find_map(|node| visit(node, edges, &mut Vec::new(), &mut done))
}

#[test]
fn no_circle_between_the_children_of_a_folder() {
    let modules: BTreeSet<Vec<String>> = files_below(&src()).iter().map(|file| module_of(file)).collect();
    let mut edges: BTreeMap<Vec<String>, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let mut lines: BTreeMap<(Vec<String>, String, String), String> = BTreeMap::new();
    for import in all_imports() {
        // The longest prefix of the path that is a module. The remaining parts are items in it.
        let module =
            (1..=import.to.len()).rev().map(|len| &import.to[..len]).find(|path| modules.contains(*path));
        let Some(to) = module else { continue };
        let shared = import.from.iter().zip(to).take_while(|(one, other)| one == other).count();
        // One is an ancestor of the other: between parent and child, imports go both ways.
        if shared == import.from.len() || shared == to.len() {
            continue;
        }
        let (folder, from, to) = (to[..shared].to_vec(), import.from[shared].clone(), to[shared].clone());
        lines.entry((folder.clone(), from.clone(), to.clone())).or_insert_with(|| import.at());
        edges.entry(folder).or_default().entry(from).or_default().insert(to);
    }
    for (folder, edges) in &edges {
        if let Some(found) = circle(edges) {
            let next = found.iter().cycle().skip(1);
            let through: Vec<_> = found
                .iter()
                .zip(next)
                .map(|(from, to)| lines[&(folder.clone(), from.clone(), to.clone())].clone())
                .collect();
            panic!("a circle in src/{}:\n{}", folder.join("/"), through.join("\n"));
        }
    }
}

/// The payload of a caught panic may panic when it is dropped, which only this module handles.
#[test]
fn only_the_unwind_module_catches_panics() {
    let code = |file: &PathBuf| code_of(&fs::read_to_string(file).expect("a file of src"));
    let catches = |file: &PathBuf| code(file).contains("catch_unwind");
    let files: Vec<_> = files_below(&src()).into_iter().filter(catches).collect();
    assert_eq!(files, [src().join("sync/unwind.rs")]);
}

#[test]
fn nested_imports_are_expanded() {
    let expanded = |text: &str| -> Vec<String> { expand(text).iter().map(|path| path.join("::")).collect() };
    assert_eq!(expanded("a::b;"), ["a::b"]);
    assert_eq!(expanded("a::{b, c::{d, e}, self};"), ["a::b", "a::c::d", "a::c::e", "a::self"]);
    assert_eq!(expanded("a::b as c;"), ["a::b"]);
    assert_eq!(expanded("a::b(1)"), ["a::b"]);
}
