//! Terminals: one to run a runtime on, and the other end of `--console-socket`.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};

use crate::call::{DEADLINE, within};

/// A terminal as a person sees it: type into it, read from it.
#[derive(Debug)]
pub struct Screen {
    master: PtyMaster,
    /// The slave's path, such as /dev/pts/3.
    pub path: String,
    seen: String,
}

impl Screen {
    /// A new terminal of this size.
    pub fn new(columns: u16, rows: u16) -> Self {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let master = posix_openpt(flags).expect("posix_openpt");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let path = ptsname_r(&master).expect("ptsname");
        let screen = Self { master, path, seen: String::new() };
        screen.resize(columns, rows);
        screen
    }

    /// The end that a program gets as stdin, stdout and stderr.
    pub fn slave(&self) -> File {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NOCTTY);
        options.open(&self.path).expect("open the slave")
    }

    /// Gives it another size: the kernel then sends SIGWINCH.
    pub fn resize(&self, columns: u16, rows: u16) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let done =
            Command::new("stty").args(["-F", &self.path, "cols", &columns, "rows", &rows]).status();
        assert!(done.is_ok_and(|status| status.success()), "stty");
    }

    /// The terminal's settings, in stty's own words.
    pub fn settings(&self) -> String {
        let stty = Command::new("stty").args(["-F", &self.path, "-g"]).output().expect("stty");
        String::from_utf8_lossy(&stty.stdout).into_owned()
    }

    /// Types.
    pub fn type_in(&mut self, text: &str) {
        (&self.master).write_all(text.as_bytes()).expect("type");
    }

    /// Reads until `text` has been seen; returns all that was seen since the last call.
    #[track_caller]
    pub fn until(&mut self, text: &str) -> String {
        let found = within(DEADLINE, || {
            self.read_some();
            self.seen.contains(text).then_some(())
        });
        assert!(found.is_some(), "no {text:?} on the terminal: {:?}", self.seen);
        std::mem::take(&mut self.seen)
    }

    /// All that was seen since the last call.
    pub fn rest(&mut self) -> String {
        self.read_some();
        std::mem::take(&mut self.seen)
    }

    fn read_some(&mut self) {
        let mut bytes = [0; 4096];
        loop {
            match (&self.master).read(&mut bytes) {
                Ok(0) => return,
                Ok(n) => self.seen.push_str(&String::from_utf8_lossy(&bytes[..n])),
                // EIO: no one has the slave open (yet, or any more).
                Err(_) => return,
            }
        }
    }
}

/// What conmon does for an engine: waits on a unix socket for the master of the container's
/// terminal.
const CONSOLE: &str = r#"
#define _GNU_SOURCE // ptsname_r
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void die(const char *what) { perror(what); exit(1); }

int main(int argc, char **argv)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    char name[64], hidden[512], data[4096];
    union { struct cmsghdr head; char room[256]; } control;
    struct iovec iov = { data, sizeof data };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    struct pollfd ends[2];
    struct winsize size;
    int listener, peer, fd, open_in = 1;
    ssize_t n;

    snprintf(hidden, sizeof hidden, "%s.new", argv[1]);
    strncpy(at.sun_path, hidden, sizeof at.sun_path - 1);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 1) || rename(hidden, argv[1])) die("listen");
    peer = accept(listener, NULL, NULL);
    if (peer < 0) die("accept");
    n = recvmsg(peer, &msg, MSG_CMSG_CLOEXEC);
    if (n < 0) die("recvmsg");
    if (!CMSG_FIRSTHDR(&msg) || CMSG_FIRSTHDR(&msg)->cmsg_type != SCM_RIGHTS) { fprintf(stderr, "no fd\n"); return 1; }
    if (CMSG_FIRSTHDR(&msg)->cmsg_len != CMSG_LEN(sizeof fd)) { fprintf(stderr, "not one fd\n"); return 1; }
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof fd);
    if (ptsname_r(fd, name, sizeof name) || ioctl(fd, TIOCGWINSZ, &size)) die("not a pty master");
    printf("message %zd bytes\nmaster %s\nsize %dx%d\n", n, name, size.ws_col, size.ws_row);
    fflush(stdout);
    for (;;) {
        ends[0] = (struct pollfd){ fd, POLLIN, 0 };
        ends[1] = (struct pollfd){ open_in ? 0 : -1, POLLIN, 0 };
        if (poll(ends, 2, 20000) <= 0) return 2;
        if (ends[0].revents) {
            n = read(fd, data, sizeof data);
            if (n <= 0) return 0;
            if (write(1, data, n) != n) return 3;
        }
        if (ends[1].revents) {
            n = read(0, data, sizeof data);
            if (n <= 0) open_in = 0;
            else if (write(fd, data, n) != n) return 4;
        }
    }
}
"#;

/// The engine's end of `--console-socket`: receives the master and copies what the container
/// writes.
#[derive(Debug)]
pub struct Console {
    child: Child,
    seen: String,
}

impl Console {
    /// Listens at `socket`.
    pub fn listen(socket: &Path) -> Self {
        let program = crate::probe::compile("console", CONSOLE);
        let mut command = Command::new(program);
        command.arg(socket).stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().expect("console");
        let out = child.stdout.as_ref().expect("a pipe");
        fcntl(out.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("fcntl");
        assert!(within(DEADLINE, || socket.exists().then_some(())).is_some(), "console listens");
        Self { child, seen: String::new() }
    }

    /// Types into the container's terminal.
    pub fn type_in(&mut self, text: &str) {
        let pipe = self.child.stdin.as_mut().expect("a pipe");
        pipe.write_all(text.as_bytes()).expect("type");
    }

    /// Reads until `text` was seen, and returns all that was seen since the beginning: first three
    /// lines about the message (`message N bytes`, `master PATH`, `size CxR`), then what came from
    /// the terminal.
    #[track_caller]
    pub fn until(&mut self, text: &str) -> &str {
        let found = within(DEADLINE, || {
            self.read_some();
            self.seen.contains(text).then_some(())
        });
        assert!(found.is_some(), "no {text:?} from the console: {:?}", self.seen);
        &self.seen
    }

    /// Waits for the end of the terminal and returns everything, with ends of line as programs
    /// write them.
    #[track_caller]
    pub fn end(self) -> String {
        self.end_as_it_is().replace("\r\n", "\n")
    }

    /// Waits for the end of the terminal and returns everything.
    #[track_caller]
    pub fn end_as_it_is(mut self) -> String {
        let ended = within(DEADLINE, || {
            self.read_some();
            self.child.try_wait().expect("wait")
        });
        self.read_some();
        assert!(ended.is_some(), "the terminal stays open: {:?}", self.seen);
        std::mem::take(&mut self.seen)
    }

    fn read_some(&mut self) {
        let mut bytes = [0; 4096];
        let out = self.child.stdout.as_mut().expect("a pipe");
        loop {
            match out.read(&mut bytes) {
                Ok(0) => return,
                Ok(n) => self.seen.push_str(&String::from_utf8_lossy(&bytes[..n])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = within(Duration::from_secs(2), || self.child.try_wait().ok().flatten());
    }
}
