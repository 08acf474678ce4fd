/* Compiles profiles with libseccomp the way runc does, for the test that compares its filters with davit's.
 *
 * Standard input, one command a line:
 *   knows NAME                    answers "yes" or "no"
 *   filter DEFAULT LEVEL          begins a profile: default return value; optimisation level 1 or 2
 *   native TOKEN                  filters TOKEN in place of this machine's architecture
 *   arch TOKEN                    adds an architecture
 *   rule ACTION NAME N [INDEX OP A B]...
 *   end                           answers with the program as hexadecimal bytes, or "fail CODE"
 */
#define _GNU_SOURCE
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static scmp_filter_ctx filter;
static int failed;

static void note(int code)
{
	if (code != 0 && failed == 0)
		failed = code;
}

static void add_rule(void)
{
	struct scmp_arg_cmp args[6];
	unsigned int action, count;
	char name[128];

	if (scanf("%u %127s %u", &action, name, &count) != 3 || count > 6)
		exit(1);
	for (unsigned int i = 0; i < count; i++) {
		unsigned int index, op;
		unsigned long long a, b;
		if (scanf("%u %u %llu %llu", &index, &op, &a, &b) != 4)
			exit(1);
		args[i] = (struct scmp_arg_cmp){ index, op, a, b };
	}
	int number = seccomp_syscall_resolve_name(name);
	if (number != __NR_SCMP_ERROR)
		note(seccomp_rule_add_array(filter, action, number, count, args));
}

static void answer(void)
{
	unsigned char byte;
	int fd = memfd_create("filter", 0);

	if (fd < 0)
		exit(1);
	if (failed == 0)
		note(seccomp_export_bpf(filter, fd));
	if (failed != 0) {
		printf("fail %d\n", failed);
	} else {
		lseek(fd, 0, SEEK_SET);
		FILE *file = fdopen(fd, "r");
		while (file && fread(&byte, 1, 1, file) == 1)
			printf("%02x", byte);
		printf("\n");
		fclose(file);
		fd = -1;
	}
	if (fd >= 0)
		close(fd);
	seccomp_release(filter);
}

int main(void)
{
	char command[32], name[128];
	unsigned int value, level;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (scanf("%31s", command) == 1) {
		if (strcmp(command, "knows") == 0 && scanf("%127s", name) == 1) {
			puts(seccomp_syscall_resolve_name(name) == __NR_SCMP_ERROR ? "no" : "yes");
		} else if (strcmp(command, "filter") == 0 && scanf("%u %u", &value, &level) == 2) {
			failed = 0;
			filter = seccomp_init(value);
			note(seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, level));
		} else if (strcmp(command, "native") == 0 && scanf("%u", &value) == 1) {
			if (value != seccomp_arch_native()) {
				note(seccomp_arch_remove(filter, SCMP_ARCH_NATIVE));
				note(seccomp_arch_add(filter, value));
			}
		} else if (strcmp(command, "arch") == 0 && scanf("%u", &value) == 1) {
			note(seccomp_arch_add(filter, value));
		} else if (strcmp(command, "rule") == 0) {
			add_rule();
		} else if (strcmp(command, "end") == 0) {
			answer();
		} else {
			return 1;
		}
	}
	return 0;
}
