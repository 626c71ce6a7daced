"""Watching a run: live on a terminal; elsewhere a plain line for each phase, each closed round and the end.

    ended = watch(client, run.id, console, on_news=fleet.supervise)

What is shown: the phase and round, which sites have answered, the training loss, bytes moved, time spent. Watching
changes nothing: it can be broken off and taken up again at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from archipel.cli import wording
from archipel.cli.client import Client
from archipel.cli.interrupts import check
from archipel.spec import LinkError
from archipel.spec.views import RunProgress, SiteProgress

ENDED = ("finished", "failed", "stopped")
_PHASES = {
    "check": "checking the data",
    "statistics": "adding up statistics",
    "initialise": "making the first weights",
    "train": "training together",
    "alone": "training alone, for comparison",
    "personalise": "personalising",
    "evaluate": "scoring on held-out rows",
    "export": "exporting for serving",
}
_MARKS = {"done": "[green]●[/]", "working": "[yellow]◐[/]", "refused": "[red]✗[/]", "not asked": "[dim]·[/]"}
_SPARKS = "▁▂▃▄▅▆▇█"
_AGAIN_SECONDS = 0.2
_LONGEST_GAP_SECONDS = 60.0


Look = Callable[[RunProgress | None], None]


def watch(client: Client, run: str, console: Console, on_news: Look = lambda _: None) -> RunProgress:
    """Show the run until it ends, and return how it ended; `on_news` is told what each look saw, before the next."""
    progress = _look(client, run, None, on_news)
    if not console.is_terminal:
        return _watch_plainly(client, run, progress, console, on_news)
    with Live(draw(progress), console=console, refresh_per_second=8, transient=True) as live:
        while progress.run.state not in ENDED:
            progress = _look(client, run, progress, on_news)
            live.update(draw(progress))
    moved = wording.size(progress.up_bytes + progress.down_bytes)
    console.print(f"{describe(progress)}  {moved} moved", highlight=False, markup=False, soft_wrap=True)
    return progress


def _watch_plainly(client: Client, run: str, progress: RunProgress, console: Console, on_news: Look) -> RunProgress:
    lines = Lines()
    while True:
        moved = f"  {wording.size(progress.up_bytes + progress.down_bytes)} moved" if progress.step else ""
        for line in lines.news(describe(progress), progress.losses, progress.steps):
            console.print(f"{line}{moved}", highlight=False, markup=False, soft_wrap=True)
        if progress.run.state in ENDED:
            return progress
        progress = _look(client, run, progress, on_news)


def _look(client: Client, run: str, last: RunProgress | None, on_news: Look) -> RunProgress:
    """Ask where the run is; a control plane that is being restarted is asked again for a while."""
    since: float | None = None  # the first time nobody answered: a poll alone may take longer than the longest gap
    after = None if last is None else last.seq
    while True:
        check()
        try:
            on_news(last)
            return client.progress(run, after)
        except LinkError:
            since = time.monotonic() if since is None else since
            if time.monotonic() - since > _LONGEST_GAP_SECONDS:
                raise
            after = None
            time.sleep(_AGAIN_SECONDS)


def describe(progress: RunProgress) -> str:
    """Return one line on where the run is, which changes with its state and its phase only."""
    run = progress.run
    if run.state in ENDED:
        return f"{run.id}: {run.state}" + (f": {run.message}" if run.message else "")
    if run.state != "running" or progress.kind is None:
        return f"{run.id}: {run.state}" + (f": {run.message}" if run.message else "")
    waiting = "".join(f"; {site.site} {wording.standstill(site.waits)}" for site in progress.sites if site.waits)
    return describe_phase(progress.kind, len(progress.sites)) + waiting


def describe_phase(kind: str, sites: int) -> str:
    """Return the line on a phase that has begun, of a run or of a simulation."""
    return f"{_PHASES.get(kind, kind)}: {sites} sites"


class Lines:
    """What is new, as plain lines. Rounds that closed unseen between two looks get their line too."""

    def __init__(self) -> None:
        self._closed = 0
        self._standing = ""

    def news(self, standing: str, losses: Sequence[float | None], rounds: int) -> Iterator[str]:
        """Yield a line for each training round closed since the last look, then `standing` where it is new."""
        for number, loss in enumerate(losses[self._closed :], start=self._closed + 1):
            yield f"round {number} of {rounds}" + ("" if loss is None else f"  loss {loss:.4f}")
        self._closed = max(self._closed, len(losses))
        if standing and standing != self._standing:
            self._standing = standing
            yield standing


def draw(progress: RunProgress) -> Group:
    """Return the live picture of a run."""
    run = progress.run
    phase = _PHASES.get(progress.kind or "", run.state)
    losses = [loss for loss in progress.losses if loss is not None]
    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(phase, style="bold cyan"),
        ProgressBar(total=max(progress.steps, 1), completed=_completed(progress), width=28),
        Text(f"round {progress.step}/{progress.steps}" if progress.kind == "train" else ""),
        Text(f"loss {losses[-1]:.4f}" if losses else ""),
        Text(_spark(losses), style="magenta"),
    )
    answered = sum(site.status == "done" for site in progress.sites)
    moved = f"↑ {wording.size(progress.up_bytes)}  ↓ {wording.size(progress.down_bytes)}"
    facts = Text(f"{answered} of {len(progress.sites)} sites answered   {moved}   {wording.duration(progress.seconds)}")
    parts: list[Table | Text] = [head, _sites(progress.sites), facts]
    if run.message:
        parts.append(Text(f"{run.state}: {run.message}", style="yellow"))
    return Group(*parts)


def _completed(progress: RunProgress) -> int:
    if progress.kind in {"check", "statistics", "initialise", None}:
        return 0
    return max(progress.step - 1, 0) if progress.kind == "train" else progress.steps


def _sites(sites: tuple[SiteProgress, ...]) -> Text:
    parts = [f"{_MARKS[site.status]} {site.site}{_aside(site)}" for site in sites]
    return Text.from_markup("   ".join(parts))


def _aside(site: SiteProgress) -> str:
    if site.presence != "here":
        return f" [red]({site.presence})[/]"
    if site.waits:
        return f" [yellow]{wording.standstill(site.waits)}[/]"
    return f" [dim]{wording.share(site.done)}[/]" if site.status == "working" and site.done else ""


def _spark(losses: Sequence[float], width: int = 24) -> str:
    if len(losses) < 2:
        return ""
    shown = losses[-width:]
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(_SPARKS[min(int((loss - low) / span * len(_SPARKS)), len(_SPARKS) - 1)] for loss in shown)
