// Runs a command one instruction at a time and prints which places (of 16 bytes) of its program were executed, in the
// order of their first use: "IMAGE PLACE". It follows what the command makes and executes; each execve(2) begins an
// image, the command's own is 0. Pages are paid for by each image anew.
// Usage: steps LOW HIGH COMMAND... : the bounds of the program's text, in hexadecimal.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { IMAGES = 16, PROCESSES = 64 };

static struct { pid_t pid; int image; } processes[PROCESSES];
static int known, images = 1;

static int *image_of(pid_t pid) {
	for (int i = 0; i < known; i++)
		if (processes[i].pid == pid) return &processes[i].image;
	if (known == PROCESSES) exit(3);
	processes[known].pid = pid;
	return &processes[known++].image;
}

static void note(pid_t pid, int status) {
	unsigned long child;
	switch (status >> 16) {
	case PTRACE_EVENT_EXEC:
		if (images == IMAGES) exit(3);
		*image_of(pid) = images++;
		break;
	case PTRACE_EVENT_FORK:
	case PTRACE_EVENT_VFORK:
	case PTRACE_EVENT_CLONE:
		ptrace(PTRACE_GETEVENTMSG, pid, 0, &child);
		*image_of(child) = *image_of(pid);
	}
}

int main(int argc, char **argv) {
	if (argc < 4) return 2;
	unsigned long low = strtoul(argv[1], 0, 16), high = strtoul(argv[2], 0, 16);
	unsigned long places = (high - low) / 16 + 1;
	unsigned char *seen = calloc(places, IMAGES);
	pid_t child = fork();
	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execvp(argv[3], argv + 3);
		_exit(127);
	}
	int status;
	waitpid(child, &status, 0);
	image_of(child);
	long options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
	ptrace(PTRACE_SETOPTIONS, child, 0, options);
	ptrace(PTRACE_SINGLESTEP, child, 0, 0);
	for (;;) {
		pid_t pid = waitpid(-1, &status, __WALL);
		if (pid < 0) break;
		if (!WIFSTOPPED(status)) continue;
		note(pid, status);
		struct user_regs_struct registers;
		if (ptrace(PTRACE_GETREGS, pid, 0, &registers) == 0 && registers.rip >= low && registers.rip < high) {
			unsigned long place = (registers.rip - low) / 16;
			int image = *image_of(pid);
			unsigned char *met = &seen[image * places + place];
			if (!*met) printf("%d %lx\n", image, low + place * 16);
			*met = 1;
		}
		int signal = WSTOPSIG(status);
		// Stops of our own making are not for the traced.
		ptrace(PTRACE_SINGLESTEP, pid, 0, signal == SIGTRAP || signal == SIGSTOP ? 0 : signal);
	}
	return 0;
}
