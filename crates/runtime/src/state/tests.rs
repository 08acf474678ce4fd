//! The state on disk is read by other versions of davit: what these tests write out must stay as it
//! is, or [`STATE_FORMAT`] gets a new number (docs/state.md).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::error::ErrorKind;
use crate::id::Id;
use crate::plan::ExecConfig;

/// A record of format 1 with all of its members.
fn record() -> Value {
    json!({
        "format": 1, "davit": "0.2.0", "id": "web", "bundle": "/b", "rootfs": "/b/rootfs",
        "created": "2026-12-01T00:00:00.000000000Z", "owner": 0, "stage": "created",
        "init": {
            "pid": 7, "mark": { "inode": 9 }, "boot": "0f2c1c9e6a1e4f0b9d0c0123456789ab", "started": 3
        },
        "cgroup": {
            "members": [{
                "directory": "/sys/fs/cgroup/pids/p/web", "path": "p/web", "controllers": ["pids"]
            }],
            "parents": ["/sys/fs/cgroup/pids/p"],
            "unit": {
                "name": "davit-web.scope",
                "bus": { "socket": { "path": "/run/systemd/private" }, "direct": true, "user": false },
                "version": 252
            }
        },
        "resctrl": { "directory": "/sys/fs/resctrl/web", "made": true, "monitor": null },
        "own_pid_namespace": true,
        "mounts_before": [1, 2],
        "annotations": { "a": "b" },
        "listener": { "path": "/s", "metadata": "m", "send_via": "sendmsg" },
        "inner_hooks": 1,
        "poststart": [],
        "poststop": [{
            "field": "hooks.poststop[0]", "path": "/bin/h", "args": ["h", "x"], "env": ["A=1"],
            "timeout": 5
        }],
        "restoring": true
    })
}

fn parse(record: &Value) -> crate::Result<Record> {
    Record::parse(record.to_string().as_bytes())
}

#[test]
fn a_record_of_format_1_is_read_and_written_as_it_is() {
    let read = parse(&record()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), record());
    let hook = &read.poststop[0];
    assert_eq!((hook.path.as_c_str(), hook.args.len(), hook.timeout), (c"/bin/h", 2, Some(5)));
    let other = json!({ "start_time": 9 });
    let mut timed = record();
    timed["init"]["mark"] = other;
    assert_eq!(serde_json::to_value(parse(&timed).unwrap()).unwrap(), timed);
}

/// The members that a later version adds, and those that it may leave out.
#[test]
fn unknown_members_are_ignored_and_optional_ones_may_be_missing() {
    let mut newer = record();
    newer["newer"] = json!({ "x": 1 });
    newer["init"]["newer"] = json!(1);
    newer["cgroup"]["newer"] = json!([]);
    newer["poststop"][0]["newer"] = json!("");
    assert_eq!(parse(&newer).unwrap(), parse(&record()).unwrap());
    let required = [
        "format",
        "davit",
        "id",
        "bundle",
        "rootfs",
        "created",
        "owner",
        "stage",
        "own_pid_namespace",
    ];
    let mut least = record();
    least.as_object_mut().unwrap().retain(|name, _| required.contains(&name.as_str()));
    assert_eq!(parse(&least).unwrap().poststop, []);
    for name in required {
        let mut without = least.clone();
        without.as_object_mut().unwrap().remove(name);
        assert!(parse(&without).is_err(), "{name}");
    }
}

#[test]
fn another_format_is_refused_by_name() {
    let refused = |edit: &dyn Fn(&mut Value)| {
        let mut other = record();
        edit(&mut other);
        let error = parse(&other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StateFormat, "{error}");
        error.to_string()
    };
    let ours = format!("this is davit {}, format 1", env!("CARGO_PKG_VERSION"));
    let newer = |other: &mut Value| {
        other["format"] = 4.into();
        other["davit"] = "0.9.0".into();
    };
    assert_eq!(refused(&newer), format!("written by davit 0.9.0, format 4; {ours}"));
    // Its other members may be anything.
    let changed = |other: &mut Value| {
        newer(other);
        other["init"] = json!([]);
        other.as_object_mut().unwrap().remove("rootfs");
    };
    assert_eq!(refused(&changed), format!("written by davit 0.9.0, format 4; {ours}"));
    let before = |other: &mut Value| {
        let members = other.as_object_mut().unwrap();
        members.remove("format");
        members.remove("davit");
        members.insert("version".to_owned(), 1.into());
    };
    let error = format!("written by a davit before 0.2, without a format; {ours}");
    assert_eq!(refused(&before), error);
}

