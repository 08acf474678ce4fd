//! Planning a checkpoint: config.json and facts of the running container -> a request.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::image::{External, FORMAT, Image, Stream};
use crate::mountinfo::Mount;
use crate::mounts::Mounts;
use crate::protocol::Kind;
use crate::setting::{File, Request, Setting};
use crate::{Error, Field, Options};

/// The name of the log in the work directory.
pub const LOG: &str = "dump.log";

/// The level of the log: all but what helps only CRIU's authors.
pub(crate) const LOG_LEVEL: i64 = 4;

/// A namespace in which the container differs from the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its type, as in config.json.
    pub kind: LinuxNamespaceType,
    /// Its inode.
    pub inode: u64,
    /// Whether config.json gives it by path.
    pub joined: bool,
}

/// A standard stream of the container's first process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenStream {
    /// What it is (proc(5), fd).
    pub link: String,
    /// The id of its mount, and its inode.
    pub file: (u64, u64),
    /// Whether it is a regular file.
    pub is_regular: bool,
    /// Whether it is only appended to.
    pub is_appended: bool,
}

/// Facts of a running container.
#[derive(Clone, Debug)]
pub struct Container<'a> {
    /// Its configuration.
    pub spec: &'a Spec,
    /// Its id.
    pub id: &'a str,
    /// The version of davit.
    pub davit: &'a str,
    /// The pid of its first process.
    pub pid: i32,
    /// Its root on the host.
    pub root: &'a Path,
    /// The directory of its cgroup that has a freezer.
    pub freezer: Option<&'a Path>,
    /// Whether it is in a cgroup of its own in every hierarchy.
    pub has_own_cgroups: bool,
    /// Its mounts.
    pub mounts: &'a [Mount],
    /// The host's mounts.
    pub host_mounts: &'a [Mount],
    /// Where each of `mounts` of config.json is, without symbolic links.
    pub places: &'a [Option<PathBuf>],
    /// The mount points that are device nodes, each with the node's path on the host.
    pub nodes: &'a BTreeMap<PathBuf, PathBuf>,
    /// The namespaces that it does not share with the host.
    pub namespaces: &'a [Namespace],
    /// Standard input, output and error, as far as they are open.
    pub streams: &'a [OpenStream],
    /// Whether a seccomp agent has a listener of its filter.
    pub has_listener: bool,
}

/// The plan of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What CRIU is asked for.
    pub request: Request,
    /// What davit adds to the image.
    pub image: Image,
}

/// Plans a checkpoint.
///
/// # Errors
/// A field of config.json that a restore could not give back, or a mount.
pub fn plan(container: &Container<'_>, options: &Options) -> Result<Plan, Error> {
    if let Some(first) = obstacles(container).into_iter().next() {
        return Err(first);
    }
    let mut settings = vec![
        Setting::number(Field::Pid, container.pid.into()),
        Setting::descriptor(Field::ImagesDirFd, File::Images),
        Setting::descriptor(Field::WorkDirFd, File::Work),
        Setting::text(Field::LogFile, LOG),
        Setting::number(Field::LogLevel, LOG_LEVEL),
        Setting::text(Field::Root, utf8("root.path", container.root)?).from("root.path"),
        Setting::flag(Field::NotifyScripts),
        Setting::flag(Field::OrphanPtsMaster),
        options.cgroups_mode(container.has_own_cgroups),
    ];
    if let Some(freezer) = container.freezer {
        settings.push(Setting::text(Field::FreezeCgroup, utf8("cgroup", freezer)?));
    }
    if let Some(parent) = &options.parent_path {
        settings.push(Setting::text(Field::ParentImg, parent.clone()).from("--parent-path"));
    }
    if options.pre_dump || options.parent_path.is_some() {
        settings.push(Setting::flag(Field::TrackMem));
    }
    settings.extend(options.settings());
    settings.extend(external_namespaces(container)?);
    let mounts = mounts_of(container).external().into_iter().collect::<Result<Vec<_>, _>>()?;
    for (external, field) in &mounts {
        let name = utf8(field, &external.mountpoint)?;
        settings.push(Setting::pair(Field::ExtMnt, name, name).from(field.clone()));
    }
    let streams = streams(container);
    let mut named = BTreeSet::new();
    for (number, stream) in streams.iter().enumerate() {
        if let Some(key) = stream.key.as_ref().filter(|key| key.starts_with("file["))
            && named.insert(key.clone())
        {
            let origin = format!("descriptor {number}: {}", stream.link);
            settings.push(Setting::text(Field::External, key.clone()).from(origin));
        }
    }
    let kind = if options.pre_dump { Kind::PreDump } else { Kind::Dump };
    let mounts = mounts.into_iter().map(|(external, _)| external).collect();
    let image = image(container, options, mounts, streams);
    Ok(Plan { request: Request { kind, settings }, image })
}

