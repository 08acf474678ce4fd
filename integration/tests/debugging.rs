//! docs/debugging.md: each `sh` block is run, and says what the `text` block below it says.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use integration::*;

const PAGE: &str = include_str!("../../docs/debugging.md");

/// The commands of a block, and what is said then.
struct Block {
    commands: String,
    said: String,
}

/// The blocks below the heading that begins so; of the page itself where there is none.
fn blocks(heading: &str) -> Vec<Block> {
    let mut sections = PAGE.split("\n## ");
    let section = sections.find(|section| section.starts_with(heading)).expect(heading);
    let mut blocks: Vec<Block> = Vec::new();
    for fenced in section.split("\n```").skip(1).step_by(2) {
        match fenced.split_once('\n').expect("a line") {
            ("sh", commands) => {
                blocks.push(Block { commands: commands.to_owned(), said: String::new() });
            }
            ("text", said) => blocks.last_mut().expect("commands before").said = said.to_owned(),
            (language, _) => panic!("a block of {language:?}"),
        }
    }
    assert!(!blocks.is_empty(), "{heading}");
    blocks
}

/// Whether a line is as it is written: `...` stands for anything.
fn is_line(line: &str, written: &str) -> bool {
    let mut parts = written.split("...");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    for part in &parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty() || parts.last().is_some_and(|last| last.is_empty())
}

/// Whether lines are as they are written: `...` alone stands for any lines.
fn are_lines(lines: &[&str], written: &[&str]) -> bool {
    match written.split_first() {
        None => lines.is_empty(),
        Some((&"...", rest)) => (0..=lines.len()).any(|skip| are_lines(&lines[skip..], rest)),
        Some((first, rest)) => lines
            .split_first()
            .is_some_and(|(line, others)| is_line(line, first) && are_lines(others, rest)),
    }
}

/// Runs blocks in a directory of their own; `before` are words that call the shell.
fn follow(blocks: &[Block], c: &Container, before: &[&str]) {
    let bin = c.dir().join("bin");
    fs::create_dir(&bin).expect("mkdir");
    let davit = runtime::runtime().path.display();
    let wrapper = format!("#!/bin/sh\nexec {davit} --root {} \"$@\"\n", c.state_root().display());
    fs::write(bin.join("davit"), wrapper).expect("write");
    fs::set_permissions(bin.join("davit"), fs::Permissions::from_mode(0o755)).expect("chmod");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("PATH"));
    for Block { commands, said } in blocks {
        // The container's name on the page is not one of its own on this host.
        let script =
            format!("exec 2>&1\n{}", commands.replace("bundle web", &format!("bundle {}", c.id)));
        let words = [before, &["sh", "-c", &script]].concat();
        let call = c.host(&words).dir(c.dir().join("work")).env("PATH", &path);
        let done = call.env("XDG_RUNTIME_DIR", c.path("work")).done();
        let out = done.out.replace(&c.id, "web");
        let (lines, written): (Vec<&str>, Vec<&str>) =
            (out.lines().collect(), said.lines().collect());
        assert!(are_lines(&lines, &written), "{commands}\nsays\n{out}\nand not\n{said}{done:#?}");
        c.assert_nothing_left();
    }
}

fn place() -> Container {
    let c = Container::new(&["true"]);
    let work = c.dir().join("work");
    fs::create_dir(&work).expect("mkdir");
    c
}

/// The bundle that works, and then what is below this heading.
fn after_the_beginning(heading: &str) {
    let mut all = blocks("# Debugging");
    all.extend(blocks(heading));
    follow(&all, &place(), &[]);
}

#[test]
fn a_wrong_mount() {
    davit_only!("its own messages");
    skip_if!(skip::needs_root());
    after_the_beginning("1. ");
}

#[test]
fn a_system_call_that_the_filter_does_not_allow() {
    davit_only!("its own messages");
    skip_if!(skip::needs_root());
    after_the_beginning("2. ");
}

#[test]
fn out_of_memory() {
    davit_only!("its own messages");
    skip_if!(skip::needs_root());
    controllers!();
    let swap = "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes";
    skip_if!((host::has_cgroup_v1() && !Path::new(swap).exists()).then_some("no limit of swap"));
    after_the_beginning("3. ");
}

#[test]
fn a_program_that_is_not_there() {
    davit_only!("its own messages");
    skip_if!(skip::needs_root());
    after_the_beginning("4. ");
}

#[test]
fn rootless_without_ids() {
    davit_only!("its own messages");
    skip_if!(skip::rootless_fails(1000));
    let c = place();
    chown(c.path("work"), Some(1000), Some(1000)).expect("chown");
    fs::create_dir_all(c.path("etc")).expect("mkdir");
    for (name, text) in [
        ("passwd", "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\n"),
        ("subuid", ""),
        ("subgid", ""),
    ] {
        fs::write(c.path(&format!("etc/{name}")), text).expect("write");
    }
    fs::create_dir(c.state_root()).expect("mkdir");
    chown(c.state_root(), Some(1000), Some(1000)).expect("chown");
    let script = format!(
        "mount -t overlay -o lowerdir={}:/etc overlay /etc && \
         exec setpriv --reuid=1000 --regid=1000 --clear-groups --inh-caps=-all \"$@\"",
        c.path("etc")
    );
    follow(&blocks("5. "), &c, &["unshare", "-m", "sh", "-c", &script, "sh"]);
}

#[test]
fn tools() {
    davit_only!("its own messages");
    skip_if!(skip::needs_root());
    after_the_beginning("Tools");
}

#[test]
fn lines_are_compared_as_they_are_written() {
    assert!(is_line("a 12 us", "a ... us") && is_line("a b", "a...") && is_line("a", "a"));
    assert!(!is_line("ab", "a") && !is_line("b", "a") && !is_line("a 1 ms", "a ... us"));
    assert!(are_lines(&["x", "a", "b"], &["...", "a", "..."]) && are_lines(&[], &["..."]));
    assert!(!are_lines(&["a", "b"], &["a"]) && !are_lines(&[], &["a"]));
}
