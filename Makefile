# kist: make demo shows what it does, make test tests it. `make help` lists the rest.
SHELL := /bin/bash
GO ?= go
export CGO_ENABLED = 0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0-dev)
COMMIT ?= $(shell git rev-parse --short HEAD 2>/dev/null)
LDFLAGS = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
BUILD = $(GO) build -trimpath -ldflags '$(LDFLAGS)'

.PHONY: build clients test unit e2e race lint bench fuzz demo deps images cross static tidy help install deb reference

build: ## bin/kist, bin/kistd and bin/kist-compose
	@mkdir -p bin
	$(BUILD) -o bin/ ./cmd/kist ./cmd/kistd ./cmd/kist-compose

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

deps: ## Debian packages that tests and examples need (as root)
	@scripts/deps

clients: ## the clients that people use, for the tests
	@scripts/clients || echo "clients: not all are there; the tests that need them are skipped" >&2

images: build ## the images that tests and examples use, from Debian packages
	$(GO) run ./internal/testbed/cmd/images busybox web

demo: build ## build kist, start an application from a registry, see it answer
	@scripts/demo

test: deps build clients ## all tests
	$(GO) test -timeout 30m ./...

unit: ## tests that need no daemon
	$(GO) test ./cmd/... ./internal/...

e2e: build clients ## scripts against real daemons
	$(GO) test -timeout 30m ./test/...

race: ## unit tests under the race detector, which needs a C compiler
	@scripts/deps gcc libc6-dev
	CGO_ENABLED=1 $(GO) test -race ./internal/...

lint: ## formatting, vet, linters
	@scripts/lint

bench: build ## against Docker, podman and runc, in one run
	KIST_BENCH=$(or $(KIST_BENCH),all) $(GO) test -v -count=1 -timeout 60m ./bench

fuzz: ## each fuzz target for a while
	@scripts/fuzz

cross: ## the other architecture builds
	GOARCH=arm64 $(GO) build -o /dev/null ./cmd/kist
	GOARCH=arm64 $(GO) build -o /dev/null ./cmd/kistd
	GOARCH=arm64 $(GO) build -o /dev/null ./cmd/kist-compose
	GOARCH=arm64 $(GO) vet ./...

static: build ## the programs need no library
	@scripts/static

tidy: ## go.mod lists what is used
	$(GO) mod tidy -diff

install: build ## everything into PREFIX (default /usr/local), below DESTDIR: programs, man pages, completions, units
	@DESTDIR="$(DESTDIR)" PREFIX="$(or $(PREFIX),/usr/local)" VERSION="$(VERSION)" GO="$(GO)" scripts/install

deb: ## a Debian package in bin/
	@VERSION="$(VERSION)" COMMIT="$(COMMIT)" GO="$(GO)" scripts/deb

reference: build ## docs/reference, from the commands
	$(GO) run ./internal/manual/cmd/manual -reference docs/reference -kistd bin/kistd