/// What davit adds to the files of CRIU, whose sizes are not known yet.
fn image(
    container: &Container<'_>,
    options: &Options,
    mounts: Vec<External>,
    streams: Vec<Stream>,
) -> Image {
    let names = |joined_only: bool| {
        let wanted = container.namespaces.iter().filter(|one| one.joined || !joined_only);
        wanted.map(|one| config_name(one.kind).to_owned()).collect()
    };
    Image {
        format: FORMAT,
        davit: container.davit.to_owned(),
        id: container.id.to_owned(),
        pre_dump: options.pre_dump,
        mounts,
        streams,
        namespaces: names(false),
        joined: names(true),
        hostname: container.spec.hostname().clone(),
        sizes: BTreeMap::new(),
    }
}

/// Everything of a container that stands in the way of a checkpoint, as far as its configuration,
/// its mounts and its streams show it.
#[must_use]
pub fn obstacles(container: &Container<'_>) -> Vec<Error> {
    let mut obstacles = unrestorable(container.spec);
    if container.has_listener {
        let reason = "a filter whose agent has a listener cannot be checkpointed";
        obstacles.push(Error::refused("linux.seccomp.listenerPath", reason));
    }
    obstacles.extend(mounts_of(container).external().into_iter().filter_map(Result::err));
    let streams = container.streams.iter().enumerate();
    let refused = streams.filter(|(_, stream)| !is_replaceable(container, stream));
    obstacles.extend(refused.map(|(number, stream)| refuse_stream(number, stream)));
    obstacles
}

/// The fields that neither CRIU nor davit can give back.
pub(crate) fn unrestorable(spec: &Spec) -> Vec<Error> {
    let linux = spec.linux().as_ref();
    let annotations = spec.annotations().as_ref();
    let process = spec.process().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
    let mut found = Vec::new();
    let has_mounts = namespaces
        .is_some_and(|list| list.iter().any(|one| one.typ() == LinuxNamespaceType::Mount));
    if !has_mounts {
        let reason = "a container without a mount namespace cannot be checkpointed";
        found.push(Error::refused("linux.namespaces", reason));
    }
    for (index, one) in namespaces.into_iter().flatten().enumerate() {
        use LinuxNamespaceType::{Cgroup, Mount, User};
        if one.path().is_some() && matches!(one.typ(), Cgroup | Mount | User) {
            let kind = config_name(one.typ());
            let reason = format!("a {kind} namespace given by path cannot be restored");
            found.push(Error::refused(format!("linux.namespaces[{index}].path"), reason));
        }
    }
    for name in ["run.davit.root.layers", "run.davit.root.ephemeral"] {
        let value = annotations.and_then(|all| all.get(name));
        if value.is_some_and(|value| value != "false") {
            let reason = "an overlay that davit has made cannot be restored";
            found.push(Error::refused(format!("annotations[{name:?}]"), reason));
        }
    }
    let net_devices = linux.and_then(|linux| linux.net_devices().as_ref());
    let fields = [
        ("linux.netDevices", net_devices.is_some_and(|devices| !devices.is_empty())),
        ("linux.memoryPolicy", linux.is_some_and(|linux| linux.memory_policy().is_some())),
        ("process.ioPriority", process.is_some_and(|process| process.io_priority().is_some())),
    ];
    let set = fields.into_iter().filter(|(_, is_set)| *is_set);
    found.extend(set.map(|(field, _)| Error::refused(field, "cannot be restored")));
    found
}

