"""What others may watch: OpenTelemetry's traces, figures and logs; figures for Prometheus."""

import base64
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from servers import Json, running, wait_for

pytestmark = pytest.mark.system

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
KINDS: dict[str, Any] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}


class Collector(ThreadingHTTPServer):
    """Keeps what it is told, as OpenTelemetry's own would (OTLP over HTTP, in protobuf)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Told)
        self.told: dict[str, list[Json]] = {path: [] for path in KINDS}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def all(self, path: str, *names: str) -> list[Json]:
        """What is in all that came to a path, some levels down."""
        found = [*self.told[path]]
        for name in names:
            found = [inner for outer in found for inner in outer.get(name, [])]
        return found


class Told(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        message = KINDS[self.path].FromString(body)
        self.server.told[self.path].append(MessageToDict(message))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def attributes(told: Json) -> Json:
    """Its attributes: names and values."""
    return {pair["key"]: next(iter(pair["value"].values())) for pair in told["attributes"]}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def watched(own_database: str, collector: Collector) -> Iterator[httpx2.Client]:
    """A service with the settings that docs/operations.md names."""
    settings = {
        "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_BSP_SCHEDULE_DELAY": "100",  # milliseconds
        "OTEL_BLRP_SCHEDULE_DELAY": "100",
        "OTEL_METRIC_EXPORT_INTERVAL": "100",
    }
    with running(own_database, **settings) as process:
        yield process.client


def test_a_request_is_a_span_of_its_callers_trace(
    watched: httpx2.Client, collector: Collector
) -> None:
    watched.get("/items/7", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})

    def spans(name: str = "GET /items/{item_id}") -> list[Json]:
        found = collector.all("/v1/traces", "resourceSpans", "scopeSpans", "spans")
        return [span for span in found if span["name"] == name]

    wait_for(lambda: bool(spans()))
    (span,) = spans()
    told = attributes(span)
    assert base64.b64decode(span["traceId"]).hex() == TRACE
    assert told["http.route"] == "/items/{item_id}"
    assert told["http.response.status_code"] == "404"
    functions = [attributes(span)["code.function.name"] for span in spans("fastapi.endpoint")]
    assert "__main__.read_item" in functions
    resource = collector.all("/v1/traces", "resourceSpans")[0]["resource"]
    assert attributes(resource)["service.name"] == "shop"


def test_requests_are_counted_and_timed(watched: httpx2.Client, collector: Collector) -> None:
    watched.get("/items/7")

    def points() -> list[Json]:
        names = "resourceMetrics", "scopeMetrics", "metrics"
        found = [m for m in collector.all("/v1/metrics", *names) if "duration" in m["name"]]
        each = [point for metric in found for point in metric["histogram"]["dataPoints"]]
        return [p for p in each if attributes(p).get("http.route") == "/items/{item_id}"]

    wait_for(lambda: bool(points()))
    assert points()[0]["count"] == "1"


def test_a_body_that_is_refused_is_logged_without_what_was_in_it(
    watched: httpx2.Client, collector: Collector
) -> None:
    watched.post("/items/", json={"title": "Secret", "price": "much"})

    def records() -> list[Json]:
        return collector.all("/v1/logs", "resourceLogs", "scopeLogs", "logRecords")

    wait_for(lambda: bool(records()))
    assert attributes(records()[0])["http.route"] == "/items/"
    assert "Secret" not in json.dumps(records())


def test_without_its_settings_nobody_is_told(own_database: str, collector: Collector) -> None:
    with running(own_database) as process:
        process.client.get("/items/")
    assert not any(collector.told.values())


def test_a_collector_that_is_away_disturbs_nobody(own_database: str) -> None:
    settings = {
        "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_BSP_SCHEDULE_DELAY": "10",
    }
    with running(own_database, **settings) as process:
        for _ in range(20):
            assert process.client.get("/items/").status_code == 200


def figure(client: httpx2.Client, name: str, **labels: str) -> float | None:
    """The value of a figure with these labels among others, as Prometheus would read it."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    for line in response.text.splitlines():
        if line.startswith(f"{name}{{") and all(f'{k}="{v}"' in line for k, v in labels.items()):
            return float(line.rpartition(" ")[2])
    return None


def test_prometheus_finds_requests_and_connections(own_database: str) -> None:
    with running(own_database, METRICS="true") as process:
        for id in range(1, 4):
            process.client.get(f"/items/{id}")
        name, labels = "http_server_request_duration_seconds_count", {"http_route": ITEM}
        assert figure(process.client, name, http_response_status_code="404", **labels) == 3
        name = "db_client_connection_count"
        assert (figure(process.client, name, db_client_connection_state="idle") or 0) > 0
        assert figure(process.client, "target_info", service_name="Cornershop API") == 1
        assert "ann@" not in process.client.get("/metrics").text


ITEM = "/items/{item_id}"


def test_figures_are_not_for_clients_behind_a_proxy(own_database: str) -> None:
    with running(own_database, METRICS="true", SECRET_KEY="k" * 32) as process:
        for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
            response = process.client.get("/metrics", headers={name: "for=127.0.0.1"})
            assert (response.status_code, response.headers["Content-Type"]) == (
                403,
                "application/problem+json",
            )


def test_without_the_setting_there_are_no_figures(client: httpx2.Client) -> None:
    assert client.get("/metrics").status_code == 404
