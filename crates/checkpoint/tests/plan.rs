//! The plans of a checkpoint and of a restore, without root and without CRIU.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use davit_checkpoint::checkpoint::{Container, Namespace, OpenStream, obstacles};
use davit_checkpoint::image::Image;
use davit_checkpoint::mountinfo::{self, Mount};
use davit_checkpoint::{Options, Request, checkpoint, restore};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use serde_json::{Value, json};

const HOST: &[u8] = b"\
    24 25 0:6 / /dev rw - devtmpfs devtmpfs rw\n\
    25 1 254:0 / / rw - ext4 /dev/vda rw\n";

const OWN: &[u8] = b"\
    65 43 254:0 /b/rootfs / rw - ext4 /dev/vda rw\n\
    66 65 0:40 / /proc rw - proc proc rw\n\
    67 65 254:0 /srv /data rw - ext4 /dev/vda rw\n";

fn spec(changes: &Value) -> Spec {
    let mut spec = json!({
        "ociVersion": "1.3.0", "hostname": "web",
        "mounts": [
            { "destination": "/proc", "type": "proc" },
            { "destination": "/data", "type": "bind", "source": "data", "options": ["rbind"] },
        ],
        "linux": { "namespaces": [
            { "type": "mount" }, { "type": "pid" }, { "type": "network", "path": "/run/netns/n" },
        ] },
    });
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    serde_json::from_value(spec).unwrap()
}

/// Facts that a running container shows.
struct Facts {
    own: Vec<Mount>,
    host: Vec<Mount>,
    places: Vec<Option<PathBuf>>,
    nodes: BTreeMap<PathBuf, PathBuf>,
    namespaces: Vec<Namespace>,
    streams: Vec<OpenStream>,
}

impl Facts {
    fn new() -> Self {
        let namespace = |kind, joined| Namespace { kind, inode: 77, joined };
        let stream = |link: &str, mount, is_regular, is_appended| OpenStream {
            link: link.to_owned(),
            file: (mount, 0x1f),
            is_regular,
            is_appended,
        };
        Self {
            own: mountinfo::parse(OWN),
            host: mountinfo::parse(HOST),
            places: ["/proc", "/data"].map(|path| Some(PathBuf::from(path))).to_vec(),
            nodes: BTreeMap::new(),
            namespaces: vec![
                namespace(LinuxNamespaceType::Mount, false),
                namespace(LinuxNamespaceType::Pid, false),
                namespace(LinuxNamespaceType::Network, true),
            ],
            streams: vec![
                stream("/dev/null", 24, false, false),
                stream("pipe:[7]", 12, false, false),
                stream("/var/log/web", 25, true, true),
            ],
        }
    }

    fn container<'a>(&'a self, spec: &'a Spec) -> Container<'a> {
        Container {
            spec,
            id: "web",
            davit: "0.2.0",
            pid: 42,
            root: Path::new("/b/rootfs"),
            freezer: Some(Path::new("/sys/fs/cgroup/web")),
            has_own_cgroups: true,
            mounts: &self.own,
            host_mounts: &self.host,
            places: &self.places,
            nodes: &self.nodes,
            namespaces: &self.namespaces,
            streams: &self.streams,
            has_listener: false,
        }
    }
}

