// Runs one command in a cgroup of its own and says what it cost, on one line:
//   CPU of the whole tree (us), CPU of what was waited for (us), wall (us), page faults, peak RSS (KiB), exit code
// Usage: gauge CGROUP SETTLE OUTPUT COMMAND...
// The CPU of the tree is the cgroup's, so it holds what a container does on its own after its runtime
// has ended; SETTLE (us) is how long that is waited for. A small static program, because the peak RSS
// of a child is never below that of the process that made it.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long usage(int stat) {
	char text[512];
	ssize_t length = pread(stat, text, sizeof text - 1, 0);
	if (length < 11) exit(125);
	text[length] = 0;
	return atol(text + strlen("usage_usec "));
}

static int open_below(const char *directory, const char *name, int flags) {
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	int fd = open(path, flags | O_CLOEXEC);
	if (fd < 0) perror(path), exit(125);
	return fd;
}

static long micros(struct timeval time) { return time.tv_sec * 1000000L + time.tv_usec; }

int main(int argc, char **argv) {
	if (argc < 5) return 125;
	int stat = open_below(argv[1], "cpu.stat", O_RDONLY);
	int caller = open_below(argv[1], "caller", O_RDONLY | O_DIRECTORY);
	struct clone_args args = {
		.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = caller,
	};
	struct timespec begin, end;
	long before = usage(stat);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	pid_t pid = syscall(SYS_clone3, &args, sizeof args);
	if (pid < 0) perror("clone3"), exit(125);
	if (pid == 0) {
		execvp(argv[4], argv + 4);
		_exit(127);
	}
	int status;
	struct rusage used;
	wait4(pid, &status, 0, &used);
	clock_gettime(CLOCK_MONOTONIC, &end);
	usleep(atoi(argv[2]));
	long tree = usage(stat) - before;
	long wall = (end.tv_sec - begin.tv_sec) * 1000000L + (end.tv_nsec - begin.tv_nsec) / 1000;
	FILE *output = fopen(argv[3], "w");
	if (!output) perror(argv[3]), exit(125);
	fprintf(output, "%ld %ld %ld %ld %ld %d\n", tree, micros(used.ru_utime) + micros(used.ru_stime), wall,
		used.ru_minflt + used.ru_majflt, used.ru_maxrss,
		WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return fclose(output);
}
