"""What Prometheus reads: looked up when it asks, in the bridge and in the files of the home.

Nothing is counted along the way, so that nothing is lost with the gateway: the latencies and the
attempts come from the bridge, read once and then only what is new.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate

import msgspec
from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0
from prometheus_client.registry import Collector

from autopoll.bridge.records import AnsweringHome, Backlog, Spent
from autopoll.client.client import Client
from autopoll.clock import wall_ms
from autopoll.gateway.auth_middleware import is_private
from autopoll.gateway.hub import Hub
from autopoll.gateway.rest.bearer_access import BearerAccess
from autopoll.gateway.rest.openapi import problems
from autopoll.gateway.usecases import UseCases
from autopoll.process import incident_actions, incident_log
from autopoll.process.heartbeat import Beat, is_alive, read_all
from autopoll.process.incident_log import Incident

# Seconds; from a backend that only searches to a model that thinks for minutes.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_AT_A_TIME = 10_000  # questions read in one turn of the bridge's thread, 30 ms
_RESTARTS = (
    incident_actions.DRAINED,
    incident_actions.KILLED,
    incident_actions.RESTARTED,
    incident_actions.LEFT,
)

router = APIRouter(tags=["operation"])


class FinishedQuestions:
    """What has become of all questions so far, kept up to date with what the bridge adds."""

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter()  # by shard
        self.answers: Counter[tuple[str, str]] = Counter()  # by shard and state
        self.spans: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS) + 1))
        self.seconds: Counter[str] = Counter()
        self._seen = 0

    async def catch_up(self, hub: Hub) -> None:
        """Read what was finished since the last time, leaving room for others in between."""
        while await hub.call(self._read):
            pass

    def _read(self, client: Client) -> bool:
        found = client.bridge.overview.finished(self._seen, _AT_A_TIME)
        for each in found:
            self.attempts[each.shard] += each.attempts
            self.answers[each.shard, each.state] += 1
            if each.state == "done":
                seconds = each.latency_ms / 1000
                self.spans[each.shard][bisect_left(BUCKETS, seconds)] += 1
                self.seconds[each.shard] += seconds  # type: ignore[assignment]
            self._seen = each.number
        return len(found) == _AT_A_TIME


class EndedProcesses:
    """How often processes have ended; grows only, also where old incidents are removed."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()  # by process and verdict
        self._seen: set[str] = set()  # ids of incidents that are still kept

    def catch_up(self, incidents: Sequence[Incident]) -> None:
        """Count what is new among the incidents that are kept."""
        known = {each.id: each for each in incidents if each.action in _RESTARTS}
        for name in known.keys() - self._seen:
            self.counts[known[name].process, known[name].verdict] += 1
        self._seen = set(known)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """How things are at the moment of asking."""

    backlog: list[Backlog]
    dead: int
    spent: dict[str, Spent]
    beats: list[Beat]
    ended: Counter[tuple[str, str]]
    waiting: int
    homes: list[AnsweringHome]


def take_snapshot(client: Client, ended: EndedProcesses, waiting: int) -> Snapshot:
    """Look once at the bridge and the files of the home."""
    ended.catch_up(incident_log.read(client.home.incidents))
    return Snapshot(
        backlog=client.bridge.overview.backlog(),
        dead=client.bridge.overview.counts()["dead"],
        spent=client.bridge.overview.spent(),
        beats=[beat for beat in read_all(client.home.beats) if is_alive(beat)],
        ended=ended.counts,
        waiting=waiting,
        homes=client.bridge.overview.homes(),
    )


