//! The options of the command lines of `checkpoint` and `restore`.

use crate::{Field, Setting};

/// How cgroups are dumped and restored (`--manage-cgroups-mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum CgroupsMode {
    /// Not at all.
    Ignore = 0,
    /// Processes are moved into existing cgroups.
    None = 1,
    /// Cgroups are made, and properties set in those that are new.
    Soft = 3,
    /// Properties are set in all.
    Full = 4,
    /// A cgroup that exists is an error.
    Strict = 5,
}

/// How the network is locked while CRIU works (`--network-lock`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum NetworkLock {
    /// By rules of iptables.
    Iptables = 1,
    /// By rules of nftables.
    Nftables = 2,
    /// Not at all.
    Skip = 3,
}

/// The options that CRIU gets as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--leave-running`
    pub leave_running: bool,
    /// `--tcp-established`
    pub tcp_established: bool,
    /// `--tcp-close`
    pub tcp_close: bool,
    /// `--tcp-skip-in-flight`
    pub tcp_skip_in_flight: bool,
    /// `--file-locks`
    pub file_locks: bool,
    /// `--ext-unix-sk`
    pub ext_unix_sk: bool,
    /// `--shell-job`
    pub shell_job: bool,
    /// `--link-remap`
    pub link_remap: bool,
    /// `--auto-dedup`
    pub auto_dedup: bool,
    /// `--lazy-pages`
    pub lazy_pages: bool,
    /// `--empty-ns network`
    pub empty_network: bool,
    /// `--pre-dump`
    pub pre_dump: bool,
    /// `--parent-path`
    pub parent_path: Option<String>,
    /// `--page-server`
    pub page_server: Option<(String, u16)>,
    /// `--manage-cgroups-mode`
    pub cgroups: Option<CgroupsMode>,
    /// `--network-lock`
    pub network_lock: Option<NetworkLock>,
    /// `--lsm-profile`
    pub lsm_profile: Option<String>,
    /// `--lsm-mount-context`
    pub lsm_mount_context: Option<String>,
    /// The file with more options of CRIU's.
    pub config_file: Option<String>,
}

impl Options {
    /// The settings that do not depend on the container.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let flags = [
            (Field::LeaveRunning, self.leave_running, "--leave-running"),
            (Field::TcpEstablished, self.tcp_established, "--tcp-established"),
            (Field::TcpClose, self.tcp_close, "--tcp-close"),
            (Field::TcpSkipInFlight, self.tcp_skip_in_flight, "--tcp-skip-in-flight"),
            (Field::FileLocks, self.file_locks, "--file-locks"),
            (Field::ExtUnixSk, self.ext_unix_sk, "--ext-unix-sk"),
            (Field::ShellJob, self.shell_job, "--shell-job"),
            (Field::LinkRemap, self.link_remap, "--link-remap"),
            (Field::AutoDedup, self.auto_dedup, "--auto-dedup"),
            (Field::LazyPages, self.lazy_pages, "--lazy-pages"),
        ];
        let flags = flags.into_iter().filter(|(_, on, _)| *on);
        let mut settings: Vec<Setting> =
            flags.map(|(field, _, option)| Setting::flag(field).from(option)).collect();
        let texts = [
            (Field::LsmProfile, &self.lsm_profile, "--lsm-profile"),
            (Field::LsmMountContext, &self.lsm_mount_context, "--lsm-mount-context"),
            (Field::ConfigFile, &self.config_file, "annotations[\"org.criu.config\"]"),
        ];
        settings.extend(texts.into_iter().filter_map(|(field, text, option)| {
            Some(Setting::text(field, text.clone()?).from(option))
        }));
        if let Some(lock) = self.network_lock {
            settings.push(Setting::number(Field::NetworkLock, lock as i64).from("--network-lock"));
        }
        if self.empty_network {
            let flag = i64::from(libc::CLONE_NEWNET);
            settings.push(Setting::number(Field::EmptyNs, flag).from("--empty-ns"));
        }
        if let Some((address, port)) = &self.page_server {
            let server = Setting::numbered(Field::Ps, address.clone(), i64::from(*port));
            settings.push(server.from("--page-server"));
        }
        settings
    }

    /// How cgroups are treated, where the container has its own in every hierarchy.
    pub(crate) fn cgroups_mode(&self, has_own: bool) -> Setting {
        let option = "--manage-cgroups-mode";
        match (self.cgroups, has_own) {
            (Some(mode), _) => Setting::number(Field::ManageCgroupsMode, mode as i64).from(option),
            (None, true) => Setting::number(Field::ManageCgroupsMode, CgroupsMode::Soft as i64),
            (None, false) => Setting::number(Field::ManageCgroupsMode, CgroupsMode::Ignore as i64),
        }
    }
}
