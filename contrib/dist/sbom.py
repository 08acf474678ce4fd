#!/usr/bin/env python3
"""What is linked into davit, from `cargo metadata` and Cargo.lock.

sbom.py sbom TARGET [BINARY]    as CycloneDX 1.5; the same bytes from the same commit and toolchain
sbom.py notices TARGET          the licences of the crates, with their texts
SOURCE_DATE_EPOCH is the time that the document states, DAVIT_COMMIT the commit.
"""
import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CARGO = os.environ.get("CARGO", "cargo").split()


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def linked(target):
    """The id of davit, the packages that are linked into it for `target`, and the ids that each one needs."""
    data = json.loads(output(*CARGO, "metadata", "--locked", "--format-version=1", f"--filter-platform={target}"))
    packages = {package["id"]: package for package in data["packages"]}
    needs = {
        node["id"]: [
            need["pkg"] for need in node["deps"] if any(kind["kind"] is None for kind in need["dep_kinds"])
        ]
        for node in data["resolve"]["nodes"]
    }
    (davit,) = (key for key, package in packages.items() if package["name"] == "davit")
    found, pending = set(), [davit]
    while pending:
        key = pending.pop()
        if key not in found:
            found.add(key)
            # What a procedural macro needs runs in the compiler, as the macro itself does.
            macro = any("proc-macro" in part["kind"] for part in packages[key]["targets"])
            pending += [] if macro else needs[key]
    kept = {key for key in found if not any("proc-macro" in part["kind"] for part in packages[key]["targets"])}
    return davit, {key: packages[key] for key in kept}, {key: [need for need in needs[key] if need in kept] for key in kept}


def checksums():
    """The SHA-256 of each crate of the registry, by name and version."""
    text = (ROOT / "Cargo.lock").read_text()
    pattern = r'name = "(.+)"\nversion = "(.+)"\nsource = ".+"\nchecksum = "(.+)"'
    return {(name, version): checksum for name, version, checksum in re.findall(pattern, text)}


def expression(package):
    return (package["license"] or "NOASSERTION").replace("/", " OR ")


def component(package, known):
    reference = f"pkg:cargo/{package['name']}@{package['version']}"
    entry = {"type": "library", "bom-ref": reference, "name": package["name"], "version": package["version"]}
    if checksum := known.get((package["name"], package["version"])):
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    entry["licenses"] = [{"expression": expression(package)}]
    if package["source"]:
        entry["purl"] = reference
    if package["repository"]:
        entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return entry


def toolchain(target):
    """The Rust standard library and the C library, which are linked statically too."""
    rust = re.search(r"^release: (.+)$", output("rustc", "-vV"), re.MULTILINE)[1]
    yield {"type": "library", "bom-ref": "rust-std", "name": "rust-std", "version": rust,
           "licenses": [{"expression": "MIT OR Apache-2.0"}]}
    name, package, licence = ("musl", "musl-dev", "MIT") if "musl" in target else ("glibc", "libc6-dev", "LGPL-2.1-or-later")
    entry = {"type": "library", "bom-ref": name, "name": name, "licenses": [{"expression": licence}]}
    # rustup has its own copy of musl, which says no version.
    own = Path(output("rustc", "--print", "sysroot").strip(), "lib/rustlib", target, "lib/self-contained")
    try:
        entry |= {} if own.exists() else {"version": output("dpkg-query", "-W", "-f", "${Version}", package)}
    except (OSError, subprocess.CalledProcessError):
        pass  # no package of Debian's
    yield entry


def sbom(target, binary=None):
    davit, packages, needs = linked(target)
    known, commit = checksums(), os.environ.get("DAVIT_COMMIT", "unknown")
    time = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    parts = {key: component(package, known) for key, package in packages.items()}
    parts[davit]["type"] = "application"
    parts[davit]["properties"] = [{"name": "commit", "value": commit}, {"name": "target", "value": target}]
    if binary:
        parts[davit]["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(Path(binary).read_bytes()).hexdigest()}]
    tools = list(toolchain(target))
    depends = {part["bom-ref"]: sorted(parts[need]["bom-ref"] for need in needs[key]) for key, part in parts.items()}
    depends[parts[davit]["bom-ref"]] += [part["bom-ref"] for part in tools]
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": parts.pop(davit)},
        "components": sorted([*parts.values(), *tools], key=lambda part: (part["name"], part.get("version", ""))),
        "dependencies": [{"ref": ref, "dependsOn": needed} for ref, needed in sorted(depends.items())],
    }
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True))}"
    print(json.dumps(document, indent=1))


def notices(target):
    _, packages, _ = linked(target)
    print("davit is linked statically. Besides its own code (LICENSE) it contains the Rust standard library (MIT or\n"
          "Apache-2.0), the C library (musl: MIT, glibc: LGPL-2.1-or-later) and these crates:\n")
    crates = sorted((package for package in packages.values() if package["source"]),
                    key=lambda package: (package["name"], package["version"]))
    texts = {}
    for package in crates:
        print(f"  {package['name']} {package['version']}: {expression(package)}")
        for path in sorted(Path(package["manifest_path"]).parent.iterdir()):
            if path.is_file() and re.match(r"(LICEN[CS]E|COPYING|NOTICE|UNLICENSE)", path.name, re.IGNORECASE):
                texts.setdefault(path.read_text(errors="replace").strip(), []).append(f"{package['name']}: {path.name}")
    for text, files in texts.items():
        print(f"\n{'=' * 78}\n{', '.join(files)}\n{'=' * 78}\n{text}")


{"sbom": sbom, "notices": notices}[sys.argv[1]](*sys.argv[2:])
