//! `restore`: makes a container of the image that `checkpoint` has written.

use std::ffi::CString;
use std::io::{stderr, stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use davit_checkpoint::image::Image;
use davit_checkpoint::restore::{LOG, Target, sources};
use davit_checkpoint::{Criu, File, Launch, Options, Request, Session, Value};
use davit_namespaces::Kind;
use davit_sys::private_mounts::with_private_mounts;
use davit_sys::trace::operation;
use davit_sys::{OsContext, path};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, UnlinkatFlags, Whence, lseek, unlinkat};
use oci_spec::runtime::Spec;

use super::build::ContainerBuilder;
use super::create::{Planned, check_terminal, exec_config, plan_here, record};
use super::explain::{self, Explanation};
use super::image_dir::ImageDir;
use super::request::CreateRequest;
use super::stage::Stage;
use crate::config::annotations::criu_config;
use crate::config::bundle::Bundle;
use crate::config::normalize::add_notify_socket;
use crate::error::{Error, Result, Within};
use crate::host::OurCgroups;
use crate::id::Id;
use crate::log::warn;
use crate::notify;
use crate::plan::{self, Plan};
use crate::state::{ContainerDir, Record, StateRoot};

/// The operation that starts criu.
const START: &str =
    "start criu in a mount namespace of its own, in which the root is a mount point";

/// The command line of `restore`.
#[derive(Debug, Default)]
pub struct RestoreRequest {
    /// What it has in common with `create`.
    pub create: CreateRequest,
    /// The directory of the image.
    pub image: PathBuf,
    /// The directory of CRIU's log; the image's if none is given.
    pub work: Option<PathBuf>,
    /// The program criu.
    pub criu: Option<PathBuf>,
    /// Other restores of this image may be at work: the log has the id in its name, and is removed
    /// if all goes well.
    pub shares_image: bool,
    /// What CRIU gets as it is.
    pub options: Options,
}

/// A restored container.
pub struct Restored {
    /// The pid of its first process, a child of this one.
    pub pid: Pid,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// The pty master of its terminal.
    pub master: Option<OwnedFd>,
    /// Its directory.
    pub dir: ContainerDir,
    /// Its record.
    pub record: Record,
    /// The state root of this user.
    pub root: StateRoot,
}

/// What a restore asks CRIU for, and needs for it.
pub(super) struct Restoration {
    pub(super) request: Request,
    pub(super) images: ImageDir,
    pub(super) work: Option<ImageDir>,
    /// The name of the log.
    log: String,
    pub(super) criu: Option<PathBuf>,
    /// The name of the session keyring.
    pub(super) keyring: Option<CString>,
    /// The container's host name, if it is another than that of the image.
    pub(super) hostname: Option<String>,
    /// The container's root, on the host.
    pub(super) root: PathBuf,
    /// What davit mounts for CRIU.
    stage: Stage,
    /// The mount points that must exist in the root, and whether each is a directory.
    mountpoints: Vec<(CString, bool)>,
    /// The descriptors that criu gets.
    files: Vec<(File, OwnedFd)>,
}

/// Restores a container.
///
/// # Errors
/// The image is not complete or does not fit config.json; the step that failed, after which
/// everything is rolled back.
pub fn restore(root: StateRoot, id: &Id, request: &RestoreRequest) -> Result<Restored> {
    let prepared = prepare(&root, id, request)?;
    let Prepared { mut bundle, plan, record, notifies, restoration } = prepared;
    plan.warnings.iter().cloned().for_each(warn);
    check_terminal(&bundle, &request.create)?;
    if plan::kinds(&bundle.spec).contains(&Kind::User) {
        restoration.images.make_searchable()?;
    }
    let later = exec_config(&plan, &mut bundle)?.encode(&plan.init.filter)?;
    let dir = root.create(id)?;
    let builder = ContainerBuilder::new(plan, &request.create, record, dir, notifies);
    let (work, log) = (restoration.work().copy()?, restoration.log.clone());
    let restored = builder.restore(&later, restoration, root)?;
    if request.shares_image {
        // Only a log.
        let _ = unlinkat(&work, log.as_str(), UnlinkatFlags::NoRemoveDir);
    }
    Ok(restored)
}

