//! Planning a restore: config.json and an image -> a request.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use crate::checkpoint::{LOG_LEVEL, config_name, namespace_key, unrestorable, utf8};
use crate::image::{External, ExternalKind, Image};
use crate::mounts::{is_bind, is_overlay, is_staged};
use crate::protocol::{self, Kind};
use crate::setting::{File, Request, Setting, Value};
use crate::{Error, Field, Options};

/// The usual name of the log in the work directory.
pub const LOG: &str = "restore.log";

/// The container that is to be restored.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// Its configuration.
    pub spec: &'a Spec,
    /// The directory of its bundle.
    pub bundle: &'a Path,
    /// Its root on the host.
    pub root: &'a Path,
    /// The image.
    pub image: &'a Image,
    /// The name of the log in the work directory.
    pub log: &'a str,
    /// Its cgroups: the controllers and the path of each.
    pub cgroups: &'a [(String, String)],
    /// The directories of its cgroups, or of those that it shares with davit.
    pub cgroup_directories: &'a [PathBuf],
    /// Where each of the entries of `mounts` that are [`staged`] is mounted.
    pub staged: &'a BTreeMap<usize, PathBuf>,
}

/// The sources on the host that a request names, each with its field.
pub fn sources(request: &Request) -> impl Iterator<Item = (&Path, &str)> {
    request.settings.iter().filter_map(|setting| match &setting.value {
        Value::Known(protocol::Value::Pair(_, source)) if setting.field == Field::ExtMnt => {
            Some((Path::new(source.as_str()), setting.origin.as_ref()))
        }
        _ => None,
    })
}

/// The entries of `mounts` that must be mounted before, for CRIU to bind: overlays, and bind mounts
/// that map ids.
pub fn staged(spec: &Spec, image: &Image) -> BTreeSet<usize> {
    let binds = image.mounts.iter().filter(|external| external.kind == ExternalKind::Bind);
    let entries = binds.filter_map(|external| nearest(spec, &external.destination));
    entries.filter(|(_, entry)| is_staged(entry)).map(|(index, _)| index).collect()
}

/// Plans a restore.
///
/// # Errors
/// A field of config.json that does not fit the image, or a mount without a source.
pub fn plan(target: &Target<'_>, options: &Options) -> Result<Request, Error> {
    if let Some(first) = unrestorable(target.spec).into_iter().next() {
        return Err(first);
    }
    if target.image.pre_dump {
        let reason = "is the image of a pre-dump, which has the memory alone";
        return Err(Error::refused("--image-path", reason));
    }
    let mut settings = vec![
        Setting::descriptor(Field::ImagesDirFd, File::Images),
        Setting::descriptor(Field::WorkDirFd, File::Work),
        Setting::text(Field::LogFile, target.log),
        Setting::number(Field::LogLevel, LOG_LEVEL),
        Setting::text(Field::Root, utf8("root.path", target.root)?).from("root.path"),
        Setting::flag(Field::RstSibling),
        Setting::flag(Field::NotifyScripts),
        Setting::flag(Field::EvasiveDevices),
        Setting::flag(Field::OrphanPtsMaster),
        options.cgroups_mode(!target.cgroups.is_empty()),
    ];
    for (controllers, path) in target.cgroups {
        settings.push(Setting::pair(Field::CgRoot, controllers, path).from("linux.cgroupsPath"));
    }
    settings.extend(options.settings());
    settings.extend(namespaces(target)?);
    settings.extend(mounts(target)?);
    settings.extend(streams(target.image));
    Ok(Request { kind: Kind::Restore, settings })
}

/// The namespaces given by path. The container must have the namespaces that the image has.
fn namespaces(target: &Target<'_>) -> Result<Vec<Setting>, Error> {
    let list = target.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let wanted: BTreeSet<String> =
        list.into_iter().flatten().map(|one| config_name(one.typ()).to_owned()).collect();
    let dumped: BTreeSet<String> = target.image.namespaces.iter().cloned().collect();
    if let Some(kind) = wanted.symmetric_difference(&dumped).next() {
        let whose = if dumped.contains(kind) { "the image" } else { "config.json" };
        let reason = format!("only {whose} has a {kind} namespace of its own");
        return Err(Error::refused("linux.namespaces", reason));
    }
    let mut settings = Vec::new();
    for (index, one) in list.into_iter().flatten().enumerate() {
        let field = format!("linux.namespaces[{index}].path");
        let was_joined = target.image.joined.iter().any(|kind| kind == config_name(one.typ()));
        match (one.path(), namespace_key(one.typ())) {
            (Some(_), Some((_, key))) if was_joined => {
                let name = file_name(one.typ());
                settings.push(Setting::inherit(key, File::Namespace(name)).from(field));
            }
            (None, Some(_)) if was_joined => {
                let reason = "is needed: the image has a namespace that was given by path";
                return Err(Error::refused(field, reason));
            }
            (Some(_), Some(_)) => {
                return Err(Error::refused(field, "the image has a namespace of its own"));
            }
            (Some(path), None) => {
                let name = file_name(one.typ());
                let path = utf8(&field, path)?;
                settings.push(Setting::pair(Field::JoinNs, name, path).from(field));
            }
            (None, _) => {}
        }
    }
    Ok(settings)
}