fn lines(request: &Request) -> Vec<String> {
    request.settings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_checkpoint_is_planned() {
    let (spec, facts) = (spec(&json!({})), Facts::new());
    let options = Options { tcp_established: true, ..Options::default() };
    let plan = checkpoint::plan(&facts.container(&spec), &options).unwrap();
    let expected = [
        "criu pid 42",
        "criu images_dir_fd the image directory",
        "criu work_dir_fd the work directory",
        "criu log_file dump.log",
        "criu log_level 4",
        "criu root /b/rootfs (root.path)",
        "criu notify_scripts 1",
        "criu orphan_pts_master 1",
        "criu manage_cgroups_mode 3",
        "criu freeze_cgroup /sys/fs/cgroup/web",
        "criu tcp_established 1 (--tcp-established)",
        "criu external net[77]:extRootNetNS (linux.namespaces, network)",
        "criu ext_mnt /data = /data (mounts[1])",
        "criu external file[18:1f] (descriptor 0: /dev/null)",
        "criu external file[19:1f] (descriptor 2: /var/log/web)",
    ];
    assert_eq!(lines(&plan.request), expected);
    assert_eq!(plan.image.namespaces, ["mount", "pid", "network"]);
    assert_eq!(plan.image.joined, ["network"]);
}

fn image() -> Image {
    let (spec, facts) = (spec(&json!({})), Facts::new());
    checkpoint::plan(&facts.container(&spec), &Options::default()).unwrap().image
}

fn restored(spec: &Spec, image: &Image) -> Result<Vec<String>, String> {
    let cgroups = [("cpu".to_owned(), "/web".to_owned())];
    let target = restore::Target {
        spec,
        bundle: Path::new("/other"),
        root: Path::new("/other/rootfs"),
        image,
        log: restore::LOG,
        cgroups: &cgroups,
        cgroup_directories: &[PathBuf::from("/sys/fs/cgroup/cpu/web")],
        staged: &BTreeMap::new(),
    };
    let planned = restore::plan(&target, &Options::default());
    planned.map(|request| lines(&request)).map_err(|error| error.to_string())
}

#[test]
fn a_restore_is_planned_for_another_bundle() {
    let planned = restored(&spec(&json!({})), &image()).unwrap();
    let expected = [
        "criu images_dir_fd the image directory",
        "criu work_dir_fd the work directory",
        "criu log_file restore.log",
        "criu log_level 4",
        "criu root /other/rootfs (root.path)",
        "criu rst_sibling 1",
        "criu notify_scripts 1",
        "criu evasive_devices 1",
        "criu orphan_pts_master 1",
        "criu manage_cgroups_mode 3",
        "criu cg_root cpu = /web (linux.cgroupsPath)",
        "criu inherit_fd extRootNetNS = the net namespace (linux.namespaces[2].path)",
        "criu ext_mnt /data = /other/data (mounts[1])",
        "criu inherit_fd file[18:1f] = /dev/null (descriptor 0 was /dev/null)",
        "criu inherit_fd pipe:[7] = descriptor 1 of the caller (descriptor 1 was pipe:[7])",
        "criu inherit_fd file[19:1f] = descriptor 2 of the caller (descriptor 2 was /var/log/web)",
    ];
    assert_eq!(planned, expected);
}

#[test]
fn a_configuration_that_does_not_fit_the_image_is_refused_by_field() {
    let refused = |changes: Value| restored(&spec(&changes), &image()).unwrap_err();
    let namespaces = |list: Value| json!({ "linux": { "namespaces": list } });
    let mount = json!({ "type": "mount" });
    let pid = json!({ "type": "pid" });
    assert_eq!(
        refused(namespaces(json!([mount, { "type": "network", "path": "/n" }]))),
        "linux.namespaces: only the image has a pid namespace of its own"
    );
    assert_eq!(
        refused(namespaces(json!([mount, pid, { "type": "network" }]))),
        "linux.namespaces[2].path: is needed: the image has a namespace that was given by path"
    );
    assert_eq!(
        refused(json!({ "mounts": [] })),
        "mounts: the image has a mount at /data, and config.json none"
    );
    let pre_dump = Image { pre_dump: true, ..image() };
    let error = restored(&spec(&json!({})), &pre_dump).unwrap_err();
    assert!(error.starts_with("--image-path: is the image of a pre-dump"), "{error}");
}

#[test]
fn everything_in_the_way_is_named() {
    let annotations = json!({ "run.davit.root.ephemeral": "true" });
    let process = json!({
        "cwd": "/", "args": ["x"], "user": { "uid": 0, "gid": 0 },
        "ioPriority": { "class": "IOPRIO_CLASS_IDLE", "priority": 0 },
    });
    let spec = spec(&json!({ "annotations": annotations, "process": process }));
    let mut facts = Facts::new();
    facts.streams[2].is_appended = false;
    facts.own.extend(mountinfo::parse(b"68 65 254:0 /home /added rw - ext4 /dev/vda rw\n"));
    let container = Container { has_listener: true, ..facts.container(&spec) };
    let found: Vec<String> = obstacles(&container).iter().map(ToString::to_string).collect();
    let beginnings = [
        "annotations[\"run.davit.root.ephemeral\"]: ",
        "process.ioPriority: ",
        "linux.seccomp.listenerPath: ",
        "mount /added: ",
        "stderr /var/log/web: ",
    ];
    assert_eq!(found.len(), beginnings.len(), "{found:#?}");
    for (text, beginning) in found.iter().zip(beginnings) {
        assert!(text.starts_with(beginning), "{text}");
    }
}