#[test]
fn what_every_format_has_is_salvaged_member_by_member() {
    let id = Id::try_from("web".to_owned()).unwrap();
    let whole = parse(&record()).unwrap();
    let mut newer = record();
    newer["format"] = 4.into();
    newer["mounts_before"] = json!("all");
    newer["listener"] = json!(7);
    let salvaged = Record::salvage(newer.to_string().as_bytes(), &id);
    assert_eq!((salvaged.init, &salvaged.cgroup), (whole.init, &whole.cgroup));
    assert_eq!((&salvaged.poststop, &salvaged.annotations), (&whole.poststop, &whole.annotations));
    assert_eq!(salvaged.mounts_before, None);
    // A path that is no cgroup's is not believed.
    newer["cgroup"]["members"][0]["directory"] = "/etc".into();
    assert_eq!(Record::salvage(newer.to_string().as_bytes(), &id).cgroup, None);
    for damaged in [&b""[..], b"{", b"[]", b"{\"init\":"] {
        assert_eq!(Record::salvage(damaged, &id).init, None);
    }
}

#[test]
fn the_configuration_for_exec_is_read_and_written_as_it_is() {
    let config = json!({
        "process": {
            "args": ["sh"], "cwd": "/", "user": { "uid": 0, "gid": 0 }, "noNewPrivileges": true
        },
        "personality": { "domain": "LINUX32" },
        "memory_policy": null,
        "namespaces": ["user", "pid", "network", "ipc", "uts", "time", "cgroup", "mount"],
        "setgroups": true, "keep_groups": false, "mount_label": "l",
        "devices": [{ "allow": false, "access": "rwm" }],
        "filters": [{ "flags": 4, "instructions": 1, "send_via": "sendmmsg" }]
    });
    let later = LaterParts {
        filter: vec![6, 0, 0, 0, 0, 0, 0xff, 0x7f],
        environ: b"A=1\0B=\0".to_vec(),
        config: config.to_string().into_bytes(),
    };
    let file = PlanFile::parse(PlanFile::join(b"private".to_vec(), &later)).unwrap();
    let read = ExecConfig::read(&file).unwrap();
    assert_eq!(read.process.env().as_deref(), Some(&["A=1".to_owned(), "B=".to_owned()][..]));
    let filters = read.filters(&file).unwrap();
    assert_eq!(filters.len(), 1);
    let again = read.encode(&filters).unwrap();
    assert_eq!((again.filter, again.environ), (later.filter, later.environ));
    assert_eq!(serde_json::from_slice::<Value>(&again.config).unwrap(), config);
}

/// Directories of real containers, for each format that was ever released.
#[test]
fn kept_directories_are_read_for_ever() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration/testdata/state");
    let directories = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect()
    };
    let mut read = 0;
    for directory in directories(&kept).iter().flat_map(|format| directories(format)) {
        let name = directory.display();
        let file = |name: &str| std::fs::read(directory.join(name)).unwrap();
        let record =
            Record::parse(&file("record.json")).unwrap_or_else(|error| panic!("{name}: {error}"));
        let plan = PlanFile::parse(file("plan")).unwrap_or_else(|error| panic!("{name}: {error}"));
        let config = ExecConfig::read(&plan).unwrap_or_else(|error| panic!("{name}: {error}"));
        config.filters(&plan).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(record.id.as_str(), directory.file_name().unwrap().to_str().unwrap());
        read += 1;
    }
    assert!(read >= 4, "{read} directories in {}", kept.display());
}