/// The name of a namespace in /proc/PID/ns.
#[must_use]
pub const fn file_name(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mnt",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "net",
        LinuxNamespaceType::Time => "time",
    }
}

fn mounts(target: &Target<'_>) -> Result<Vec<Setting>, Error> {
    let mut settings = Vec::new();
    for external in &target.image.mounts {
        let (source, field) = source(target, external)?;
        let name = utf8(&field, &external.mountpoint)?;
        settings.push(Setting::pair(Field::ExtMnt, name, utf8(&field, &source)?).from(field));
    }
    Ok(settings)
}

/// The source of a mount on this host, and its field.
fn source(target: &Target<'_>, external: &External) -> Result<(PathBuf, String), Error> {
    let destination = &external.destination;
    match external.kind {
        ExternalKind::Bind => bind_source(target, destination),
        ExternalKind::Device => Ok((destination.clone(), format!("device {destination:?}"))),
        ExternalKind::Root => {
            let below = destination.strip_prefix("/").unwrap_or(destination);
            Ok((target.root.join(below), "root.path".to_owned()))
        }
        ExternalKind::Cgroup => {
            let mut directories = target.cgroup_directories.iter();
            let found = directories.find(|path| path.starts_with(destination));
            let missing = || {
                Error::refused("linux.cgroupsPath", format!("none in {}", destination.display()))
            };
            Ok((found.ok_or_else(missing)?.clone(), "linux.cgroupsPath".to_owned()))
        }
    }
}

/// The source of the mount of config.json at or nearest above `destination`.
fn bind_source(target: &Target<'_>, destination: &Path) -> Result<(PathBuf, String), Error> {
    let (index, entry) = nearest(target.spec, destination).ok_or_else(|| {
        let path = destination.display();
        Error::refused("mounts", format!("the image has a mount at {path}, and config.json none"))
    })?;
    let field = format!("mounts[{index}]");
    let source = match (target.staged.get(&index), entry.source()) {
        (Some(staged), _) => staged.clone(),
        (None, Some(source)) => target.bundle.join(source),
        (None, None) => return Err(Error::refused(field, "has no source")),
    };
    let below = destination.strip_prefix(entry.destination()).unwrap_or(Path::new(""));
    let source = if below.as_os_str().is_empty() { source } else { source.join(below) };
    Ok((source, field))
}

/// The bind mount or overlay of config.json at or nearest above `destination`.
fn nearest<'a>(spec: &'a Spec, destination: &Path) -> Option<(usize, &'a Mount)> {
    let entries = spec.mounts().iter().flatten().enumerate();
    let above = entries.filter(|(_, entry)| match is_overlay(entry) {
        true => destination == entry.destination(),
        false => is_bind(entry) && destination.starts_with(entry.destination()),
    });
    above.max_by_key(|(_, entry)| entry.destination().components().count())
}

/// The streams that davit has replace those of the image with the same number; /dev/null stays
/// what it was, for CRIU seeks in it, and in a pipe it cannot.
fn streams(image: &Image) -> Vec<Setting> {
    let mut seen = BTreeSet::new();
    let mut settings = Vec::new();
    for (number, stream) in (0u8..).zip(&image.streams) {
        if let Some(key) = stream.key.as_ref().filter(|key| seen.insert((*key).clone())) {
            let origin = format!("descriptor {number} was {}", stream.link);
            let file = match stream.link.as_str() {
                "/dev/null" => File::Null,
                _ if key.starts_with("file[") => File::SeekableStream(number),
                _ => File::Stream(number),
            };
            settings.push(Setting::inherit(key.clone(), file).from(origin));
        }
    }
    settings
}
