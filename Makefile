# davit: build, try, test, install. `make help` lists the targets.

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
ARCH := $(shell uname -m)
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

# What ran, for `make conformance`.
RAN := target/tests.log

# Where man(1) and the shells look.
MAN := $(PREFIX)/share/man/man8
COMPLETIONS := $(addprefix $(DESTDIR)$(PREFIX)/share/,bash-completion/completions/davit \
	zsh/site-functions/_davit fish/vendor_completions.d/davit.fish)

.PHONY: all toolchain musl build install uninstall demo test unit integration engines bench bench-exact profile link-order \
	conformance conformance-vm vm test-vm test-vm-engines lint fmt deps clean help

all: build

## toolchain: installs Debian's newest Rust where there is none (as root; rustup's is as good)
toolchain:
	@command -v $(CARGO) >/dev/null || { \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			--no-install-recommends rustc-web cargo-web gcc libc6-dev >/dev/null; }

## musl: installs what a build with musl takes: with rustup, or (as root) from Debian's packages
musl: toolchain
	@if command -v rustup >/dev/null; then rustup target add $(ARCH)-unknown-linux-musl; else \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			--no-install-recommends rustc-web cargo-web rust-web-src musl-tools gcc libc6-dev >/dev/null; fi

## build: the static release binary, at target/davit; with musl where that is installed
build: toolchain
	CARGO="$(CARGO)" contrib/build.sh

## install: davit, its manual and completions, and podman's configuration for it
install: build
	install -D -m 0755 target/davit $(DESTDIR)$(PREFIX)/bin/davit
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

## uninstall: takes back what install did
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/davit $(DESTDIR)$(MAN)/davit.8 $(DESTDIR)$(MAN)/davit-*.8 $(COMPLETIONS) \
		$(DESTDIR)/etc/containers/containers.conf.d/50-davit.conf

## demo: runs a container from a bundle made on the spot
demo: build
	@contrib/demo.sh target/davit

## deps: what the tests need, from Debian's packages (as root)
deps:
	@contrib/test-deps.sh

## test: everything: unit, property, snapshot, integration and podman tests
test: deps build
	$(CARGO) test --locked --workspace --exclude integration 2>&1 | tee $(RAN)
	DAVIT=$(CURDIR)/target/davit RUNTIME=$(or $(RUNTIME),davit) $(CARGO) test --locked -p integration 2>&1 | tee -a $(RAN)

## unit: the tests of the crates, without the binary
unit: toolchain
	$(CARGO) test --locked --workspace --exclude integration

## integration: the tests of the binary; RUNTIME=runc or crun runs the same with a peer
integration: deps build
	DAVIT=$(CURDIR)/target/davit RUNTIME=$(or $(RUNTIME),davit) $(CARGO) test --locked -p integration

## engines: podman, containerd, docker and buildah with RUNTIME (davit, runc, crun), as a table
engines: deps build
	@DAVIT=$(CURDIR)/target/davit CARGO=$(CARGO) contrib/engines.sh $(or $(RUNTIME),davit)

## bench: davit, crun, runc and the least that the kernel asks for, as a table (as root)
bench: build
	@integration/bench/setup.sh
	@$(CARGO) build --locked --quiet --release -p bench
	@DAVIT=target/davit BENCH_CACHE=integration/bench/cache target/release/bench $(BENCH) \
		--write docs/performance.md docs/performance.svg

## bench-exact: counts the instructions of the usual commands, in the virtual machine, and fails if davit's are
##   more than 2 % above those that docs/performance.md keeps; KEEP=1 puts the new ones there instead
bench-exact: build
	@$(CARGO) build --locked --quiet --release -p bench
	@integration/bench/exact.sh $(if $(KEEP),--keep)

## profile: where the time of `davit run` goes, call by call, beside the floor's (as root)
profile: build
	@integration/bench/setup.sh
	@integration/bench/profile.sh

## link-order: traces the usual commands, for the order of functions in the binary (as root)
link-order: build
	@integration/bench/setup.sh
	@integration/bench/profile.sh order

## conformance: opencontainers/runtime-tools against RUNTIME, or several: RUNTIME="davit crun runc" (as root)
conformance: build
	@conformance/spec/check
	@conformance/build target/conformance
	@conformance/run --kit target/conformance/kit \
		$(addprefix --runtime ,$(patsubst davit,target/davit,$(or $(RUNTIME),davit)))

## conformance-vm: the same on cgroup v2, in the virtual machine
conformance-vm: build
	@conformance/build target/conformance
	@integration/vm/run --with target/conformance/kit --with conformance \
		--command 'conformance/guest kit $(patsubst davit,$$DAVIT,$(or $(RUNTIME),davit))'

## vm: the guest of test-vm, from Debian's packages (as root; kept until its recipe changes)
vm:
	@integration/vm/build

## test-vm: the tests and the conformance suite in a virtual machine with systemd and cgroup v2; with VM= only the
##   tests, and these options of integration/vm/run
test-vm: build
	@CARGO="$(CARGO)" integration/vm/run --results target/test-vm $(VM)
	@$(if $(VM),,$(MAKE) --no-print-directory conformance-vm)

## test-vm-engines: the tests of the engines in that machine
test-vm-engines: build
	@CARGO="$(CARGO)" integration/vm/run --plan engines --minutes 60 --suite-seconds 1200 --results target/test-vm

## lint: formatting, clippy with denied warnings, unsafe only in crates/sys
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@! git grep -nE '\bunsafe\b *(\{|fn|impl|extern)' -- 'crates/*.rs' ':!crates/sys' \
		|| { echo "unsafe outside crates/sys"; exit 1; }

## fmt: formats the code
fmt:
	$(CARGO) fmt --all

clean:
	$(CARGO) clean

help:
	@sed -n 's/^## /  /p' Makefile
