# make run       serve the shop on http://127.0.0.1:8000; on another port: make run PORT=8001
# make test      run the tests, on SQLite
# make test-all  run what needs more: other databases, a browser, a replica, PgBouncer, faults...
# make check     style, types, security and migrations
# make bench     measure the service beside others, in half an hour; less: ARGS="--rounds 1"
# make docs      write the table of routes, after a change of the routes
# make lock      pin what the packages in pyproject.toml bring along; the newest: ARGS=--upgrade
# make growth    measure each route in a shop of 1,000 products and in one of 1,000,000

PYTHON ?= python3
PORT ?= 8000
BIN = .venv/bin
INSTALL = pip install --quiet --disable-pip-version-check

run: .venv/installed
	$(BIN)/python main.py --port $(PORT)

test: .venv/tools
	$(BIN)/python -m pytest

test-all: .venv/tools .clients/venv/installed .clients/node_modules
	$(BIN)/python -m pytest --rest

check: .venv/tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy main.py models.py db.py kit alembic/env.py tests
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive main.py models.py db.py kit alembic
	$(BIN)/python tests/patterns.py
	$(BIN)/pip check
	rm -f .check.db*
	DATABASE_URL=sqlite:///./.check.db $(BIN)/alembic upgrade head
	DATABASE_URL=sqlite:///./.check.db $(BIN)/alembic check
	rm -f .check.db*

bench: .venv/tools .bench/venv/installed
	command -v wrk >/dev/null || (apt-get update -q && apt-get install -y -q wrk) || true
	$(BIN)/python tests/bench/run.py $(ARGS)

growth: .venv/tools
	$(BIN)/python tests/bench/growth.py $(ARGS)

docs: .venv/tools
	PYTHONPATH=. $(BIN)/python tests/table_of_routes.py

COMPILE = $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 \
	--strip-extras --custom-compile-command "make lock" pyproject.toml

# For pip, two files; uv reads pyproject.toml alone, whose last key is what the files have beside it.
lock: .venv/installed
	$(BIN)/pip install --quiet uv
	$(COMPILE) --generate-hashes --no-annotate $(ARGS) --output-file requirements.txt
	$(COMPILE) --generate-hashes --no-annotate $(ARGS) --constraint requirements.txt \
		--group tests --output-file tests/requirements.txt
	sed '/^constraint-dependencies/,$$d' pyproject.toml > .pyproject.new
	echo 'constraint-dependencies = [' >> .pyproject.new
	$(COMPILE) --annotation-style line --constraint tests/requirements.txt --group tests | \
		sed -En '/^#|via.* cornershop/!s/^(.*[^ ]) +# via.*/    "\1",/p' >> .pyproject.new
	echo ']' >> .pyproject.new
	mv .pyproject.new pyproject.toml

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/$(INSTALL) -r requirements.txt
	touch $@

.venv/tools: .venv/installed tests/requirements.txt
	$(BIN)/$(INSTALL) -r tests/requirements.txt
	touch $@

.bench/venv/installed: requirements.txt tests/bench/requirements.txt
	$(PYTHON) -m venv .bench/venv
	.bench/venv/bin/$(INSTALL) -r requirements.txt
	.bench/venv/bin/$(INSTALL) -r tests/bench/requirements.txt
	touch $@

.clients/venv/installed: tests/clients/requirements.txt
	$(PYTHON) -m venv .clients/venv
	.clients/venv/bin/$(INSTALL) -r tests/clients/requirements.txt
	touch $@

.clients/node_modules: tests/clients/package-lock.json
	mkdir -p .clients
	cp tests/clients/package.json tests/clients/package-lock.json .clients
	if command -v npm >/dev/null; then npm ci --prefix .clients --no-audit --no-fund && touch $@; fi

.PHONY: run test test-all check bench growth docs lock
