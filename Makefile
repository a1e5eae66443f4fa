# make run    serve the shop on http://127.0.0.1:8000; on another port: make run PORT=8001
# make test   run the tests
# make check  style, types, security and migrations
# make bench  measure the service beside others, in some 15 minutes; less: make bench ARGS="--rounds 1"
# make growth  measure each route in a shop of 1,000 products and in one of 1,000,000

PYTHON ?= python3
PORT ?= 8000
BIN = .venv/bin

run: .venv/installed
	$(BIN)/python main.py --port $(PORT)

test: .venv/installed
	$(BIN)/python -m pytest

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy main.py models.py db.py alembic/env.py tests
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive main.py models.py db.py alembic
	$(BIN)/pip check
	rm -f .check.db*
	DATABASE_URL=sqlite:///./.check.db $(BIN)/alembic upgrade head
	DATABASE_URL=sqlite:///./.check.db $(BIN)/alembic check
	rm -f .check.db*

bench: .venv/installed
	command -v wrk >/dev/null || (apt-get update -q && apt-get install -y -q wrk) || true
	$(BIN)/python tests/bench/run.py $(ARGS)

growth: .venv/installed
	$(BIN)/python tests/bench/growth.py $(ARGS)

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.PHONY: run test check bench growth
