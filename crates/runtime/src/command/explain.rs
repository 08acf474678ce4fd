//! `explain`: the plan, told without anything being done.

use std::path::Path;

use serde::Serialize;

use super::create::{Planned, plan_here};
use crate::bundle::{self, Bundle};
use crate::error::{Result, Within};
use crate::id::Id;
use crate::plan::{CreateOptions, Plan};
use crate::step::Section;

/// A plan in words.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The chapters, in the order in which they happen.
    pub chapters: Vec<Chapter>,
    /// What was asked for and cannot be given, where the spec wants no failure.
    pub warnings: Vec<String>,
    /// Fields that the specification does not know, and that are ignored as it demands.
    pub unknown_fields: Vec<String>,
}

/// Operations that belong together.
#[derive(Debug, Serialize)]
pub struct Chapter {
    /// Who does it, and where.
    pub title: String,
    /// One line for each operation.
    pub steps: Vec<String>,
}

/// Plans the container of a bundle as `create` would, and tells the plan.
///
/// # Errors
/// What `create` would refuse.
pub fn explain(
    directory: &Path,
    config: Option<&Path>,
    options: &CreateOptions,
) -> Result<Explanation> {
    let mut bundle = Bundle::load(directory, config)?;
    let id = Id::try_from("ID".to_owned())?;
    let Planned { plan, .. } = plan_here(&id, &mut bundle, options)?;
    let path = config.map_or_else(|| bundle.directory.join("config.json"), Path::to_path_buf);
    let text = bundle::read(&path).within(|| path.display().to_string())?;
    Ok(Explanation {
        chapters: chapters(&plan),
        unknown_fields: bundle::unknown_fields(&text)?,
        warnings: plan.warnings,
    })
}

fn chapters(plan: &Plan) -> Vec<Chapter> {
    let resctrl = plan.resctrl.as_ref().map(|(_, ops)| lines(ops)).unwrap_or_default();
    let mut chapters = vec![
        chapter("the runtime makes the cgroup", lines(&plan.cgroup)),
        chapter("the runtime makes the resctrl group", resctrl),
        chapter("the runtime opens mount sources", lines(&plan.outside)),
        chapter("the runtime raises limits", lines(&plan.raise)),
        chapter("the runtime moves network devices, when init asks for them", lines(&plan.moves)),
        chapter("the first process", first_process(plan)),
    ];
    let mut sections = plan.init.sections.iter();
    if let Some(Section::Namespaces(ops)) = sections.next() {
        chapters.push(chapter("the first process, before it executes davit's init", lines(ops)));
    }
    for section in sections {
        let (title, steps) = match section {
            Section::Namespaces(ops) => ("init, namespaces", lines(ops)),
            Section::Rootfs(ops) => ("init, root file system", lines(ops)),
            Section::Process(ops) => ("init", lines(ops)),
            Section::Privileges(ops) => ("init, privileges", lines(ops)),
            Section::Seccomp(ops) => ("init, system call filter", lines(ops)),
        };
        match chapters.last_mut() {
            _ if steps.is_empty() => {}
            Some(last) if last.title == title => last.steps.extend(steps),
            _ => chapters.push(chapter(title, steps)),
        }
    }
    let hooks = |hooks: Vec<&crate::hook::Hook>| {
        hooks.iter().map(|hook| format!("{} {:?}", hook.field, hook.path)).collect::<Vec<_>>()
    };
    let before = hooks(plan.hooks.iter().map(|(hook, _)| hook).collect());
    chapters.push(chapter("the runtime's hooks, when init waits for them", before));
    chapters.push(chapter("after start", hooks(plan.poststart.iter().collect())));
    chapters.push(chapter("after delete", hooks(plan.poststop.iter().collect())));
    chapters.retain(|chapter| !chapter.steps.is_empty());
    chapters
}

fn first_process(plan: &Plan) -> Vec<String> {
    let names: Vec<_> = plan.born.iter().map(|kind| kind.name()).collect();
    let mut steps = Vec::new();
    if !names.is_empty() {
        steps.push(format!("is born into new namespaces: {}", names.join(", ")));
    }
    if let Some(maps) = &plan.id_maps {
        let list = |maps: &[namespaces::Mapping]| {
            let one = |map: &namespaces::Mapping| {
                format!("{}+{} = {}", map.container, map.size, map.host)
            };
            maps.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        steps.push(format!("user ids inside = outside: {}", list(&maps.uids)));
        steps.push(format!("group ids inside = outside: {}", list(&maps.gids)));
    }
    steps
}

fn chapter(title: &str, steps: Vec<String>) -> Chapter {
    Chapter { title: title.to_owned(), steps }
}

/// One line for each operation; the same one again and again is told once.
fn lines<T: ToString>(ops: &[T]) -> Vec<String> {
    let mut lines: Vec<(String, usize)> = Vec::new();
    for line in ops.iter().map(ToString::to_string) {
        match lines.last_mut() {
            Some((last, count)) if *last == line => *count += 1,
            _ => lines.push((line, 1)),
        }
    }
    let told = |(line, count)| if count == 1 { line } else { format!("{line} ({count} times)") };
    lines.into_iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::host::{Found, Host, OurCgroups};
    use crate::plan;

    /// A machine with cgroup v2 and all controllers, and root on it.
    fn machine() -> (Host, cgroups::Host) {
        let host = Host {
            uid: 0,
            in_user_namespace: false,
            permitted: u64::MAX,
            setgroups: true,
            cgroups: OurCgroups::default(),
        };
        let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"].map(str::to_owned);
        let unified = cgroups::Unified {
            mountpoint: PathBuf::from("/sys/fs/cgroup"),
            controllers: controllers.to_vec(),
        };
        let layout = cgroups::Layout { unified: Some(unified), hierarchies: Vec::new() };
        (host, cgroups::Host { layout, rootless: false, writable: true, systemd: None })
    }

    fn story(config: &str, options: &CreateOptions) -> String {
        let bundle = Bundle {
            directory: PathBuf::from("/bundle"),
            spec: serde_json::from_str(config).unwrap(),
            warnings: Vec::new(),
        };
        let (host, cgroups) = machine();
        let id = Id::try_from("web".to_owned()).unwrap();
        let inputs = plan::Inputs {
            id: &id,
            bundle: &bundle,
            host: &host,
            cgroups: &cgroups,
            found: Found::default(),
            options,
        };
        let plan = plan::create(inputs).unwrap();
        let mut text = String::new();
        for chapter in chapters(&plan) {
            text.push_str(&format!("{}\n", chapter.title));
            chapter.steps.iter().for_each(|step| text.push_str(&format!("  {step}\n")));
        }
        text
    }

    // The filter's size is this architecture's.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn podmans_config_reads_like_a_story() {
        let config = include_str!("../../testdata/podman.json");
        insta::assert_snapshot!(story(config, &CreateOptions::default()));
    }

    #[test]
    fn the_same_plan_twice_is_the_same_plan() {
        let config = include_str!("../../testdata/podman.json");
        let options = CreateOptions { ephemeral: true, ..CreateOptions::default() };
        assert_eq!(story(config, &options), story(config, &options));
    }
}
