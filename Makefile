# `make help` lists what there is. Everything sets up what it needs by itself.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLUSTER := $(PYTHON) hack/cluster/cluster.py
# Where an environment forbids it, as images often do, every process compiles the package anew, and
# every pytest worker all tests: half of the time that it takes to collect them.
unexport PYTHONDONTWRITEBYTECODE

$(VENV)/.installed: requirements/dev.txt pyproject.toml
	@echo "== installing the locked dependencies into $(VENV)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(VENV)/.installed ## Install what development needs

.PHONY: demo
demo: setup ## A good configuration promoted, a bad one rolled back; no cluster, two minutes
	$(BIN)/signalcanary demo

# Here a test that lacks the cluster, or what it is built from, fails rather than skips.
.PHONY: test
test: export SIGNALCANARY_REQUIRE_CLUSTER := 1
test: lint cluster-tools test-fast test-cluster ## Everything, the real cluster included

# The files that take longest come first, and two more workers fill in while they wait.
.PHONY: test-fast
test-fast: setup ## All tests that need no cluster
	$(BIN)/pytest tests/e2e tests/sim tests/integration tests/unit -n 4 --dist loadfile \
		--no-loadscope-reorder --durations=15

.PHONY: test-kills
test-kills: setup ## Compaction and retention killed at each of their steps, not at every seventh
	SIGNALCANARY_KILL_STEP=1 $(BIN)/pytest tests/integration/store/test_upkeep.py

.PHONY: test-outbox
test-outbox: setup ## Two thousand random schedules of failures against the notifications
	SIGNALCANARY_OUTBOX_SCHEDULES=2000 $(BIN)/pytest tests/unit/notify/test_no_loss.py

.PHONY: test-cluster
test-cluster: export SIGNALCANARY_REQUIRE_CLUSTER := 1
test-cluster: setup ## The tests on the real cluster, which is taken down again
	$(CLUSTER) up
	$(BIN)/pytest tests/cluster -m "not disruptive and not long" -n 2 --dist loadfile \
		--no-loadscope-reorder -v --durations=10
	$(BIN)/pytest tests/cluster -m disruptive -v --durations=10
	$(BIN)/pytest tests/cluster_lifecycle -v

.PHONY: lint
lint: setup ## Style, types, architecture, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

.PHONY: format
format: setup ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: generate
generate: setup ## Write the CRD anew from the models
	$(BIN)/signalcanary crd | tee crds/signalcanary.dev_signalcanaries.yaml \
		charts/kustomize/base/signalcanary.dev_signalcanaries.yaml \
		> charts/signalcanary/crds/signalcanary.dev_signalcanaries.yaml

.PHONY: kustomize
kustomize: setup cluster-tools ## Write charts/kustomize/base anew from the chart
	SIGNALCANARY_WRITE_DOCS=1 $(BIN)/pytest tests/integration/operator/test_kustomize.py

.PHONY: dashboards
dashboards: ## Write the Grafana dashboards of the chart anew from their panels
	$(PYTHON) hack/dashboards.py

.PHONY: gitops
gitops: setup ## Write charts/argocd/argocd-cm.yaml anew from the scripts beside it
	SIGNALCANARY_WRITE_DOCS=1 $(BIN)/pytest tests/unit/edges/test_gitops.py

.PHONY: docs
docs: setup ## Write the pages that come of the code anew (see the test files named here)
	SIGNALCANARY_WRITE_DOCS=1 $(BIN)/pytest tests/sim/test_lifecycle_page.py \
		tests/unit/edges/test_events.py \
		tests/unit/operator/test_hostile_answers.py tests/unit/test_metrics_page.py \
		tests/unit/test_cli_page.py tests/unit/test_reference_pages.py \
		tests/unit/backtest/test_notebook.py tests/unit/console/test_report.py

.PHONY: machine
machine: export SIGNALCANARY_MACHINE_SAMPLE := 4000
machine: setup ## Explore a hundred times as many transitions of the rollout (an hour or two)
	$(BIN)/pytest tests/sim/test_machine.py --timeout=7200
	SIGNALCANARY_MACHINE_SAMPLE=40 SIGNALCANARY_MACHINE_SCOPE=Symbol \
		$(BIN)/pytest tests/sim/test_machine.py --timeout=7200

COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links
.PHONY: lock
lock: setup ## Lock the dependencies anew
	$(COMPILE) --extra dev -o requirements/dev.txt
	$(COMPILE) --extra operator -c requirements/dev.txt -o requirements/operator.txt
	$(COMPILE) --extra workloads -c requirements/dev.txt -o requirements/workloads.txt
	$(COMPILE) --extra models -c requirements/dev.txt -o requirements/models.txt

