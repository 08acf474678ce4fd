#!/bin/sh
# Runs a container from an OCI bundle that this script makes, without a download: its root is an
# overlay of the host's root (read-only) and a tmpfs (for the changes).
set -eu

davit=$(realpath "${1:-target/davit}")
made=$(mktemp -d "${TMPDIR:-/tmp}/davit-demo.XXXXXX")
bundle=$made/bundle
# A user without a session has no XDG_RUNTIME_DIR, where the state would be.
state=$made/state
mkdir "$bundle" "$state"
name="davit-demo-$$"
trap 'rm -rf "$made"' EXIT INT TERM

# The program of the container, which uses the host's shell and tools.
cat > "$bundle/show.sh" <<'SHOW'
say() { printf '  %-13s %s\n' "$1" "$2"; }
status() { sed -n "s/^$1:[[:space:]]*//p" /proc/self/status; }
echo "inside the container:"
say pid "$$, of $(ls -d /proc/[0-9]* | wc -l) that it sees"
say hostname "$(cat /proc/sys/kernel/hostname)"
say ids "$(id)"
say root "$(sed -n 's|^.* / / \([^ ]*\) .*- \([^ ]*\) .*|\2, \1|p' /proc/self/mountinfo)"
say mounts "$(cut -d' ' -f5 /proc/self/mountinfo | sort -u | tr '\n' ' ')"
say network "$(ls /sys/class/net | tr '\n' ' ')"
say capabilities "$(status CapEff) effective, $(status CapBnd) at most"
say seccomp "mode $(status Seccomp) (2: a filter), no_new_privs $(status NoNewPrivs)"
say limits "$(ulimit -n) open files"
echo "written inside" > "/$NAME"
rm -rf /etc/debian_version
say writes "/$NAME says \"$(cat "/$NAME")\", /etc/debian_version is $([ -e /etc/debian_version ] && echo there || echo gone)"
SHOW

user=""
gid=', "gid=5"'
layers="/"
usr=""
# An unprivileged user is root in a user namespace of its own. There the kernel takes no layer with
# other mounts below it, as / is: the layer is a skeleton that /usr is bound into.
if [ "$(id -u)" -ne 0 ]; then
    mkdir -p "$bundle/root/etc" "$bundle/root/usr"
    ln -s usr/bin usr/sbin usr/lib "$bundle/root"
    [ ! -e /usr/lib64 ] || ln -s usr/lib64 "$bundle/root"
    cp /etc/passwd /etc/group /etc/debian_version "$bundle/root/etc"
    layers="root"
    usr='{ "destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"] },'
    user='{ "type": "user" },'
    gid=""
    maps="\"uidMappings\": [{ \"containerID\": 0, \"hostID\": $(id -u), \"size\": 1 }],
    \"gidMappings\": [{ \"containerID\": 0, \"hostID\": $(id -g), \"size\": 1 }],"
fi
cat > "$bundle/config.json" <<CONFIG
{
  "ociVersion": "1.3.0",
  "annotations": { "run.davit.root.layers": "$layers", "run.davit.root.ephemeral": "true" },
  "root": { "path": "" },
  "hostname": "demo",
  "process": {
    "args": ["/bin/sh", "/mnt/show.sh"], "cwd": "/", "user": { "uid": 0, "gid": 0 },
    "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "NAME=$name"],
    "capabilities": {
      "bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]
    },
    "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 512, "hard": 512 }],
    "noNewPrivileges": true
  },
  "mounts": [ $usr
    { "destination": "/proc", "type": "proc", "source": "proc" },
    { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
    { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
      "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"$gid] },
    { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid", "nodev"] },
    { "destination": "/mnt", "type": "bind", "source": ".", "options": ["bind", "ro"] }
  ],
  "linux": {
    ${maps:-}
    "namespaces": [ $user
      { "type": "pid" }, { "type": "mount" }, { "type": "network" }, { "type": "ipc" },
      { "type": "uts" }
    ],
    "seccomp": {
      "defaultAction": "SCMP_ACT_ALLOW",
      "syscalls": [{ "names": ["reboot", "kexec_load"], "action": "SCMP_ACT_ERRNO" }]
    }
  }
}
CONFIG

echo "davit --root $state run --bundle $bundle $name"
"$davit" --root "$state" run --bundle "$bundle" "$name"

echo "outside, afterwards:"
if [ -e "/$name" ] || [ ! -e /etc/debian_version ]; then
    echo "  the container's writes are here: this is a defect"
    exit 1
fi
echo "  /$name is not there, /etc/debian_version is: the writes are gone"
if "$davit" --root "$state" list --quiet | grep -qx "$name"; then
    echo "  the container is still listed: this is a defect"
    exit 1
fi
echo "  davit list does not know $name any more: nothing of it is left"
