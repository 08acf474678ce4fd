"""The second disk: carries the job into the guest and the results out of it. No loop device, no mount."""

import os
import shutil
import subprocess


def fill(folder, here, plan, script, files, settings, davit, tests):
    """Lays out in `folder` what the guest sees as /job."""
    os.makedirs(f"{folder}/tests")
    os.makedirs(f"{folder}/results")
    for name in os.listdir(f"{here}/job"):
        shutil.copy2(f"{here}/job/{name}", folder)
    with open(f"{folder}/settings", "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in settings.items())
    with open(f"{folder}/plan", "w") as file:
        file.writelines(f"{runtime} {user} {suite}\n" for runtime, user, suite in plan)
    if script is not None:
        with open(f"{folder}/script", "w") as file:
            file.write(script + "\n")
    shutil.copy2(davit, f"{folder}/davit")
    for name, path in tests.items():
        strip(path, f"{folder}/tests/{name}")
    for path in files:
        copy = shutil.copytree if os.path.isdir(path) else shutil.copy2
        copy(path, f"{folder}/{os.path.basename(os.path.normpath(path))}")


def strip(path, to):
    """A copy without what only a debugger reads, where binutils are installed."""
    done = shutil.which("strip") and subprocess.run(["strip", "-o", to, path]).returncode == 0
    if not done:
        shutil.copy2(path, to)


def pack(folder, image):
    """Makes the image, with room for results. Its owner in the guest is root."""
    sizes = subprocess.run(["du", "-sm", folder], check=True, capture_output=True, text=True)
    size = int(sizes.stdout.split()[0]) + 512
    words = ["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "root_owner=0:0", "-d", folder, image, f"{size}M"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def unpack(image, to):
    """Takes /job/results out, with a complaint if the file system is not whole."""
    os.makedirs(to, exist_ok=True)
    words = ["debugfs", "-R", f"rdump /results {to}", image]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return f"{to}/results"
