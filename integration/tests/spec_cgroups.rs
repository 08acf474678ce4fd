//! config-linux.md, Control groups: clauses that no controller's own tests prove.

use std::fs;
use std::os::unix::fs::MetadataExt;

use integration::config::{set_namespace, set_userns};
use integration::*;

fn limited(resources: &Value) -> Container {
    Container::new(&["true"]).with(|c| {
        for (key, value) in resources.as_object().expect("an object") {
            c["linux"]["resources"][key] = value.clone();
        }
    })
}

#[test]
fn an_entry_that_says_nothing_is_refused() {
    davit_only!("other runtimes take it");
    for (resources, field) in [
        (json!({ "blockIO": { "weightDevice": [{ "major": 8, "minor": 0 }] } }), "weightDevice[0]"),
        (json!({ "rdma": { "mlx5_1": {} } }), "rdma"),
    ] {
        limited(&resources).run().refuses(&[field]);
    }
}

#[test]
fn a_burst_above_the_quota_is_refused() {
    davit_only!("other runtimes leave it to the kernel");
    let c = limited(&json!({ "cpu": { "quota": 10_000, "period": 50_000, "burst": 20_000 } }));
    c.run().refuses(&["linux.resources.cpu"]);
}

/// A delegated cgroup is not secure on v1.
#[test]
fn on_v1_the_owner_stays() {
    spec!();
    cgroup_v1!();
    let c = Container::sleeper().with(|c| {
        set_userns(c, 100_000, 65536);
        set_namespace(c, "cgroup", None);
        let last = c["mounts"].as_array().expect("mounts").len() - 1;
        c["mounts"][last]["options"] = json!(["nosuid", "noexec", "nodev", "rw"]);
    });
    c.create();
    let cgroups = leftovers::cgroups(&c.id);
    let v1 = |path: &&std::path::PathBuf| !path.starts_with("/sys/fs/cgroup/unified");
    assert!(cgroups.iter().any(|path| v1(&path)), "{cgroups:?}");
    for cgroup in cgroups.iter().filter(v1) {
        assert_eq!(fs::metadata(cgroup).expect("stat").uid(), 0, "{}", cgroup.display());
    }
}
