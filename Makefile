# davit: build, try, test, install. `make help` lists the targets.

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
ARCH ?= $(shell uname -m)
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

# The log of the tests that ran, for `make conformance`.
RAN := target/tests.log

# The directories of man(1) and of the shells.
MAN := $(PREFIX)/share/man/man8
COMPLETIONS := $(addprefix $(DESTDIR)$(PREFIX)/share/,bash-completion/completions/davit \
	zsh/site-functions/_davit fish/vendor_completions.d/davit.fish)

.PHONY: all toolchain musl build install uninstall demo test skips unit integration test-plain upgrade-test test-fresh \
	dist test-dist faults fuzz engines bench bench-exact profile link-order conformance conformance-vm vm test-vm test-vm-engines lint fmt deps clean help

all: build

## toolchain: installs Debian's newest Rust if there is none or an older one than davit needs (as root)
toolchain:
	@CARGO="$(CARGO)" contrib/rust.sh compiler

## musl: installs what the build with musl needs, with rustup or (as root) Debian's packages; `make` tries that once
musl: toolchain
	@CARGO="$(CARGO)" contrib/rust.sh musl --again >/dev/null

## build: builds the static release binary, target/davit, with musl; with glibc where musl cannot be had. ARCH=aarch64
##   builds target/davit-aarch64, with rustup and its linker
build: toolchain
	@ARCH="$(ARCH)" CARGO="$(CARGO)" contrib/build.sh