class _HomeCollector(Collector):
    """One look, as the client library writes it."""

    def __init__(self, shards: list[str], finished: FinishedQuestions, snapshot: Snapshot) -> None:
        self.shards = shards
        self.finished = finished
        self.snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        yield from self._queue()
        yield from self._finished()
        yield from self._processes()
        yield from self._costs()
        yield from self._homes()
        yield GaugeMetricFamily(
            "autopoll_gateway_waiting", "Clients that wait for an answer.", self.snapshot.waiting
        )

    def _queue(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily(
            "autopoll_queue_depth", "Questions not answered yet.", labels=["shard", "state"]
        )
        flight = GaugeMetricFamily(
            "autopoll_in_flight", "Questions that are being answered.", labels=["shard"]
        )
        oldest = GaugeMetricFamily(
            "autopoll_oldest_question_age_seconds",
            "How long the oldest question without an answer has waited.",
            labels=["shard"],
        )
        found = {(each.shard, each.state): each for each in self.snapshot.backlog}
        for shard in sorted({*self.shards, *(shard for shard, _ in found)}):
            since = [found[key].oldest_at for key in found if key[0] == shard]
            for state in ("sent", "queued", "ready", "leased"):
                each = found.get((shard, state))
                depth.add_metric([shard, state], each.count if each else 0)
            leased = found.get((shard, "leased"))
            flight.add_metric([shard], leased.count if leased else 0)
            age = max(0.0, (wall_ms() - min(since)) / 1000) if since else 0.0
            oldest.add_metric([shard], age)
        yield from (depth, flight, oldest)
        yield GaugeMetricFamily(
            "autopoll_dead_letters", "Dead letters nobody has looked after.", self.snapshot.dead
        )

    def _finished(self) -> Iterator[Metric]:
        finished = self.finished
        latency = HistogramMetricFamily(
            "autopoll_answer_latency_seconds",
            "From the enrolment of a question to its answer.",
            labels=["shard"],
        )
        attempts = CounterMetricFamily(
            "autopoll_attempts", "Attempts at questions that are finished.", labels=["shard"]
        )
        answers = CounterMetricFamily(
            "autopoll_answers", "Questions finished.", labels=["shard", "outcome"]
        )
        for shard in sorted({*self.shards, *finished.attempts}):
            counts = list(accumulate(finished.spans[shard]))
            bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
            latency.add_metric(
                [shard], list(zip(bounds, counts, strict=True)), finished.seconds[shard]
            )
            attempts.add_metric([shard], finished.attempts[shard])
            for state, outcome in (("done", "answered"), ("dead", "failed")):
                answers.add_metric([shard, outcome], finished.answers[shard, state])
        yield from (latency, attempts, answers)

    def _processes(self) -> Iterator[Metric]:
        restarts = CounterMetricFamily(
            "autopoll_restarts",
            "Ends of processes by the reason, from the incidents that were kept at the start on.",
            labels=["process", "verdict"],
        )
        for (process, verdict), count in sorted(self.snapshot.ended.items()):
            restarts.add_metric([process, verdict], count)
        alive = GaugeMetricFamily(
            "autopoll_process_up", "Processes that live.", labels=["process", "role", "state"]
        )
        errors = CounterMetricFamily(
            "autopoll_pipe_errors",
            "Links to workers that failed, since the poller started.",
        )
        for beat in self.snapshot.beats:
            alive.add_metric([beat.name, beat.role, beat.state.value], 1)
            if beat.role == "poller":
                errors.add_metric([], beat.pipe_errors)
        yield from (restarts, alive, errors)

    def _homes(self) -> Iterator[Metric]:
        labels = ["host", "home"]
        info = GaugeMetricFamily(
            "autopoll_home_info", "Homes that share the bridge.", labels=[*labels, "version"]
        )
        up = GaugeMetricFamily("autopoll_home_up", "Whether its poller lives.", labels=labels)
        age = GaugeMetricFamily(
            "autopoll_home_beat_age_seconds", "Since the last beat of its poller.", labels=labels
        )
        flight = GaugeMetricFamily(
            "autopoll_home_in_flight", "Questions that it is answering.", labels=labels
        )
        for each in self.snapshot.homes:
            names = [each.host, each.home]
            info.add_metric([*names, each.version], 1)
            up.add_metric(names, each.alive)
            age.add_metric(names, each.beat_age_ms / 1000)
            flight.add_metric(names, each.in_flight)
        yield from (info, up, age, flight)

    def _costs(self) -> Iterator[Metric]:
        tokens = CounterMetricFamily(
            "autopoll_tokens", "Tokens of models used.", labels=["shard", "kind"]
        )
        dollars = CounterMetricFamily(
            "autopoll_cost_dollars", "What models have cost, as far as told.", labels=["shard"]
        )
        for shard, spent in sorted(self.snapshot.spent.items()):
            tokens.add_metric([shard, "input"], spent.input_tokens)
            tokens.add_metric([shard, "output"], spent.output_tokens)
            tokens.add_metric([shard, "cached"], spent.cached_tokens)
            if spent.cost_usd is not None:
                dollars.add_metric([shard], spent.cost_usd)
        yield from (tokens, dollars)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus (operator)",
    response_class=Response,
    responses={
        200: {
            "description": "The text format; over a unix socket without a token.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **problems(),
    },
)
async def metrics(request: Request, access: BearerAccess) -> Response:
    """Return queue, latencies, attempts, restarts, pipe errors and costs."""
    hub: Hub = request.app.state.hub
    finished: FinishedQuestions = request.app.state.finished
    ended: EndedProcesses = request.app.state.ended
    if not is_private(request.scope):
        await access.call(UseCases.require_operator)
    await finished.catch_up(hub)
    text = await hub.call(lambda client: _written(client, finished, ended, hub.waiting))
    return Response(text, media_type=CONTENT_TYPE_PLAIN_1_0_0)


def _written(
    client: Client, finished: FinishedQuestions, ended: EndedProcesses, waiting: int
) -> bytes:
    snapshot = take_snapshot(client, ended, waiting)
    registry = CollectorRegistry()
    registry.register(_HomeCollector(list(client.config.shards), finished, snapshot))
    return generate_latest(registry)
