"""CPU time of whole sessions of secure aggregation, all sites and control in one process, one thread.

    cd benchmarks && python -m secagg
    cd benchmarks && python -m secagg --parameters 100000 --repetitions 3

Two cases: 10 sites whose vectors are added with and without masks; and 100 sites of which 10 drop out after they have
shared keys, the dearest moment: control takes off a mask of each of their neighbours. A site's time is all it computes
in a session, from its keys to the release of shares, encoding and hashing included; control's is all it computes,
adding the vectors up and decoding the sum included. Bytes are handed over in memory. Certificates of peers are verified
once and remembered; what that takes is a row of its own.

Then both modes side by side, over 10 and 100 sites of which none drop out: what a site, control and the helper compute,
and the bytes of their messages, beside vectors. Rows go to results/local/secagg.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from archipel.security.secagg import Assumptions
from secagg.federation import Federation, Spent
from secagg.helped import HELPER, Helped

RESULTS = Path(__file__).parent.parent / "results" / "local" / "secagg.json"
OVER_PLAIN_SECONDS, SITE_MILLISECONDS, CONTROL_SECONDS = 0.3, 30.0, 0.5
MILD = Assumptions(corrupt=0.05, dropout=0.10)


@dataclass(frozen=True)
class Row:
    """One figure."""

    name: str
    value: float
    unit: str
    goal: float | None = None

    def line(self) -> str:
        """Return the figure as it is printed."""
        met = "" if self.goal is None else "met" if self.value <= self.goal else "NOT met"
        verdict = f"   goal <= {self.goal}: {met}" if met else ""
        return f"{self.name:78}{self.value:10.3f} {self.unit}{verdict}"


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the rows."""
    wanted = _arguments().parse_args(words)
    rows = [*_few(wanted), *_many(wanted, MILD), *_many(wanted, Assumptions())]
    rows += [row for count in (10, 100) for kind in (Federation, Helped) for row in _mode(wanted, kind, count)]
    for row in rows:
        print(row.line())
    versions = {name: importlib.metadata.version(name) for name in ("archipel", "cryptography", "numpy")}
    versions |= {"python": platform.python_version()}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([vars(row) | {"versions": versions} for row in rows], indent=2) + "\n", "utf-8")
    print(f"rows written to benchmarks/results/local/{RESULTS.name}")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="secagg", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--parameters", type=int, default=1_000_000, help="values of an update")
    parser.add_argument("--repetitions", type=int, default=9, help="sessions of 10 sites; a third of them of 100")
    return parser


def _few(wanted: argparse.Namespace) -> list[Row]:
    """Ten sites, nobody drops out, with masks and without, in turn."""
    federation = Federation.drawn(10, wanted.parameters, MILD)
    federation.play(())
    secure, plain = [], []
    for _ in range(wanted.repetitions):
        plain.append(_timed(federation.add_in_the_open))
        spent = federation.play(())
        secure.append(sum(spent.sites.values()) + spent.control)
    what = f"10 x {wanted.parameters:,}"
    over = statistics.median(secure) - statistics.median(plain)
    return [
        Row(f"{what}: all sites and control, plain weighted sum in float64", statistics.median(plain), "CPU-s"),
        Row(f"{what}: all sites and control, secure", statistics.median(secure), "CPU-s"),
        Row(f"{what}: secure over plain", over, "CPU-s", OVER_PLAIN_SECONDS),
    ]


def _many(wanted: argparse.Namespace, assumptions: Assumptions) -> list[Row]:
    """A hundred sites, ten drop out with their shares held by their neighbours."""
    federation = Federation.drawn(100, wanted.parameters, assumptions)
    gone = federation.sites[::10]
    sessions = [federation.play(gone) for _ in range(max(3, wanted.repetitions // 3))]
    shape = federation.shape
    what = f"100 x {wanted.parameters:,}, k={shape.neighbours}, t={shape.threshold}, 10 drop out"
    site = statistics.median(_site_milliseconds(spent) for spent in sessions)
    control = statistics.median(spent.control for spent in sessions)
    certificates = 1e3 * _timed(federation.verify_certificates) * shape.neighbours / len(federation.sites)
    return [
        Row(f"{what}: a site", site, "CPU-ms", SITE_MILLISECONDS if assumptions is MILD else None),
        *(
            Row(f"{what}: a site, {step}", 1e3 * statistics.median(one.steps[step] for one in sessions), "CPU-ms")
            for step in sessions[0].steps
        ),
        Row(f"{what}: control", control, "CPU-s", CONTROL_SECONDS if assumptions is MILD else None),
        *(
            Row(f"{what}: control, {part}", statistics.median(one.parts[part] for one in sessions), "CPU-s")
            for part in sessions[0].parts
        ),
        Row(f"{what}: a site, to verify its neighbours' certificates, once", certificates, "CPU-ms"),
    ]


def _mode(wanted: argparse.Namespace, kind: type[Federation], count: int) -> list[Row]:
    """One mode, nobody drops out: CPU time and bytes of messages of each party."""
    federation = kind.drawn(count, wanted.parameters, Assumptions())
    sessions = [federation.play(()) for _ in range(max(3, wanted.repetitions // 3))]
    what = f"{count} x {wanted.parameters:,}, {'two-server' if kind is Helped else 'secagg'}"
    first, site = sessions[0], federation.sites[0]
    rows = [
        Row(f"{what}: a site", statistics.median(_site_milliseconds(spent) for spent in sessions), "CPU-ms"),
        Row(f"{what}: control", statistics.median(spent.control for spent in sessions), "CPU-s"),
        Row(f"{what}: a site says, beside its vector", first.sent[site] / 1e3, "kB"),
        Row(f"{what}: a site is told", first.received[site] / 1e3, "kB"),
    ]
    if kind is Helped:
        rows += [
            Row(f"{what}: the helper", statistics.median(spent.sites[HELPER] for spent in sessions), "CPU-s"),
            Row(f"{what}: the helper says, beside its vector", first.sent[HELPER] / 1e3, "kB"),
            Row(f"{what}: the helper is told", first.received[HELPER] / 1e3, "kB"),
        ]
    return rows


def _site_milliseconds(spent: Spent) -> float:
    finished = [seconds for site, seconds in spent.sites.items() if site not in spent.gone]
    return 1e3 * statistics.median(finished)


def _timed(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


if __name__ == "__main__":
    main()