/// The plan of a restore as text.
///
/// # Errors
/// What `restore` would refuse.
pub fn explain_restore(root: Option<PathBuf>, request: &RestoreRequest) -> Result<Explanation> {
    let id = Id::try_from("ID".to_owned())?;
    let prepared = prepare(&StateRoot::new(root)?, &id, request)?;
    let Prepared { bundle, plan, restoration, .. } = prepared;
    let lines = |ops: &[davit_cgroups::Op]| ops.iter().map(ToString::to_string).collect();
    let points = restoration.mountpoints.iter();
    let points = points.map(|(path, _)| format!("make mount point {}", path.to_string_lossy()));
    let mut criu = vec![START.to_owned(), "move criu into the cgroup".to_owned()];
    criu.extend(restoration.stage.steps());
    criu.extend(restoration.request.settings.iter().map(ToString::to_string));
    criu.push(restoration.request.to_string());
    let hooks = plan.hooks.iter().map(|(hook, _)| hook.to_string()).collect();
    let poststop = plan.poststop.iter().map(ToString::to_string).collect();
    let mut sections = vec![
        explain::runtime("the runtime makes the cgroup", lines(&plan.cgroup)),
        explain::runtime("the runtime prepares the root", points.collect()),
        explain::runtime("the runtime and criu", criu),
        explain::runtime("the runtime's hooks, once criu has made the namespaces", hooks),
        explain::runtime("after delete", poststop),
    ];
    sections.retain(|section| !section.steps.is_empty());
    Ok(Explanation {
        start: Vec::new(),
        sections,
        warnings: [bundle.warnings, plan.warnings].concat(),
    })
}

/// Everything that is decided before anything is made.
struct Prepared {
    bundle: Bundle,
    plan: Plan,
    record: Record,
    notifies: bool,
    restoration: Restoration,
}

fn prepare(root: &StateRoot, id: &Id, request: &RestoreRequest) -> Result<Prepared> {
    let images = ImageDir::open("--image-path", &request.image, false)?;
    let image = images.image()?;
    let load = || Bundle::load(&request.create.bundle, request.create.config.as_deref());
    let mut bundle = operation("config", &"read config.json", load)?;
    std::mem::take(&mut bundle.warnings).into_iter().for_each(warn);
    let had_socket = image.mounts.iter().any(|one| one.destination == Path::new(notify::INSIDE));
    let directory = root.notify_directory(id);
    let adds_socket = had_socket && add_notify_socket(&mut bundle.spec, directory.clone());
    let plan = || plan_here(id, &mut bundle, &request.create, directory.clone());
    let Planned { plan, uid, notifies, .. } = operation("plan", &"plan", plan)?;
    let mut record = record(id, &bundle, uid, &plan)?;
    record.restoring = true;
    let stage = Stage::plan(&bundle, &image)?;
    let made = Made { notify_directory: directory, stage };
    let restoration = Restoration::prepare(&bundle, images, &image, &record, request, made)?;
    let notifies = notifies || adds_socket;
    Ok(Prepared { bundle, plan, record, notifies, restoration })
}

/// What CRIU binds, and is made only later.
struct Made {
    notify_directory: PathBuf,
    stage: Stage,
}

