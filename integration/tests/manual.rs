//! What is made of the table of commands: `--help`, the manual pages, the completions.

use std::process::Command;

use integration::*;

fn davit(words: &[&str]) -> Outcome {
    let c = Container::new(&["true"]);
    let mut all = vec![runtime::runtime().path.to_str().expect("utf-8")];
    all.extend(words);
    c.host(&all).done()
}

fn commands() -> Vec<String> {
    let list = davit(&["man", "--list"]).ok();
    assert!(list.lines().len() > 15, "{list:?}");
    list.lines().iter().map(ToString::to_string).collect()
}

/// Why a test of a program's syntax does not run, if so.
fn needs(program: &str) -> Option<String> {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    (!found.is_ok_and(|found| found.status.success())).then(|| format!("no {program} here"))
}

/// A directory that has davit under its own name, for what calls it by name.
fn with_davit_in_path(script: &str, shell: &str) -> Outcome {
    let c = Container::new(&["sleep", "100"]);
    c.create();
    let bin = c.dir().join("bin");
    std::fs::create_dir(&bin).expect("directory");
    let wrapper = format!(
        "#!/bin/sh\nexec {} --root {} \"$@\"\n",
        runtime::runtime().path.display(),
        c.state_root().display()
    );
    std::fs::write(bin.join("davit"), wrapper).expect("wrapper");
    std::fs::set_permissions(
        bin.join("davit"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("mode");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("PATH"));
    c.host(&[shell, "-c", &script.replace("@ID@", &c.id)]).dir(c.dir()).env("PATH", path).done()
}

#[test]
fn every_option_that_help_tells_of_is_taken() {
    davit_only!("about our own help");
    for command in commands() {
        let help = davit(&[&command, "--help"]).ok();
        let (_, options) = help.out.split_once("\noptions:\n").expect("options");
        let rows = options.lines().filter_map(|line| line.trim().split("  ").next());
        for spelling in rows.filter(|spelling| spelling.starts_with('-')) {
            let (names, value) = match spelling.rsplit_once(' ') {
                Some((names, value)) if !value.starts_with('-') => (names, Some("x")),
                _ => (spelling, None),
            };
            for name in names.split(", ").filter(|name| !matches!(*name, "-h" | "--help")) {
                // With arguments that no command takes, so that nothing is done.
                let mut words = vec![command.as_str(), name];
                words.extend(value);
                words.extend(["no/id", "no/id", "no/id"]);
                let refused = davit(&words).fails();
                assert!(!refused.err.contains("unknown option"), "{command} {name}: {refused:?}");
            }
        }
        let refused = davit(&[&command, "--nonsense", "no/id"]).fails();
        assert!(refused.err.contains("unknown option \"--nonsense\""), "{refused:?}");
    }
}

#[test]
fn manual_pages_are_sound() {
    davit_only!("about our own manual");
    skip_if!(needs("groff"));
    let mut pages = vec![String::new()];
    pages.extend(commands());
    for page in pages {
        let words: Vec<&str> = ["man", &page].into_iter().filter(|word| !word.is_empty()).collect();
        let source = davit(&words).ok();
        let c = Container::new(&["true"]);
        let file = c.dir().join("page.8");
        std::fs::write(&file, &source.out).expect("page");
        let file = file.to_str().expect("utf-8");
        let told =
            c.host(&["groff", "-man", "-ww", "-Tascii", "-P-c", "-P-b", "-P-u", file]).done().ok();
        assert_eq!(told.err, "", "{page}");
        for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "--help"] {
            assert!(told.out.contains(heading), "{page}: {heading}: {told:?}");
        }
    }
    davit(&["man", "nonsense"]).fails();
}

#[test]
fn bash_completes() {
    davit_only!("about our own completion");
    skip_if!(needs("bash"));
    let complete = |words: &str| {
        let script = format!(
            "source <(davit completion bash); COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); _davit; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        with_davit_in_path(&script, "bash").ok().out
    };
    assert_eq!(complete("davit crea"), "create\n");
    assert_eq!(complete("davit --cgroup-manager sys"), "systemd\n");
    assert_eq!(complete("davit --debug exec --pid"), "--pidfd-socket\n--pid-file\n");
    assert_eq!(complete("davit list --format ''"), "table\njson\n");
    assert_eq!(complete("davit completion z"), "zsh\n");
    assert_eq!(complete("davit create --bundle /et"), "/etc\n");
    let ids = with_davit_in_path(
        "source <(davit completion bash); COMP_WORDS=(davit kill ''); COMP_CWORD=2; _davit; \
         [ \"${COMPREPLY[*]}\" = '@ID@' ]",
        "bash",
    );
    ids.ok();
}

#[test]
fn zsh_completes() {
    davit_only!("about our own completion");
    skip_if!(needs("zsh"));
    // Completion needs a terminal in zsh; the functions can be loaded without.
    with_davit_in_path(
        "autoload -Uz compinit && compinit -u -D && davit completion zsh > _davit.zsh && zsh -n _davit.zsh",
        "zsh",
    )
    .ok();
}

#[test]
fn fish_completes() {
    davit_only!("about our own completion");
    skip_if!(needs("fish"));
    let script = "set -x HOME (mktemp -d); davit completion fish | source; complete -C 'davit crea'; \
                  complete -C 'davit list --format j'; complete -C 'davit kill '; rm -r $HOME";
    let run = with_davit_in_path(script, "fish").ok();
    let words: Vec<_> = run
        .lines()
        .iter()
        .map(|line| line.split('\t').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(words[..2], ["create", "json"], "{run:?}");
    assert_eq!(words.len(), 3, "an id: {run:?}");
}
