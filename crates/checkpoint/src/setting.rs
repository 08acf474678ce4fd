//! A request to CRIU as plain data, before the numbers of descriptors are known.

use std::borrow::Cow;
use std::fmt;
use std::os::fd::RawFd;

use crate::Error;
use crate::protocol::{self, Field, Kind};

/// A descriptor that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum File {
    /// The directory of the image.
    Images,
    /// The directory of the log.
    Work,
    /// A standard stream of davit.
    Stream(u8),
    /// The standard stream of davit instead of a file, in which CRIU seeks.
    SeekableStream(u8),
    /// /dev/null.
    Null,
    /// The namespace of this kind that config.json gives by path.
    Namespace(&'static str),
}

/// Finds the number of a descriptor.
pub type Files<'a> = &'a dyn Fn(&File) -> Option<RawFd>;

/// The value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A value that is known.
    Known(protocol::Value),
    /// A descriptor.
    Descriptor(File),
    /// A descriptor that replaces the object of this name.
    Inherit(String, File),
}

/// An option of CRIU with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The option.
    pub field: Field,
    /// Its value.
    pub value: Value,
    /// The field of config.json or the option of the command line that it comes from.
    pub origin: Cow<'static, str>,
}

impl Setting {
    fn known(field: Field, value: protocol::Value) -> Self {
        Self { field, value: Value::Known(value), origin: Cow::Borrowed("") }
    }

    pub(crate) fn flag(field: Field) -> Self {
        Self::known(field, protocol::Value::Number(1))
    }

    pub(crate) fn number(field: Field, number: i64) -> Self {
        Self::known(field, protocol::Value::Number(number))
    }

    pub(crate) fn text(field: Field, text: impl Into<String>) -> Self {
        Self::known(field, protocol::Value::Text(text.into()))
    }

    pub(crate) fn pair(field: Field, first: impl Into<String>, second: impl Into<String>) -> Self {
        Self::known(field, protocol::Value::Pair(first.into(), second.into()))
    }

    pub(crate) fn numbered(field: Field, text: impl Into<String>, number: i64) -> Self {
        Self::known(field, protocol::Value::Numbered(text.into(), number))
    }

    pub(crate) fn descriptor(field: Field, file: File) -> Self {
        Self { field, value: Value::Descriptor(file), origin: Cow::Borrowed("") }
    }

    pub(crate) fn inherit(key: impl Into<String>, file: File) -> Self {
        let value = Value::Inherit(key.into(), file);
        Self { field: Field::InheritFd, value, origin: Cow::Borrowed("") }
    }

    pub(crate) fn from(self, origin: impl Into<Cow<'static, str>>) -> Self {
        Self { origin: origin.into(), ..self }
    }

    fn resolved(&self, files: Files<'_>) -> Result<(Field, protocol::Value), Error> {
        let number = |file: &File| {
            let missing = || Error::refused(format!("{file:?}"), "is not open");
            files(file).map(i64::from).ok_or_else(missing)
        };
        let value = match &self.value {
            Value::Known(value) => value.clone(),
            Value::Descriptor(file) => protocol::Value::Number(number(file)?),
            Value::Inherit(key, file) => protocol::Value::Numbered(key.clone(), number(file)?),
        };
        Ok((self.field, value))
    }
}

/// A request: what CRIU is to do, and with which options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it is to do.
    pub kind: Kind,
    /// The options, in the order of `davit explain`.
    pub settings: Vec<Setting>,
}

impl Request {
    /// The message, with the numbers of the descriptors.
    ///
    /// # Errors
    /// A descriptor that is not open.
    pub fn encode(&self, files: Files<'_>) -> Result<Vec<u8>, Error> {
        let resolved = self.settings.iter().map(|setting| setting.resolved(files));
        Ok(protocol::request(self.kind, &resolved.collect::<Result<Vec<_>, _>>()?))
    }