impl Restoration {
    fn prepare(
        bundle: &Bundle,
        images: ImageDir,
        image: &Image,
        record: &Record,
        request: &RestoreRequest,
        made: Made,
    ) -> Result<Self> {
        let cgroups: Vec<_> = record.cgroup.iter().flat_map(cgroups).collect();
        let cgroup_directories = match &record.cgroup {
            Some(cgroup) => cgroup.members.iter().map(|one| one.directory.clone()).collect(),
            None => shared_cgroups()?,
        };
        let log = match request.shares_image {
            true => format!("restore-{}.log", record.id),
            false => LOG.to_owned(),
        };
        let target = Target {
            staged: &made.stage.paths,
            log: &log,
            spec: &bundle.spec,
            bundle: &bundle.directory,
            root: &record.rootfs,
            image,
            cgroups: &cgroups,
            cgroup_directories: &cgroup_directories,
        };
        let config_file = criu_config(&record.annotations);
        let options = Options { config_file, ..request.options.clone() };
        let planned = davit_checkpoint::restore::plan(&target, &options)?;
        let is_made = |source: &Path| {
            source == made.notify_directory
                || made.stage.has(source)
                || cgroup_directories.iter().any(|directory| directory == source)
        };
        for (source, field) in sources(&planned).filter(|(source, _)| !is_made(source)) {
            let step = || format!("{field}: {}", source.display());
            nix::sys::stat::stat(source).syscall("stat").within(step)?;
        }
        let work = request.work.as_deref();
        let work = work.map(|path| ImageDir::open("--work-path", path, true)).transpose()?;
        let own_keyring = !request.create.options.process.no_new_keyring;
        let keyring = own_keyring.then(|| CString::new(format!("_ses.{}", record.id)).ok());
        Ok(Self {
            files: files(&planned, &bundle.spec)?,
            mountpoints: mountpoints(&bundle.spec, image)?,
            stage: made.stage,
            request: planned,
            images,
            work,
            log,
            criu: request.criu.clone(),
            keyring: keyring.flatten(),
            hostname: new_hostname(&bundle.spec, image),
            root: record.rootfs.clone(),
        })
    }

    /// The directory of the log.
    pub(super) fn work(&self) -> &ImageDir {
        self.work.as_ref().unwrap_or(&self.images)
    }

    /// Starts criu in a mount namespace of its own, in which the container's root is a mount point:
    /// CRIU requires that, and the mount ends with the namespace. CRIU also mounts in the work
    /// directory, which must therefore be opened there.
    pub(super) fn start(mut self) -> Result<(Session, Self)> {
        let root = path::c_string(&self.root).within(|| "root.path")?;
        let start = || {
            with_private_mounts(&root, || -> Result<Session> {
                self.stage.mount()?;
                self.images.reopen()?;
                if let Some(work) = &mut self.work {
                    work.reopen()?;
                }
                self.session()
            })
        };
        let session = operation("checkpoint", &START, start)?;
        Ok((session, self))
    }

    fn session(&self) -> Result<Session> {
        let criu = Criu::find(self.criu.as_deref(), std::env::var_os("PATH").as_deref())?;
        let copies = self.files.iter().map(|(_, file)| file.as_fd().try_clone_to_owned());
        let launch = Launch {
            files: copies.collect::<std::io::Result<_>>().syscall("dup")?,
            keyring: self.keyring.clone(),
        };
        let mut session = Session::start(&criu, launch)?;
        session.log_to(self.work().copy()?, &self.log, self.work().path());
        Ok(session)
    }

    /// The request as bytes.
    pub(super) fn encode(&self, session: &Session) -> Result<Vec<u8>> {
        let files = |file: &File| match file {
            File::Images => Some(self.images.number()),
            File::Work => Some(self.work().number()),
            other => session.number(self.files.iter().position(|(one, _)| one == other)?),
        };
        Ok(self.request.encode(&files)?)
    }

    /// Makes the mount points that a new root does not have.
    pub(super) fn make_mountpoints(&self) -> Result<()> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(&self.root, flags, Mode::empty()).syscall("open");
        let root = root.within(|| format!("root.path {}", self.root.display()))?;
        for (path, is_directory) in &self.mountpoints {
            davit_rootfs::make_mountpoint(root.as_fd(), path, *is_directory)
                .within(|| format!("mount point {}", path.to_string_lossy()))?;
        }
        Ok(())
    }
}

/// The host name in config.json, if the image has another one and the namespace is its own.
fn new_hostname(spec: &Spec, image: &Image) -> Option<String> {
    let owns_name = !image.joined.iter().any(|kind| kind == Kind::Uts.name())
        && plan::kinds(spec).contains(&Kind::Uts);
    let differs = owns_name && *spec.hostname() != image.hostname;
    spec.hostname().clone().filter(|_| differs)
}

