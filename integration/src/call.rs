//! One call of a program: what it was given, what came of it, and never longer than its deadline.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// How long a call may take unless it says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A program to be called. Its output goes to files and not to pipes: the container inherits it,
/// and nobody shall wait for a container to close it.
#[derive(Debug)]
pub struct Call {
    command: Command,
    out: PathBuf,
    err: PathBuf,
    deadline: Duration,
}

impl Call {
    /// A call of `words[0]` with the rest as arguments; the output is kept under `at`, a path
    /// without extension.
    pub fn new(words: &[String], at: &Path) -> Self {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        let (out, err) = (at.with_extension("out"), at.with_extension("err"));
        command.stdout(File::create(&out).expect("output file"));
        command.stderr(File::create(&err).expect("output file"));
        Self { command, out, err, deadline: DEADLINE }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds a variable to the environment that the program inherits from the test.
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives the program no environment at all, as podman does for kill and delete.
    pub fn without_env(mut self) -> Self {
        self.command.env_clear();
        self
    }

    /// Runs the program in this directory.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Another deadline than the usual one.
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Gives the program this text on stdin.
    pub fn input(mut self, text: &str) -> Self {
        let file = self.out.with_extension("in");
        fs::write(&file, text).expect("input file");
        self.command.stdin(File::open(file).expect("input file"));
        self
    }

    /// Gives the program this stdin.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// Gives the program this for stdin, stdout and stderr: a terminal.
    pub fn stdio(mut self, file: &File) -> Self {
        let copy = || file.try_clone().expect("dup");
        self.command.stdin(copy()).stdout(copy()).stderr(copy());
        self
    }

    /// Gives the program /dev/null for stdin, stdout and stderr: nothing of it is seen.
    pub fn silent(mut self) -> Self {
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self
    }

    /// Gives the program this stdout.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self
    }

    /// Gives the program this stderr.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.command.stderr(stderr);
        self
    }

    /// Starts it and returns at once.
    pub fn spawn(mut self) -> Running {
        let child = self.command.spawn();
        let child = child.unwrap_or_else(|error| panic!("{:?}: {error}", self.command));
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        let (out, err, deadline) = (self.out, self.err, self.deadline);
        Running { child, words: words.join(" "), out, err, deadline, waited: false }
    }

    /// Runs it to its end.
    pub fn done(self) -> Outcome {
        self.spawn().wait()
    }
}

/// A program that was started; killed if it is dropped before its end.
#[derive(Debug)]
pub struct Running {
    child: Child,
    words: String,
    out: PathBuf,
    err: PathBuf,
    deadline: Duration,
    waited: bool,
}

impl Running {
    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.child.id().try_into().expect("a pid")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.pid()), signal).expect("kill");
    }

    /// What it has written to stdout so far.
    pub fn out(&self) -> String {
        read(&self.out)
    }

    /// Waits until its stdout holds `text`.
    pub fn until_out(&mut self, text: &str) -> String {
        let file = self.out.clone();
        let seen = within(self.deadline, || {
            let out = read(&file);
            out.contains(text).then_some(out).or_else(|| self.ended().then(String::new))
        });
        match seen {
            Some(out) if !out.is_empty() => out,
            _ => panic!(
                "{}: no {text:?} in {:?}, stderr {:?}",
                self.words,
                self.out(),
                read(&self.err)
            ),
        }
    }

    /// Has it ended already?
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_some()
    }

    /// Waits for its end; at the deadline it is killed and the test fails.
    pub fn wait(self) -> Outcome {
        let what = format!("{} within {:?}", self.words, self.deadline);
        let (out, err) = (self.out.clone(), self.err.clone());
        self.wait_or_kill().unwrap_or_else(|| {
            panic!("hangs: {what}; out {:?} err {:?}", read(&out), read(&err));
        })
    }

    /// Waits for its end; at the deadline it is killed, and there is no outcome.
    pub fn wait_or_kill(mut self) -> Option<Outcome> {
        let status = within(self.deadline, || self.child.try_wait().expect("wait"));
        self.waited = true;
        if status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        Some(Outcome::of(status?, &self.out, &self.err, &self.words))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.waited && !self.ended() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What came of a call.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The exit code; 1000 + the signal's number if the program itself was killed.
    pub code: i32,
    /// What it, and the container, wrote to stdout.
    pub out: String,
    /// What it, and the container, wrote to stderr.
    pub err: String,
    /// The command line.
    pub words: String,
}

