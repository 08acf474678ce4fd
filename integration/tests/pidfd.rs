//! `--pidfd-socket`: a pidfd of the process for the caller of the runtime.

use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use integration::call::within;
use integration::*;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// The pid behind the descriptor that arrives at the socket (proc(5), fdinfo).
fn received(listener: &UnixListener) -> i32 {
    listener.set_nonblocking(true).expect("nonblocking");
    let (stream, _) =
        within(Duration::from_secs(10), || listener.accept().ok()).expect("nobody connects");
    let mut name = [0; 32];
    let mut data = [IoSliceMut::new(&mut name)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let flags = MsgFlags::empty();
    let message =
        recvmsg::<()>(stream.as_raw_fd(), &mut data, Some(&mut space), flags).expect("recvmsg");
    let fd = message.cmsgs().expect("control").find_map(|control| match control {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    let fd = fd.expect("a descriptor");
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("fdinfo");
    nix::unistd::close(fd).expect("close");
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).expect("a pidfd");
    pid.trim().parse().expect("a number")
}

fn socket(c: &Container) -> (UnixListener, String) {
    let path = c.path("pidfd");
    (UnixListener::bind(&path).expect("bind"), path)
}

#[test]
fn create_sends_a_handle_of_init() {
    davit_only!("Debian's runc and crun are older than this");
    let c = Container::sleeper();
    let (listener, path) = socket(&c);
    c.create_call(&["--pidfd-socket", &path]).done().ok();
    assert_eq!(received(&listener), c.pid());
}

#[test]
fn exec_sends_a_handle_of_its_process() {
    davit_only!("Debian's runc and crun are older than this");
    let c = Container::sleeper();
    c.create().start();
    let (listener, path) = socket(&c);
    let file = c.path("pid");
    let options = ["--detach", "--pid-file", &file, "--pidfd-socket", &path];
    c.exec_with(&options, &["sleep", "5"]).ok();
    let pid: i32 = std::fs::read_to_string(&file).expect("pid file").parse().expect("a pid");
    assert_eq!(received(&listener), pid);
}

#[test]
fn a_socket_without_a_listener_is_an_error_and_nothing_is_left() {
    davit_only!("Debian's runc and crun are older than this");
    let c = Container::sleeper();
    let call = c.create_call(&["--pidfd-socket", "/nosuch"]);
    call.done().refuses(&["--pidfd-socket", "/nosuch"]);
    c.assert_nothing_left();
}
