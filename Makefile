# Paths in recipes are relative: the tree may be in a directory with spaces.

PREFIX ?= /usr/local
DESTDIR ?=
# Where the configuration and the unit go; a package has PREFIX=/usr.
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# How long `make demo` runs before it ends by itself; empty: until Ctrl-C.
DEMO_SECONDS ?=
# How long `make fuzz` spends on each target, and on which ones.
FUZZTIME ?= 30s
FUZZ ?=
# What `make bench` measures (an expression for the rows' names; empty: all), how
# often, at which moments guests are stopped (empty: others each time), and where
# the raw figures go.
BENCH_ROWS ?=
BENCH_REPEATS ?= 9
BENCH_SEED ?=
BENCH_OUT ?= build/bench.json

# For one test binary: many times what it takes on two idle cores.
TEST_TIMEOUT ?= 30m

.DEFAULT_GOAL := help
.PHONY: help build test bench bench-peers chaos check fuzz demo install clean go needs-test needs-demo

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z\/-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' Makefile

# Without the symbol table and DWARF: the stack of a panic needs neither. Without
# cgo: the program needs no library of the host, and starts sooner.
build: go ## build bin/qemu-reconciler
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/qemu-reconciler ./cmd/qemu-reconciler

test: go needs-test build/linux-guest ## install what tests need, run all of them on real QEMU
	go build ./...
	@scripts/test.sh '$(TEST_TIMEOUT)'

# A run that says `seed 7` is done again with CHAOS_SEED=7; empty: another each time.
CHAOS_SEED ?=
CHAOS_STEPS ?= 2000

chaos: go needs-test ## random actions on real QEMU against a model (CHAOS_STEPS=2000 CHAOS_SEED=n)
	CHAOS_SEED='$(or $(CHAOS_SEED),$(shell date +%N))' CHAOS_STEPS='$(CHAOS_STEPS)' go test -race -v -count 1 -timeout 6h -run TestChaos ./internal/chaos

check: go ## gofmt, vet, staticcheck, tidy, govulncheck, architecture
	@scripts/check.sh

bench: go needs-test ## measure against a bare launcher of the same QEMUs (BENCH_ROWS='start|stop' BENCH_REPEATS=9)
	BENCH_OUT='$(BENCH_OUT)' BENCH_ROWS='$(BENCH_ROWS)' BENCH_REPEATS='$(BENCH_REPEATS)' BENCH_SEED='$(BENCH_SEED)' \
		go test -count 1 -timeout 1h -v -run 'TestBench$$' ./internal/bench

bench-peers: go needs-test ## the same beside libvirt, which it installs and runs privately
	@scripts/install-needs.sh peers
	BENCH_PEERS=yes BENCH_OUT=build/bench-peers.json BENCH_REPEATS='$(BENCH_REPEATS)' BENCH_SEED='$(BENCH_SEED)' \
		go test -count 1 -timeout 1h -v -run 'TestBench$$' ./internal/bench

fuzz: go ## look for inputs that break something (FUZZTIME=30s a target, FUZZ=Name: only those)
	@FUZZTIME='$(FUZZTIME)' FUZZ='$(FUZZ)' scripts/fuzz.sh

demo: needs-demo build ## boot real VMs from a copy of examples/vms.d (DEMO_SECONDS=20: end by itself)
	@scripts/demo.sh $(DEMO_SECONDS)

build/linux-guest: ## download a Linux kernel and a busybox for tests
	@internal/guest/fetch.sh build/linux-guest

install: bin/qemu-reconciler ## install under DESTDIR and PREFIX (default /usr/local)
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(UNITDIR)' '$(DESTDIR)$(SYSCONFDIR)/qemu-reconciler/vms.d'
	install -m 0755 bin/qemu-reconciler '$(DESTDIR)$(PREFIX)/bin/qemu-reconciler'
	install -m 0644 packaging/systemd/qemu-reconciler.service '$(DESTDIR)$(UNITDIR)/qemu-reconciler.service'
	sed -i 's|^ExecStart=/usr/bin/|ExecStart=$(PREFIX)/bin/|' '$(DESTDIR)$(UNITDIR)/qemu-reconciler.service'
	install -m 0644 packaging/config.hcl.example '$(DESTDIR)$(SYSCONFDIR)/qemu-reconciler/config.hcl.example'

# Built anew only when it is older than its sources, so that after `make build`
# a `sudo make install` needs no Go.
bin/qemu-reconciler: $(shell find cmd internal/crash reconcile runtime spec -name '*.go') go.mod go.sum
	$(MAKE) build

clean: ## remove what was built
	rm -rf bin build

go:
	@scripts/go-version.sh

needs-test: go
	@scripts/install-needs.sh test

needs-demo: go
	@scripts/install-needs.sh demo