impl Outcome {
    fn of(status: ExitStatus, out: &Path, err: &Path, words: &str) -> Self {
        let code = status.code().unwrap_or_else(|| 1000 + status.signal().unwrap_or(0));
        Self { code, out: read(out), err: read(err), words: words.into() }
    }

    /// Asserts success: code 0, and nothing said on stderr.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.code == 0 && self.err.is_empty(), "should succeed in silence: {self:#?}");
        self
    }

    /// Asserts success, and on stderr nothing but davit's warnings, with each of these texts in
    /// them. Other runtimes may say what they like.
    #[track_caller]
    pub fn warns(self, texts: &[&str]) -> Self {
        let this = self.exits(0);
        if crate::runtime::runtime().is_davit() {
            let warning = |line: &str| line.starts_with("davit: warning: ");
            assert!(this.err.lines().all(warning), "warnings alone: {this:#?}");
            for text in texts {
                assert!(this.err.contains(text), "no {text:?}: {this:#?}");
            }
        }
        this
    }

    /// Asserts this exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Asserts failure: a small non-zero exit code and no crash.
    #[track_caller]
    pub fn fails(self) -> Self {
        assert!((1..256).contains(&self.code), "should fail: {self:#?}");
        let crashed = ["panicked", "goroutine ", "backtrace", "Segmentation"];
        assert!(!crashed.iter().any(|word| self.err.contains(word)), "crashed: {self:#?}");
        self
    }

    /// Asserts failure with each of these texts in the error, in any case.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        let this = self.fails();
        let said = this.err.to_lowercase();
        for text in texts {
            assert!(said.contains(&text.to_lowercase()), "no {text:?}: {this:#?}");
        }
        this
    }

    /// Asserts a refusal; and what davit, but no other runtime, promises of each: nothing on
    /// stdout, one line on stderr and perhaps a `hint:` line, with each of these texts in it.
    /// Warnings may follow.
    #[track_caller]
    pub fn refuses(self, texts: &[&str]) -> Self {
        let this = self.fails();
        assert_eq!(this.out, "", "{this:#?}");
        if crate::runtime::runtime().is_davit() {
            let this = this.clone().says(texts);
            let is_warning = |line: &&str| line.starts_with("davit: warning: ");
            let lines: Vec<&str> = this.err.lines().filter(|line| !is_warning(line)).collect();
            let one = lines.len() == 1 || (lines.len() == 2 && lines[1].starts_with("hint: "));
            assert!(one && lines[0].starts_with("davit: "), "one line, please: {this:#?}");
            assert!(lines[0].len() < 1024, "a line, not a page: {this:#?}");
        }
        this
    }

    /// The lines of stdout.
    pub fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }

    /// The JSON on stdout.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// The rest of the first line of stdout that starts with `key`, blanks trimmed: for output such
    /// as /proc/PID/status.
    #[track_caller]
    pub fn field(&self, key: &str) -> &str {
        let line = self.out.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_else(|| panic!("no line {key:?}: {self:#?}")).trim()
    }
}

/// How many times slower this host is than others (`DAVIT_TEST_TIME_FACTOR`); an emulated one is.
fn slowness() -> u32 {
    static SLOWNESS: OnceLock<u32> = OnceLock::new();
    let asked = || std::env::var("DAVIT_TEST_TIME_FACTOR").ok().filter(|text| !text.is_empty());
    *SLOWNESS.get_or_init(|| asked().map_or(1, |text| text.parse().expect("a number")))
}

/// A span of time as it is on this machine.
pub fn patient(time: Duration) -> Duration {
    time * slowness()
}

/// How often something that fails by chance is tried: on a slow machine about as often as it can in
/// the same time. `DAVIT_TEST_ROUNDS` asks for so many times more.
pub fn rounds(usual: u32) -> u32 {
    let asked = std::env::var("DAVIT_TEST_ROUNDS").ok();
    let times: u32 = asked.map_or(1, |times| times.parse().expect("a number"));
    usual.min((usual / slowness()).max(30)) * times
}

/// Asks again and again until there is an answer or the time, made [`patient`], is over.
pub fn within<T>(deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + patient(deadline);
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
