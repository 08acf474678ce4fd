//! Entry points for fuzzing (`make fuzz`).

use std::path::PathBuf;

use oci_spec::runtime::LinuxDeviceCgroup;

use crate::config::bundle::Bundle;
use crate::config::json::from_json;
use crate::config::parse;
use crate::host::Discovered;
use crate::id::Id;
use crate::plan::{self, CreateOptions, ExecConfig, InitInput, Inputs, Plan};
use crate::state::{PlanFile, Record};

/// config.json: it is refused, or planned for a host with cgroup v2 and root on it.
pub fn config(text: &[u8]) {
    let _ = parse::process(text);
    let Ok((spec, warnings)) = parse::config(text) else { return };
    let bundle = Bundle { directory: PathBuf::from("/bundle"), spec, warnings };
    let Some(plan) = create(&bundle) else { return };
    let input = InitInput { plan: plan.init.as_ref(), channel: -1, slots: Vec::new(), trace: None };
    let bytes = input.encode().expect("a plan has bytes");
    let again = InitInput::decode(&bytes).expect("they are a plan");
    assert!(again.encode().expect("a plan has bytes") == bytes, "{plan:?}");
}

fn create(bundle: &Bundle) -> Option<Plan> {
    let id = Id::try_from("fuzz".to_owned()).ok()?;
    let (host, cgroups) = crate::host::root_on_v2();
    let (found, options) = (Discovered::default(), &CreateOptions::default());
    let (host, cgroups) = (&host, &cgroups);
    plan::create(Inputs { id: &id, bundle, host, cgroups, found, options, hands_out: false }).ok()
}

/// A file of a state directory: the record, or the plan.
pub fn state(bytes: &[u8]) {
    if let Ok(record) = Record::parse(bytes) {
        let text = serde_json::to_vec(&record).expect("a record has a text");
        assert!(Record::parse(&text).expect("which is a record") == record);
    }
    if let Ok(file) = PlanFile::parse(bytes.to_vec())
        && let Ok(config) = ExecConfig::read(&file)
    {
        let _ = config.filters(&file);
    }
    let _ = from_json::<Vec<LinuxDeviceCgroup>>(bytes);
    let _ = InitInput::decode(bytes);
}

/// Lines of /proc/self/cgroup, of /proc/PID/stat, and of NOTIFY_SOCKET's messages.
pub fn lines(bytes: &[u8]) {
    crate::host::fuzz(bytes);
    crate::state::fuzz_proc_stat(bytes);
    crate::notify::fuzz(bytes);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::resource::{UsageWho, getrusage};
    use serde_json::{Value, json};

    use super::*;

    const SEEDS: [&str; 2] = [
        include_str!("../../../fuzz/corpus/config/podman.json"),
        include_str!("../../../fuzz/corpus/config/many-fields.json"),
    ];

    /// The pointers to all lists and maps below `value`.
    fn collections(value: &Value, at: &str, found: &mut Vec<String>) {
        let mut inner = |name: &str, value: &Value| {
            collections(value, &format!("{at}/{}", name.replace('/', "~1")), found);
        };
        match value {
            Value::Array(items) => items.iter().take(1).for_each(|item| inner("0", item)),
            Value::Object(fields) => fields.iter().for_each(|(name, item)| inner(name, item)),
            _ => return,
        }
        found.push(at.to_owned());
    }

    /// A copy with other texts, numbered, where `unique`.
    fn copy(value: &Value, number: usize, unique: bool) -> Value {
        match value {
            Value::String(text) if unique => json!(format!("{text}{number}")),
            Value::Object(fields) => {
                let names = ["path", "destination", "source", "name", "pageSize"];
                let field = |(name, value): (&String, &Value)| {
                    let unique = unique && names.contains(&name.as_str());
                    (name.clone(), copy(value, number, unique))
                };
                Value::Object(fields.iter().map(field).collect())
            }
            other => other.clone(),
        }
    }

    /// With the first element of the collection at `pointer` so many times.
    fn enlarged(config: &Value, pointer: &str, count: usize, unique: bool) -> Option<String> {
        let mut config = config.clone();
        match config.pointer_mut(pointer)? {
            Value::Array(items) => {
                let first = items.first()?.clone();
                items.extend((0..count).map(|number| copy(&first, number, unique)));
            }
            Value::Object(fields) => {
                let (name, first) = fields.iter().next()?;
                let (name, first) = (name.clone(), first.clone());
                let many = (0..count).map(|n| (format!("{name}{n}"), copy(&first, n, unique)));
                fields.extend(many);
            }
            _ => return None,
        }
        Some(config.to_string())
    }

    /// Not the clock's: other tests run beside this one.
    fn processor_time() -> Duration {
        let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
        let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
        Duration::from_micros((micros(usage.user_time()) + micros(usage.system_time())) as u64)
    }

    #[test]
    fn time_grows_with_the_size_of_config_json_whatever_is_large_in_it() {
        let mut wrong = Vec::new();
        for seed in SEEDS {
            let value: Value = serde_json::from_str(seed).unwrap();
            let mut pointers = Vec::new();
            collections(&value, "", &mut pointers);
            for (pointer, unique) in pointers.iter().flat_map(|at| [(at, true), (at, false)]) {
                let time = |count| {
                    let text = enlarged(&value, pointer, count, unique).unwrap_or_default();
                    let start = processor_time();
                    config(text.as_bytes());
                    processor_time() - start
                };
                let (small, large) = (time(300), time(2400));
                if large > small * 20 + Duration::from_millis(30) {
                    wrong.push(format!("{pointer} {unique}: {small:?}, 8 times as much {large:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn nothing_in_a_state_directory_or_in_proc_is_a_panic() {
        let texts: [&[u8]; 4] = [b"", b"\xff\0\xff\0\xff\0\xff\0\xff", b"0::/a\n:\n", b"7 (a"];
        for text in texts {
            state(text);
            lines(text);
        }
    }
}
