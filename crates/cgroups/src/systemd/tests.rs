//! Tests with a fake systemd: a thread that answers on a socket.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use davit_dbus::{Kind, Message};
use nix::errno::Errno;

use super::*;

const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(20);

/// Answers to one call.
type Answer = Box<dyn FnMut(&Message) -> Vec<Message> + Send>;

/// A socket, and the calls that were received on it, as `Method(arguments)`.
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
        // It ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &seen, &mut answer);
            }
        });
        let bus = Bus { socket: Address::Path(path), direct, user: false };
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
                // In pieces, as a stream may deliver it.
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

/// A systemd that answers each call; its jobs end with `result`.
fn working(result: &'static str) -> Answer {
    Box::new(move |call| match call.member.as_str() {
        "StartTransientUnit" | "StopUnit" => vec![
            // Another job ends; ours ends before the answer to the call.
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
    let fake = Fake::new(false, working("done"));
    fake.unit("x.scope").start(&slice(), 4711, || false).unwrap();
    let calls = fake.calls();
    assert_eq!(calls[0], "Hello()");
    assert!(calls[1].starts_with("AddMatch(") && calls[1].contains("JobRemoved"), "{calls:?}");
    let start = "StartTransientUnit(\"x.scope\", \"fail\", \
                 [(\"Slice\" \"a.slice\") (\"PIDs\" [4711])], [])";
    assert_eq!(calls[2..], [start]);
}

#[test]
fn systemd_s_own_socket_needs_no_hello() {
    let fake = Fake::new(true, working("done"));
    fake.unit("x.slice").start(&[], 4711, || false).unwrap();
    assert_eq!(fake.calls(), ["StartTransientUnit(\"x.slice\", \"fail\", [], [])"]);
}

#[test]
fn a_job_that_fails_is_a_failure() {
    let fake = Fake::new(true, working("failed"));
    let error = fake.unit("x.scope").start(&slice(), 1, || false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "StartTransientUnit: operation canceled (systemd's job ended: failed)"
    );
}

#[test]
fn a_failed_unit_of_that_name_is_reset() {
    let mut tries = 0;
    let mut working = working("done");
    let fake = Fake::new(
        true,
        Box::new(move |call| {
            tries += usize::from(call.member == "StartTransientUnit");
            match tries {
                1 if call.member == "StartTransientUnit" => {
                    let name = "org.freedesktop.systemd1.UnitExists";
                    vec![refusal(call, name, "Unit x.scope was already loaded.")]
                }
                _ => working(call),
            }
        }),
    );
    fake.unit("x.scope").start(&slice(), 1, || false).unwrap();
    let calls = fake.calls();
    assert_eq!(calls.len(), 3);
    assert_eq!(calls[1], "ResetFailedUnit(\"x.scope\")");
}

#[test]
fn a_running_unit_of_that_name_is_an_error() {
    let name = "org.freedesktop.systemd1.UnitExists";
    let fake = Fake::new(true, Box::new(move |call| vec![refusal(call, name, "It lives.")]));
    let error = fake.unit("x.scope").start(&slice(), 1, || false).unwrap_err();
    assert_eq!(error.to_string(), "StartTransientUnit: file exists (It lives)");
    let op = Op::StartUnit {
        mountpoint: "/cg".into(),
        path: "a.slice/x.scope".into(),
        unit: fake.unit("x.scope"),
        properties: slice(),
    };
    assert!(op.hint(&error.error).unwrap().starts_with("another container"));
    let listing = "cgroup systemd unit \"x.scope\" at /cg/a.slice/x.scope: Slice=\"a.slice\"";
    assert_eq!(op.to_string(), listing);
}

#[test]
fn a_refusal_has_the_text_of_systemd() {
    for (name, errno) in [
        ("org.freedesktop.DBus.Error.AccessDenied", Errno::EACCES),
        ("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", Errno::EACCES),
        ("org.freedesktop.DBus.Error.PropertyReadOnly", Errno::EINVAL),
        ("org.example.Other", Errno::EPROTO),
    ] {
        let fake = Fake::new(true, Box::new(move |call| vec![refusal(call, name, "Because.")]));
        let error = fake.unit("x.scope").start(&slice(), 1, || false).unwrap_err();
        assert_eq!((error.error.errno, error.detail.as_str()), (errno, "Because"));
    }
}

#[test]
fn calls_end_at_the_deadline() {
    let fake = Fake::new(true, Box::new(|_| Vec::new()));
    let begin = Instant::now();
    let error = fake.unit("x.scope").start_within(&slice(), 1, SHORT).unwrap_err();
    assert_eq!(error.error.errno, Errno::ETIMEDOUT);
    assert!(error.detail.starts_with("systemd did not answer within 0."), "{error}");
    assert!(begin.elapsed() >= SHORT && begin.elapsed() < LONG);
    // The server does not accept, and later its backlog is full.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    let bus = Bus { socket: Address::Path(path), direct: false, user: false };
    let open = || Manager::open(&bus, Instant::now() + SHORT).map(drop).unwrap_err();
    assert_eq!(open().error, davit_sys::Error::new("connect", Errno::ETIMEDOUT));
    let found = Systemd::find(std::slice::from_ref(&bus), SHORT);
    let Err(DiscoverError::Timeout(error)) = found else { panic!("{found:?}") };
    assert_eq!(error.error, davit_sys::Error::new("connect", Errno::ETIMEDOUT));
}

#[test]
fn jobs_end_at_the_deadline() {
    let answer = |call: &Message| vec![reply(call, vec![Value::Path("/job/2".to_owned())])];
    let fake = Fake::new(true, Box::new(answer));
    let error = fake.unit("x.scope").start_within(&slice(), 1, SHORT).unwrap_err();
    assert_eq!(error.error, davit_sys::Error::new("StartTransientUnit", Errno::ETIMEDOUT));
}

#[test]
fn an_end_and_garbage_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    for (index, (answer, errno)) in [
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
            let _ = stream.write_all(answer);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let bus = Bus { socket: Address::Path(path), direct: true, user: false };
        let error = Manager::open(&bus, Instant::now() + LONG)
            .and_then(|mut manager| manager.facts())
            .unwrap_err();
        assert_eq!(error.error.errno, errno, "{error}");
        server.join().unwrap();
    }
}

#[test]
fn the_first_manager_that_answers_is_used() {
    let missing = |name: &str| Bus {
        socket: Address::Path(Path::new("/nonexistent").join(name)),
        direct: true,
        user: true,
    };
    let fake = Fake::new(false, working("done"));
    let found = Systemd::find(&[missing("a"), fake.bus.clone()], LONG).unwrap();
    assert_eq!((found.version, &found.bus), (252, &fake.bus));
    assert_eq!(found.root, Path::new("user.slice/user-1000.slice/user@1000.service"));
    let error = Systemd::find(&[missing("a"), missing("b")], LONG).unwrap_err();
    let none = "transport endpoint is not connected";
    let text =
        format!("no systemd manager answers (/nonexistent/a: {none}; /nonexistent/b: {none})");
    assert_eq!((error.is_disconnect(), error.to_string()), (false, text));
}

/// `systemctl daemon-reexec` during a call: the bus answers NoReply.
#[test]
fn a_call_is_repeated_after_a_reexec() {
    let broken = || {
        let mut working = working("done");
        let mut first = true;
        Fake::new(
            true,
            Box::new(move |call| match std::mem::replace(&mut first, false) {
                true => vec![refusal(call, "org.freedesktop.DBus.Error.NoReply", "Gone.")],
                false => working(call),
            }),
        )
    };
    let fake = broken();
    fake.unit("x.scope").start(&slice(), 1, || false).unwrap();
    assert_eq!(fake.calls().len(), 2);
    // The first request has succeeded in spite of the error.
    let fake = broken();
    fake.unit("x.scope").start(&slice(), 1, || true).unwrap();
    assert_eq!(fake.calls().len(), 1);
    let fake = broken();
    let find = || Systemd::find(std::slice::from_ref(&fake.bus), LONG);
    let found = retry(find, DiscoverError::is_disconnect).unwrap();
    assert_eq!(found.version, 252);
}

#[test]
fn only_the_unit_with_our_cgroup_is_stopped() {
    let fake = Fake::new(true, working("done"));
    let unit = fake.unit("x.scope");
    unit.stop(Path::new("b.slice/x.scope"), Instant::now() + LONG).unwrap();
    assert_eq!(fake.calls().len(), 1);
    unit.stop(Path::new("a.slice/x.scope"), Instant::now() + LONG).unwrap();
    let calls = fake.calls();
    assert_eq!(calls[2..], ["StopUnit(\"x.scope\", \"replace\")", "ResetFailedUnit(\"x.scope\")"]);
}

/// A systemd with a unit that has these properties: setting a list appends to it, and an empty one
/// empties it.
fn with_properties(known: &Arc<Mutex<Vec<Property>>>) -> Answer {
    let known = Arc::clone(known);
    Box::new(move |call| {
        let mut known = known.lock().unwrap();
        let body = match (call.member.as_str(), call.body.as_slice()) {
            ("Get", [_, Value::String(name)]) => {
                let found = known.iter().find(|known| known.name == *name).unwrap();
                vec![Value::Variant(Box::new(found.value.clone()))]
            }
            ("SetUnitProperties", [_, _, Value::Array(_, properties)]) => {
                properties.iter().for_each(|property| change(&mut known, property));
                Vec::new()
            }
            _ => Vec::new(),
        };
        vec![reply(call, body)]
    })
}

fn change(known: &mut [Property], property: &Value) {
    let Value::Struct(fields) = property else { panic!("{property}") };
    let [Value::String(name), Value::Variant(value)] = fields.as_slice() else {
        panic!("{property}")
    };
    let known = known.iter_mut().find(|known| known.name == *name).unwrap();
    match (&mut known.value, value.as_ref()) {
        (Value::Array(_, entries), Value::Array(_, more)) if !more.is_empty() => {
            entries.extend(more.iter().cloned());
        }
        (old, new) => *old = new.clone(),
    }
}

/// systemd writes its properties to the files again, so they are restored as the files are.
#[test]
fn properties_of_a_failed_update_are_restored() {
    let device = |rate| {
        let entry = Value::Struct(vec![Value::string("/dev/vda"), Value::U64(rate)]);
        Property::new("IOReadIOPSMax", Value::Array("(st)".to_owned(), vec![entry]))
    };
    let weight = |weight| Property::new("CPUWeight", Value::U64(weight));
    let before = vec![weight(59), device(7)];
    let known = Arc::new(Mutex::new(before.clone()));
    let fake = Fake::new(true, with_properties(&known));
    let refused = Op::Write {
        directory: "/nonexistent".into(),
        file: "cpu.weight".to_owned(),
        values: vec!["1".to_owned()],
        if_missing: crate::IfMissing::Fail,
        field: "".into(),
    };
    let properties = vec![weight(0), device(5)];
    let ops = [Op::SetProperties { unit: fake.unit("x.scope"), properties }, refused];
    let failed = crate::update(&ops).unwrap_err();
    assert_eq!((failed.failure.op, failed.changed), (1, Vec::new()));
    assert_eq!(*known.lock().unwrap(), before);
    crate::update(&ops[..1]).unwrap();
    assert_eq!(known.lock().unwrap()[0], weight(0));
}

#[test]
fn a_unit_that_cannot_be_restored_is_named() {
    let known = Arc::new(Mutex::new(vec![Property::new("CPUWeight", Value::U64(59))]));
    let mut working = with_properties(&known);
    let mut changed = false;
    let fake = Fake::new(
        true,
        Box::new(move |call| {
            if call.member == "SetUnitProperties" {
                if !std::mem::replace(&mut changed, true) {
                    working(call);
                }
                return vec![refusal(call, "org.freedesktop.DBus.Error.Failed", "No more.")];
            }
            working(call)
        }),
    );
    let properties = vec![Property::new("CPUWeight", Value::U64(0))];
    let ops = [Op::SetProperties { unit: fake.unit("x.scope"), properties }];
    let failed = crate::update(&ops).unwrap_err();
    assert_eq!((failed.detail.as_str(), failed.failure.op), ("No more", 0));
    assert_eq!(failed.changed, ["systemd unit \"x.scope\""]);
}

/// As while it reloads its units: the cgroup is removed before it checks it again.
#[test]
fn stopping_a_unit_is_repeated_after_its_cgroup_is_removed() {
    let mut working = working("done");
    let mut refused = false;
    let fake = Fake::new(
        true,
        Box::new(move |call| match call.member.as_str() {
            "StopUnit" if !std::mem::replace(&mut refused, true) => {
                let job = vec![Value::Path("/job/2".to_owned())];
                vec![removed("/job/2", "canceled"), reply(call, job)]
            }
            _ => working(call),
        }),
    );
    let member = crate::Member {
        directory: "/nonexistent/a.slice/x.scope".into(),
        path: "a.slice/x.scope".into(),
        controllers: Vec::new(),
    };
    let unit = Some(fake.unit("x.scope"));
    let cgroup = crate::Cgroup { members: vec![member], unit, ..crate::Cgroup::default() };
    cgroup.remove(Instant::now() + LONG).unwrap();
    let stops = fake.calls().iter().filter(|call| call.starts_with("StopUnit")).count();
    assert_eq!(stops, 2, "{:?}", fake.calls());
}

#[test]
fn a_missing_unit_is_stopped() {
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