/// Whether another stream can replace this one. CRIU compares the size of a file with that at the
/// checkpoint, unless the file is only appended to.
fn is_replaceable(container: &Container<'_>, stream: &OpenStream) -> bool {
    !stream.is_regular || stream.is_appended || is_inside(container, stream)
}

fn is_inside(container: &Container<'_>, stream: &OpenStream) -> bool {
    container.mounts.iter().any(|own| own.id == stream.file.0)
}

fn refuse_stream(number: usize, stream: &OpenStream) -> Error {
    let name = ["stdin", "stdout", "stderr"].get(number).copied().unwrap_or("descriptor");
    let reason = "is a file of the host, which another one cannot replace at a restore";
    Error::refused(format!("{name} {}", stream.link), reason).with_hint(
        "start the container with a pipe, a terminal, /dev/null or a file opened for appending (>>)",
    )
}

/// The name of a type of namespaces in config.json.
pub(crate) const fn config_name(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mount",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "network",
        LinuxNamespaceType::Time => "time",
    }
}

/// The name of an external namespace in the image, as runc and crun have it.
pub(crate) const fn namespace_key(
    kind: LinuxNamespaceType,
) -> Option<(&'static str, &'static str)> {
    match kind {
        LinuxNamespaceType::Network => Some(("net", "extRootNetNS")),
        LinuxNamespaceType::Pid => Some(("pid", "extRootPidNS")),
        _ => None,
    }
}

fn external_namespaces(container: &Container<'_>) -> Result<Vec<Setting>, Error> {
    let mut settings = Vec::new();
    for namespace in container.namespaces.iter().filter(|one| one.joined) {
        if let Some((name, key)) = namespace_key(namespace.kind) {
            let text = format!("{name}[{}]:{key}", namespace.inode);
            let origin = format!("linux.namespaces, {}", config_name(namespace.kind));
            settings.push(Setting::text(Field::External, text).from(origin));
        }
    }
    Ok(settings)
}

fn mounts_of<'a>(container: &Container<'a>) -> Mounts<'a> {
    let mut namespaces = container.namespaces.iter();
    Mounts {
        spec: container.spec,
        root: container.root,
        own: container.mounts,
        host: container.host_mounts,
        places: container.places,
        nodes: container.nodes,
        cgroup_namespace: namespaces.any(|one| one.kind == LinuxNamespaceType::Cgroup),
    }
}

/// The standard streams. One that the caller gave is replaced by the caller of the restore: a pipe
/// by its name, and a file of the host by its mount and inode.
fn streams(container: &Container<'_>) -> Vec<Stream> {
    let stream = |open: &OpenStream| {
        let (mount, inode) = open.file;
        let inside = is_inside(container, open);
        let is_path = open.link.starts_with('/');
        let key = match open.link.strip_prefix("pipe:[") {
            Some(_) => Some(open.link.clone()),
            // CRIU reads both numbers as hexadecimal ones.
            None if is_path && !inside => Some(format!("file[{mount:x}:{inode:x}]")),
            None => None,
        };
        Stream { link: open.link.clone(), key }
    };
    container.streams.iter().map(stream).collect()
}

pub(crate) fn utf8<'a>(subject: &str, path: &'a Path) -> Result<&'a str, Error> {
    path.to_str().ok_or_else(|| Error::refused(subject, format!("{path:?} is not UTF-8")))
}
