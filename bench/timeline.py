#!/usr/bin/env python3
"""Says where the time of a command goes, beside another's: the kernel's tracer, call by call.

timeline.py ROUNDS TRACEFS NAME=COMMAND..., where TRACEFS is a mounted tracefs and COMMAND is one line. The commands take
turns. For each system call by name, and for what is done between calls, the table has the processor's time (us) of all
processes together, and how many there are: medians over the rounds. Waiting is not in it; the tracer is: a
fifth of a microsecond for each call and each page fault.
"""
import collections
import os
import re
import statistics
import subprocess
import sys
import time

EVENTS = ["raw_syscalls/sys_enter", "raw_syscalls/sys_exit", "sched/sched_switch", "exceptions/page_fault_user"]
# Other clocks are printed in microseconds, which is too coarse here.
CLOCK = "x86-tsc"
LINE = re.compile(r".*-(\d+)\s+\[\d+\] \S+\s+(\d+): (\w+): (.*)")
# How long init's end may take after that of its runtime.
SETTLE = 0.03


class Tracer:
    """An instance of its own, which the system's other tracing does not meet (ftrace, "instances")."""

    def __init__(self, tracefs):
        self.directory = f"{tracefs}/instances/davit-test-timeline"

    def __enter__(self):
        os.mkdir(self.directory)
        self.put("trace_clock", CLOCK)
        self.put("buffer_size_kb", "4096")
        self.put("options/event-fork", "1")
        self.put("set_event_pid", str(os.getpid()))
        for event in EVENTS:
            self.put(f"events/{event}/enable", "1")
        return self

    def __exit__(self, *_):
        os.rmdir(self.directory)

    def put(self, name, value):
        with open(f"{self.directory}/{name}", "w") as file:
            file.write(value)

    def during(self, act):
        """What `act` returns, and the lines of what happened meanwhile."""
        self.put("trace", "")
        self.put("tracing_on", "1")
        result = act()
        self.put("tracing_on", "0")
        with open(f"{self.directory}/trace") as file:
            return result, file.read().splitlines()

    def ticks_per_microsecond(self):
        def marks():
            begin = time.monotonic()
            self.put("trace_marker", "begin")
            time.sleep(0.2)
            end = time.monotonic()
            self.put("trace_marker", "end")
            return (end - begin) * 1e6

        microseconds, lines = self.during(marks)
        stamps = [int(found[1]) for line in lines if (found := re.search(r"(\d+): tracing_mark_write", line))]
        return (stamps[1] - stamps[0]) / microseconds


def numbers():
    """The names of system calls; the newest are in no header of Debian 12."""
    text = subprocess.run(["gcc", "-E", "-dM", "-include", "sys/syscall.h", "-"], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=True).stdout
    names = {int(number): name for name, number in re.findall(r"#define __NR_(\w+) (\d+)", text)}
    return {467: "open_tree_attr", **names}


def run(words):
    # With vfork(2): execve(2) has no memory of ours to take down.
    null = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    pid = os.posix_spawn(words[0], words, os.environ, file_actions=null)
    _, status = os.waitpid(pid, 0)
    if status:
        sys.exit(f"{' '.join(words)}: status {status}")
    time.sleep(SETTLE)
    return pid


class Process:
    def __init__(self):
        self.doing = "own code"
        # When it got the processor, or began what it does; None while it has no processor.
        self.since = None
        self.spent = collections.Counter()
        self.count = collections.Counter()

    def until(self, now):
        if self.since is not None:
            self.spent[self.doing] += now - self.since
        self.since = now


def account(pid, lines, names, per):
    """Time and number of all that the process `pid` and those that it makes do, from its execve(2) on."""
    every, ours = collections.defaultdict(Process), []
    for line in lines:
        found = LINE.match(line)
        if not found:
            continue
        task, now, event, rest = int(found[1]), int(found[2]) / per, found[3], found[4]
        if event == "sys_enter":
            name = names.get(int(rest.split()[1]), rest.split()[1])
            if not ours and (task, name) != (pid, "execve"):
                continue
        elif not ours and event != "sched_switch":
            continue
        if event in ("sys_enter", "sys_exit") and task not in [*ours, os.getpid()]:
            ours.append(task)
        process = every[task]
        if event == "sys_enter":
            process.until(now)
            process.doing = name
            process.count[name] += 1
        elif event == "sys_exit":
            process.until(now)
            process.doing = "own code"
        elif event == "page_fault_user":
            process.count["own code"] += 1
        elif event == "sched_switch":
            process.until(now)
            process.since = None
            every[int(re.search(r"next_pid=(\d+)", rest)[1])].since = now
    spent, count = collections.Counter(), collections.Counter()
    for task in ours:
        spent.update(every[task].spent)
        count.update(every[task].count)
    return spent, count


def report(samples):
    """The table, by how much more the first command takes than the second."""
    def median(name, part, what):
        return statistics.median(sample[part][what] for sample in samples[name])

    def more(what):
        return median(first, 0, what) - sum(median(name, 0, what) for name in others[:1])

    first, *others = samples
    kinds = sorted({what for rounds in samples.values() for spent, _ in rounds for what in spent}, key=more, reverse=True)
    print(f"{'us, and how many':24}" + "".join(f"{name:>16}" for name in samples) + f"{'more':>9}")
    for what in kinds:
        cells = "".join(f"{median(name, 0, what):10.1f} {median(name, 1, what):5.0f}" for name in samples)
        print(f"{what:24}{cells}{more(what):9.1f}")
    whole = "".join(f"{statistics.median(sum(spent.values()) for spent, _ in rounds):10.1f} {'':5}"
                    for rounds in samples.values())
    print(f"{'all':24}{whole}\nof own code the number is that of its page faults")


def main():
    rounds, commands = int(sys.argv[1]), dict(word.split("=", 1) for word in sys.argv[3:])
    names, samples = numbers(), {name: [] for name in commands}
    with Tracer(sys.argv[2]) as tracer:
        per = tracer.ticks_per_microsecond()
        for _ in range(rounds):
            for name, command in commands.items():
                pid, lines = tracer.during(lambda: run(command.split()))
                samples[name].append(account(pid, lines, names, per))
    report(samples)


main()
