# What a developer types. `make help` is made from the `##` comments of the targets.
# Needs Python 3.11 or newer and make; everything else goes into .venv. Paths are relative, so
# that the checkout may lie in a folder with spaces.

# The first interpreter that is new enough and can make an environment; name another with PYTHON=…
FIT = -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p $(FIT) 2>/dev/null && echo $$p && break; done)

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Where it is set, each process would compile the product again.
unexport PYTHONDONTWRITEBYTECODE
RUN = .venv/bin/python -m
SPREAD = -n 4 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-hosts test test-long check bench bench-check bench-peers bench-postgres bench-answers figures figures-backends busy doors faults soak up down status health docs build clean

help: ## show this help
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | while IFS='	' read -r name text; do \
		printf '  make %-16s %s\n' "$$name" "$$text"; done

setup: .venv/installed ## make .venv with everything the other targets need

demo: setup ## watch it work: questions, kill -9, answers, nothing left
	@.venv/bin/python demo

demo-hosts: setup ## watch two homes share a bridge on PostgreSQL, and one die with a question in flight
	@.venv/bin/python demo/hosts.py

test: setup ## run the tests, but for those of test-long
	@$(RUN) pytest $(SPREAD) -m "not long"

test-long: setup ## run the tests that take long: soak, random faults, the real Claude Code CLI, …
	@$(RUN) pytest $(SPREAD) -m long

check: setup ## ruff, mypy, code that nobody uses, and the direction of imports
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(RUN) vulture
	@.venv/bin/lint-imports

bench: setup ## measure what a question costs beside the floor, and record it in bench/results
	@$(RUN) bench.cost --out bench/results
	@$(RUN) bench.trace --out bench/results/way.svg --page docs/performance.md
	@$(RUN) bench.ipc.page

bench-check: setup ## measure, and fail where a ratio is over 25 % worse than the recorded one
	@$(RUN) bench.cost --out build/bench --compare bench/results/figures.json

bench-peers: build/peers/installed ## measure autopoll beside huey, Celery, RQ, Dramatiq and procrastinate
	@build/peers/bin/python -m bench.peers --out bench/results
	@build/peers/bin/python -m bench.peers.page

bench-postgres: build/peers/installed ## measure autopoll on PostgreSQL beside procrastinate and pgmq; six minutes
	@build/peers/bin/python -m bench.postgres --out bench/results
	@build/peers/bin/python -m bench.postgres.page

bench-answers: build/answers/installed ## measure which questions extract answers, beside bm25s and a dense retriever
	@build/answers/bin/python -m bench.answers --out bench/results
	@build/answers/bin/python -m bench.answers.page

figures: setup ## time each fault until it is noticed and answered, 20 times; TIMES=…
	@$(RUN) bench.figures $(if $(TIMES),--times $(TIMES))

figures-backends: setup ## time a question by each way to a model, against a mock; TIMES=…
	@$(RUN) bench.backends $(if $(TIMES),--times $(TIMES))

busy: setup ## keep every core busy for half an hour and count false kills; MINUTES=…
	@$(RUN) bench.busy $(if $(MINUTES),--minutes $(MINUTES))

doors: setup ## measure what REST and MCP add to asking, and what the gateway holds; two minutes
	@$(RUN) bench.doors

faults: setup ## strike a home at random for ten minutes; SEED=… repeats, OUT=… draws a plot
	@$(RUN) bench.campaign $(if $(SEED),--seed $(SEED)) $(if $(OUT),--out "$(OUT)")

soak: setup ## ask a million questions and see that nothing grows; from ten minutes on; QUESTIONS=…
	@$(RUN) bench.soak $(if $(QUESTIONS),--questions $(QUESTIONS))

up: setup ## start this checkout as a home
	@$(RUN) autopoll up

down: setup ## finish what is in flight and stop it
	@$(RUN) autopoll down

status: setup ## show processes, shards and queue
	@$(RUN) autopoll status

health: setup ## ask a canary question through the whole chain
	@$(RUN) autopoll health --deep

docs: setup ## write docs/cli.md, the man page and the tables that are made of figures
	@.venv/bin/python docs/generate.py
	@$(RUN) bench.ipc.page
	@$(RUN) bench.peers.page
	@$(RUN) bench.postgres.page
	@$(RUN) bench.answers.page

build: setup ## make the sdist and the wheel in dist/
	@$(RUN) build --no-isolation

clean: ## remove .venv, builds and caches; var/ holds data and stays
	rm -rf .venv build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache \
		.import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp comes last, so that an install that broke off is done again.
.venv/installed: setup.cfg pyproject.toml
	@$(if $(PYTHON),,$(error No Python 3.11 or newer with venv was found. \
		Install one, or name it: make setup PYTHON=/path/to/python3))
	@"$(PYTHON)" $(FIT) || { echo "$(PYTHON) is no Python 3.11 or newer with venv." \
		"Name another: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up .venv with $$("$(PYTHON)" --version), once" >&2
	@"$(PYTHON)" -m venv .venv
	@$(RUN) pip install --quiet --editable '.[dev]'
	@touch $@

# The other queues have an environment of their own, so that .venv stays as it is.
build/peers/installed: .venv/installed
	@echo "Setting up build/peers, once" >&2
	@.venv/bin/python -m venv build/peers
	@build/peers/bin/python -m pip install --quiet --editable '.[peers]'
	@touch $@

build/answers/installed: .venv/installed
	@echo "Setting up build/answers, once" >&2
	@.venv/bin/python -m venv build/answers
	@build/answers/bin/python -m pip install --quiet --editable '.[answers]'
	@touch $@
