//! Conversations with a systemd that is a thread of the test.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use super::message::{Kind, Message};
use super::*;

const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(20);

/// Answers to one call.
type Answer = Box<dyn FnMut(&Message) -> Vec<Message> + Send>;

/// A socket, and the calls that came through it, as `Method(arguments)`.
struct Fake {
    bus: Bus,
    calls: Arc<Mutex<Vec<String>>>,
    _directory: tempfile::TempDir,
}

impl Fake {
    fn new(direct: bool, mut answer: Answer) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&calls);
        // It ends with the test's process, or when its directory is gone and nobody dials.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &seen, &mut answer);
            }
        });
        let bus = Bus { socket: Socket::Path(path), direct, user: false };
        Self { bus, calls, _directory: directory }
    }

    fn unit(&self, name: &str) -> Unit {
        Unit { name: name.to_owned(), bus: self.bus.clone(), version: 257 }
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

fn serve(mut stream: UnixStream, seen: &Mutex<Vec<String>>, answer: &mut Answer) {
    let mut hello = Vec::new();
    while !hello.ends_with(b"BEGIN\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        hello.push(byte[0]);
    }
    assert_eq!(hello, b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
    let _ = stream.write_all(b"DATA\r\nOK 0123456789abcdef\r\n");
    let mut received = Vec::new();
    loop {
        if let Some(Some(length)) = Message::length(&received)
            && length <= received.len()
        {
            let call = Message::decode(&received.drain(..length).collect::<Vec<_>>()).unwrap();
            let arguments: Vec<String> = call.body.iter().map(ToString::to_string).collect();
            seen.lock().unwrap().push(format!("{}({})", call.member, arguments.join(", ")));
            for message in answer(&call) {
                // In pieces, as a stream may bring it.
                for piece in message.encode().chunks(7) {
                    let _ = stream.write_all(piece);
                }
            }
            continue;
        }
        let mut buffer = [0; 512];
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => received.extend(&buffer[..count]),
            _ => return,
        }
    }
}

fn reply(call: &Message, body: Vec<Value>) -> Message {
    Message { kind: Kind::Return, serial: 99, reply_to: call.serial, body, ..Message::default() }
}

fn refusal(call: &Message, error: &str, text: &str) -> Message {
    let body = vec![Value::string(text)];
    Message { kind: Kind::Error, error: error.to_owned(), ..reply(call, body) }
}

fn removed(job: &str, result: &str) -> Message {
    Message {
        kind: Kind::Signal,
        serial: 100,
        path: "/org/freedesktop/systemd1".to_owned(),
        interface: "org.freedesktop.systemd1.Manager".to_owned(),
        member: "JobRemoved".to_owned(),
        body: vec![
            Value::U32(1),
            Value::Path(job.to_owned()),
            Value::string("x.scope"),
            Value::string(result),
        ],
        ..Message::default()
    }
}

/// A systemd that does what it is asked; its jobs end as `result`.
fn willing(result: &'static str) -> Answer {
    Box::new(move |call| match call.member.as_str() {
        "StartTransientUnit" | "StopUnit" => vec![
            // Another's job ends, and ours already before the answer to the call.
            removed("/job/1", "failed"),
            removed("/job/2", result),
            reply(call, vec![Value::Path("/job/2".to_owned())]),
        ],
        "Get" => {
            let text = match call.body[1].text() {
                Some("Version") => "252.39-1~deb12u1",
                Some("ControlGroup") if call.body[0].text() == Some(SCOPE) => "/a.slice/x.scope",
                _ => "/user.slice/user-1000.slice/user@1000.service",
            };
            vec![reply(call, vec![Value::Variant(Box::new(Value::string(text)))])]
        }
        _ => vec![reply(call, Vec::new())],
    })
}

const SCOPE: &str = "org.freedesktop.systemd1.Scope";

fn slice() -> Vec<Property> {
    vec![Property::new("Slice", Value::string("a.slice"))]
}

#[test]
fn a_scope_is_started_around_the_process() {
    let fake = Fake::new(false, willing("done"));
    fake.unit("x.scope").start(&slice(), 4711, || false).unwrap();
    let calls = fake.calls();
    assert_eq!(calls[0], "Hello()");
    assert!(calls[1].starts_with("AddMatch(") && calls[1].contains("JobRemoved"), "{calls:?}");
    let start = "StartTransientUnit(\"x.scope\", \"fail\", \
                 [(\"Slice\" \"a.slice\") (\"PIDs\" [4711])], [])";
    assert_eq!(calls[2..], [start]);
}

#[test]
fn systemd_itself_wants_no_introduction() {
    let fake = Fake::new(true, willing("done"));
    fake.unit("x.slice").start(&[], 4711, || false).unwrap();
    assert_eq!(fake.calls(), ["StartTransientUnit(\"x.slice\", \"fail\", [], [])"]);
}

#[test]
fn a_job_that_fails_is_a_failure() {
    let fake = Fake::new(true, willing("failed"));
    let trouble = fake.unit("x.scope").start(&slice(), 1, || false).unwrap_err();
    assert_eq!(
        trouble.to_string(),
        "StartTransientUnit: operation canceled (systemd's job ended: failed)"
    );
}

#[test]
fn a_failed_unit_of_that_name_gives_way() {
    let mut tries = 0;
    let mut willing = willing("done");
    let fake = Fake::new(
        true,
        Box::new(move |call| {
            tries += usize::from(call.member == "StartTransientUnit");
            match tries {
                1 if call.member == "StartTransientUnit" => {
                    let name = "org.freedesktop.systemd1.UnitExists";
                    vec![refusal(call, name, "Unit x.scope was already loaded.")]
                }
                _ => willing(call),
            }
        }),
    );
    fake.unit("x.scope").start(&slice(), 1, || false).unwrap();
    let calls = fake.calls();
    assert_eq!(calls.len(), 3);
    assert_eq!(calls[1], "ResetFailedUnit(\"x.scope\")");
}

#[test]
fn a_unit_that_lives_does_not_give_way() {
    let name = "org.freedesktop.systemd1.UnitExists";
    let fake = Fake::new(true, Box::new(move |call| vec![refusal(call, name, "It lives.")]));
    let trouble = fake.unit("x.scope").start(&slice(), 1, || false).unwrap_err();
    assert_eq!(trouble.to_string(), "StartTransientUnit: file exists (It lives)");
    let op = Op::StartUnit {
        mountpoint: "/cg".into(),
        path: "a.slice/x.scope".into(),
        unit: fake.unit("x.scope"),
        properties: slice(),
    };
    assert!(op.hint(&trouble.error).unwrap().starts_with("another container"));
    let story = "cgroup systemd unit \"x.scope\" at /cg/a.slice/x.scope: Slice=\"a.slice\"";
    assert_eq!(op.to_string(), story);
}

#[test]
fn a_refusal_says_what_systemd_says() {
    for (name, errno) in [
        ("org.freedesktop.DBus.Error.AccessDenied", Errno::EACCES),
        ("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", Errno::EACCES),
        ("org.freedesktop.DBus.Error.PropertyReadOnly", Errno::EINVAL),
        ("org.example.Other", Errno::EPROTO),
    ] {
        let fake = Fake::new(true, Box::new(move |call| vec![refusal(call, name, "Because.")]));
        let trouble = fake.unit("x.scope").start(&slice(), 1, || false).unwrap_err();
        assert_eq!((trouble.error.errno, trouble.said.as_str()), (errno, "Because"));
    }
}

#[test]
fn a_silent_systemd_is_not_waited_for_longer_than_the_deadline() {
    let fake = Fake::new(true, Box::new(|_| Vec::new()));
    let begin = Instant::now();
    let trouble = fake.unit("x.scope").start_within(&slice(), 1, SHORT).unwrap_err();
    assert_eq!(trouble.error.errno, Errno::ETIMEDOUT);
    assert!(trouble.said.starts_with("systemd did not answer within 0."), "{trouble}");
    assert!(begin.elapsed() >= SHORT && begin.elapsed() < LONG);
    // Nobody accepts, and later there is no room to wait in.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    let bus = Bus { socket: Socket::Path(path), direct: false, user: false };
    let open = || Manager::open(&bus, Instant::now() + SHORT).map(drop).unwrap_err();
    assert_eq!(open().error, sys::Error::new("connect", Errno::ETIMEDOUT));
    let trouble = Systemd::find(std::slice::from_ref(&bus), SHORT).unwrap_err();
    assert_eq!(trouble.error, sys::Error::new("connect", Errno::ETIMEDOUT));
}

#[test]
fn a_job_without_an_end_is_not_waited_for_either() {
    let answer = |call: &Message| vec![reply(call, vec![Value::Path("/job/2".to_owned())])];
    let fake = Fake::new(true, Box::new(answer));
    let trouble = fake.unit("x.scope").start_within(&slice(), 1, SHORT).unwrap_err();
    assert_eq!(trouble.error, sys::Error::new("StartTransientUnit", Errno::ETIMEDOUT));
}

#[test]
fn an_end_and_garbage_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    for (index, (said, errno)) in [
        (&b""[..], Errno::ECONNRESET),
        (b"REJECTED EXTERNAL\r\n", Errno::EACCES),
        (b"DATA\r\nOK 12\r\nHTTP/1.1 400 Bad Request", Errno::EPROTO),
        (b"DATA\r\nOK 12\r\n", Errno::ECONNRESET),
        (&[b'x'; 4096], Errno::EPROTO),
    ]
    .into_iter()
    .enumerate()
    {
        let path = directory.path().join(index.to_string());
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(said);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let bus = Bus { socket: Socket::Path(path), direct: true, user: false };
        let trouble = Manager::open(&bus, Instant::now() + LONG)
            .and_then(|mut manager| manager.facts())
            .unwrap_err();
        assert_eq!(trouble.error.errno, errno, "{trouble}");
        server.join().unwrap();
    }
}

