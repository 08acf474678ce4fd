"""One virtual machine under qemu, that never lives longer than its deadlines."""

import os
import selectors
import subprocess
import time

# A machine that says nothing for so long is dead; its job says every 20 seconds that it lives.
SILENCE = 180
BOOT = 300

KERNEL = ("console=ttyS0 root=/dev/vda rw quiet panic=-1 systemd.show_status=0 mitigations=off no_timer_check "
          "apparmor=1")

# What runs the guest. Under icount (for `make bench-exact`) an instruction takes a nanosecond of the guest's time.
PROCESSORS = {
    "kvm": ["-accel", "kvm", "-cpu", "host", "-smp", "2"],
    "tcg": ["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"],
    "icount": ["-accel", "tcg,thread=single", "-icount", "shift=0", "-cpu", "max", "-smp", "1"],
}


class Dead(Exception):
    """The virtual machine has hung, panicked or not even started."""


class NoKvm(Dead):
    """It did not come up: where KVM should have run it, it may without."""


def accelerators(wanted):
    """What to try, in this order."""
    if wanted != "auto":
        return [wanted]
    return ["kvm", "tcg"] if os.access("/dev/kvm", os.R_OK | os.W_OK) else ["tcg"]


def command(accel, guest, disk, console, memory, append):
    """The words of qemu: the guest's own disk stays as it is, the job's disk is written to."""
    return [
        "qemu-system-x86_64", *PROCESSORS[accel], "-m", str(memory), "-nic", "none", "-display", "none",
        "-monitor", "none", "-no-reboot", "-kernel", f"{guest}/vmlinuz", "-initrd", f"{guest}/initrd",
        "-drive", f"file={guest}/image,format=raw,if=virtio,cache=unsafe,snapshot=on",
        "-drive", f"file={disk},format=raw,if=virtio,cache=unsafe",
        "-append", f"{KERNEL} {append}", "-serial", f"file:{console}", "-serial", "stdio",
    ]


def run(words, console, minutes, show, temp, silence):
    """Runs it to its end; `show` gets each line of the job. Raises Dead, after it has been killed."""
    environment = {**os.environ, "TMPDIR": temp}
    # It does not outlive this program, whatever kills that.
    with subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=environment) as qemu:
        try:
            watch(qemu, console, time.monotonic() + 60 * minutes, show, silence)
            code = qemu.wait(timeout=60)
        except subprocess.TimeoutExpired:
            raise Dead("qemu does not end") from None
        finally:
            qemu.kill()
    if code != 0:
        raise Dead(f"qemu ended with {code}")


def watch(qemu, console, end, show, silence):
    """Reads the job's line until it is closed."""
    os.set_blocking(qemu.stdout.fileno(), False)
    selector = selectors.DefaultSelector()
    selector.register(qemu.stdout, selectors.EVENT_READ)
    rest, up, begun, heard, size = b"", False, time.monotonic(), time.monotonic(), 0
    while True:
        now = time.monotonic()
        if selector.select(timeout=1):
            text = qemu.stdout.read()
            if text == b"":
                if not up:
                    # Nor the registers that qemu sets: it aborts.
                    raise NoKvm(f"qemu has ended before the guest was up: {rest.decode(errors='replace')}")
                return
            *lines, rest = (rest + text).split(b"\n")
            for line in lines:
                # A nested KVM may be there, and not know the instructions of the kernel.
                if not up and b"KVM internal error" in line:
                    raise NoKvm("KVM cannot run the guest's kernel")
                up = up or line.startswith(b"vm: up")
                show(line.decode(errors="replace").rstrip("\r"))
            heard = now
        if (length := os.path.getsize(console) if os.path.exists(console) else 0) != size:
            size, heard = length, now
        if not up and now - begun > BOOT:
            raise Dead(f"it does not boot within {BOOT} s")
        if now - heard > silence:
            raise Dead(f"it has said nothing for {silence} s")
        if now > end:
            raise Dead("its time is over")
