# Everything that is done to this repository, by people and by machines.
# `make` alone lists it.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# A shell opened by sudo often lacks the directory that Go installs itself into.
export PATH := $(PATH):/usr/local/go/bin

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GOLANGCI_LINT ?= github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# Tests start database servers, so no more packages at a time than there are
# cores to serve them. Most tests of a package wait for servers, so more of them than cores.
TEST_FLAGS ?= -race -tags failpoints -p 2 -parallel 4 -timeout 14m
# The race detector sleeps for a second in the exit of each test binary, for goroutines that
# still run. Tests leave none.
export GORACE ?= atexit_sleep_ms=20
# With -race, so that what vet compiles serves the tests.
VET_FLAGS ?= -race -tags failpoints,browser,full,soak
FUZZTIME ?= 20s
# Hours of make soak-hours, such as 0.1 to try it.
H ?= 2
# Rounds of make test-soak.
N ?= 5
BENCH_ROWS ?= 1000000
BENCH_ROUNDS ?= 3
BENCH_KINDS ?= abclmnou

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' Makefile

.PHONY: deps
deps: ## install PostgreSQL and Valkey for demo and tests, if they are missing
	@deploy/dev/deps.sh

.PHONY: deps-test
deps-test:
	@deploy/dev/deps.sh core test

.PHONY: deps-full
deps-full:
	@deploy/dev/deps.sh full

.PHONY: deps-majors
deps-majors:
	@deploy/dev/postgres-majors.sh

.PHONY: deps-scenario
deps-scenario:
	@deploy/dev/deps.sh core scenario

.PHONY: build
build: ## build bin/walpurge, stamped with the version that git describes
	go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/walpurge ./cmd/walpurge

# Like git describe, without the v of a tag: the form that packages want.
RELEASE = $(patsubst v%,%,$(VERSION))
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

.PHONY: release
release: ## static binaries for linux and darwin into dist/, each with an SBOM, and SHA256SUMS
	go run ./deploy/release build -version $(RELEASE)

.PHONY: man
man: ## the manual pages into dist/man
	go run ./deploy/release man -version $(RELEASE)

.PHONY: deb
deb: ## a Debian package for this machine's architecture into dist/, by dpkg-deb
	deploy/debian/build.sh $(RELEASE) dist

.PHONY: demo
demo: deps build ## watch purges happen on throwaway servers; FOR=10s ends by itself
	./bin/walpurge demo $(if $(FOR),--for $(FOR))

.PHONY: test
test: deps-test ## vet, then run every test with the race detector
	go vet $(VET_FLAGS) ./...
	# The package that takes longest first, so that nothing waits for it at the end.
	go test -vet=off $(TEST_FLAGS) ./integration ./...

.PHONY: test-full
test-full: deps-test deps-full deps-majors deps-scenario ## what takes longer, in parts: the long integration tests, PostgreSQL 14 to 18, rates, Helm, the page in a browser, fuzzing for FUZZTIME; prints how long it took
	TEST_FLAGS='$(TEST_FLAGS)' VET_FLAGS='$(VET_FLAGS)' deploy/dev/test-parts.sh full

.PHONY: test-soak
test-soak: deps-test ## the suite N=5 times in parts, the last two beside two processes that keep both cores busy; dist/soak/summary.txt
	TEST_FLAGS='$(TEST_FLAGS)' deploy/dev/test-parts.sh soak $(N)

.PHONY: soak-hours
soak-hours: deps deps-majors build ## H=2 hours of load with reloads, DDL, failovers and restarts; figures by quarter in dist/soak-hours.txt
	mkdir -p dist
	go test -count 1 -vet=off -trimpath -tags soak -timeout 0 -v -run '^TestSoak' ./integration \
	  -args -hours $(H) -walpurge $(CURDIR)/bin/walpurge -output $(CURDIR)/dist

.PHONY: test-rate
test-rate: deps ## hold the rates at which backlogs are drained; wants both cores to itself
	go test -count 1 -vet=off -v -tags full -run '^TestDrainRate$$' ./integration

.PHONY: test-helm
test-helm: ## render and lint the Helm chart, with helm as a Go module of its own
	cd deploy/helm/test && go vet ./... && go test -count=1 ./...

.PHONY: test-page
test-page: ## test the status page in a headless Chromium; pictures go to dist/page
	@deploy/dev/deps.sh browser
	go test -count 1 -tags failpoints,browser -run '^TestPage' ./cmd/admin

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (20s)
	@# Go reports the end of FUZZTIME as a failure where it overtakes a worker, by one line alone and without an input:
	@# https://go.dev/issue/75804, corrected in Go 1.27
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sort | while IFS=: read -r file decl; do \
	  echo "$$(dirname "$$file") $${decl#func }"; \
	  if ! go test -run '^$$' -fuzz "^$${decl#func }$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" 2>&1 | tee "$$log"; then \
	    grep -A 1 '^--- FAIL' "$$log" | grep -qx '    context deadline exceeded' || exit 1; \
	    ! grep -qE 'Failing input|seed corpus|^panic:' "$$log" || exit 1; \
	  fi; \
	done

.PHONY: bench
bench: deps build ## drain backlogs beside PostgreSQL's own rate, and measure latency (docs/performance.md)
	mkdir -p bin
	go run ./integration/bench/drainbench -walpurge bin/walpurge -rows $(BENCH_ROWS) -rounds $(BENCH_ROUNDS) -kinds $(BENCH_KINDS) -results bin/bench.json

.PHONY: bench-go
bench-go: deps ## run every Go benchmark once
	go test -run '^$$' -bench . -benchmem -p 1 ./...

.PHONY: scenario
scenario: deps-scenario build ## run one example system, NAME=restaurant, with several ways to cache, and write its report (docs/scenarios.md)
	@test -n "$(NAME)" || { echo 'which one? make scenario NAME=restaurant' >&2; exit 2; }
	go run ./integration/scenario/run -version $(VERSION) -name $(NAME)

.PHONY: scenarios
scenarios: deps-scenario build ## run all example systems, in at most 30 minutes on two cores
	go run ./integration/scenario/run -version $(VERSION)

.PHONY: scenario-gate
scenario-gate: deps-scenario build ## compare hit rates, queries and calls of the example systems with their bounds.json
	go run ./integration/scenario/run -version $(VERSION) -gate $(if $(NAME),-name $(NAME))

.PHONY: lint
lint: ## run golangci-lint at its pinned version (.golangci.yml)
	go run $(GOLANGCI_LINT) run ./...

.PHONY: fmt
fmt: ## format all Go code
	gofmt -w $$(git ls-files '*.go')

.PHONY: verify
verify: ## fail if anything is unformatted, untidy, suspicious or uncommitted
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt would change:"; echo "$$out"; exit 1; }
	go mod tidy -diff
	go vet ./...
	git diff --exit-code

.PHONY: clean
clean: ## remove what these targets have built
	rm -rf bin dist
