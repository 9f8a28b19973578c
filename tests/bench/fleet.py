"""What a fleet costs: 1, 100 and 1,000 idle ModelDeployments beside 20 in rollout, on one operator.

Run as `make bench-fleet`. API server, controllers and Prometheus are real; pods and routes are objects only, and one
exporter answers the scrapes of all pods, each as a target of its own with its own labels. Traffic flows
everywhere. Each row starts a new operator process on the fleet as it stands, waits for its first complete tick, lets
it settle, and measures over a window of whole steady intervals. Intervals are the operator's defaults.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx

from bench.ground import CANARY_PERCENT, FLOW_SCHEMA, Ground, keys
from bench.probe import Samples, cpu_seconds, machine, memory_mb, quantile
from lab import Lab
from lab.gobuild import KUBERNETES, PROMETHEUS
from lab.process import Child
from modeldeployment import __version__
from stand import ROOT, Stand

IN_ROLLOUT = 20
STEADY_SECONDS, STEADY_INTERVAL = 30.0, "30s"
"""ModelPolicy's steadyInterval, as by default; so is rollout.analysis.interval, 10 s."""
SCRAPE_INTERVAL = "15s"
POLL_SECONDS = 5.0
"""Between two readings of the operator's metrics: less than the shortest interval, so that each tick is seen alone."""
QUIET_PHASE = 24.0
"""Windows begin and end so many seconds after a multiple of the steady interval: no tick is under way."""
RAMP_SECONDS = 900.0
"""A thousand models are some 30,000 writes: two minutes of two cores, and more where others use them too."""
SAY_EVERY = 10.0
RAMP_INTERVAL = "10s"
"""steadyInterval while a fleet is being made: only to be there sooner."""
SETTLE_SECONDS = 8.0
COHORTS = ("steady", "trial")
OWN_SAMPLES = "&".join(
    f"name[]=modeldeployment_{name}"
    for name in (
        "tick_seconds_sum",
        "tick_seconds_count",
        "tick_models",
        "tick_timestamp_seconds",
        "tick_late_seconds_sum",
        "queries_total",
        "query_seconds_sum",
        "query_seconds_count",
        "api_requests_total",
        "errors_total",
        "decisions_total",
    )
)
"""Not the series of each model: reading those every few seconds would be a load of its own."""
SERVER_SAMPLES = ("apiserver_flowcontrol_dispatched_requests_total",)


@dataclass
class Row:
    """One size of the fleet. `models` are idle ones; `in_rollout` others come on top of them.

    Attributes:
        queries_per_tick: Prometheus queries of one look at a cohort (all models of one interval); the past is read
            once, beside the looks.
        tick_seconds_p50, tick_seconds_p99: of looks at the idle cohort; nearest rank.
        rss_mb: resident memory at the window's end (MiB).
        cpu_cores: CPU seconds a second in the window.
        api_requests_per_second: as the API server counted them, watches and Lease renewals included.
        seconds_to_first_tick: from the start of the process to the end of the look after which every model had its
            evidence, rollouts' replayed.
        details: what helps to understand the rest.
    """

    models: int
    in_rollout: int
    queries_per_tick: float
    tick_seconds_p50: float
    tick_seconds_p99: float
    rss_mb: float
    cpu_cores: float
    api_requests_per_second: float
    seconds_to_first_tick: float
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """Everything that is counted, at one moment."""

    at: float
    operator: Samples
    requests: float
    cpu: dict[str, float]