#[test]
fn the_first_that_answers_is_the_systemd() {
    let missing = |name: &str| Bus {
        socket: Socket::Path(Path::new("/nonexistent").join(name)),
        direct: true,
        user: true,
    };
    let fake = Fake::new(false, willing("done"));
    let found = Systemd::find(&[missing("a"), fake.bus.clone()], LONG).unwrap();
    assert_eq!((found.version, &found.bus), (252, &fake.bus));
    assert_eq!(found.root, Path::new("user.slice/user-1000.slice/user@1000.service"));
    let trouble = Systemd::find(&[missing("a"), missing("b")], LONG).unwrap_err();
    let none = "transport endpoint is not connected";
    let said = format!("nobody to ask (/nonexistent/a: {none}; /nonexistent/b: {none})");
    assert_eq!((trouble.is_break(), trouble.said), (false, said));
}

/// `systemctl daemon-reexec` in the midst of it: the bus says that nobody answers any more.
#[test]
fn a_systemd_that_executes_itself_anew_is_asked_again() {
    let broken = || {
        let mut willing = willing("done");
        let mut first = true;
        Fake::new(
            true,
            Box::new(move |call| match std::mem::replace(&mut first, false) {
                true => vec![refusal(call, "org.freedesktop.DBus.Error.NoReply", "Gone.")],
                false => willing(call),
            }),
        )
    };
    let fake = broken();
    fake.unit("x.scope").start(&slice(), 1, || false).unwrap();
    assert_eq!(fake.calls().len(), 2);
    // The first request was heard after all.
    let fake = broken();
    fake.unit("x.scope").start(&slice(), 1, || true).unwrap();
    assert_eq!(fake.calls().len(), 1);
    let fake = broken();
    let found = ask_again(|| Systemd::find(std::slice::from_ref(&fake.bus), LONG)).unwrap();
    assert_eq!(found.version, 252);
}

