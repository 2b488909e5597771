# Shorthand for the steps of .ci/run, which is the only recipe.

TAGS ?= hashicorpmetrics
FUZZ_SECONDS ?= 30
BENCH_FLAGS ?= --quick

.PHONY: all build release test race fuzz lint generate docs e2e bench ci quick demo clean

all: build

# build puts the two programs into bin/ as plain "go build" makes them.
build:
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...

# release is build with the metrics of the Raft log store, which needs the tag.
release:
	CGO_ENABLED=0 go build -trimpath -tags $(TAGS) -o bin/ ./cmd/...

test:
	go test ./...

race docs e2e demo:
	bash .ci/run $@

# fuzz runs each target for FUZZ_SECONDS; the step of .ci/run alone divides three minutes among them.
fuzz:
	DENGBEI_FUZZ_SECONDS=$(FUZZ_SECONDS) bash .ci/run fuzz

# bench measures, a minute for each program; the step of .ci/run only looks whether they work. BENCH_FLAGS= takes all the data.
bench:
	go run ./deploy/bench/backup $(BENCH_FLAGS)
	go run ./deploy/bench/restore $(BENCH_FLAGS)
	go run ./deploy/bench/index $(BENCH_FLAGS)

lint:
	bash .ci/run vet format lint

# generate rewrites the *.pb.go files from their proto files.
generate:
	go tool -modfile=.ci/tools/go.mod buf generate --config .ci/buf.yaml --template .ci/buf.gen.yaml

ci:
	bash .ci/run

quick:
	bash .ci/run --quick

clean:
	rm -rf bin
