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

/// A PATH on which davit stands under its own name, with this container's state, for what calls it
/// by name.
fn path_with_davit(c: &Container) -> String {
    let bin = c.dir().join("bin");
    std::fs::create_dir(&bin).expect("directory");
    let wrapper = format!(
        "#!/bin/sh\nexec {} --root {} \"$@\"\n",
        runtime::runtime().path.display(),
        c.state_root().display()
    );
    std::fs::write(bin.join("davit"), wrapper).expect("wrapper");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("davit"), mode).expect("mode");
    format!("{}:{}", bin.display(), std::env::var("PATH").expect("PATH"))
}

#[test]
fn every_option_that_help_tells_of_is_taken() {
    davit_only!("the help of davit");
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
    davit_only!("the manual of davit");
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

/// A command line up to the cursor, and words that must be offered there and words that must not;
/// `@ID@` is a container.
const OFFERS: &[(&str, &[&str], &[&str])] = &[
    ("davit crea", &["create"], &[]),
    ("davit --debug st", &["start", "state"], &["create"]),
    ("davit --log-format json dele", &["delete"], &[]),
    ("davit --cgroup-manager sys", &["systemd"], &["disabled"]),
    ("davit help resu", &["resume"], &["run"]),
    ("davit man crea", &["create"], &[]),
    ("davit completion z", &["zsh"], &["bash"]),
    ("davit list --format ", &["table", "json"], &["text"]),
    ("davit exec --pid", &["--pidfd-socket", "--pid-file"], &["--process"]),
    ("davit run --k", &["--keep"], &[]),
    ("davit kill ", &["@ID@"], &["file", "directory", "TERM"]),
    ("davit kill @ID@ ", &["TERM", "KILL", "WINCH"], &["@ID@", "file", "directory"]),
    ("davit kill -a @ID@ US", &["USR1", "USR2"], &["KILL"]),
    ("davit kill @ID@ TERM ", &[], &["@ID@", "KILL", "file"]),
    ("davit exec ", &["@ID@"], &["file", "directory"]),
    ("davit exec @ID@ ", &[], &["@ID@", "file", "directory"]),
    ("davit exec @ID@ sh --pid", &[], &["--pid-file"]),
    ("davit exec --cwd ", &[], &["@ID@", "file", "directory"]),
    ("davit exec --process ", &["file"], &["@ID@"]),
    ("davit exec --process file ", &["@ID@"], &["file", "directory"]),
    ("davit ps @ID@ ", &[], &["@ID@", "file"]),
    ("davit create ", &[], &["@ID@", "file", "directory"]),
    ("davit create --bundle ", &["directory"], &["file", "@ID@"]),
    ("davit explain ", &["directory"], &["file", "@ID@"]),
    ("davit mounts ", &["add", "remove"], &["file", "@ID@"]),
    ("davit mounts add ", &["@ID@"], &["file", "add"]),
    ("davit mounts add @ID@ ", &["file"], &["@ID@"]),
    ("davit list ", &[], &["@ID@", "file", "directory"]),
    ("davit state @ID@ ", &[], &["@ID@", "file", "directory"]),
    ("davit features ", &[], &["@ID@", "file"]),
];

/// What a shell offers where. The script gets the command lines as its arguments, and prints for
/// each a line `# LINE` and then the words, one on a line.
fn completes(shell: &str, script: &str) {
    let c = Container::new(&["sleep", "100"]);
    c.create();
    let work = c.dir().join("work");
    std::fs::create_dir_all(work.join("directory")).expect("directory");
    std::fs::write(work.join("file"), "").expect("file");
    let path = path_with_davit(&c);
    let lines: Vec<String> = OFFERS.iter().map(|(line, ..)| line.replace("@ID@", &c.id)).collect();
    let script_file = c.path("script");
    std::fs::write(&script_file, script).expect("script");
    let mut words = vec![shell];
    if shell == "zsh" {
        words.push("-f");
    }
    words.push(&script_file);
    words.extend(lines.iter().map(String::as_str));
    let run = c.host(&words).dir(&work).env("PATH", path).env("HOME", c.path("")).done().ok();
    let mut answers = run.out.split("# ").skip(1);
    for ((line, offered, absent), typed) in OFFERS.iter().zip(&lines) {
        let answer = answers.next().unwrap_or_default();
        let mut words = answer.lines().map(|line| line.split('\t').next().unwrap_or_default());
        assert_eq!(words.next(), Some(typed.as_str()), "{run:?}");
        let words: Vec<&str> = words.map(|word| word.trim_end_matches(['/', ' '])).collect();
        for word in *offered {
            let word = word.replace("@ID@", &c.id);
            assert!(words.contains(&word.as_str()), "{shell}: {line}: {word} in {words:?}");
        }
        for word in *absent {
            let word = word.replace("@ID@", &c.id);
            assert!(!words.contains(&word.as_str()), "{shell}: {line}: {word} in {words:?}");
        }
    }
}

#[test]
fn bash_completes() {
    davit_only!("the completion of davit");
    skip_if!(needs("bash"));
    completes(
        "bash",
        r##"source <(davit completion bash)
for line; do
    echo "# $line"
    read -ra COMP_WORDS <<< "$line"
    [[ $line == *' ' ]] && COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _davit
    printf '%s\n' "${COMPREPLY[@]}"
done
"##,
    );
}

/// bash parts a word at `=`.
#[test]
fn bash_completes_after_an_equals_sign() {
    davit_only!("the completion of davit");
    skip_if!(needs("bash"));
    let c = Container::new(&["true"]);
    let path = path_with_davit(&c);
    let complete = |words: &str| {
        let script = format!(
            "source <(davit completion bash); COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); _davit; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        c.host(&["bash", "-c", &script]).env("PATH", &path).done().ok().out
    };
    assert_eq!(complete("davit list --format = j"), "json\n");
    assert_eq!(complete("davit list --format ="), "table\njson\n");
    assert_eq!(complete("davit --log-format = json crea"), "create\n");
    assert_eq!(complete("davit --debug = false crea"), "create\n");
    assert_eq!(complete("davit --debug ="), "\n");
}

/// zsh completes in a terminal only: one is made with zsh's own means, in which each match is noted
/// down as it is added.
#[test]
fn zsh_completes() {
    davit_only!("the completion of davit");
    skip_if!(needs("zsh"));
    completes(
        "zsh",
        r##"zmodload zsh/zpty
mkdir ../functions ../answers
davit completion zsh > ../functions/_davit
cat > ../inner.zsh <<'END'
fpath=($PWD/../functions $fpath)
autoload -Uz compinit && compinit -u -D
LISTMAX=10000
compadd () {
    local -a hits
    if [[ ${@[1,(i)(-|--)]} != *-[A-Z]#[OAD]* ]]; then
        builtin compadd -O hits "$@"
        print -rl -- $hits >> ../answers/words
    fi
    builtin compadd "$@"
}
answered () { BUFFER=; : > ../answers/done }
zle -N answered
bindkey '^G' answered
bindkey '^I' complete-word
: > ../answers/done
END
zpty shell zsh -f -i
zpty -w shell 'source ../inner.zsh'
answer () {
    local tries=0 noise
    until [[ -e ../answers/done ]]; do
        zpty -r -t shell noise >/dev/null
        sleep 0.02
        (( ++tries < 1000 )) || exit 1
    done
    rm ../answers/done
}
answer
for line; do
    : > ../answers/words
    zpty -w -n shell "$line"$'\t\a'
    answer
    print -r -- "# $line"
    cat ../answers/words
done
zpty -d shell
"##,
    );
}

#[test]
fn fish_completes() {
    davit_only!("the completion of davit");
    skip_if!(needs("fish"));
    completes(
        "fish",
        r##"davit completion fish | source
for line in $argv
    echo "# $line"
    complete -C "$line"
end
"##,
    );
}
