//! The filter does what libseccomp's filter does, driven as runc drives it, where libseccomp is
//! installed.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use davit_sys::seccomp::Instruction;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::check::{Dice, interesting_values, numbers};
use super::interpreter::{Call, run};
use super::random::{overlapping, profile};
use super::reference::Reference;
use crate::arch::X32_BIT;
use crate::{Arch, Error, Host, Op, plan, table};

/// A running C program that compiles profiles.
struct Oracle {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    _directory: tempfile::TempDir,
}

impl Oracle {
    /// `None` where there is no C compiler or no libseccomp.
    fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let binary = directory.path().join("oracle");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/libseccomp_oracle.c");
        let compiled = Command::new("cc")
            .args(["-Wall", "-O1", source, "-lseccomp", "-o"])
            .arg(&binary)
            .stderr(Stdio::null())
            .status();
        if !compiled.is_ok_and(|status| status.success()) {
            println!("skip: no cc with libseccomp's header and library (libseccomp-dev) here");
            return None;
        }
        let mut child =
            Command::new(binary).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, stdin, stdout, _directory: directory })
    }

    fn ask(&mut self, text: &str) -> String {
        self.stdin.write_all(text.as_bytes()).unwrap();
        self.stdin.flush().unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn knows(&mut self, name: &str) -> bool {
        self.ask(&format!("knows {name}\n")) == "yes"
    }

    /// The program of `profile` on `host`, or libseccomp's complaint.
    fn compile(
        &mut self,
        host: Arch,
        profile: &LinuxSeccomp,
        level: u32,
    ) -> Result<Vec<Instruction>, String> {
        let default = profile.default_action().as_u32(profile.default_errno_ret());
        let mut text = format!("filter {default} {level}\nnative {}\n", token(host));
        let mut added = vec![host];
        for listed in profile.architectures().iter().flatten() {
            let arch = Arch::from_oci(*listed, host).filter(|arch| arch.runs_on(host));
            if let Some(arch) = arch.filter(|arch| !added.contains(arch)) {
                added.push(arch);
                writeln!(text, "arch {}", token(arch)).unwrap();
            }
        }
        for syscall in profile.syscalls().iter().flatten() {
            write_rules(&mut text, syscall, default);
        }
        text.push_str("end\n");
        let answer = self.ask(&text);
        if answer.starts_with("fail") {
            return Err(answer);
        }
        // libseccomp writes in the byte order of the filtered architecture.
        let (word16, word32) = match host {
            Arch::S390x => (u16::from_be_bytes as fn(_) -> _, u32::from_be_bytes as fn(_) -> _),
            _ => (u16::from_le_bytes as fn(_) -> _, u32::from_le_bytes as fn(_) -> _),
        };
        let bytes: Vec<u8> = (0..answer.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&answer[at..at + 2], 16).unwrap())
            .collect();
        Ok(bytes
            .chunks_exact(8)
            .map(|b| Instruction {
                code: word16([b[0], b[1]]),
                jt: b[2],
                jf: b[3],
                k: word32([b[4], b[5], b[6], b[7]]),
            })
            .collect())
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// `SCMP_ARCH_*` of seccomp.h: the audit value, but for x32.
fn token(arch: Arch) -> u32 {
    if arch == Arch::X32 { 0x4000_003e } else { arch.audit() }
}

/// What runc does with an entry.
fn write_rules(text: &mut String, syscall: &LinuxSyscall, default: u32) {
    let action = syscall.action().as_u32(syscall.errno_ret());
    if action == default {
        return;
    }
    let args = syscall.args().clone().unwrap_or_default();
    let twice = (0..6).any(|index| args.iter().filter(|arg| arg.index() == index).count() > 1);
    let rules: Vec<&[LinuxSeccompArg]> = match twice {
        true => args.chunks(1).collect(),
        false => vec![&args],
    };
    for name in syscall.names() {
        for rule in &rules {
            write!(text, "rule {action} {name} {}", rule.len()).unwrap();
            for arg in *rule {
                let (index, op, two) = (arg.index(), arg.op() as u32, arg.value_two().unwrap_or(0));
                write!(text, " {index} {op} {} {two}", arg.value()).unwrap();
            }
            text.push('\n');
        }
    }
}

/// Where the two differ on purpose (ENOSYS of runc's own, the high words of x32, the version bits
/// of ipc), in libseccomp's tables, or in numbers that libseccomp uses for itself (negative ones).
fn is_different(reference: &Reference, arch: Arch, number: u32, args: &[u64; 6]) -> bool {
    let ipc = table::find("ipc").and_then(|(_, row)| row.number(arch));
    let (call_arch, plain) = match arch {
        Arch::X86_64 if number & X32_BIT != 0 => (Arch::X32, number & !X32_BIT),
        _ => (arch, number),
    };
    let sync_file_range2 = call_arch == Arch::Arm && plain == 341;
    let sys_debug_setcontext = call_arch == Arch::Ppc64le && plain == 256;
    let map_shadow_stack = call_arch == Arch::X32 && plain == 453;
    (number >= 0x8000_0000 && number != u32::MAX)
        || reference.is_newer(call_arch, plain)
        || (ipc == Some(number) && args[0] > 0xffff)
        || (call_arch == Arch::X32 && reference.has_high_words(plain))
        || sync_file_range2
        || sys_debug_setcontext
        || map_shadow_stack
}

/// The number of calls whose arguments matter and that have the same answer in both.
fn compare(
    host: Arch,
    profile: &LinuxSeccomp,
    theirs: &[Instruction],
    seed: u64,
) -> Result<usize, String> {
    let ops = plan(profile, &Host { arch: host }).map_err(|error| error.to_string())?;
    let Op::Install { program, .. } = &ops[0];
    let reference = Reference::new(profile, host);
    let values = interesting_values(profile);
    let beyond = reference.is_beyond_libseccomp();
    let (mut dice, mut compared) = (Dice(seed | 1), 0);
    // ArchRules of x32 are calls of x86_64 with a bit set.
    for arch in Arch::ALL.into_iter().filter(|&arch| arch != Arch::X32) {
        for number in numbers() {
            let conditional = reference.is_conditional(arch, number & !X32_BIT)
                || reference.is_conditional(Arch::X32, number & !X32_BIT);
            if conditional && beyond {
                continue;
            }
            for _ in 0..if conditional { 60 } else { 1 } {
                let mut args = dice.args(arch, &values);
                if number & X32_BIT != 0 {
                    args = args.map(|arg| arg & u64::from(u32::MAX));
                }
                if is_different(&reference, arch, number, &args) {
                    continue;
                }
                let call = Call::new(arch, arch.audit(), number, args);
                let (ours, theirs) = (run(&program.0, &call), run(theirs, &call));
                compared += usize::from(conditional);
                if ours != theirs {
                    return Err(format!(
                        "{arch} {number:#x} {args:x?}: {ours:#x}, libseccomp {theirs:#x}"
                    ));
                }
            }
        }
    }
    Ok(compared)
}

#[test]
fn podmans_profile_is_the_same_filter() {
    let Some(mut oracle) = Oracle::start() else { return };
    let profile = super::podman::profile();
    let theirs = oracle.compile(Arch::X86_64, &profile, 1).unwrap();
    let tree = oracle.compile(Arch::X86_64, &profile, 2).unwrap();
    println!("libseccomp: {} instructions, as a binary tree {}", theirs.len(), tree.len());
    for seed in 0..10 {
        assert!(compare(Arch::X86_64, &profile, &theirs, seed).unwrap() > 1000);
    }
}

#[test]
fn random_profiles_are_the_same_filter() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut runner = TestRunner::deterministic();
    let (mut compared, mut refused) = (0, 0);
    for seed in 0..400 {
        let (host, mut profile) = profile(seed % 2 == 0).new_tree(&mut runner).unwrap().current();
        retain_known(&mut profile, &mut oracle);
        let json = || serde_json::to_string(&profile).unwrap();
        match (oracle.compile(host, &profile, 1), plan(&profile, &Host { arch: host })) {
            (Err(_), _) => refused += 1,
            (Ok(_), Err(Error::Contradiction { .. })) => panic!("libseccomp takes {}", json()),
            (Ok(theirs), _) => match compare(host, &profile, &theirs, seed) {
                Ok(calls) => compared += calls,
                Err(difference) => panic!("{host}: {difference}\n{}", json()),
            },
        }
    }
    println!(
        "{compared} calls with conditions are the same; libseccomp refused {refused} of 400 profiles"
    );
    assert!(compared > 30_000 && refused < 100);
}

