//! CRIU's protocol: the messages of its rpc.proto that davit sends and receives, in the encoding of
//! Protocol Buffers (decision 0022).
//!
//! A message is a list of fields: a key, which is the field's number and the form of its value
//! (`wire type`), and the value. davit sends integers (a varint) and strings or messages (a length
//! and bytes), and receives the same.

/// The options of a request that davit sets (`criu_opts`), with the number of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Field {
    /// The directory of the image.
    ImagesDirFd = 1,
    /// The process whose tree is dumped.
    Pid = 2,
    /// The processes run on after the dump.
    LeaveRunning = 3,
    /// Connected unix sockets whose other end is outside are accepted.
    ExtUnixSk = 4,
    /// Established TCP connections are dumped and restored.
    TcpEstablished = 5,
    /// A file of a character device is found by its device if its path is gone.
    EvasiveDevices = 6,
    /// The session's leader is outside.
    ShellJob = 7,
    /// File locks are dumped and restored.
    FileLocks = 8,
    /// The level of the log.
    LogLevel = 9,
    /// The name of the log in the work directory.
    LogFile = 10,
    /// The server that receives the pages.
    Ps = 11,
    /// CRIU tells its stages.
    NotifyScripts = 12,
    /// The container's root.
    Root = 13,
    /// The directory of the earlier image, relative to the image.
    ParentImg = 14,
    /// Pages that change from now on are marked.
    TrackMem = 15,
    /// Pages that a later image has are removed from the earlier one.
    AutoDedup = 16,
    /// The directory of the log.
    WorkDirFd = 17,
    /// Files without a name get one while they are dumped.
    LinkRemap = 18,
    /// A mount from outside: its mount point or name, and its name or source.
    ExtMnt = 23,
    /// The new root of the cgroups in one hierarchy.
    CgRoot = 25,
    /// The restored process is a child of davit.
    RstSibling = 26,
    /// A descriptor that replaces one of the image.
    InheritFd = 27,
    /// How cgroups are dumped and restored.
    ManageCgroupsMode = 34,
    /// An object from outside, such as a namespace or a file.
    External = 37,
    /// Namespaces that are restored empty.
    EmptyNs = 38,
    /// A namespace that the processes join.
    JoinNs = 39,
    /// The cgroup whose freezer stops the processes.
    FreezeCgroup = 44,
    /// Incoming connections that are not accepted yet are dropped.
    TcpSkipInFlight = 46,
    /// Memory is transferred when it is used.
    LazyPages = 48,
    /// The master of the terminal is sent to davit.
    OrphanPtsMaster = 50,
    /// A file with more options.
    ConfigFile = 51,
    /// Established TCP connections are restored closed.
    TcpClose = 52,
    /// The label of the restored processes.
    LsmProfile = 53,
    /// The label of the restored mounts.
    LsmMountContext = 63,
    /// How the network is locked meanwhile.
    NetworkLock = 64,
}

/// The value of an option, with all numbers known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An integer, or a boolean as 0 or 1.
    Number(i64),
    /// A string.
    Text(String),
    /// A message of two strings, with the numbers 1 and 2.
    Pair(String, String),
    /// A message of a string and an integer, with the numbers 1 and 2.
    Numbered(String, i64),
}

/// What davit asks CRIU for (`criu_req_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Dump the processes, and end them.
    Dump = 1,
    /// Restore them.
    Restore = 2,
    /// Dump the memory alone, while they run on.
    PreDump = 4,
    /// The answer to a notification.
    Notify = 6,
    /// Ask for features of CRIU and the kernel.
    FeatureCheck = 9,
    /// Ask for the version.
    Version = 10,
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// `criu_req`: a request with options.
#[must_use]
pub fn request(kind: Kind, options: &[(Field, Value)]) -> Vec<u8> {
    let mut message = Message::default();
    message.number(1, kind as i64);
    let mut all = Message::default();
    for (field, value) in options {
        all.value(*field as u32, value);
    }
    message.bytes(2, &all.0);
    message.0
}

/// `criu_req` of [`Kind::Version`]; CRIU then waits for another request.
#[must_use]
pub fn version_request() -> Vec<u8> {
    let mut message = Message::default();
    message.number(1, Kind::Version as i64);
    message.number(4, 1);
    message.0
}

/// `criu_req` of [`Kind::FeatureCheck`]; CRIU then waits for another request.
#[must_use]
pub fn feature_request() -> Vec<u8> {
    let mut message = Message::default();
    message.number(1, Kind::FeatureCheck as i64);
    message.number(4, 1);
    let mut features = Message::default();
    features.number(1, 1);
    features.number(2, 1);
    message.bytes(5, &features.0);
    message.0
}

