# The front door. Every target installs what is missing (tools/bootstrap), prints what it does, works as root and as an
# ordinary user with sudo, may be run twice, and leaves no process behind.
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 60
FILTER ?=
SEEDS ?= 100
FIRST ?= 1
TO ?= duckdb
export JOBS

.PHONY: help build test demo bench lint format sanitize fuzz differential test-versions clean

help: ## this list
	@echo 'etl-stream: PostgreSQL into a DuckDB file, exactly.'
	@echo
	@sed -nE 's/^([a-z-]+):.*## (.*)$$/  make \1|\2/p' Makefile | while IFS='|' read -r name text; do \
	  printf '%-22s %s\n' "$$name" "$$text"; done
	@echo
	@echo 'Variables: JOBS=$(JOBS) (parallel compilers), FUZZ_SECONDS=$(FUZZ_SECONDS) (each target), FILTER=name (tests).'

build: ## the release binary, build/release/bin/etl-stream
	@tools/build release

test: ## build, then the whole test suite; the last line is "N passed, N failed"
	@tools/build release
	@tools/bootstrap_python >/dev/null
	@tools/run_tests build/release $(FILTER)

demo: ## a private PostgreSQL with a live workload, copied into demo.duckdb and verified (TO=snowflake: into the emulator)
	@tools/build release etl-stream
	@tools/demo --to $(TO)

bench: ## the benchmark suite: ratios to a floor measured in the same run
	@tools/build release bench_programs
	@bench/run build/release

lint: ## layers, text rules, formatting, clang-tidy
	@tools/lint

format: ## formats every C++ source in place
	@tools/bootstrap lint
	@tools/format

sanitize: ## the suite under ASan and UBSan, the threaded core under TSan
	@tools/sanitize

fuzz: ## every parser for FUZZ_SECONDS
	@tools/fuzz $(FUZZ_SECONDS)

differential: ## SEEDS seeds of the differential test, from FIRST: random schemas, changes and kills (TO=snowflake too)
	@tools/build release etl-stream $(if $(filter snowflake,$(TO)),snowflake_)differential_test
	@if [ '$(TO)' = snowflake ]; then tools/bootstrap_python >/dev/null; fi
	@ETL_DIFFERENTIAL_SEEDS=$(SEEDS) ETL_DIFFERENTIAL_FIRST=$(FIRST) \
	  tools/run_tests build/release =$(if $(filter snowflake,$(TO)),snowflake_)differential_test --only-programs \
	    --timeout 1000000

test-versions: ## the end-to-end tests on other PostgreSQL versions
	@tools/test_versions

clean: ## removes what was built; keeps the downloads in build/deps
	@echo '[clean] removing build/* (but build/deps) and demo.duckdb'
	@if [ -d build ]; then find build -mindepth 1 -maxdepth 1 ! -name deps -exec rm -rf {} +; fi
	@find tests -name __pycache__ -exec rm -rf {} +
	@rm -f demo.duckdb demo.duckdb.wal
