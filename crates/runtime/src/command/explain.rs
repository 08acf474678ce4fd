//! `explain`: shows the plan without performing it.

use std::path::PathBuf;

use serde::Serialize;

use super::create::{Planned, plan_here};
use super::request::CreateRequest;
use crate::agent::CONNECT_TO_AGENT;
use crate::config::bundle::Bundle;
use crate::error::Result;
use crate::id::Id;
use crate::plan::{Plan, Section, Supervision};
use crate::spawn::{FirstProcess, WriteIdMaps};
use crate::state::StateRoot;

/// A plan as text.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// How the container starts.
    pub start: Vec<String>,
    /// The sections, in the order in which they are performed.
    pub sections: Vec<ExplainedSection>,
    /// Fields that are accepted and have no effect, or that are unknown.
    pub warnings: Vec<String>,
}

/// Operations that belong together.
#[derive(Debug, Serialize)]
pub struct ExplainedSection {
    /// A heading: the process, and its task.
    pub title: &'static str,
    /// The process that performs them, `runtime` or `init`, as in the lines of `--debug`.
    pub process: &'static str,
    /// One line for each operation, as in the lines of `--debug`.
    pub steps: Vec<String>,
}

/// Plans the container of a bundle as `create` would, and explains the plan. Its id is `ID`.
///
/// # Errors
/// What `create` would refuse.
pub fn explain(root: Option<PathBuf>, request: &CreateRequest) -> Result<Explanation> {
    let mut bundle = Bundle::load(&request.bundle, request.config.as_deref())?;
    let id = Id::try_from("ID".to_owned())?;
    let notify_directory = match request.notify {
        Some(_) => StateRoot::new(root)?.notify_directory(&id),
        None => PathBuf::new(),
    };
    let Planned { plan, .. } = plan_here(&id, &mut bundle, request, notify_directory)?;
    Ok(explanation(&plan, bundle.warnings))
}

fn explanation(plan: &Plan, warnings: Vec<String>) -> Explanation {
    let mut sections = before_init(plan);
    sections.extend(init(plan));
    sections.extend(hooks(plan));
    sections.retain(|section| !section.steps.is_empty());
    let warnings = [warnings, plan.warnings.clone()].concat();
    Explanation { start: start(plan), sections, warnings }
}

/// How the runtime and init get to the program together.
fn start(plan: &Plan) -> Vec<String> {
    let Supervision { acts_on_messages, pins_cpu, .. } = plan.supervision;
    let pinned = pins_cpu.then(|| "both run on one CPU until init first reports".to_owned());
    let acts = acts_on_messages.then(|| "init asks the runtime on its way".to_owned());
    std::iter::once(plan.start.to_string()).chain(acts).chain(pinned).collect()
}

/// The operations of the runtime up to the first process, and on its behalf.
fn before_init(plan: &Plan) -> Vec<ExplainedSection> {
    let resctrl = plan.resctrl.as_ref().map(|(_, ops)| lines(ops)).unwrap_or_default();
    let agent = plan.listener.as_ref().map(|_| CONNECT_TO_AGENT.to_owned());
    let cgroup = runtime("the runtime makes the cgroup", lines(&plan.cgroup));
    let is_late = plan.cgroup.iter().any(davit_cgroups::Op::needs_process);
    let (early, late) = if is_late { (None, Some(cgroup)) } else { (Some(cgroup), None) };
    let id_maps = plan.id_maps.iter().map(|maps| WriteIdMaps(maps).to_string()).collect();
    let first = FirstProcess(&plan.clone_namespaces).to_string();
    let rest = [
        runtime("the runtime makes the resctrl group", resctrl),
        runtime("the runtime connects to the seccomp agent", agent.into_iter().collect()),
        runtime("the runtime opens mount sources", lines(&plan.outside)),
        runtime("the runtime raises limits", lines(&plan.raise)),
        runtime("the first process", vec![first]),
    ];
    let asked = [
        runtime("the runtime maps the ids, when init asks for it", id_maps),
        runtime("the runtime moves network devices, when init asks for them", lines(&plan.moves)),
    ];
    early.into_iter().chain(rest).chain(late).chain(asked).collect()
}

/// The operations of init; neighbouring sections of one kind are joined.
fn init(plan: &Plan) -> Vec<ExplainedSection> {
    let mut explained: Vec<ExplainedSection> = Vec::new();
    for (index, section) in plan.init.sections.iter().enumerate() {
        let title = match section {
            Section::Namespaces(_) if index == 0 => {
                "the first process, before it executes davit's init"
            }
            Section::Namespaces(_) => "init, namespaces",
            Section::Rootfs(_) => "init, root file system",
            Section::Process(_) => "init",
            Section::Privileges(_) => "init, privileges",
            Section::Filter => "init, system call filter",
        };
        let steps = plan.init.lines_of(section);
        match explained.last_mut() {
            _ if steps.is_empty() => {}
            Some(last) if last.title == title => last.steps.extend(steps),
            _ => explained.push(ExplainedSection { title, process: "init", steps }),
        }
    }
    explained
}

fn hooks(plan: &Plan) -> [ExplainedSection; 3] {
    let before: Vec<_> = plan.hooks.iter().map(|(hook, _)| hook).collect();
    [
        runtime("the runtime's hooks, when init waits for them", lines(&before)),
        runtime("after start", lines(&plan.poststart)),
        runtime("after delete", lines(&plan.poststop)),
    ]
}

pub(super) fn runtime(title: &'static str, steps: Vec<String>) -> ExplainedSection {
    ExplainedSection { title, process: "runtime", steps }
}

fn lines<T: ToString>(ops: &[T]) -> Vec<String> {
    ops.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Discovered, root_on_v2};
    use crate::plan::{self, CreateOptions};

    fn render(config: &str, options: &CreateOptions) -> String {
        let bundle = Bundle {
            directory: PathBuf::from("/bundle"),
            spec: serde_json::from_str(config).unwrap(),
            warnings: Vec::new(),
        };
        let (host, cgroups) = root_on_v2();
        let id = Id::try_from("web".to_owned()).unwrap();
        let inputs = plan::Inputs {
            id: &id,
            bundle: &bundle,
            host: &host,
            cgroups: &cgroups,
            found: Discovered::default(),
            options,
            hands_out: false,
        };
        let Explanation { start, sections, .. } =
            explanation(&plan::create(inputs).unwrap(), Vec::new());
        let mut text = format!("{}\n", start.join("\n"));
        for section in sections {
            text.push_str(&format!("{}\n", section.title));
            section.steps.iter().for_each(|step| text.push_str(&format!("  {step}\n")));
        }
        text
    }

    // The size of the filter depends on the architecture.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_configuration_of_podman() {
        let config = include_str!("../../testdata/podman.json");
        insta::assert_snapshot!(render(config, &CreateOptions::default()));
    }

    #[test]
    fn the_same_plan_twice_is_the_same_plan() {
        let config = include_str!("../../testdata/podman.json");
        let options = CreateOptions { ephemeral: true, ..CreateOptions::default() };
        assert_eq!(render(config, &options), render(config, &options));
    }
}
