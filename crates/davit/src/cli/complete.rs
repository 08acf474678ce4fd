//! Completions for shells.
//!
//! All three work alike: the words before the cursor are parsed as davit parses them, which gives
//! the command and the number of its arguments; then the option or the argument at the cursor
//! determines the completions.

use std::fmt::Write as _;

use davit_runtime::signal;

use super::option::Value;
use super::{Argument, CommandSpec};

/// The command lines from which completions are generated.
pub(crate) struct ProgramSpec<'a> {
    /// That of davit itself.
    pub(crate) global: &'a CommandSpec,
    /// Those of the commands.
    pub(crate) commands: &'a [&'a CommandSpec],
}

impl ProgramSpec<'_> {
    fn all(&self) -> impl Iterator<Item = &CommandSpec> {
        std::iter::once(self.global).chain(self.commands.iter().copied())
    }

    fn command_names(&self) -> String {
        let names: Vec<_> = self.commands.iter().map(|spec| spec.name).collect();
        names.join(" ")
    }

    /// `COMMAND:OPTION` of each option with a value.
    fn with_value(&self) -> Vec<String> {
        let keys = |spec: &CommandSpec| -> Vec<String> {
            let options = spec.all_options();
            let options = options.iter().filter(|option| option.value != Value::None);
            let names = options.flat_map(|option| option.names());
            names.map(|name| format!("{}:{name}", spec.name)).collect()
        };
        self.all().flat_map(keys).collect()
    }

    /// `COMMAND:PLACE` of each argument after which all belong to another program.
    fn ends(&self) -> Vec<String> {
        let end = |spec: &CommandSpec| {
            let place = spec.arguments.iter().position(|argument| *argument == Argument::Rest)?;
            Some(format!("{}:{}", spec.name, place + 1))
        };
        self.commands.iter().copied().filter_map(end).collect()
    }
}

/// The completions that a shell offers.
enum Offer {
    Nothing,
    Directories,
    Files,
    Ids,
    Words(String),
}

impl Offer {
    fn for_value(value: &Value) -> Self {
        match value {
            Value::None | Value::Other(_) => Self::Nothing,
            Value::Directory => Self::Directories,
            Value::File | Value::Socket => Self::Files,
            Value::OneOf(words) => Self::Words(words.join(" ")),
        }
    }

    fn for_argument(argument: Argument, program: &ProgramSpec<'_>) -> Self {
        match argument {
            // Names in a container, or arguments of another program.
            Argument::NewId | Argument::Rest => Self::Nothing,
            Argument::Id => Self::Ids,
            Argument::Signal => Self::Words(signal::names().collect::<Vec<_>>().join(" ")),
            Argument::Directory => Self::Directories,
            Argument::File => Self::Files,
            Argument::Command => Self::Words(program.command_names()),
            Argument::OneOf(words) => Self::Words(words.join(" ")),
        }
    }
}

/// The completion for bash.
pub(crate) fn bash(program: &ProgramSpec<'_>) -> String {
    let call = |offer: Offer| match offer {
        Offer::Nothing => None,
        Offer::Directories => Some("_davit_files -d".to_owned()),
        Offer::Files => Some("_davit_files -f".to_owned()),
        Offer::Ids => Some("_davit_ids".to_owned()),
        Offer::Words(words) => Some(format!("_davit_words {}", quoted(&words))),
    };
    let (mut values, mut arguments, mut options) = (String::new(), String::new(), String::new());
    for spec in program.all() {
        let mut names = Vec::new();
        for option in spec.all_options() {
            names.extend(option.names());
            let Some(call) = call(Offer::for_value(&option.value)) else { continue };
            let keys: Vec<_> = option.names().map(|name| format!("{}:{name}", spec.name)).collect();
            let _ = writeln!(values, "        {}) {call} ;;", keys.join("|"));
        }
        for (place, argument) in spec.arguments.iter().enumerate() {
            if let Some(call) = call(Offer::for_argument(*argument, program)) {
                let _ = writeln!(arguments, "        {}:{place}) {call} ;;", spec.name);
            }
        }
        let (name, names) = (quoted(spec.name), quoted(&names.join(" ")));
        let _ = writeln!(options, "        {name}) _davit_words {names} ;;");
    }
    include_str!("completion.bash")
        .replace("@WITH_VALUE@", &program.with_value().join("|"))
        .replace("@ENDS@", &program.ends().join("|"))
        .replace("@VALUES@", &values)
        .replace("@OPTIONS@", &options)
        .replace("@ARGUMENTS@", &arguments)
}

