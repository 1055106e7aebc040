"""The statistics over HTTP: ``/metrics`` for Prometheus, ``/stats.json``, and ``/health`` for whoever restarts the service."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from keyposs_trt.video.prometheus import CONTENT_TYPE, to_prometheus
from keyposs_trt.video.statistics import OVER
from keyposs_trt.video.web import Response, to_json

if TYPE_CHECKING:
    from keyposs_trt.video.statistics import Statistics
    from keyposs_trt.video.web import WebServer

HEALTH_SECONDS = 10.0


def serve_statistics(server: WebServer, statistics: Statistics, *, seconds: float = HEALTH_SECONDS) -> None:
    """Adds the routes ``/metrics``, ``/stats.json`` and ``/health``.

    Args:
        server: the web server.
        statistics: of the pipeline.
        seconds: longest time a healthy stream takes for a frame.
    """

    def check() -> Response:
        found = health(statistics.snapshot(), seconds)
        return to_json(found, HTTPStatus.OK if found["healthy"] else HTTPStatus.SERVICE_UNAVAILABLE)

    server.route("/metrics", lambda: Response(to_prometheus(statistics.snapshot()).encode(), CONTENT_TYPE))
    server.route("/stats.json", lambda: to_json(statistics.snapshot()))
    server.route("/health", check)


def health(snapshot: dict[str, Any], seconds: float = HEALTH_SECONDS) -> dict[str, Any]:
    """Whether every stream that has not ended gave a frame and a result of late, and which did not, ready for JSON.

    Args:
        snapshot: what ``Statistics.snapshot`` gives.
        seconds: longest time a healthy stream takes for a frame.
    """
    streams = [{"name": stream["name"], "state": stream["state"], "problem": _problem(stream, seconds)} for stream in snapshot["streams"]]
    problems = [f"{stream['name']}: {stream['problem']}" for stream in streams if stream["problem"]]
    if all(stream["state"] in OVER for stream in streams):
        problems.append("no stream is running")
    return {"healthy": not problems, "problems": problems, "streams": streams}


def _problem(stream: dict[str, Any], seconds: float) -> str | None:
    """What is wrong with a stream; None where nothing is."""
    if stream["state"] == "failed":
        return "it ended by an error"
    if stream["state"] == "ended":
        return None
    no_frame = stream["seconds_since_in"]
    no_result = stream["seconds_since_out"]
    running = stream["seconds"]
    lost = ", the source is lost" if stream["state"] == "lost" else ""
    if no_frame is None:
        return f"no frame yet after {running:.0f} s{lost}" if running > seconds else None
    if no_frame > seconds:
        return f"no frame for {no_frame:.0f} s{lost}"
    if (running if no_result is None else no_result) > seconds:
        return f"frames come, but none was finished for {running if no_result is None else no_result:.0f} s"
    return "every frame fails" if stream["all_fail"] else None
