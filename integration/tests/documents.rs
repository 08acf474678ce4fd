//! ARCHITECTURE.md and the other documents: the drawing of the stages is that of the code, and
//! links lead to files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use integration::*;

const ARCHITECTURE: &str = include_str!("../../ARCHITECTURE.md");

/// The heading of the drawing.
const STAGES: &str = "## The stages of the processes\n";

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files below a directory with this extension, but for what tools put there.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("directory").map(|entry| entry.expect("entry")) {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type().expect("type").is_dir() {
            if !matches!(&*name, "target" | "cache") && !name.starts_with('.') {
                found.extend(files(&path, extension));
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found
}

/// The source of a crate, without its tests.
fn sources() -> Vec<String> {
    files(&top().join("crates"), "rs")
        .iter()
        .filter(|path| path.components().all(|part| part.as_os_str() != "tests"))
        .map(|path| fs::read_to_string(path).expect("source"))
        .map(|text| text.split("#[cfg(test)]").next().unwrap_or_default().to_owned())
        .collect()
}

/// The text of the section with the drawing.
fn drawing() -> &'static str {
    let (_, section) = ARCHITECTURE.split_once(STAGES).expect(STAGES);
    section.split("\n## ").next().expect("a section")
}

/// The messages of the drawing, and whether the runtime sends them.
fn drawn_messages() -> BTreeSet<(&'static str, bool)> {
    let mut found = BTreeSet::new();
    for line in drawing().lines() {
        if let Some((_, rest)) = line.split_once("<── ") {
            found.insert((rest.split_once(" ──").expect(line).0, false));
        } else if let Some((before, _)) = line.split_once(" ──>") {
            found.extend(before.rsplit_once("── ").map(|(_, name)| (name, true)));
        }
    }
    found
}

/// The names `davit:...` of a text, in their order.
fn stage_names(text: &str) -> Vec<&str> {
    let starts = text.match_indices("davit:").map(|(start, _)| &text[start..]);
    starts
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != ':');
            &rest[..end.unwrap_or(rest.len())]
        })
        .filter(|name| name.len() > "davit:".len())
        .collect()
}

#[test]
fn the_drawing_has_the_messages_of_the_handshake() {
    let text = sources().into_iter().find(|text| text.contains("pub enum Message {\n"));
    let text = text.expect("no file has the enum Message");
    let (_, body) = text.split_once("pub enum Message {\n").expect("enum");
    let (body, _) = body.split_once("\n}").expect("the end of the enum");
    let variants: BTreeSet<_> = body
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|line| line.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default())
        .map(|name| (name, name == "Go"))
        .collect();
    assert!(variants.len() > 5, "{variants:?}");
    assert_eq!(drawn_messages(), variants, "ARCHITECTURE.md, {STAGES}");
}

#[test]
fn the_drawing_has_the_names_of_the_stages() {
    let sources = sources();
    let in_code: BTreeSet<&str> = sources
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| line.contains("tage(c\"") || line.contains("_NAME: &str = "))
        .flat_map(stage_names)
        .collect();
    assert!(in_code.len() > 3, "{in_code:?}");
    let drawn: BTreeSet<_> = stage_names(drawing()).into_iter().collect();
    assert_eq!(drawn, in_code, "ARCHITECTURE.md, {STAGES}");
}

#[test]
fn a_plan_has_the_stages_in_the_order_of_the_drawing() {
    davit_only!("its own plan");
    let c = Container::new(&["true"]).with(|c| {
        // A network namespace that is joined, and one of pids below a user namespace that comes
        // late: init enters both.
        c["linux"]["namespaces"] = json!([
            { "type": "user" }, { "type": "pid" }, { "type": "mount" }, { "type": "uts" },
            { "type": "network", "path": "/proc/self/ns/net" }
        ]);
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map;
    });
    c.write();
    let plan = c.call(&["explain", &c.path("bundle")]).done().ok().out;
    let planned: Vec<_> =
        plan.lines().filter_map(|line| line.trim().strip_prefix("now called ")).collect();
    let (create, _) = drawing().split_once("`exec` into").expect("the drawing of exec");
    let mut drawn = stage_names(create);
    assert_eq!(drawn.remove(0), "davit:init");
    assert_eq!(planned, drawn);
}

#[test]
fn links_lead_to_files() {
    let mut lost = Vec::new();
    for page in files(&top(), "md") {
        let text = fs::read_to_string(&page).expect("page");
        for (start, _) in text.match_indices("](") {
            let target = text[start + 2..].split(')').next().unwrap_or_default();
            let path = target.split('#').next().unwrap_or_default();
            let is_file = !path.is_empty() && !path.contains("://") && !path.contains(' ');
            if is_file && !page.parent().expect("directory").join(path).exists() {
                lost.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

#[test]
fn paths_in_code_spans_exist() {
    // A module that is written without its crate is not looked for.
    let tops = ["crates/", "integration/", "contrib/", "bench/", "docs/", "conformance/", "fuzz/"];
    let mut lost = Vec::new();
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/glossary.md"] {
        let text = fs::read_to_string(top().join(name)).expect(name);
        for span in text.split('`').skip(1).step_by(2) {
            let is_path = tops.iter().any(|top| span.starts_with(top));
            let is_one = !span.contains([' ', '*', '\n', '<', '=', '{', 'N']);
            if is_path && is_one && !top().join(span).exists() {
                lost.push(format!("{name}: {span}"));
            }
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

#[test]
fn decisions_have_one_form_and_are_listed() {
    let directory = top().join("docs/decisions");
    let index = fs::read_to_string(directory.join("README.md")).expect("index");
    let mut wrong = Vec::new();
    for page in files(&directory, "md") {
        let name = page.file_name().expect("name").to_string_lossy().into_owned();
        if name == "README.md" {
            continue;
        }
        let text = fs::read_to_string(&page).expect("page");
        let title = text.lines().next().unwrap_or_default();
        let status = text.lines().nth(2).unwrap_or_default();
        let is_well_formed = title.starts_with(&format!("# {}: ", &name[..4]))
            && status.starts_with("Date: 20")
            && status.contains(". Status: ");
        if !is_well_formed || !index.contains(&format!("[{}]({name})", &title[2..])) {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "title, date, status, or row in README.md: {wrong:?}");
}