class Bench:
    """The fleet, its operator and its measurements."""

    def __init__(self, stand: Stand, ground: Ground, kubeconfig: Path) -> None:
        self._stand, self._ground, self._kubeconfig = stand, ground, kubeconfig
        self._idle = 0
        self._began = self._said = time.monotonic()

    def say(self, what: str) -> None:
        """Progress, with seconds since the start."""
        self._said = time.monotonic()
        print(f"[{time.monotonic() - self._began:5.0f} s] {what}", file=sys.stderr, flush=True)

    def grow(self, idle: int) -> None:
        """More idle models, until each serves and has evidence; the 20 rollouts come with the first."""
        first, self._idle = self._idle, idle
        began = time.monotonic()
        self._ground.look_every(RAMP_INTERVAL)
        if not first:
            self._start()
            busy = list(keys("busy", 0, IN_ROLLOUT))
            self._ground.create(busy)
            self._until("the models that will be in rollout serve", self._all_serve)
            self._ground.roll_out(busy, "2.0.0")
        self._ground.create(keys("idle", first, idle))
        self._until(f"{idle} idle models serve, {IN_ROLLOUT} are in rollout, all with evidence", self._grown)
        self._ground.look_every(STEADY_INTERVAL)
        self.say(f"{idle} idle and {IN_ROLLOUT} in rollout, after {time.monotonic() - began:.0f} s of ramp")

    def _all_serve(self) -> bool:
        return all(row["STATE"] == "RolloutComplete" for row in self._ground.table().values())

    def _grown(self) -> bool:
        rows = self._ground.table().values()
        idle = sum(row["STATE"] == "RolloutComplete" and row["HEALTH"] == "OK" for row in rows)
        canaries = sum(row["STATE"] == "CanaryRunning" and row["WEIGHT"] == str(CANARY_PERCENT) for row in rows)
        if time.monotonic() - self._said > SAY_EVERY:
            self.say(f"  {idle} of {self._idle} idle models serve and have evidence, {canaries} are in rollout")
        return (idle, canaries) == (self._idle, IN_ROLLOUT)

    def _until(self, what: str, check: Callable[[], bool], seconds: float = RAMP_SECONDS) -> None:
        self._stand.lab.wait_until(what, lambda: _slowly(check), seconds)

    def _start(self) -> Child:
        return self._stand.operator("operator", kubeconfig=self._kubeconfig, lease_seconds=15)

    def measure(self, seconds: float) -> Row:
        """A new operator process on the fleet as it stands."""
        self._stand.lab.process("operator").stop(grace_seconds=20)
        started = time.time()
        operator = self._start()
        first_tick = self._first_tick(started)
        self.say(f"first complete tick after {first_tick:.1f} s")
        at_first = self._read(operator)
        time.sleep(_until_phase(time.time() + SETTLE_SECONDS))
        before = self._read(operator)
        ticks, samples = self._watch_ticks(before, seconds)
        after = self._read(operator)
        return self._row(operator, before, after, ticks, samples, first_tick, at_first)

    def _first_tick(self, started: float) -> float:
        total = self._idle + IN_ROLLOUT
        deadline = time.monotonic() + RAMP_SECONDS
        while time.monotonic() < deadline:
            time.sleep(0.5)
            try:
                samples = self._own()
            except httpx.HTTPError:
                continue
            if samples.sum("modeldeployment_tick_models") == total:
                return max(t for _, t in samples.series["modeldeployment_tick_timestamp_seconds"]) - started
        raise AssertionError(f"no tick with evidence of all {total} models within {RAMP_SECONDS:g} s")

    def _own(self) -> Samples:
        return Samples.parse(self._stand.probe(f"/metrics?{OWN_SAMPLES}").text)

    def _read(self, operator: Child) -> Reading:
        lab = self._stand.lab
        token = lab.control_plane.tokens["admin"]
        url, authority = f"{lab.control_plane.url}/metrics", str(lab.control_plane.ca_file)
        with httpx.Client(verify=_trusting(authority), headers={"Authorization": f"Bearer {token}"}) as client:
            server = Samples.parse(client.get(url, timeout=30).text, *SERVER_SAMPLES)
        processes = {
            "operator": operator,
            "prometheus": lab.process("prometheus"),
            "kube-apiserver": lab.control_plane.apiserver,
        }
        return Reading(
            time.time(),
            self._own(),
            server.sum(SERVER_SAMPLES[0], flow_schema=FLOW_SCHEMA),
            {name: cpu_seconds(child.pid) for name, child in processes.items()},
        )

    def _watch_ticks(self, before: Reading, seconds: float) -> tuple[dict[str, list[float]], list[Samples]]:
        """How long each tick took that ended in the window, by cohort: the difference of two readings' sums."""
        ticks: dict[str, list[float]] = {cohort: [] for cohort in COHORTS}
        samples = [before.operator]
        while (left := before.at + seconds - time.time()) > 0:
            time.sleep(min(left, POLL_SECONDS))
            samples.append(self._own())
            for cohort in COHORTS:
                took, count = (
                    samples[-1].sum(f"modeldeployment_tick_seconds_{part}", cohort=cohort)
                    - samples[-2].sum(f"modeldeployment_tick_seconds_{part}", cohort=cohort)
                    for part in ("sum", "count")
                )
                if count > 1:
                    raise AssertionError(f"{count:g} ticks of cohort {cohort} within {POLL_SECONDS:g} s")
                if count:
                    ticks[cohort].append(took)
        return ticks, samples

    def _row(
        self,
        operator: Child,
        before: Reading,
        after: Reading,
        ticks: dict[str, list[float]],
        samples: Sequence[Samples],
        first_tick: float,
        at_first: Reading,
    ) -> Row:
        lasted = after.at - before.at
        cores = {name: round((after.cpu[name] - before.cpu[name]) / lasted, 3) for name in after.cpu}
        queries = _gained(before.operator, after.operator, "modeldeployment_queries_total", "purpose", "outcome")
        requests = ("modeldeployment_api_requests_total", "verb", "resource", "code")
        count = sum(map(len, ticks.values()))
        late = [samples[i].sum("modeldeployment_tick_late_seconds_sum") for i in (0, -1)]
        return Row(
            models=self._idle,
            in_rollout=IN_ROLLOUT,
            queries_per_tick=round(sum(n for of, n in queries.items() if not of.startswith("past")) / count, 3),
            tick_seconds_p50=round(quantile(ticks["steady"], 0.5), 3),
            tick_seconds_p99=round(quantile(ticks["steady"], 0.99), 3),
            rss_mb=round(memory_mb(operator.pid), 1),
            cpu_cores=cores["operator"],
            api_requests_per_second=round((after.requests - before.requests) / lasted, 3),
            seconds_to_first_tick=round(first_tick, 2),
            details={
                "window_seconds": round(lasted, 1),
                "ticks": {cohort: len(of) for cohort, of in ticks.items()},
                "tick_seconds": {cohort: [round(t, 3) for t in of] for cohort, of in ticks.items()},
                "mean_late_seconds": round((late[1] - late[0]) / count, 3),
                "queries": queries,
                "query_seconds_mean": _mean(before.operator, after.operator, "modeldeployment_query_seconds"),
                "api_requests": _gained(before.operator, after.operator, *requests),
                "api_requests_to_first_tick": at_first.operator.by(*requests),
                "errors": _gained(before.operator, after.operator, "modeldeployment_errors_total", "kind"),
                "decisions": _gained(before.operator, after.operator, "modeldeployment_decisions_total", "effect"),
                "rss_peak_mb": round(memory_mb(operator.pid, "VmHWM"), 1),
                "cpu_seconds_to_first_tick": round(at_first.cpu["operator"], 2),
                "cpu_cores": cores,
            },
        )


