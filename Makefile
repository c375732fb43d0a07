# The commands of this repository; `make` alone lists them.
SHELL := /bin/bash
PYTHON ?= python3
EPISODES ?= 5
ENV := . scripts/env.sh

.DEFAULT_GOAL := help
.PHONY: help setup demo train-demo test lint format clean

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/' | expand -t 18

setup:  ## create .venv with ROS 2 and build the three packages; quick when nothing changed
	@$(PYTHON) scripts/set_up.py

demo: setup  ## run the trained policy on the simulated robot over ROS 2 (EPISODES=5)
	@$(ENV) && vla demo --episodes $(EPISODES) $(DEMO_ARGS)

train-demo: setup  ## make the shipped policy again: record, train, roll out (PRETRAIN=1: its VLM, too)
	@$(ENV) && \
	  $(if $(PRETRAIN),vla pretrain-vlm $(PRETRAIN_ARGS) &&) \
	  vla record-sim $(RECORD_ARGS) && \
	  vla train groot $(if $(PRETRAIN),vlm.pretrained=out/vlm/tiny) $(TRAIN_ARGS) && \
	  vla rollout --checkpoint out/train/groot/policy --output out/train/groot/rollout $(ROLLOUT_ARGS)

test: setup  ## run all tests (PYTEST_ARGS='-k words' for some)
	@$(ENV) && python -m pytest -n auto --maxprocesses 8 $(PYTEST_ARGS)

lint: setup  ## check style and types
	@$(ENV) && ruff check . && ruff format --check . && mypy

format: setup  ## mend what can be mended automatically
	@$(ENV) && ruff check --fix . ; ruff format .

clean:  ## remove what was built; .venv and out/ stay
	rm -rf build install log .mypy_cache .pytest_cache .ruff_cache
