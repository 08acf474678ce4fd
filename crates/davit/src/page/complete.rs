//! Completions for shells.

use std::fmt::Write as _;

use super::{Page, Spelling, Value};

/// The pages of which completions are made.
pub(crate) struct Pages<'a> {
    /// davit's own.
    pub(crate) program: &'a Page,
    /// Those of its commands.
    pub(crate) commands: &'a [&'a Page],
}

/// For bash: what may follow, and the ids of containers.
pub(crate) fn bash(pages: &Pages<'_>) -> String {
    let with_value: Vec<_> = spellings(pages.program)
        .filter(|spelling| spelling.takes() != Value::None)
        .flat_map(Spelling::names)
        .collect();
    let names: Vec<_> = pages.commands.iter().map(|page| page.name).collect();
    let mut values = String::new();
    let mut words =
        format!("        '') words='{} {}' ;;\n", names.join(" "), options(pages.program));
    bash_values(&mut values, pages.program);
    for page in pages.commands {
        bash_values(&mut values, page);
        let ids = if page.takes_id() { " ids=yes" } else { "" };
        let choices = page.choices().map_or(String::new(), |words| words.replace('|', " ") + " ");
        let options = options(page);
        let _ = writeln!(words, "        {}) words='{choices}{options}'{ids} ;;", page.name);
    }
    format!(
        r#"# bash completion for davit(8), made by: davit completion bash
_davit() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}}
    local command= words= ids= at
    for ((at = 1; at < COMP_CWORD; at++)); do
        case ${{COMP_WORDS[at]}} in
        {with_value}) ((at++)) ;;
        -*) ;;
        *) command=${{COMP_WORDS[at]}}; break ;;
        esac
    done
    COMPREPLY=()
    case $command:$previous in
{values}    esac
    case $command in
{words}    esac
    if [[ -n $ids && $current != -* ]]; then
        words=$(davit "${{COMP_WORDS[@]:1:at-1}}" list --quiet 2>/dev/null)
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _davit davit
"#,
        with_value = with_value.join("|")
    )
}

fn bash_values(text: &mut String, page: &Page) {
    for spelling in spellings(page) {
        let reply = match spelling.takes() {
            Value::None => continue,
            Value::Directory => "COMPREPLY=($(compgen -d -- \"$current\"))".to_owned(),
            // -o default offers files where there is no reply.
            Value::File | Value::Other => String::new(),
            Value::OneOf(words) => {
                let words = words.replace('|', " ");
                format!("COMPREPLY=($(compgen -W '{words}' -- \"$current\"))")
            }
        };
        let cases: Vec<_> = spelling.names().map(|name| format!("{}:{name}", page.name)).collect();
        let end = if reply.is_empty() { "return ;;" } else { "; return ;;" };
        let _ = writeln!(text, "    {}) {reply}{end}", cases.join("|"));
    }
}

/// For zsh.
pub(crate) fn zsh(pages: &Pages<'_>) -> String {
    let mut commands = String::new();
    let mut arguments = String::new();
    for page in pages.commands {
        let _ = writeln!(
            commands,
            "            {}",
            quoted(&format!("{}:{}", page.name, page.summary))
        );
        let id = if page.takes_id() { " '1:ID:_davit_ids' '*:argument:_default'" } else { "" };
        let _ =
            writeln!(arguments, "        {}) _arguments -S{}{id} ;;", page.name, zsh_options(page));
    }
    format!(
        r#"#compdef davit
# made by: davit completion zsh
_davit_ids() {{
    compadd -- ${{(f)"$(davit list --quiet 2>/dev/null)"}}
}}
_davit() {{
    local context state state_descr line
    typeset -A opt_args
    _arguments -C{program} '1:command:->command' '*::argument:->argument'
    case $state in
    command)
        local -a commands=(
{commands}        )
        _describe command commands ;;
    argument)
        case $words[1] in
{arguments}        esac ;;
    esac
}}
_davit "$@"
"#,
        program = zsh_options(pages.program)
    )
}

fn zsh_options(page: &Page) -> String {
    let mut text = String::new();
    for row in page.rows() {
        let spelling = Spelling::of(row);
        let value = match spelling.takes() {
            Value::None => String::new(),
            Value::Directory => format!(":{}:_files -/", spelling.value),
            Value::File => format!(":{}:_files", spelling.value),
            Value::OneOf(words) => format!(":value:({})", words.replace('|', " ")),
            Value::Other => format!(":{}: ", spelling.value),
        };
        let about = row.1.replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]");
        for name in spelling.names() {
            let _ = write!(text, " {}", quoted(&format!("*{name}[{about}]{value}")));
        }
    }
    text
}

/// For fish.
pub(crate) fn fish(pages: &Pages<'_>) -> String {
    let mut text = "# fish completion for davit(8), made by: davit completion fish\n\
                    complete -c davit -f\n"
        .to_owned();
    fish_options(&mut text, pages.program, "__fish_use_subcommand");
    for page in pages.commands {
        let _ = writeln!(
            text,
            "complete -c davit -n __fish_use_subcommand -a {} -d {}",
            page.name,
            quoted(page.summary)
        );
        let here = format!("__fish_seen_subcommand_from {}", page.name);
        fish_options(&mut text, page, &here);
        let free = match page.choices() {
            Some(words) => words.replace('|', " "),
            None if page.takes_id() => "(davit list --quiet 2>/dev/null)".to_owned(),
            None => continue,
        };
        let _ = writeln!(text, "complete -c davit -n '{here}' -a '{free}'");
    }
    text
}

fn fish_options(text: &mut String, page: &Page, condition: &str) {
    for row in page.rows() {
        let spelling = Spelling::of(row);
        let value = match spelling.takes() {
            Value::None => String::new(),
            Value::Directory => " -x -a '(__fish_complete_directories)'".to_owned(),
            Value::File => " -r -F".to_owned(),
            Value::OneOf(words) => format!(" -x -a '{}'", words.replace('|', " ")),
            Value::Other => " -x".to_owned(),
        };
        let names = spelling.names().map(|name| match name.strip_prefix("--") {
            Some(long) => format!(" -l {long}"),
            None => format!(" -s {}", name.trim_start_matches('-')),
        });
        let names: String = names.collect();
        let about = quoted(row.1);
        let _ = writeln!(text, "complete -c davit -n '{condition}'{names}{value} -d {about}");
    }
}

fn spellings(page: &Page) -> impl Iterator<Item = Spelling> {
    page.rows().map(Spelling::of)
}

fn options(page: &Page) -> String {
    spellings(page).flat_map(Spelling::names).collect::<Vec<_>>().join(" ")
}

/// A word for a shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
