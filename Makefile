# make prints what there is. Tools are pinned here and come from the Go module
# proxy; only `make proto` needs a Debian package more (protobuf-compiler).

GO          ?= go
BIN         := bin/concordat
TOOLS       := $(CURDIR)/.tools
BENCHSTAT   := golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
PROTOC_GEN_GO      := google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
PROTOC_GEN_GO_GRPC := google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
PROTOC_GEN_GATEWAY := github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway@v2.33.0
PROTOC_GEN_OPENAPI := github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2@v2.33.0
MODULE      := github.com/concordat-tx/concordat
PLATFORMS   := linux/amd64 linux/arm64 darwin/arm64

# A test that fails must fail the target, whatever its output is piped through.
SHELL       := /bin/bash
.SHELLFLAGS := -e -o pipefail -c

.DEFAULT_GOAL := help
.PHONY: help build demo test crash crash-points chaos soak models prove prove-all check lint fmt cross proto proto-check tidy-check sim fuzz fuzz-http bench bench-core bench-micro clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the binary, in bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) .

demo: build ## book flights on three nodes, kill the leader, watch the failover
	$(BIN) demo

test: ## every test, with the race detector (about 17 minutes on 2 cores)
	$(GO) test -race -count=1 -timeout 25m ./...

# With every call on a stream that calls share; the tests' own run has those that are alone.
crash-points: ## crash every process at every point of the protocol
	CONCORDAT_CARRY=always $(GO) test -count=1 -timeout 25m ./test/crash -v -run 'TestEveryPoint|TestOrdinary' -all | grep -E '^(---|ok|FAIL|panic)|crashes|points'

soak: ## HOURS of fresh seeds, pairs of crashes and chaos, one after the other
	$(MAKE) --no-print-directory sim SEEDS=$$(( $(HOURS) * 360 ))
	$(MAKE) --no-print-directory crash CRASH=$$(( $(HOURS) * 20 ))m
	$(MAKE) --no-print-directory chaos DURATION=$$(( $(HOURS) * 20 ))m

models: ## the models of the protocol, all of them (about an hour)
	$(GO) test -count=1 -timeout 3h ./test/model/promela -full -v

HOURS ?= 1
CRASH ?= 1m
crash: ## crash every process at every point of the protocol, then pairs for CRASH (about 6 minutes on 2 cores)
	@command -v strace >/dev/null || { echo "strace is missing, without which nothing tells whether the points are complete: apt-get install strace"; exit 1; }
	$(GO) vet -tags failpoints ./fsm/failpoint ./cluster ./rpc ./participant/...
	$(GO) test -count=1 -timeout 25m ./fsm/failpoint
	$(GO) test -count=1 -timeout 25m ./test/crash -v -all -pairs -duration $(CRASH)
DURATION ?= 3m
chaos: build ## kill, stop, cut off, fill up and unplug a cluster for DURATION, and check what came of it (root)
	$(GO) test ./test/chaos -count=1 -v -timeout 0 -run 'TestChaos|TestLying' -binary $(CURDIR)/$(BIN) -duration $(DURATION) -report $(CURDIR)/bin/chaos.json $(CHAOS)

check: lint cross test prove-all ## what CI runs

# Twenty simulated hours (44 seeds twice, and the 16 of prove), every seeded bug,
# every crash point, three minutes of chaos. Crash and chaos wait more than they
# work, so they run side by side.
prove-all: ## the proof: simulation, seeded bugs, crash points, chaos, HTTP fuzzed (about 12 minutes on 2 cores)
	$(MAKE) --no-print-directory sim SEEDS=44
	$(MAKE) --no-print-directory prove
	$(MAKE) --no-print-directory -j2 --output-sync=target crash-points chaos DURATION=3m
	$(MAKE) --no-print-directory fuzz-http

lint: tidy-check proto-check ## formatting, vet, staticcheck, go.mod, generated code
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "gofmt would change: $$out"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

fmt: ## gofmt
	gofmt -w $$(git ls-files '*.go')

cross: ## the binary for every platform that is supported
	@for p in $(PLATFORMS); do \
		echo "build $$p"; \
		CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build -trimpath -o /dev/null . || exit 1; \
	done

tidy-check:
	$(GO) mod tidy -diff

PLUGINS := $(addprefix $(TOOLS)/protoc-gen-,go go-grpc grpc-gateway openapiv2)
$(PLUGINS):
	GOBIN=$(TOOLS) $(GO) install $(PROTOC_GEN_GO)
	GOBIN=$(TOOLS) $(GO) install $(PROTOC_GEN_GO_GRPC)
	GOBIN=$(TOOLS) $(GO) install $(PROTOC_GEN_GATEWAY)
	GOBIN=$(TOOLS) $(GO) install $(PROTOC_GEN_OPENAPI)

