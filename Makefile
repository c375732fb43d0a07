# The commands of this repository; `make` alone lists them.
SHELL := /bin/bash
PYTHON ?= python3
EPISODES ?= 5
ENV := . scripts/env.sh

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format clean

help:  ## list the commands
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):[^#]*## */  make \1\t/' | expand -t 16

setup:  ## create .venv with ROS 2 and build the three packages; quick when nothing changed
	@$(PYTHON) scripts/set_up.py

demo: setup  ## run the trained policy on the simulated robot over ROS 2 (EPISODES=5)
	@$(ENV) && vla demo --episodes $(EPISODES) $(DEMO_ARGS)

test: setup  ## run all tests (PYTEST_ARGS='-k words' for some)
	@$(ENV) && python -m pytest $(PYTEST_ARGS)

lint: setup  ## check style and types
	@$(ENV) && ruff check . && ruff format --check . && mypy

format: setup  ## mend what can be mended automatically
	@$(ENV) && ruff check --fix . ; ruff format .

clean:  ## remove what was built; .venv and out/ stay
	rm -rf build install log .mypy_cache .pytest_cache .ruff_cache