.PHONY: cluster-tools
cluster-tools: ## Build what the cluster is made of; cached
	$(CLUSTER) tools

.PHONY: cluster-up
cluster-up: ## A one-node cluster: kind where Docker works, else from packages (root, Go)
	$(CLUSTER) up

.PHONY: cluster-down
cluster-down: ## Take the cluster down and leave nothing behind
	$(CLUSTER) down

.PHONY: cluster-demo
cluster-demo: setup cluster-up ## The demo's two stories on the cluster, with kubectl apply
	$(BIN)/python hack/cluster_demo.py

.PHONY: cluster-examples
cluster-examples: export SIGNALCANARY_REQUIRE_CLUSTER := 1
cluster-examples: setup ## The tutorial and all examples on the real cluster, which is taken down again; ten minutes
	$(CLUSTER) up
	$(BIN)/pytest tests/cluster -m long -n 2 --dist loadfile -v --durations=10
	$(CLUSTER) down

.PHONY: chaos
chaos: setup ## A hundred random schedules of kills and faults against harvest, ten minutes
	SIGNALCANARY_CHAOS_RUNS=100 $(BIN)/pytest tests/integration/harvest/test_chaos.py

.PHONY: bench
bench: setup ## Measure the local exchange; prints figures, asserts nothing
	$(BIN)/python -m benchmarks.exchange_throughput

# A peer to compare with; in an environment of its own, as nothing here depends on it. It is compiled
# once, into a cache that outlives `make clean`, and left out where that cannot be done.
PEER := build/bench/cryptofeed
PEER_WHEELS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/signalcanary/wheels/cryptofeed
$(PEER_WHEELS)/.built:
	@echo "== compiling cryptofeed, once; some minutes" >&2
	@$(PYTHON) -m venv $(PEER) && timeout 1200 $(PEER)/bin/pip wheel --quiet \
		--wheel-dir $(@D) 'cryptofeed>=2.4' >&2 && touch $@

.PHONY: bench-peer
bench-peer: ## Install cryptofeed, which bench-workloads compares with
	@$(MAKE) --no-print-directory $(PEER_WHEELS)/.built >&2 && $(PYTHON) -m venv $(PEER) \
		&& $(PEER)/bin/pip install --quiet --no-index --find-links $(PEER_WHEELS) cryptofeed >&2 \
		|| echo "cryptofeed cannot be installed; it is left out" >&2

SECONDS_OF_BURST ?= 60
STAGES ?= throughput sustained burst steps catch-up parsing
.PHONY: bench-workloads
bench-workloads: setup bench-peer ## Measure harvest and analysis; one JSON object, 4 to 14 min
	@SIGNALCANARY_CRYPTOFEED_PYTHON=$(PEER)/bin/python \
		$(BIN)/python -m benchmarks.workloads --seconds $(SECONDS_OF_BURST) --stage $(STAGES)

.PHONY: bench-pause
bench-pause: setup ## How long nobody publishes as stable at a promotion, on local processes; 4 min
	@$(BIN)/python -m benchmarks.promotion_pause

.PHONY: browser
browser: export SIGNALCANARY_REQUIRE_BROWSER := 1
browser: setup cluster-tools ## The dashboard's page in a real browser (Debian: chromium)
	$(BIN)/pytest tests/browser

.PHONY: pictures
pictures: setup cluster-tools ## Take the pictures of docs/dashboard.md anew (Debian: chromium)
	$(BIN)/python tests/browser/pictures.py

.PHONY: intervals
intervals: export SIGNALCANARY_INTERVAL_SEEDS := 200
intervals: export SIGNALCANARY_INTERVAL_HOURS := 6
intervals: export SIGNALCANARY_INTERVAL_MARKETS := 2000
intervals: setup ## How often the 95 % intervals hold the truth, on thousands of markets; 40 minutes
	$(BIN)/pytest tests/unit/analysis/test_coverage.py tests/unit/analysis/test_curves.py
	$(BIN)/python tests/unit/analysis/test_coverage.py
	SIGNALCANARY_INTERVAL_HOURS=3 $(BIN)/pytest tests/unit/analysis/test_market_coverage.py -s

.PHONY: error-rates
error-rates: export SIGNALCANARY_RUNS ?= 400
error-rates: setup ## Measure the error rates in full (hours), and write docs/error-rates.md
	$(BIN)/pytest tests/unit/analysis/test_confidence.py tests/unit/backtest/test_null.py --timeout 0
	$(BIN)/python hack/error_rates.py docs/error-rates.md

.PHONY: clean
clean: ## Remove what was built here
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