HTTP_RULES := rpc/proto/concordat/v1/http.yaml
proto: $(PLUGINS) ## generate code from the protos (needs protoc 3.21.12, as in Debian 12)
	@command -v protoc >/dev/null || { echo "protoc is missing: apt-get install protobuf-compiler libprotobuf-dev"; exit 1; }
	PATH="$(TOOLS):$$PATH" protoc -I fsm/fsmpb --go_out=. --go_opt=module=$(MODULE) fsm/fsmpb/log.proto
	PATH="$(TOOLS):$$PATH" protoc -I rpc/proto --go_out=. --go-grpc_out=. \
		--go_opt=module=$(MODULE) --go-grpc_opt=module=$(MODULE) rpc/proto/concordat/v1/*.proto
	PATH="$(TOOLS):$$PATH" protoc -I rpc/proto --grpc-gateway_out=node/gateway/pb --openapiv2_out=$(TOOLS) \
		--grpc-gateway_opt=standalone=true,module=$(MODULE)/rpc/pb,grpc_api_configuration=$(HTTP_RULES) \
		--openapiv2_opt=grpc_api_configuration=$(HTTP_RULES),json_names_for_fields=false,simple_operation_ids=true,openapi_naming_strategy=simple,allow_merge=true,merge_file_name=concordat \
		rpc/proto/concordat/v1/coordinator.proto
	$(GO) run ./node/gateway/describe $(TOOLS)/concordat.swagger.json node/gateway/openapi.json

proto-check: ## generated code is what the protos say (skipped without protoc)
	@if command -v protoc >/dev/null && [ "$$(protoc --version)" = "libprotoc 3.21.12" ]; then \
		$(MAKE) --no-print-directory proto >/dev/null && git diff --exit-code --stat -- '*.pb.go' '*.pb.gw.go' node/gateway/openapi.json \
		|| { echo "generated code differs: run make proto and commit"; exit 1; }; \
	else echo "proto-check: no protoc 3.21.12 here, skipped"; fi

SEEDS ?= 20
sim: ## SEEDS clusters in virtual time, ten minutes of faults each, twice: all faults, and those of the nodes alone
	$(GO) test -count=1 -timeout 100m ./test/sim -v -run TestSim -swarm -seeds $(SEEDS) -minutes 10 | grep -E 'virtual|seen|wrong|again|^(---|FAIL|ok|panic)'

prove: ## every seeded bug, which the simulation or the steppers must find
	$(GO) test -count=1 -timeout 60m ./test/mutants -prove -v | grep -vE '^=== '

# Some targets start a cluster, where Go would spend the whole time on making an
# input that it finds interesting smaller.
FUZZTIME ?= 30s
fuzz: ## every fuzz target for FUZZTIME each
	@for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x $$pkg || exit 1; \
		done; \
	done

HTTP_FUZZTIME ?= 60s
fuzz-http: ## requests made of chance to a cluster's HTTP interface, for HTTP_FUZZTIME (SEED=n repeats a run)
	$(GO) test ./test/http -count=1 -run '^TestFuzz$$' -v -fuzz-time $(HTTP_FUZZTIME) -seed $(or $(SEED),0)

PERFORMANCE ?= docs/performance.md
bench: build ## measure Concordat beside what it is compared with, and write docs/performance.md (about 16 minutes; BENCH=-quick PERFORMANCE=bin/quick.md shows that it works)
	$(GO) run ./test/bench/compare -binary $(BIN) -json bin/performance.json -docs $(PERFORMANCE) $(BENCH)

bench-core: build ## durations, sizes and rates against their bars; exits 1 on a miss (about 40 minutes)
	$(GO) run ./test/bench -binary $(BIN) $(BENCH)

# The pieces that a transaction passes through; those of databases and of the whole
# are slower, and in their packages. Both sides are built first and then run in turn,
# so that what the machine does meanwhile hits both.
MICRO       := fsm cluster node/drive rpc rpc/lazy rpc/meter rpc/kvop participant participant/kv
BASE        ?= HEAD
COUNT       ?= 6
bench-micro: ## the pieces' own benchmarks, of BASE (a commit) and of this tree, compared by benchstat
	@rm -rf bin/micro && mkdir -p bin/micro && git worktree prune && git worktree add --quiet --detach bin/micro/base $(BASE)
	@for p in $(MICRO); do \
		test ! -d bin/micro/base/$$p || (cd bin/micro/base && $(GO) test -c -o ../base-$${p//\//-} ./$$p); \
		$(GO) test -c -o bin/micro/here-$${p//\//-} ./$$p; \
	done
	@for n in $$(seq $(COUNT)); do for p in $(MICRO); do for side in base here; do \
		dir=$$p; test $$side = here || dir=bin/micro/base/$$p; \
		test ! -x bin/micro/$$side-$${p//\//-} || (cd $$dir && $(CURDIR)/bin/micro/$$side-$${p//\//-} -test.run '^$$' -test.bench '$(or $(ONLY),.)' -test.benchmem -test.benchtime $(or $(TIME),200ms)) >>bin/micro/$$side.txt; \
	done; done; done
	@git worktree remove --force bin/micro/base
	$(GO) run $(BENCHSTAT) bin/micro/base.txt bin/micro/here.txt

clean: ## what was built
	rm -rf bin .tools