    /// The field of config.json that a path in a message of CRIU belongs to.
    #[must_use]
    pub fn origin_of(&self, message: &str) -> Option<&str> {
        let words: Vec<&str> = message.split([' ', ',', '(', ')', '\'', '"', '`']).collect();
        let named = |name: &str| words.iter().any(|word| word.trim_start_matches('.') == name);
        let mut settings = self.settings.iter();
        let found = settings.find(|setting| match &setting.value {
            Value::Known(protocol::Value::Pair(key, value)) => {
                setting.field == Field::ExtMnt && (named(key) || named(value))
            }
            _ => false,
        });
        found.map(|setting| setting.origin.as_ref()).filter(|origin| !origin.is_empty())
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Dump => "let criu dump the processes",
            Kind::PreDump => "let criu dump the memory",
            Kind::Restore => "let criu restore the processes",
            Kind::Notify | Kind::FeatureCheck | Kind::Version => "ask criu",
        })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "criu {}", name(self.field))?;
        match &self.value {
            Value::Known(protocol::Value::Number(number)) => write!(f, " {number}")?,
            Value::Known(protocol::Value::Text(text)) => write!(f, " {text}")?,
            Value::Known(protocol::Value::Pair(first, second)) => write!(f, " {first} = {second}")?,
            Value::Known(protocol::Value::Numbered(text, number)) => {
                write!(f, " {text} = {number}")?;
            }
            Value::Descriptor(file) => write!(f, " {file}")?,
            Value::Inherit(key, file) => write!(f, " {key} = {file}")?,
        }
        match self.origin.as_ref() {
            "" => Ok(()),
            origin => write!(f, " ({origin})"),
        }
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Images => f.write_str("the image directory"),
            Self::Work => f.write_str("the work directory"),
            Self::Stream(number) | Self::SeekableStream(number) => {
                write!(f, "descriptor {number} of the caller")
            }
            Self::Null => write!(f, "/dev/null"),
            Self::Namespace(kind) => write!(f, "the {kind} namespace"),
        }
    }
}

/// The name of an option in rpc.proto.
const fn name(field: Field) -> &'static str {
    match field {
        Field::ImagesDirFd => "images_dir_fd",
        Field::Pid => "pid",
        Field::LeaveRunning => "leave_running",
        Field::ExtUnixSk => "ext_unix_sk",
        Field::TcpEstablished => "tcp_established",
        Field::EvasiveDevices => "evasive_devices",
        Field::ShellJob => "shell_job",
        Field::FileLocks => "file_locks",
        Field::LogLevel => "log_level",
        Field::LogFile => "log_file",
        Field::Ps => "ps",
        Field::NotifyScripts => "notify_scripts",
        Field::Root => "root",
        Field::ParentImg => "parent_img",
        Field::TrackMem => "track_mem",
        Field::AutoDedup => "auto_dedup",
        Field::WorkDirFd => "work_dir_fd",
        Field::LinkRemap => "link_remap",
        Field::ExtMnt => "ext_mnt",
        Field::CgRoot => "cg_root",
        Field::RstSibling => "rst_sibling",
        Field::InheritFd => "inherit_fd",
        Field::ManageCgroupsMode => "manage_cgroups_mode",
        Field::External => "external",
        Field::EmptyNs => "empty_ns",
        Field::JoinNs => "join_ns",
        Field::FreezeCgroup => "freeze_cgroup",
        Field::TcpSkipInFlight => "tcp_skip_in_flight",
        Field::LazyPages => "lazy_pages",
        Field::OrphanPtsMaster => "orphan_pts_master",
        Field::ConfigFile => "config_file",
        Field::TcpClose => "tcp_close",
        Field::LsmProfile => "lsm_profile",
        Field::LsmMountContext => "lsm_mount_context",
        Field::NetworkLock => "network_lock",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        let mount = Setting::pair(Field::ExtMnt, "/data", "/srv").from("mounts[6]");
        let settings = vec![
            Setting::descriptor(Field::ImagesDirFd, File::Images),
            mount,
            Setting::inherit("pipe:[7]", File::Stream(1)).from("descriptor 1"),
        ];
        Request { kind: Kind::Restore, settings }
    }

    #[test]
    fn a_request_is_explained() {
        let lines: Vec<String> = request().settings.iter().map(ToString::to_string).collect();
        assert_eq!(lines[0], "criu images_dir_fd the image directory");
        assert_eq!(lines[1], "criu ext_mnt /data = /srv (mounts[6])");
        assert_eq!(
            lines[2],
            "criu inherit_fd pipe:[7] = descriptor 1 of the caller (descriptor 1)"
        );
    }

    #[test]
    fn descriptors_get_their_numbers() {
        let numbers = |file: &File| (*file == File::Images).then_some(9);
        assert!(request().encode(&numbers).is_err());
        let all = |_: &File| Some(9);
        let encoded = request().encode(&all).unwrap();
        assert!(encoded.starts_with(&[0x08, 2, 0x12]));
    }

    #[test]
    fn a_message_that_names_a_mount_belongs_to_its_field() {
        let request = request();
        let message = "mnt: Can't mount ./data (/srv): No such file";
        assert_eq!(request.origin_of(message), Some("mounts[6]"));
        assert_eq!(request.origin_of("mnt: ./database"), None);
    }
}
