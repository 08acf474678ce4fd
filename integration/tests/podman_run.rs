//! `podman run`: what the user gets back.

use integration::podman::IMAGE;
use integration::terminal::Screen;
use integration::*;

#[test]
fn output_error_and_exit_code_are_the_programs() {
    let p = podman!();
    let run = p.run(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]).exits(7);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("out\n", "err\n"));
    p.assert_nothing_left();
}

/// The codes that podman makes of what happened, with runc and so with us.
#[test]
fn exit_codes() {
    let p = podman!();
    for (options, command, code, says) in [
        (&[][..], &["true"][..], 0, ""),
        (&[], &["false"], 1, ""),
        (&[], &["sh", "-c", "exit 255"], 255, ""),
        // podman itself refuses.
        (&["--nosuch"], &["true"], 125, "unknown flag"),
        (&["--memory", "x"], &["true"], 125, "memory"),
        (&["--user", "nosuch"], &["true"], 126, "unable to find user nosuch"),
        (&["--workdir", "/no/dir"], &["true"], 126, "workdir \"/no/dir\" does not exist"),
        // The program cannot be executed.
        (&[], &["/etc/passwd"], 126, "exec: \"/etc/passwd\": permission denied"),
        (&[], &["refused"], 126, "exec: \"refused\""),
        (&[], &["/etc"], 126, "exec: \"/etc\": "),
        // There is none.
        (&[], &["nosuch"], 127, "exec: \"nosuch\": executable file not found in $PATH"),
        (&[], &["/no/such"], 127, "/no/such: no such file or directory"),
        (&[], &["./nosuch"], 127, "no such file or directory"),
        (&["--env", "PATH=/sbin"], &["sh"], 127, "exec: \"sh\": executable file not found"),
        // A signal.
        (&["--init"], &["sh", "-c", "kill -KILL $$"], 137, ""),
        (&["--init"], &["sh", "-c", "kill -TERM $$"], 143, ""),
    ] {
        let run = p.run(options, command);
        assert!(run.code == code && run.err.contains(says), "{code} {says:?}: {run:#?}");
        assert!(!run.err.is_empty() || says.is_empty(), "{run:#?}");
    }
    p.assert_nothing_left();
}
