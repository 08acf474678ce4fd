//! `checkpoint`: writes the processes of a running container to files, by CRIU.

mod facts;
mod processes;

use std::fs::File;
use std::io::Write;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use davit_checkpoint::checkpoint::{Container, LOG, Plan, obstacles, plan};
use davit_checkpoint::image::{DESCRIPTORS, MARKER};
use davit_checkpoint::{Criu, Launch, Notification, Options, Request, Session};
use davit_sys::OsContext;
use davit_sys::trace::operation;

use self::facts::Facts;
use super::explain::{self, Explanation};
use super::image_dir::ImageDir;
use super::{LOCK, delete};
use crate::config::annotations::criu_config;
use crate::config::bundle::Bundle;
use crate::config::normalize::add_notify_socket;
use crate::error::{Error, Result, Within};
use crate::id::Id;
use crate::state::{ContainerDir, NOTIFY_DIRECTORY, Process, Record, StateRoot, Status};

/// The operation that starts criu.
const START: &str = "start criu";

/// The command line of `checkpoint`.
#[derive(Debug, Default)]
pub struct CheckpointRequest {
    /// The directory of the image.
    pub image: PathBuf,
    /// The directory of CRIU's log; the image's if none is given.
    pub work: Option<PathBuf>,
    /// The program criu.
    pub criu: Option<PathBuf>,
    /// Gets a byte once pages can be transferred (`--status-fd`).
    pub status: Option<OwnedFd>,
    /// What CRIU gets as it is.
    pub options: Options,
}

/// A container that can be checkpointed.
struct Target {
    dir: ContainerDir,
    record: Record,
    is_paused: bool,
    plan: Plan,
}

/// Checkpoints a container. It is deleted then, unless it runs on.
///
/// # Errors
/// It does not run; a field of its configuration that cannot be restored; CRIU's.
pub fn checkpoint(root: &StateRoot, id: &Id, request: &mut CheckpointRequest) -> Result<()> {
    let dir = root.get(id)?;
    let _lock = dir.lock(LOCK)?;
    let target = operation("plan", &"plan", || target(root, dir, &request.options))?;
    let images = ImageDir::open("--image-path", &request.image, true)?;
    let work = request.work.as_deref();
    let work = work.map(|path| ImageDir::open("--work-path", path, true)).transpose()?;
    let dumped = dump(root, &target, &images, work.as_ref().unwrap_or(&images), request);
    let removed = target.dir.remove_criu_link();
    dumped.and(removed)?;
    let Options { leave_running, pre_dump, .. } = request.options;
    if leave_running || pre_dump {
        return Ok(());
    }
    // As with runc and crun: engines expect that the container does not exist any more.
    delete::remove(root, &target.dir, &target.record, Status::Running)
}

/// Everything that stands in the way of a checkpoint, each with what to do. Nothing is stopped.
///
/// # Errors
/// The container does not run; it has ended meanwhile.
pub fn check(
    root: &StateRoot,
    id: &Id,
    request: &CheckpointRequest,
) -> Result<Vec<(String, Option<String>)>> {
    let dir = root.get(id)?;
    let record = dir.record()?;
    let status = Status::of(&record)?;
    let mut errors: Vec<Error> = Vec::new();
    let features = session(request.criu.as_deref())
        .and_then(|mut session| require_features(&mut session, &request.options));
    errors.extend(features.err());
    let found = inspect(root, &dir, &record, status, |container, init| {
        let mut found: Vec<Error> = obstacles(container).into_iter().map(Error::from).collect();
        found.extend(processes::obstacles(container, &record, init, &request.options)?);
        Ok(found)
    })?;
    errors.extend(found);
    let told = |error: Error| (error.message().to_owned(), error.advice().map(str::to_owned));
    Ok(errors.into_iter().map(told).collect())
}

