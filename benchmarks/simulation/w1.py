"""Rounds over 1,000 clients, in parts of what centralised training of the same examples costs, and beside the peers.

Contenders take turns round by round; what counts is the median of CPU seconds without the first round. All begin with
the same weights and train the same batches in the same order, so all should come to the same accuracy. NVFLARE's
simulator has a process a client: it trains the first few clients of each cohort, its rounds are not interleaved, and
its figures are of one client's round: once with a process for each, once with fewer, as a population needs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from rounds.result import Row
from simulation.contenders import Workload, by_hand, central, executors
from simulation.costs import Cost, Turn, section, take_turns, typical
from simulation.examples import write_examples
from simulation.peer import Peers, nothing_lost
from simulation.report import row

GOALS = {"mlp": 0.25, "lr": 0.20, "cnn": 0.95, "gru": 1.0, "transformer": 1.0}
PEERS = {"mlp": ("pfl", "flower", "nvflare"), "lr": ("pfl", "flower"), "cnn": ("pfl", "flower")}
LESS_THAN = {("mlp", "pfl"): 6.0, ("mlp", "flower"): 35.0, ("cnn", "pfl"): 1.25}
"""How many times our best must be below a peer."""
NVFLARE_CLIENTS, NVFLARE_ROUNDS = 4, 5
NVFLARE = {"nvflare, 4 processes": 4, "nvflare, 2 processes": 2}


def measure(model: str, rounds: int, without: Sequence[str]) -> list[Row]:
    """Measure all contenders over one model."""
    title = f"{model}: CPU and wall seconds of a round, medians of {rounds - 1} without the first"
    with tempfile.TemporaryDirectory(prefix="archipel-bench-") as scratch, section(title):
        folder = Path(scratch)
        write_examples(model, folder / "examples")
        workload = Workload(model, folder / "examples", folder / "scratch", rounds)
        wanted = [peer for peer in PEERS.get(model, ()) if peer not in without]
        with Peers(folder / "peers") as peers:
            costs, accuracy = _in_turns(workload, rounds, peers, [peer for peer in wanted if peer != "nvflare"])
        for name in NVFLARE if "nvflare" in wanted else ():
            with nothing_lost():
                without_blanks = folder / f"nvflare-{NVFLARE[name]}"  # it splits its own command at them
                costs[name] = _alone(workload, without_blanks, NVFLARE[name])
        return _told(workload, costs, accuracy)


def _in_turns(
    workload: Workload, rounds: int, peers: Peers, names: Sequence[str]
) -> tuple[dict[str, list[Cost]], dict[str, float]]:
    turns: dict[str, Turn] = {"central": central(workload), "clients, by hand": by_hand(workload)}
    ours = executors(workload)
    turns |= {name: turn for name, (turn, _) in ours.items()}
    for name in names:
        with nothing_lost():
            turns[name] = peers.start(name, workload, rounds)
    costs = take_turns(turns, rounds)
    accuracy = {name: run.figures("test")["accuracy"] for name, (_, run) in ours.items()}
    return costs, accuracy | {name: peers.accuracy(name) for name in names if name in costs}


def _alone(workload: Workload, folder: Path, processes: int) -> list[Cost]:
    """Run NVFLARE from its start to its end, and return what a client's round cost."""
    with Peers(folder) as peers:
        turn = peers.start("nvflare", workload, NVFLARE_ROUNDS, NVFLARE_CLIENTS, processes)
        costs = [turn(step) for step in range(1, NVFLARE_ROUNDS)]
        peers.accuracy("nvflare")  # it has come to its end
    return [Cost(cpu=cost.cpu / NVFLARE_CLIENTS, wall=cost.wall / NVFLARE_CLIENTS) for cost in costs]


def _told(workload: Workload, costs: dict[str, list[Cost]], accuracy: dict[str, float]) -> list[Row]:
    model, limit = workload.name, typical(costs["central"]).cpu
    print(f"{'':22}{'CPU-s':>9}{'wall s':>9}{'x central':>11}{'accuracy':>10}")
    for name, taken in costs.items():
        spent = typical(taken)
        reached = f"{accuracy[name]:.3f}" if name in accuracy else ""
        of_what = " a client" if name in NVFLARE else ""
        print(f"{name:22}{spent.cpu:9.4f}{spent.wall:9.4f}{spent.cpu / limit:11.2f}{reached:>10}{of_what}")
    ours = [name for name in ("loop", "stacked", "compiled") if name in costs]
    best = min(ours, key=lambda name: typical(costs[name]).cpu)
    rows = []
    for name, taken in costs.items():
        spent = typical(taken)
        what = f"{model}: {name}, a client's round" if name in NVFLARE else f"{model}: {name}"
        rows.append(row(what, spent.cpu / limit, "x central", at_most=GOALS[model] if name == best else None))
        rows.append(row(f"{what}, CPU", spent.cpu, "CPU-s"))
        if name in accuracy:
            rows.append(row(f"{what}, accuracy", accuracy[name], "share"))
        if name in PEERS.get(model, ()) or name in NVFLARE:
            rows.append(row(f"{what}, the first", taken[0].cpu, "CPU-s"))
            whole = spent.cpu * (workload.cohort if name in NVFLARE else 1)
            times = whole / typical(costs[best]).cpu
            rows.append(row(f"{model}: {best} below {name}", times, "times", at_least=LESS_THAN.get((model, name))))
    return rows