/// `criu_req`: the answer to a notification.
#[must_use]
pub fn notify_answer(success: bool) -> Vec<u8> {
    let mut message = Message::default();
    message.number(1, Kind::Notify as i64);
    message.number(3, success.into());
    message.0
}

/// A message that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A negative integer has ten bytes, whatever its type.
    fn number(&mut self, field: u32, value: i64) {
        self.varint(u64::from(field) << 3 | VARINT);
        self.varint(value.cast_unsigned());
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        self.varint(u64::from(field) << 3 | BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn value(&mut self, field: u32, value: &Value) {
        match value {
            Value::Number(number) => self.number(field, *number),
            Value::Text(text) => self.bytes(field, text.as_bytes()),
            Value::Pair(first, second) => {
                let mut pair = Self::default();
                pair.bytes(1, first.as_bytes());
                pair.bytes(2, second.as_bytes());
                self.bytes(field, &pair.0);
            }
            Value::Numbered(text, number) => {
                let mut pair = Self::default();
                pair.bytes(1, text.as_bytes());
                pair.number(2, *number);
                self.bytes(field, &pair.0);
            }
        }
    }
}

/// A message of CRIU that is not one of Protocol Buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The value of a received field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Received<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Reads the fields of a message, in their order.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = u64::from(*self.take(1)?.first()?);
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn field(&mut self) -> Option<(u64, Received<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            VARINT => Received::Number(self.varint()?),
            BYTES => {
                let length = self.varint()?;
                Received::Bytes(self.take(length)?)
            }
            FIXED64 => Received::Bytes(self.take(8)?),
            FIXED32 => Received::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

fn fields(message: &[u8]) -> Result<Vec<(u64, Received<'_>)>, Malformed> {
    let mut reader = Reader(message);
    let mut fields = Vec::new();
    while !reader.0.is_empty() {
        fields.push(reader.field().ok_or(Malformed)?);
    }
    Ok(fields)
}

/// Whether this kernel and this CRIU can do something (`criu_features`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Marking the pages that change.
    pub mem_track: bool,
    /// Transferring memory when it is used.
    pub lazy_pages: bool,
}

/// A message of CRIU (`criu_resp`). Fields that davit does not need are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The type, as a number of [`Kind`].
    pub kind: u64,
    /// Whether the request was carried out.
    pub success: bool,
    /// The pid of the restored process.
    pub restored: Option<i32>,
    /// The name of a notification.
    pub script: Option<String>,
    /// The process that a notification is about.
    pub pid: Option<i32>,
    /// An errno, or CRIU's own number.
    pub errno: Option<i32>,
    /// A message about the failure.
    pub message: Option<String>,
    /// The features of CRIU and the kernel.
    pub features: Features,
    /// The version: 40201 is 4.2.1.
    pub version: Option<u32>,
}

impl Response {
    /// Decodes a message.
    ///
    /// # Errors
    /// It is not a message.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut response = Self::default();
        for field in fields(message)? {
            match field {
                (1, Received::Number(kind)) => response.kind = kind,
                (2, Received::Number(success)) => response.success = success != 0,
                (4, Received::Bytes(part)) => response.restored = number(part, 1)?.map(int),
                (5, Received::Bytes(part)) => {
                    response.script = text(part, 1)?;
                    response.pid = number(part, 2)?.map(int);
                }
                (7, Received::Number(errno)) => response.errno = Some(int(errno)),
                (8, Received::Bytes(part)) => {
                    let has = |field| Ok(number(part, field)?.is_some_and(|value| value != 0));
                    response.features = Features { mem_track: has(1)?, lazy_pages: has(2)? };
                }
                (9, Received::Bytes(part)) => response.message = Some(lossy(part)),
                (10, Received::Bytes(part)) => response.version = Some(version(part)?),
                _ => {}
            }
        }
        Ok(response)
    }
}

