"""OpenTelemetry, which FastAPI has built in, where somebody listens; figures for Prometheus.

The names of the figures are those of OpenTelemetry's semantic conventions for HTTP and databases.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.telemetry import TelemetryConfig
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from starlette.routing import Route

from kit.local import comes_through_a_proxy
from kit.problems import problem
from kit.settings import Settings

SET_UP_BY = ("FASTAPI_OTEL_AUTO_CONFIGURE", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER")
NOT_FROM_OUTSIDE = "This is not for clients that come through a proxy"
PoolUse = Callable[[], Mapping[str, int]]


def configuration(settings: Settings, pool_use: PoolUse) -> TelemetryConfig:
    """What FastAPI tells, if the environment or METRICS asks for it; else it would tell nobody."""
    wanted = any(os.environ.get(name) for name in SET_UP_BY)
    signals = TelemetryConfig(tracing=wanted, metrics=wanted, logs=wanted, operation_spans=wanted)
    if wanted or settings.metrics:
        os.environ.setdefault("OTEL_SERVICE_NAME", settings.app_name)
    if not settings.metrics:
        return signals
    return {**signals, "metrics": True, "meter_provider": prometheus(pool_use)}


def prometheus(pool_use: PoolUse) -> MeterProvider:
    """Where figures are kept for `METRICS`: those of requests, and how connections are used."""
    # Imported only where they are wanted, as they take time and memory.
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.sdk.metrics import MeterProvider

    def connections(_: CallbackOptions) -> Iterable[Observation]:
        use = pool_use()
        yield Observation(use["checked_out"], {"db.client.connection.state": "used"})
        yield Observation(use["checked_in"], {"db.client.connection.state": "idle"})

    provider = MeterProvider([PrometheusMetricReader(scope_info_enabled=False)])
    name, unit = "db.client.connection.count", "{connection}"
    provider.get_meter("kit").create_observable_up_down_counter(name, [connections], unit)
    return provider


def read_metrics(request: Request) -> Response:
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    if comes_through_a_proxy(request.scope):
        return problem(403, NOT_FROM_OUTSIDE)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


METRICS: Any = Route("/metrics", read_metrics)