/// The plan of a checkpoint as text.
///
/// # Errors
/// What `checkpoint` would refuse.
pub fn explain_checkpoint(root: &StateRoot, id: &Id, options: &Options) -> Result<Explanation> {
    let Target { plan, .. } = target(root, root.get(id)?, options)?;
    let mut steps = vec![START.to_owned()];
    steps.extend(plan.request.settings.iter().map(ToString::to_string));
    steps.push(plan.request.to_string());
    steps.push(format!("write {DESCRIPTORS}, and {MARKER} last, before the processes end"));
    let mut sections = vec![explain::runtime("the runtime and criu", steps)];
    if !options.leave_running && !options.pre_dump {
        let steps = vec!["delete the container".to_owned()];
        sections.push(explain::runtime("the runtime, afterwards", steps));
    }
    Ok(Explanation { start: Vec::new(), sections, warnings: Vec::new() })
}

/// Plans the checkpoint of a container.
fn target(root: &StateRoot, dir: ContainerDir, options: &Options) -> Result<Target> {
    let record = dir.record()?;
    let status = Status::of(&record)?;
    let options = with_config(options, &record);
    let plan = inspect(root, &dir, &record, status, |container, _| Ok(plan(container, &options)?))?;
    Ok(Target { dir, record, is_paused: status == Status::Paused, plan })
}

/// Reads the configuration and the state of a running container.
///
/// # Errors
/// It does not run; config.json cannot be read; those of `look`.
fn inspect<T>(
    root: &StateRoot,
    dir: &ContainerDir,
    record: &Record,
    status: Status,
    look: impl FnOnce(&Container<'_>, Process) -> Result<T>,
) -> Result<T> {
    if !matches!(status.living()?, Status::Running | Status::Paused) {
        let status = status.name();
        return Err(Error::new(format!("cannot checkpoint a container that is {status}")));
    }
    let init = record.init.filter(Process::has_its_start_time);
    let init = init.ok_or_else(Error::not_running)?;
    let mut bundle = Bundle::load(&record.bundle, None)?;
    if dir.path_of(NOTIFY_DIRECTORY).exists() {
        add_notify_socket(&mut bundle.spec, root.notify_directory(dir.id()));
    }
    let facts = Facts::discover(&bundle.spec, init)?;
    let freezer = match &record.cgroup {
        Some(cgroup) => cgroup.freezer_directory()?,
        None => None,
    };
    let container = Container {
        spec: &bundle.spec,
        id: dir.id().as_str(),
        davit: Record::WRITER,
        pid: init.pid,
        root: &record.rootfs,
        freezer,
        has_own_cgroups: facts::is_in_own_cgroups(init.pid, record.cgroup.as_ref())?,
        mounts: &facts.mounts,
        host_mounts: &facts.host_mounts,
        places: &facts.places,
        nodes: &facts.nodes,
        namespaces: &facts.namespaces,
        streams: &facts.streams,
        has_listener: record.listener.is_some(),
    };
    look(&container, init)
}

/// The options, with the file that names more of them.
fn with_config(options: &Options, record: &Record) -> Options {
    Options { config_file: criu_config(&record.annotations), ..options.clone() }
}

fn dump(
    root: &StateRoot,
    target: &Target,
    images: &ImageDir,
    work: &ImageDir,
    request: &mut CheckpointRequest,
) -> Result<()> {
    let mut session = session(request.criu.as_deref())?;
    require_features(&mut session, &request.options)?;
    if let Some(parent) = &request.options.parent_path {
        images.require_parent(parent)?;
    }
    images.begin()?;
    session.log_to(work.copy()?, LOG, work.path());
    note(&target.dir, &session)?;
    let message = encode(&target.plan, images.number(), work.number())?;
    let mut status = request.status.take();
    let mut completed = false;
    let image = &target.plan.image;
    let options = request.options.clone();
    let told = |notification: Notification<'_>| -> Result<()> {
        match notification.stage {
            // The processes are still alive: if davit is killed before, they run on.
            "post-dump" => {
                completed = true;
                images.complete(image)?;
                thaw(target, &options)
            }
            "status-ready" => ready(status.take()),
            _ => Ok(()),
        }
    };
    let perform = || session.perform(&message, told);
    operation("checkpoint", &target.plan.request, perform)
        .map_err(|error| explain(error, &target.plan.request))
        .map_err(|error| with_obstacle(error, root, target, &request.options))?;
    if !completed {
        images.complete(image)?;
    }
    drop(session);
    Ok(())
}