/// An int32: its sign fills all 64 bits.
fn int(value: u64) -> i32 {
    value as i32
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The last integer with this number: a later field replaces an earlier one.
fn number(message: &[u8], wanted: u64) -> Result<Option<u64>, Malformed> {
    let found = fields(message)?.into_iter().rev().find_map(|field| match field {
        (number, Received::Number(value)) if number == wanted => Some(value),
        _ => None,
    });
    Ok(found)
}

fn text(message: &[u8], wanted: u64) -> Result<Option<String>, Malformed> {
    let found = fields(message)?.into_iter().rev().find_map(|field| match field {
        (number, Received::Bytes(value)) if number == wanted => Some(lossy(value)),
        _ => None,
    });
    Ok(found)
}

/// Major and minor number, and the sublevel.
fn version(message: &[u8]) -> Result<u32, Malformed> {
    let part = |field| Ok(number(message, field)?.map_or(0, |value| value.min(99) as u32));
    Ok(part(1)? * 10_000 + part(2)? * 100 + part(4)?)
}

/// Decodes any bytes.
#[cfg(feature = "fuzzing")]
pub fn fuzz(bytes: &[u8]) {
    let _ = Response::parse(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes that Google's library writes for the same messages.
    #[test]
    fn messages_have_the_bytes_of_protocol_buffers() {
        assert_eq!(version_request(), [0x08, 10, 0x20, 1]);
        assert_eq!(notify_answer(true), [0x08, 6, 0x18, 1]);
        assert_eq!(feature_request(), [0x08, 9, 0x20, 1, 0x2a, 4, 0x08, 1, 0x10, 1]);
        let options = [
            (Field::ImagesDirFd, Value::Number(300)),
            (Field::Root, Value::Text("/r".to_owned())),
            (Field::ExtMnt, Value::Pair("a".to_owned(), "b".to_owned())),
            (Field::InheritFd, Value::Numbered("p".to_owned(), -1)),
            (Field::NetworkLock, Value::Number(3)),
        ];
        let expected = [
            &[0x08, 1, 0x12, 36, 0x08, 0xac, 0x02, 0x6a, 2, b'/', b'r'][..],
            &[0xba, 0x01, 6, 0x0a, 1, b'a', 0x12, 1, b'b'],
            &[0xda, 0x01, 14, 0x0a, 1, b'p', 0x10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            &[0x80, 0x04, 3],
        ];
        assert_eq!(request(Kind::Dump, &options), expected.concat());
    }

    #[test]
    fn a_response_is_decoded() {
        let bytes = [
            &[0x08, 6, 0x10, 1, 0x2a, 13][..],
            &[0x0a, 8, b'p', b'o', b's', b't', b'-', b'd', b'm', b'p', 0x10, 0xac, 0x02],
            // A field that davit does not know, of each form.
            &[0x78, 1, 0x79, 0, 0, 0, 0, 0, 0, 0, 0, 0x7d, 0, 0, 0, 0, 0x7a, 1, 9],
        ];
        let expected = Response {
            kind: 6,
            success: true,
            script: Some("post-dmp".to_owned()),
            pid: Some(300),
            ..Response::default()
        };
        assert_eq!(Response::parse(&bytes.concat()), Ok(expected));
        let version = [0x08, 10, 0x10, 1, 0x52, 6, 0x08, 4, 0x10, 2, 0x20, 1];
        assert_eq!(Response::parse(&version).unwrap().version, Some(40_201));
        let failed = [0x08, 1, 0x10, 0, 0x38, 16, 0x4a, 2, b'n', b'o'];
        let response = Response::parse(&failed).unwrap();
        assert_eq!((response.errno, response.message.as_deref()), (Some(16), Some("no")));
        let restored = [0x08, 2, 0x10, 1, 0x22, 2, 0x08, 7];
        assert_eq!(Response::parse(&restored).unwrap().restored, Some(7));
        assert_eq!(Response::parse(&[0x08]), Err(Malformed));
        assert_eq!(Response::parse(&[0x12, 5, 1]), Err(Malformed));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            list in prop::collection::vec((1u32..2000, any::<i64>(), ".{0,40}"), 0..20),
        ) {
            let mut message = Message::default();
            for (field, number, text) in &list {
                message.value(*field, &Value::Number(*number));
                message.value(*field, &Value::Numbered(text.clone(), *number));
                message.value(*field, &Value::Pair(text.clone(), text.clone()));
            }
            let read = fields(&message.0).unwrap();
            prop_assert_eq!(read.len(), list.len() * 3);
            for ((field, value, words), read) in list.iter().zip(read.chunks(3)) {
                let wanted = u64::from(*field);
                prop_assert_eq!(read[0], (wanted, Received::Number(value.cast_unsigned())));
                let Received::Bytes(numbered) = read[1].1 else { panic!() };
                prop_assert_eq!(number(numbered, 2).unwrap(), Some(value.cast_unsigned()));
                let Received::Bytes(pair) = read[2].1 else { panic!() };
                prop_assert_eq!(text(pair, 2).unwrap(), Some(words.clone()));
            }
        }

        #[test]
        fn any_bytes_are_a_message_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Response::parse(&bytes);
        }
    }
}