#[test]
fn only_the_unit_with_our_cgroup_is_stopped() {
    let fake = Fake::new(true, willing("done"));
    let unit = fake.unit("x.scope");
    unit.stop(Path::new("b.slice/x.scope"), Instant::now() + LONG).unwrap();
    assert_eq!(fake.calls().len(), 1);
    unit.stop(Path::new("a.slice/x.scope"), Instant::now() + LONG).unwrap();
    let calls = fake.calls();
    assert_eq!(calls[2..], ["StopUnit(\"x.scope\", \"replace\")", "ResetFailedUnit(\"x.scope\")"]);
}

#[test]
fn a_unit_that_is_gone_is_stopped() {
    let name = "org.freedesktop.systemd1.NoSuchUnit";
    let fake = Fake::new(true, Box::new(move |call| vec![refusal(call, name, "Gone.")]));
    fake.unit("x.scope").stop(Path::new("x.scope"), Instant::now() + LONG).unwrap();
}

#[test]
fn uids_are_those_outside_of_the_user_namespace() {
    assert_eq!(outside("0 0 4294967295\n", 7), 7);
    assert_eq!(outside("0 1000 1\n1 100000 65536\n", 0), 1000);
    assert_eq!(outside("0 1000 1\n1 100000 65536\n", 2), 100_001);
    assert_eq!(outside("", 3), 3);
}