/// CRIU's failure, with the process and the descriptor that stand in the way as far as davit knows.
fn with_obstacle(error: Error, root: &StateRoot, target: &Target, options: &Options) -> Error {
    let Target { dir, record, .. } = target;
    let status = if target.is_paused { Status::Paused } else { Status::Running };
    let found = inspect(root, dir, record, status, |container, init| {
        processes::obstacles(container, record, init, options)
    });
    // An error means that the container has ended: CRIU has said what there is to say.
    match found.unwrap_or_default().first() {
        Some(obstacle) => error.within(obstacle.message()).hinted(obstacle.advice()),
        None => error,
    }
}

/// CRIU leaves a paused container frozen: processes that it is to end must not be. CRIU still stops
/// them.
fn thaw(target: &Target, options: &Options) -> Result<()> {
    match &target.record.cgroup {
        Some(cgroup) if target.is_paused && !options.leave_running => Ok(cgroup.thaw()?),
        _ => Ok(()),
    }
}

/// Starts criu.
///
/// # Errors
/// It is missing or too old.
fn session(named: Option<&Path>) -> Result<Session> {
    let start = || -> Result<Session> {
        let criu = Criu::find(named, std::env::var_os("PATH").as_deref())?;
        Ok(Session::start(&criu, Launch::default())?)
    };
    operation("checkpoint", &START, start)
}

/// Other commands find criu from here on.
pub(super) fn note(dir: &ContainerDir, session: &Session) -> Result<()> {
    let mut criu = Process::of(session.pid())?;
    criu.boot = crate::state::BootId::current();
    dir.write_criu_link(&criu)
}

fn require_features(session: &mut Session, options: &Options) -> Result<()> {
    let tracks = options.pre_dump || options.parent_path.is_some();
    if !tracks && !options.lazy_pages {
        return Ok(());
    }
    let features = session.features()?;
    if tracks && !features.mem_track {
        let option = if options.pre_dump { "--pre-dump" } else { "--parent-path" };
        return Err(Error::new(format!("{option}: the kernel does not mark changed pages")).hint(
            "it needs CONFIG_MEM_SOFT_DIRTY: checkpoint without --pre-dump and --parent-path",
        ));
    }
    match options.lazy_pages && !features.lazy_pages {
        true => Err(Error::new("--lazy-pages: the kernel or criu cannot transfer pages later")
            .hint("it needs userfaultfd(2) with UFFD_FEATURE_EVENT_FORK and others")),
        false => Ok(()),
    }
}

fn encode(plan: &Plan, images: RawFd, work: RawFd) -> Result<Vec<u8>> {
    let files = |file: &davit_checkpoint::File| match file {
        davit_checkpoint::File::Images => Some(images),
        davit_checkpoint::File::Work => Some(work),
        _ => None,
    };
    Ok(plan.request.encode(&files)?)
}

/// Tells the reader of `--status-fd` that pages can be transferred.
fn ready(status: Option<OwnedFd>) -> Result<()> {
    let Some(status) = status else { return Ok(()) };
    File::from(status).write_all(&[0]).syscall("write").within(|| "--status-fd")
}

/// A failure of CRIU, with the field that its message is about.
pub(super) fn explain(error: Error, request: &Request) -> Error {
    let field = request.origin_of(error.message()).map(str::to_owned);
    match field {
        Some(field) => error.within(field),
        None => error,
    }
}
