// The floor: the container of the bench's default config.json, made by the fewest system calls, with
// nothing read, nothing checked, nothing recorded and no way back. Usage: floor CGROUP ROOTFS PROGRAM
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(call) do { if ((call) < 0) { perror(#call); _exit(1); } } while (0)

static void filter_devices(int cgroup) {
	// Eight rules, as a list of comparisons of device type, major and minor: about what runtimes load.
	struct bpf_insn program[64];
	int count = 0;
	program[count++] = (struct bpf_insn){ BPF_LDX | BPF_MEM | BPF_W, 2, 1, 0, 0 };
	program[count++] = (struct bpf_insn){ BPF_LDX | BPF_MEM | BPF_W, 4, 1, 4, 0 };
	program[count++] = (struct bpf_insn){ BPF_LDX | BPF_MEM | BPF_W, 5, 1, 8, 0 };
	static const int devices[][2] = { {1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 2}, {136, -1} };
	for (unsigned at = 0; at < sizeof devices / sizeof *devices; at++) {
		int any = devices[at][1] < 0;
		program[count++] = (struct bpf_insn){ BPF_JMP | BPF_JNE | BPF_K, 4, 0, any ? 2 : 3, devices[at][0] };
		if (!any) program[count++] = (struct bpf_insn){ BPF_JMP | BPF_JNE | BPF_K, 5, 0, 2, devices[at][1] };
		program[count++] = (struct bpf_insn){ BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1 };
		program[count++] = (struct bpf_insn){ BPF_JMP | BPF_EXIT, 0, 0, 0, 0 };
	}
	program[count++] = (struct bpf_insn){ BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0 };
	program[count++] = (struct bpf_insn){ BPF_JMP | BPF_EXIT, 0, 0, 0, 0 };
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insns = (uintptr_t)program, .insn_cnt = count,
		.license = (uintptr_t)"GPL",
	};
	int fd = syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
	CHECK(fd);
	union bpf_attr attach = {
		.target_fd = cgroup, .attach_bpf_fd = fd, .attach_type = BPF_CGROUP_DEVICE,
		.attach_flags = BPF_F_ALLOW_MULTI,
	};
	CHECK(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach));
	close(fd);
}

static void loopback(void) {
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CHECK(fd);
	CHECK(ioctl(fd, SIOCSIFFLAGS, &request));
	close(fd);
}

static void mounts(void) {
	const int safe = MS_NOSUID | MS_NOEXEC | MS_NODEV;
	CHECK(mount("proc", "proc", "proc", 0, 0));
	CHECK(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
	CHECK(mkdir("dev/pts", 0755));
	CHECK(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
	CHECK(mkdir("dev/shm", 0755));
	CHECK(mount("shm", "dev/shm", "tmpfs", safe, "mode=1777,size=65536k"));
	CHECK(mkdir("dev/mqueue", 0755));
	CHECK(mount("mqueue", "dev/mqueue", "mqueue", safe, 0));
	CHECK(mount("sysfs", "sys", "sysfs", safe | MS_RDONLY, 0));
	CHECK(mount("cgroup", "sys/fs/cgroup", "cgroup2", safe | MS_RDONLY, 0));
}

static void devices(void) {
	static const struct { const char *path; int major, minor; } nodes[] = {
		{"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8},
		{"dev/urandom", 1, 9}, {"dev/tty", 5, 0},
	};
	static const char *const links[][2] = {
		{"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
		{"/proc/self/fd/2", "dev/stderr"}, {"/proc/kcore", "dev/core"}, {"pts/ptmx", "dev/ptmx"},
	};
	umask(0);
	for (unsigned at = 0; at < sizeof nodes / sizeof *nodes; at++)
		CHECK(mknod(nodes[at].path, S_IFCHR | 0666, makedev(nodes[at].major, nodes[at].minor)));
	for (unsigned at = 0; at < sizeof links / sizeof *links; at++)
		CHECK(symlink(links[at][0], links[at][1]));
	umask(022);
}

static void mask(void) {
	static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
	static const char *const masked[] = {
		"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
	};
	for (unsigned at = 0; at < sizeof read_only / sizeof *read_only; at++)
		if (mount(read_only[at], read_only[at], 0, MS_BIND | MS_REC, 0) == 0)
			CHECK(mount(0, read_only[at], 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0));
	for (unsigned at = 0; at < sizeof masked / sizeof *masked; at++)
		if (mount("/dev/null", masked[at], 0, MS_BIND, 0) < 0)
			mount("tmpfs", masked[at], "tmpfs", MS_RDONLY, "mode=755");
	CHECK(mount(0, "/", 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0));
}

static void confine(void) {
	static const unsigned char kept[] = {CAP_AUDIT_WRITE, CAP_KILL, CAP_NET_BIND_SERVICE};
	struct rlimit files = {1024, 1024};
	CHECK(setrlimit(RLIMIT_NOFILE, &files));
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (!memchr(kept, cap, sizeof kept)) prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	unsigned low = 1u << CAP_AUDIT_WRITE | 1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE;
	struct __user_cap_data_struct sets[2] = {{low, low, 0}, {0, 0, 0}};
	CHECK(syscall(SYS_setgroups, 0, 0));
	CHECK(syscall(SYS_setresgid, 0, 0, 0));
	CHECK(syscall(SYS_setresuid, 0, 0, 0));
	CHECK(syscall(SYS_capset, &header, sets));
}

static void inside(char **program) {
	char *environment[] = {"PATH=/bin", "TERM=xterm", "HOME=/", 0};
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	CHECK(unshare(CLONE_NEWCGROUP));
	loopback();
	CHECK(sethostname("davit", 5));
	CHECK(mount(0, "/", 0, MS_REC | MS_SLAVE, 0));
	CHECK(mount(program[0], program[0], 0, MS_BIND | MS_REC, 0));
	CHECK(chdir(program[0]));
	mounts();
	devices();
	CHECK(syscall(SYS_pivot_root, ".", "."));
	CHECK(umount2(".", MNT_DETACH));
	mask();
	CHECK(setsid());
	confine();
	prctl(PR_SET_PDEATHSIG, 0);
	CHECK(execve(program[1], program + 1, environment));
}

int main(int argc, char **argv) {
	if (argc < 4) return 2;
	CHECK(mkdir(argv[1], 0755));
	int cgroup = open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
	CHECK(cgroup);
	filter_devices(cgroup);
	struct clone_args args = {
		.flags = CLONE_INTO_CGROUP | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET,
		.exit_signal = SIGCHLD, .cgroup = cgroup,
	};
	pid_t pid = syscall(SYS_clone3, &args, sizeof args);
	CHECK(pid);
	if (pid == 0) inside(argv + 2);
	int status;
	CHECK(waitpid(pid, &status, 0));
	CHECK(rmdir(argv[1]));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