# What is built stays as it is: root's PATH may have another Rust than the user's, or none.
target/davit: $(shell find crates -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock contrib/link.ld contrib/link-order.ld
	@$(MAKE) --no-print-directory build

## install: installs davit, its manual and completions, and podman's configuration for it
install: target/davit
	@# By rename: a container that starts meanwhile gets the old one or the new one.
	install -D -m 0755 target/davit $(DESTDIR)$(PREFIX)/bin/davit.new
	mv -f $(DESTDIR)$(PREFIX)/bin/davit.new $(DESTDIR)$(PREFIX)/bin/davit
	install -d $(DESTDIR)$(MAN) $(dir $(COMPLETIONS))
	target/davit man > $(DESTDIR)$(MAN)/davit.8
	for command in $$(target/davit man --list); do \
		target/davit man $$command > $(DESTDIR)$(MAN)/davit-$$command.8 || exit 1; done
	target/davit completion bash > $(word 1,$(COMPLETIONS))
	target/davit completion zsh > $(word 2,$(COMPLETIONS))
	target/davit completion fish > $(word 3,$(COMPLETIONS))
	install -d $(DESTDIR)/etc/containers/containers.conf.d
	sed 's|@BINDIR@|$(PREFIX)/bin|g' contrib/containers.conf.d/50-davit.conf.in \
		> $(DESTDIR)/etc/containers/containers.conf.d/50-davit.conf

## uninstall: removes the files that install installed
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/davit $(DESTDIR)$(MAN)/davit.8 $(DESTDIR)$(MAN)/davit-*.8 $(COMPLETIONS) \
		$(DESTDIR)/etc/containers/containers.conf.d/50-davit.conf

## dist: makes the artifacts of a release in target/dist: tarball, .deb, .rpm, source and crates, SBOM, SHA256SUMS
dist: build
	@CARGO="$(CARGO)" contrib/dist/build

## test-dist: makes them twice and compares all bytes; installs, uses and removes each, in roots of their own (as root)
test-dist:
	@CARGO="$(CARGO)" contrib/dist/test

## demo: runs a container from a bundle that is made by the script
demo: build
	@contrib/demo.sh target/davit

## deps: installs the packages that the tests need, from Debian (as root), and unpacks CRIU in bench/cache
deps:
	@contrib/test-deps.sh
	@contrib/criu.sh >/dev/null || true

## test: runs everything: unit, property, snapshot, integration and podman tests; DAVIT_SKIPS=ENVIRONMENT fails on a
##   skipped test that integration/skips.expected does not list for it
test: deps build
	$(CARGO) test --locked --workspace --exclude integration 2>&1 | tee $(RAN)
	DAVIT=$(CURDIR)/target/davit RUNTIME=$(or $(RUNTIME),davit) $(CARGO) test --locked -p integration 2>&1 | tee -a $(RAN)
	@[ -z "$(DAVIT_SKIPS)" ] && ! command -v python3 >/dev/null || integration/skips.py $(RAN) $(DAVIT_SKIPS)

## skips: lists the tests that the last `make test` skipped, as rows for integration/skips.expected
skips:
	@integration/skips.py --list $(RAN)

## unit: runs the tests of the crates, without the binary
unit: toolchain
	$(CARGO) test --locked --workspace --exclude integration

## integration: runs the tests of the binary; RUNTIME=runc or crun runs them with another runtime
integration: deps build
	DAVIT=$(CURDIR)/target/davit RUNTIME=$(or $(RUNTIME),davit) $(CARGO) test --locked -p integration

## test-plain: common commands of a build without the arena, the own entry and the own memcpy (as root)
test-plain: deps
	OUTPUT=target/davit-plain CARGO="$(CARGO)" contrib/build.sh --features plain
	DAVIT=$(CURDIR)/target/davit-plain RUNTIME=davit $(CARGO) test --locked -p integration \
		--test run --test exec --test lifecycle --test descriptors

## upgrade-test: every command between the last release, which is built into target/upgrade, and this davit (as root)
upgrade-test: deps build
	CARGO="$(CARGO)" contrib/upgrade-test.sh

## faults: fails and kills every command at every system call (as root); `make test` tries a part of them
faults: deps build
	DAVIT_FAULTS=all DAVIT=$(CURDIR)/target/davit RUNTIME=davit $(CARGO) test --locked -p integration --test fault_injection

## test-fresh: follows the README on a fresh Debian, each of FRESH (bookworm trixie), as root and as a user (as root)
test-fresh:
	@contrib/test-fresh.sh $(or $(FRESH),bookworm trixie)

## fuzz: fuzzes each parser for FUZZ_SECONDS (60), with a nightly toolchain; skipped without one
fuzz:
	@fuzz/run

## engines: tests podman, containerd, docker and buildah with RUNTIME (davit, runc, crun), as a table
engines: deps build
	@DAVIT=$(CURDIR)/target/davit CARGO=$(CARGO) contrib/engines.sh $(or $(RUNTIME),davit)

## bench: davit, crun, runc and the floor (a minimal C program), as a table (as root)
bench: build
	@bench/setup.sh
	@$(CARGO) build --locked --quiet --release -p bench
	@DAVIT=target/davit BENCH_CACHE=bench/cache target/release/bench $(BENCH) \
		--write docs/performance.md docs/performance.svg

## bench-exact: counts the instructions of the usual commands, in the virtual machine, and fails if davit's are
##   more than 2 % above those in docs/performance.md; KEEP=1 records the new ones there instead
bench-exact: build
	@$(CARGO) build --locked --quiet --release -p bench
	@bench/exact.sh $(if $(KEEP),--keep)

## profile: shows where the time of `davit run` goes, system call by system call, beside the floor (as root)
profile: build
	@bench/setup.sh
	@bench/profile.sh

## link-order: makes contrib/link-order.ld, the order of functions in the binary, from a trace of the common commands
##   (as root), and builds with it
link-order: build
	@bench/setup.sh programs
	@bench/profile.sh order
	cp $${CARGO_TARGET_DIR:-target}/link-order.ld contrib/link-order.ld
	CARGO="$(CARGO)" contrib/build.sh

## conformance: runs opencontainers/runtime-tools against RUNTIME, or several: RUNTIME="davit crun runc" (as root)
conformance: build
	@conformance/spec/check
	@conformance/build target/conformance
	@conformance/run --kit target/conformance/kit \
		$(addprefix --runtime ,$(patsubst davit,target/davit,$(or $(RUNTIME),davit)))

## conformance-vm: runs the same on cgroup v2, in the virtual machine
conformance-vm: build
	@conformance/build target/conformance
	@integration/vm/run --with target/conformance/kit --with conformance \
		--command 'conformance/guest kit $(patsubst davit,$$DAVIT,$(or $(RUNTIME),davit))'

## vm: builds the image of the virtual machine from Debian's packages (as root; cached)
vm:
	@integration/vm/build

## test-vm: runs the tests and the conformance suite in a virtual machine with systemd and cgroup v2; with VM=
##   only the tests, with these options of integration/vm/run
test-vm: build
	@CARGO="$(CARGO)" integration/vm/run --results target/test-vm $(VM)
	@$(if $(VM),,$(MAKE) --no-print-directory conformance-vm)

## test-vm-engines: the tests of the engines in that virtual machine
test-vm-engines: build
	@CARGO="$(CARGO)" integration/vm/run --plan engines --minutes 60 --suite-seconds 1200 --results target/test-vm

# The files that may use `unsafe` (docs/decisions/0016).
UNSAFE := crates/sys crates/memory crates/namespaces/src/launch.rs crates/namespaces/src/apply.rs \
	crates/runtime/src/init.rs crates/cgroups/tests/kernel.rs

## lint: checks formatting, clippy and rustdoc without warnings, dependencies (deny.toml), the files with unsafe
##   (docs/decisions/0016), words and sizes (contrib/lint)
lint:
	@CARGO="$(CARGO)" contrib/lint/run
	@! git grep -nE '\bunsafe\b *(\{|fn|impl|extern|\()|allow\(unsafe_code' -- 'crates/*.rs' \
		$(UNSAFE:%=':!%') || { echo "unsafe outside of: $(UNSAFE)"; exit 1; }

## fmt: formats the code
fmt:
	$(CARGO) fmt --all

clean:
	$(CARGO) clean

help:
	@sed -n 's/^## /  /p' Makefile
