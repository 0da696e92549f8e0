# Everything a contributor types. `make` alone lists it.
PYTHON ?= python3
BIN := .venv/bin
# Two stamps: of what running needs, and of what developing and testing need, which is more.
RUN_STAMP := .venv/.set-up-to-run
STAMP := .venv/.set-up
# What checks the GPU: .venv where it is, else an interpreter that has the wheels. Neither is set up for it.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
# Versions of triton whose machine code is compared.
TRITONS ?= 3.6.0 3.7.1
# Compose v2 where docker has it, else docker-compose 1.29.
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

.PHONY: kubernetes-tools manifests third-party wheels help setup run test fidelity fuzz test-openapi resume forge rotation test-compose test-clients test-lm-eval first-hour eval bench gpu-first gpu-first-nixl gpu-wheels sass check fix protos pictures dashboards up down clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 19

setup: $(STAMP) ## make .venv with all that running and testing needs

SETUP := pyproject.toml scripts/setup $(wildcard scripts/environment/*.py)

$(STAMP): $(SETUP)
	@PYTHON=$(PYTHON) scripts/setup dev
	@touch $(RUN_STAMP) $@

$(RUN_STAMP): $(SETUP)
	@PYTHON=$(PYTHON) scripts/setup run $(ARGS)
	@touch $@

run: $(RUN_STAMP) ## start the suite here and keep it running until Ctrl-C (options: ARGS="--http-port 8080")
	@$(BIN)/perigee run $(ARGS)

test: $(STAMP) ## run all tests (some of them: ARGS="tests/common -k settings")
	-@test -e .run/kubernetes/helm || $(BIN)/python -m scripts.manifests --tools
	$(BIN)/pytest --numprocesses 2 --dist loadfile $(ARGS)

fidelity: $(STAMP) ## compare with the references and write docs/fidelity.md (needs the golden vectors)
	FIDELITY_PAGE=docs/fidelity.md $(BIN)/pytest -m fidelity $(ARGS)

fuzz: $(STAMP) ## send 2,000 bodies made from /openapi.json to a gateway over fake workers (options: ARGS="--cases N")
	$(BIN)/python -m tests.gateway.fuzz $(ARGS)

test-openapi: $(STAMP) ## send 3,000 bodies made from /openapi.json to the whole suite (options: ARGS="--seed S")
	$(BIN)/python -m tests.gateway.fuzz --real --cases 3000 $(ARGS)

resume: $(STAMP) ## move 2,000 random choices to another worker after every token (options: ARGS="--choices N --seed S")
	$(BIN)/python -m tests.decode.resume $(ARGS)

forge: $(STAMP) ## serve 1,000 requests beside messages forged in a worker's name (options: ARGS="--requests N --seed S")
	$(BIN)/python -m tests.decode.forgery $(ARGS)

rotation: $(STAMP) ## replace the CA and all certificates under 50 streams and READs (options: STREAMS=20)
	ROTATION_STREAMS=$(or $(STREAMS),50) $(BIN)/pytest -s --timeout 1500 tests/integration/test_mtls.py -k rotation $(ARGS)

test-compose: $(STAMP) ## test the suite in real containers: replicas, routing, failover, kernels (about 15 minutes)
	scripts/test-compose $(ARGS)

test-clients: $(STAMP) ## install ten clients from their lock files and run each against the suite (5 minutes; needs Node)
	$(BIN)/pytest tests/clients --clients $(ARGS)

test-lm-eval: $(STAMP) ## run lm-eval, installed from its lock file, on 200 items and compare with a forward in one process
	$(BIN)/pytest --lm-eval tests/lm_eval $(ARGS)

first-hour: $(STAMP) ## do what a new user does first: numbered checks on a clean clone, with downloads (options: ARGS=--keep)
	$(BIN)/python -m scripts.first_hour --python $(PYTHON) $(ARGS)

eval: $(STAMP) ## score the skills of the suite that make run started (options: ARGS="--cases 50 --out result.json")
	$(BIN)/python -m evals.skills $(ARGS)

bench: $(STAMP) ## measure this machine, and peers if installed, against bounds (some: ARGS="gateways routing"; all: 15 minutes)
	$(BIN)/python -m benchmarks $(ARGS)

gpu-first: ## try a GPU, at most 9 minutes (options: ARGS="--from STEP"; on the CPU: ARGS=--dry-run; GPU_PYTHON=python3)
	$(GPU_PYTHON) -m benchmarks.gpu_first first $(ARGS)

gpu-first-nixl: ## move pages between two processes' GPU memories, at most 150 s (on the CPU: ARGS=--dry-run)
	$(GPU_PYTHON) -m benchmarks.gpu_first nixl $(ARGS)

gpu-wheels: $(STAMP) ## what a GPU machine lacks beside torch and triton, in .gpu-wheels, small enough to carry there
	$(BIN)/python -m benchmarks.gpu_first.wheels $(ARGS)

sass: $(STAMP) ## compile every kernel for H200, B200, B300 with each triton, write kernels/machine_code/table.json (5 minutes)
	set -e; for version in $(TRITONS); do \
	  [ -d .run/triton/$$version ] || $(BIN)/pip install --quiet --no-deps --target .run/triton/$$version triton==$$version; \
	  CUOBJDUMP=$$($(BIN)/python -c "import triton; print(triton.__path__[0])")/backends/nvidia/bin/cuobjdump \
	    PYTHONPATH=.run/triton/$$version $(BIN)/python -m kernels.machine_code --write $(ARGS); done

check: $(STAMP) ## format, lint, types, import layers, protos, pages; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint protos
	scripts/protos --check
	$(BIN)/python -m docs.pictures --check
	$(BIN)/python -m monitoring.dashboards --check
	$(BIN)/pytest --quiet tests/test_docs.py tests/test_readme.py

fix: $(STAMP) ## format, and fix what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

protos: $(STAMP) ## generate the Python code of protos/ and the texts of REST fields again
	scripts/protos

pictures: $(STAMP) ## draw the pictures of docs/ again, from docs/pictures/*.toml
	$(BIN)/python -m docs.pictures

kubernetes-tools: $(STAMP) ## fetch helm and kubectl for make manifests and tests/deploy (38 MB, into .run/kubernetes)
	$(BIN)/python -m scripts.manifests --tools

manifests: $(STAMP) ## write deploy/kustomize again, from the chart deploy/helm/perigee (needs helm)
	$(BIN)/python -m scripts.manifests

dashboards: $(STAMP) ## write monitoring/dashboards/*.json again, from the descriptions beside them
	$(BIN)/python -m monitoring.dashboards

third-party: $(STAMP) ## write docs/third-party.md again, from the packages that are installed
	$(BIN)/python -m scripts.third_party

wheels: $(STAMP) ## build the wheels into dist and try perigee's in empty environments (ARGS="python3.11 python3.13")
	scripts/wheels $(ARGS)

up: ## build the images, start the suite in containers, return when it serves (options: ARGS="--scale decode=2")
	@COMPOSE="$(COMPOSE)" scripts/up $(ARGS)

down: ## stop the containers and remove them
	$(COMPOSE) down

clean: ## remove the virtual environment, caches and logs
	rm -rf .venv .run build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