/// Controllers and path of each of the container's cgroups.
fn cgroups(cgroup: &davit_cgroups::Cgroup) -> Vec<(String, String)> {
    let one = |member: &davit_cgroups::Member| {
        (member.controllers.join(","), format!("/{}", member.path.display()))
    };
    cgroup.members.iter().map(one).collect()
}

/// The directories of this process's cgroups.
fn shared_cgroups() -> Result<Vec<PathBuf>> {
    let layout = davit_cgroups::Layout::discover().within(|| "cgroups")?;
    let ours = OurCgroups::of_this_process()?;
    let join = |mountpoint: &Path, controllers: &[String]| {
        let place = ours.place(controllers);
        mountpoint.join(place.strip_prefix("/").unwrap_or(&place))
    };
    let unified = layout.unified.iter().map(|tree| join(&tree.mountpoint, &[]));
    let others = layout.hierarchies.iter().map(|tree| join(&tree.mountpoint, &tree.controllers));
    Ok(unified.chain(others).collect())
}

/// Opens the descriptors that the request names.
fn files(request: &Request, spec: &Spec) -> Result<Vec<(File, OwnedFd)>> {
    let mut files = Vec::new();
    for setting in &request.settings {
        let Value::Inherit(_, file) = &setting.value else { continue };
        let opened = match file {
            File::Stream(number) => stream(*number)?,
            File::SeekableStream(number) => {
                let opened = stream(*number)?;
                let is_file = lseek(&opened, 0, Whence::SeekCur).syscall("lseek");
                is_file.within(|| format!("{}: only a file can take its place", setting.origin))?;
                opened
            }
            File::Null => {
                let path = "/dev/null";
                open(path, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
                    .syscall("open")
                    .within(|| path)?
            }
            File::Namespace(name) => namespace(spec, name)?,
            File::Images | File::Work => continue,
        };
        files.push((file.clone(), opened));
    }
    Ok(files)
}

/// A standard stream of this process.
fn stream(number: u8) -> Result<OwnedFd> {
    let (input, output, errors) = (stdin(), stdout(), stderr());
    let stream = match number {
        0 => input.as_fd(),
        1 => output.as_fd(),
        _ => errors.as_fd(),
    };
    Ok(stream.try_clone_to_owned().syscall("dup")?)
}

/// Opens the namespace that config.json gives by path. Its type was checked before.
fn namespace(spec: &Spec, name: &str) -> Result<OwnedFd> {
    let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let wanted = list.into_iter().flatten().find(|one| {
        davit_checkpoint::restore::file_name(one.typ()) == name && one.path().is_some()
    });
    let path = wanted.and_then(|one| one.path().as_ref());
    let path = path.ok_or_else(|| Error::new(format!("linux.namespaces: no path for {name}")))?;
    open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .syscall("open")
        .within(|| format!("linux.namespaces: {}", path.display()))
}

/// The mount points that the root must have: those of config.json and of the image that are not in
/// another mount, whose content CRIU restores or brings.
fn mountpoints(spec: &Spec, image: &Image) -> Result<Vec<(CString, bool)>> {
    let mut all: Vec<(&Path, bool)> = Vec::new();
    for entry in spec.mounts().iter().flatten() {
        let source = entry.source().as_deref().filter(|source| source.is_absolute());
        let is_file = entry.typ().as_deref() == Some("bind") && source.is_some_and(Path::is_file);
        all.push((entry.destination(), !is_file));
    }
    for external in &image.mounts {
        if !all.iter().any(|(path, _)| external.mountpoint.starts_with(path)) {
            all.push((&external.mountpoint, true));
        }
    }
    let is_inside = |path: &Path| {
        all.iter()
            .any(|(other, _)| *other != path && *other != Path::new("/") && path.starts_with(other))
    };
    let wanted = all.iter().filter(|(path, _)| path.is_absolute() && !is_inside(path));
    wanted.map(|(path, is_directory)| Ok((path::c_string(path)?, *is_directory))).collect()
}
