# Run `make help` for what there is. Each target installs what it lacks on Debian.

SHELL := /bin/bash
.DEFAULT_GOAL := build
MAKEFLAGS += --no-builtin-rules --no-print-directory

# What `make generate` writes; all of it is committed.
GENERATED := '*_bpfel.go' '*_bpfel.o' '*.pb.go' '*.connect.go'
GO_BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid="

# Tests and the demo need root: they get it through sudo, with the caller's
# environment, and keep their build cache apart from the caller's.
ROOT := $(if $(filter-out 0,$(shell id -u)),sudo -E env PATH=$(PATH) GOCACHE=$(CURDIR)/.cache/go-root)
# What is tested is built as what is shipped, for the tests under other kernels as well:
# each package is compiled once. The whole of vet runs in lint.
GO_TEST := CGO_ENABLED=0 go test -vet=off -count=1 $(if $(ROOT),-exec '$(ROOT)')
# The longest packages come first: two that mostly wait, and one that computes.
LONGEST := fairlead/testenv/e2e fairlead/userspace/daemon fairlead/testenv/fuzz

.PHONY: help build man demo test test-slow fuzz test-kernels bench bench-against generate check-generate lint release release-check package docker clean

## build          static binaries and a sample configuration in build/
build:
	@scripts/setup.sh build
	@mkdir -p build
	$(GO_BUILD) -o build/ ./cmd/loader ./cmd/fairlead ./cmd/dummyserver
	@cp deploy/fairlead.yaml build/fairlead.yaml

## man            manual pages and shell completions in build/
man: build
	@for p in fairlead loader; do \
		build/$$p man >build/$$p.8 && for s in bash zsh fish; do build/$$p completion $$s >build/$$p.$$s || exit 1; done || exit 1; \
	done

## demo           three servers behind the balancer on this machine, step by step
demo: build
	@scripts/setup.sh test
	@$(GO_BUILD) -o build/ ./testenv/demo
	@$(ROOT) build/demo

## test           all quick tests, as root (15 minutes at most)
test:
	@scripts/setup.sh build test
	@go mod download
	@scripts/captures-fetch.sh >/dev/null
	FAIRLEAD_TEST_ROOT=1 $(GO_TEST) -p 3 -timeout 20m $(LONGEST) ./...

## test-slow      millions of packets, floods, long churn; for releases (60 minutes at most)
test-slow:
	@scripts/setup.sh build test slow kernels
	@scripts/captures-fetch.sh >/dev/null
	@scripts/vault-fetch.sh >/dev/null
	FAIRLEAD_SLOW=1 FAIRLEAD_TEST_ROOT=1 $(GO_TEST) -p 1 -timeout 60m ./testenv/... ./loader/... ./userspace/...
	scripts/test-kernels-check.sh
	ONCE= scripts/test-kernels.sh

## fuzz           N random packets through program and model, of one SEED or a new one
fuzz:
	@scripts/setup.sh build test
	@n=$${N:-1000000} seed=$${SEED:-$$SRANDOM}; \
		FAIRLEAD_FUZZ_N=$$n FAIRLEAD_FUZZ_SEED=$$seed FAIRLEAD_FUZZ_EPISODE=$(EPISODE) FAIRLEAD_TEST_ROOT=1 \
		$(GO_TEST) -timeout 0 -v -run '^TestDatapath$$' ./testenv/fuzz && \
		echo "make fuzz N=$$n SEED=$$seed$(if $(EPISODE), EPISODE=$(EPISODE)): no difference"

## test-kernels   the tests that talk to the kernel, under 6.1, 6.12 and Debian's newest (all under each: ONCE=)
test-kernels:
	@scripts/setup.sh build kernels
	scripts/test-kernels.sh

## bench          what a packet and a request cost, beside references of the same run
bench: build
	@scripts/setup.sh test bench
	@$(GO_BUILD) -o build/ ./testenv/bench
	@ln -sf "$$(scripts/caddy-fetch.sh)" build/caddy
	@$(ROOT) build/bench

## bench-against  what a hit costs here and in an older REV, in turns
bench-against:
	@scripts/setup.sh build test
	@ROOT='$(ROOT)' scripts/bench-against.sh $(REV) $(ROUNDS)

## generate       the BPF objects and everything else that is generated
generate:
	@scripts/setup.sh build generate
	go generate ./...

## check-generate fail when generating changes what is committed
check-generate: generate
	@git diff --exit-code --stat -- $(GENERATED) || { echo "generated files differ: run make generate and commit"; exit 1; }
	@new=$$(git ls-files --others --exclude-standard -- $(GENERATED)); \
		[ -z "$$new" ] || { echo "generated files not committed: $$new"; exit 1; }

## lint           format, vet, linters, sizes, leak checks, shell scripts
lint:
	@scripts/setup.sh build lint
	@scripts/lint.sh

## release        archives and SHA256SUMS in dist/
release:
	@scripts/setup.sh build
	scripts/release.sh dist

## package        Debian packages in dist/, of MAINTAINER='Name <address>'
package:
	@scripts/setup.sh build
	scripts/package.sh dist

## docker         the image, called fairlead (needs docker)
docker:
	@command -v docker >/dev/null || { echo "docker not found: install docker.io, or build the file system alone: scripts/image-root.sh DIRECTORY"; exit 1; }
	docker build -f deploy/Dockerfile -t fairlead .

## release-check  build the release twice, from two places, and compare
release-check:
	@scripts/setup.sh build
	scripts/release-check.sh

## clean          remove build/ and dist/ (.cache/ keeps what was downloaded)
clean:
	rm -rf build dist

help:
	@sed -n 's/^## /  make /p' Makefile