def _slowly(check: Callable[[], bool]) -> bool:
    """The check, and a pause: a list of the whole fleet is not free."""
    if check():
        return True
    time.sleep(2)
    return False


def _gained(before: Samples, after: Samples, name: str, *labels: str) -> dict[str, float]:
    old = before.by(name, *labels)
    gains = {key: value - old.get(key, 0.0) for key, value in after.by(name, *labels).items()}
    return {key: gain for key, gain in gains.items() if gain}


def _mean(before: Samples, after: Samples, histogram: str) -> float:
    took, count = (after.sum(f"{histogram}_{part}") - before.sum(f"{histogram}_{part}") for part in ("sum", "count"))
    return round(took / count, 4) if count else 0.0


def _until_phase(not_before: float) -> float:
    """Seconds from now until the first quiet moment after a time."""
    turns = -(-(not_before - QUIET_PHASE) // STEADY_SECONDS)
    return max(0.0, turns * STEADY_SECONDS + QUIET_PHASE - time.time())


def _trusting(authority: str) -> Any:
    import ssl

    return ssl.create_default_context(cafile=authority)


def versions() -> dict[str, str]:
    """Of everything that a figure depends on."""
    packages = ("kopf", "kubernetes", "aiohttp", "httpx", "pydantic", "numpy", "prometheus-client")
    return {
        "modeldeployment": __version__,
        "python": platform.python_version(),
        "kubernetes (server)": KUBERNETES,
        "prometheus": PROMETHEUS,
        **{name: metadata.version(name) for name in packages},
    }


def table(rows: Sequence[Row]) -> str:
    """The rows as a person reads them."""
    columns = [name for name in Row.__dataclass_fields__ if name != "details"]
    lines = [columns, *([f"{getattr(row, name):g}" for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def main() -> int:
    """Runs the bench; 1 when the number of queries depends on the number of models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, nargs="+", default=[1, 100, 1000], help="idle models, row by row")
    parser.add_argument("--window", type=float, default=90.0, help="seconds of each measurement, a multiple of 30")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench-fleet.json")
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "versions": versions(), "seed": options.seed, "rows": []}
    rows: list[Row] = []
    lab = Lab(gateway=False, scrape_interval=SCRAPE_INTERVAL)
    with Stand(lab, steady_interval=STEADY_INTERVAL, stale_after="1m") as stand:
        ground = Ground(stand, seed=options.seed, scrape_interval=SCRAPE_INTERVAL)
        bench = Bench(stand, ground, ground.prepare())
        for models in sorted(options.models):
            bench.grow(models)
            rows.append(bench.measure(options.window))
            bench.say(json.dumps(asdict(rows[-1])))
    report["rows"] = [asdict(row) for row in rows]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(table(rows))
    print(f"\nmodels: idle ones; {IN_ROLLOUT} more are in rollout. Written: {options.output}")
    return 0 if len({row.queries_per_tick for row in rows}) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
