// Runs a command one instruction at a time and prints the places (of 16 bytes) of its program that were
// executed, in the order of their first use; it follows what the command makes and executes.
// Usage: steps LOW HIGH COMMAND... : the bounds of the program's text, in hexadecimal.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
	if (argc < 4) return 2;
	unsigned long low = strtoul(argv[1], 0, 16), high = strtoul(argv[2], 0, 16);
	unsigned char *seen = calloc((high - low) / 16 + 1, 1);
	pid_t child = fork();
	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execvp(argv[3], argv + 3);
		_exit(127);
	}
	int status;
	waitpid(child, &status, 0);
	long options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
	ptrace(PTRACE_SETOPTIONS, child, 0, options);
	ptrace(PTRACE_SINGLESTEP, child, 0, 0);
	for (;;) {
		pid_t pid = waitpid(-1, &status, __WALL);
		if (pid < 0) break;
		if (!WIFSTOPPED(status)) continue;
		struct user_regs_struct registers;
		if (ptrace(PTRACE_GETREGS, pid, 0, &registers) == 0 && registers.rip >= low && registers.rip < high) {
			unsigned long place = (registers.rip - low) / 16;
			if (!seen[place]++) printf("%lx\n", low + place * 16);
			if (!seen[place]) seen[place] = 1;
		}
		int signal = WSTOPSIG(status);
		// Stops of our own making are not for the traced.
		ptrace(PTRACE_SINGLESTEP, pid, 0, signal == SIGTRAP || signal == SIGSTOP ? 0 : signal);
	}
	return 0;
}