/// The completion for zsh.
pub(crate) fn zsh(program: &ProgramSpec<'_>) -> String {
    let mut commands = String::new();
    let mut arguments = String::new();
    for spec in program.commands {
        let entry = quoted(&format!("{}:{}", spec.name, spec.summary));
        let _ = writeln!(commands, "        {entry}");
        let mut places = String::new();
        for (index, argument) in spec.arguments.iter().enumerate() {
            let place = match argument {
                Argument::Rest => "*::argument: ".to_owned(),
                argument => format!(
                    "{}:{}",
                    index + 1,
                    zsh_action("argument", &Offer::for_argument(*argument, program))
                ),
            };
            let _ = write!(places, " {}", quoted(&place));
        }
        // Options after the first argument may belong to another program.
        let others = if spec.arguments.contains(&Argument::Rest) { " -A '-*'" } else { "" };
        let options = zsh_options(spec);
        let _ =
            writeln!(arguments, "        {}) _arguments -S{others}{options}{places} ;;", spec.name);
    }
    format!(
        r#"#compdef davit
# made by: davit completion zsh
_davit_ids() {{
    compadd -- ${{(f)"$(davit $globals list --quiet 2>/dev/null)"}}
}}
_davit_commands() {{
    local -a commands=(
{commands}    )
    _describe command commands
}}
_davit() {{
    local context state state_descr line
    typeset -A opt_args
    local -a globals
    _arguments -C{program} '1:command:_davit_commands' '*::argument:->argument'
    [[ -n $opt_args[--root] ]] && globals=(--root $opt_args[--root])
    case $state in
    argument)
        case $words[1] in
{arguments}        esac ;;
    esac
}}
_davit "$@"
"#,
        program = zsh_options(program.global)
    )
}

/// The action of zsh for an argument or for the value of an option.
fn zsh_action(name: &str, offer: &Offer) -> String {
    match offer {
        Offer::Nothing => format!("{name}: "),
        Offer::Directories => format!("{name}:_files -/"),
        Offer::Files => format!("{name}:_files"),
        Offer::Ids => format!("{name}:_davit_ids"),
        Offer::Words(words) => format!("{name}:({words})"),
    }
}

fn zsh_options(spec: &CommandSpec) -> String {
    let mut text = String::new();
    for option in spec.all_options() {
        let value = match &option.value {
            Value::None => String::new(),
            // A colon would end the name.
            value => {
                let name = option.placeholder().replace(':', "\\:");
                format!(":{}", zsh_action(&name, &Offer::for_value(value)))
            }
        };
        let about = option.what.replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]");
        for name in option.names() {
            let _ = write!(text, " {}", quoted(&format!("*{name}[{about}]{value}")));
        }
    }
    text
}

/// The completion for fish.
pub(crate) fn fish(program: &ProgramSpec<'_>) -> String {
    let mut text = format!(
        r#"# fish completion for davit(8), made by: davit completion fish
# Whether the cursor is in this command, and at this argument.
function __davit_at
    set -l command ''
    set -l place 0
    set -l value no
    for word in (commandline -opc)[2..]
        if test $value = yes
            set value no
            continue
        end
        switch $word
            case '-*'
                contains -- "$command:$word" {with_value}; and set value yes
            case '*'
                if test -z "$command"
                    set command $word
                else
                    set place (math $place + 1)
                end
                contains -- "$command:$place" {ends}; and return 1
        end
    end
    test "$command" = "$argv[1]"; or return 1
    test (count $argv) -lt 2; or test $place = $argv[2]
end
complete -c davit -f
"#,
        with_value = program.with_value().join(" "),
        ends = program.ends().join(" ")
    );
    for spec in program.commands {
        let what = quoted(spec.summary);
        let _ =
            writeln!(text, "complete -c davit -n '__davit_at \"\" 0' -a {} -d {what}", spec.name);
    }
    for spec in program.all() {
        fish_command(&mut text, spec, program);
    }
    text
}

fn fish_command(text: &mut String, spec: &CommandSpec, program: &ProgramSpec<'_>) {
    for option in spec.all_options() {
        let value = match (&option.value, Offer::for_value(&option.value)) {
            (Value::None, _) => String::new(),
            (_, offer) => format!(" -r{}", fish_offer(&offer)),
        };
        let names: String = option
            .names()
            .map(|name| match name.strip_prefix("--") {
                Some(long) => format!(" -l {long}"),
                None => format!(" -s {}", name.trim_start_matches('-')),
            })
            .collect();
        let (what, name) = (quoted(option.what), spec.name);
        let _ =
            writeln!(text, "complete -c davit -n '__davit_at \"{name}\"'{names}{value} -d {what}");
    }
    for (place, argument) in spec.arguments.iter().enumerate() {
        // The commands were added above, with their summaries.
        let offer = match (spec.name, argument) {
            ("", Argument::Command) => Offer::Nothing,
            (_, argument) => Offer::for_argument(*argument, program),
        };
        if !matches!(offer, Offer::Nothing) {
            let (name, offer) = (spec.name, fish_offer(&offer));
            let _ = writeln!(text, "complete -c davit -n '__davit_at \"{name}\" {place}'{offer}");
        }
    }
}

fn fish_offer(offer: &Offer) -> String {
    match offer {
        Offer::Nothing => " -f".to_owned(),
        Offer::Directories => " -f -a '(__fish_complete_directories)'".to_owned(),
        Offer::Files => " -F".to_owned(),
        Offer::Ids => " -f -a '(davit list --quiet 2>/dev/null)'".to_owned(),
        Offer::Words(words) => format!(" -f -a {}", quoted(words)),
    }
}

/// The text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