#[test]
fn overlapping_entries_are_tried_in_the_same_order() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut runner = TestRunner::deterministic();
    let mut same = 0;
    for host in [Arch::X86_64, Arch::X86].into_iter().cycle().take(1000) {
        let profile = overlapping().new_tree(&mut runner).unwrap().current();
        let json = serde_json::to_string(&profile).unwrap();
        let (theirs, ours) =
            (oracle.compile(host, &profile, 1), plan(&profile, &Host { arch: host }));
        let theirs = match (theirs, ours.is_ok()) {
            (Ok(theirs), true) => theirs,
            (Err(_), false) => continue,
            (theirs, _) => panic!("only one refuses: {:?} {ours:?} {json}", theirs.map(|_| ())),
        };
        let Op::Install { program, .. } = &ours.unwrap()[0];
        let number = table::find("ioctl").unwrap().1.number(host).unwrap();
        for n in 0..7u64.pow(3) {
            let args = [n % 7, n / 7 % 7, n / 49, 0, 0, 0];
            let call = Call::new(host, host.audit(), number, args);
            assert_eq!(run(&program.0, &call), run(&theirs, &call), "{host} {args:?} {json}");
        }
        same += 1;
    }
    assert!(same > 800, "{same}");
}

#[test]
fn every_name_has_the_same_numbers() {
    let Some(mut oracle) = Oracle::start() else { return };
    for host in [Arch::X86_64, Arch::Aarch64, Arch::Riscv64, Arch::Ppc64le, Arch::S390x] {
        let archs: Vec<&str> = Arch::ALL.iter().map(|arch| arch.name()).collect();
        // Without rules of their own these two show those that other names have through them.
        let rows = table::rows().iter().filter(|row| !["socketcall", "ipc"].contains(&row.name));
        let entries = rows.filter(|row| oracle.knows(row.name));
        let entries: Vec<_> = (1..)
            .zip(entries)
            .map(|(errno, row): (u32, _)| {
                serde_json::json!({"names": [row.name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno})
            })
            .collect();
        // What came after libseccomp 2.5.4 of Debian 12.
        assert!(table::rows().len() - entries.len() < 40, "libseccomp knows {}", entries.len());
        let profile = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": archs,
            "syscalls": entries});
        let profile = serde_json::from_value(profile).unwrap();
        let theirs = oracle.compile(host, &profile, 1).unwrap();
        for seed in 0..20 {
            compare(host, &profile, &theirs, seed).unwrap();
        }
    }
}

/// Takes out the names that libseccomp does not know.
fn retain_known(profile: &mut LinuxSeccomp, oracle: &mut Oracle) {
    let mut syscalls = profile.syscalls().clone().unwrap_or_default();
    for syscall in &mut syscalls {
        let mut names = syscall.names().clone();
        names.retain(|name| oracle.knows(name));
        syscall.set_names(names);
    }
    syscalls.retain(|syscall| !syscall.names().is_empty());
    profile.set_syscalls(Some(syscalls));
}
