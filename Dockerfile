# How to build and run it: docs/operations.md, "With Docker".
FROM python:3.11-slim-bookworm AS build
WORKDIR /build
COPY *.txt ./
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --only-binary :all: -r requirements.txt

FROM python:3.11-slim-bookworm
WORKDIR /app
COPY --from=build /venv /venv
COPY pyproject.toml demo.toml main.py models.py db.py ./
COPY kit kit
COPY alembic alembic
# Compiled here, as nothing but /data and /tmp can be written to later.
RUN python -m compileall -q . \
    && install -d -o 10001 -g 10001 /data
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    DATABASE_URL=sqlite:////data/shop.db
USER 10001:10001
EXPOSE 8000
# 503 comes within 15 seconds. No urllib: that would ask the proxy of an HTTP_PROXY.
HEALTHCHECK --interval=10s --timeout=20s --start-period=60s CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8000, timeout=18); c.request('GET', '/health/db'); sys.exit(c.getresponse().status != 200)"]
# `exec`, so that Python itself is told to stop.
CMD ["sh", "-c", ": \"${SECRET_KEY:?has to be set, to at least 32 characters}\" && exec python main.py --host 0.0.0.0"]
