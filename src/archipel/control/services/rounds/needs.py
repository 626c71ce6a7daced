"""What a run still needs: which blobs must not be dropped yet, and facts gathered from its events for the registry.

    open      parts of updates that wait for the round's fold
    masked    the masked vectors of a secure sum, which wait over several rounds for theirs
    kept      what later rounds or the registry use: model, initial, state, statistics, sums, onnx, single models

Fed with the same events as the coordinator, live and when the journal is replayed.
"""

from __future__ import annotations

from archipel.federated.port import RoundFolded, RunEvent, UpdateAccepted
from archipel.federated.secure.opening import MASKED
from archipel.spec import Blob, DatasetManifest, Kind, Update

_ONE_EACH: frozenset[Kind] = frozenset({"alone", "personalise", "export"})


class Needs:
    """Blobs a run needs, by purpose."""

    def __init__(self, bundle: Blob) -> None:
        self.kept: dict[str, Blob] = {"bundle": bundle}
        self.open: set[str] = set()
        self.masked: dict[str, str] = {}
        """Site → digest of its vector."""
        self.datasets: dict[str, DatasetManifest] = {}
        self.previous: str | None = None
        """Digest of the weights before the last training round."""

    def note(self, event: RunEvent, kind: Kind | str) -> None:
        """Take in an event that the coordinator has taken; `kind` is that of the round which was open before it."""
        match event:
            case UpdateAccepted(update=update):
                self._note_update(update)
            case RoundFolded():
                self._note_fold(event, kind)
            case _:
                return

    def close_round(self) -> None:
        """A round is over: its updates are folded, or kept under their own purpose."""
        self.open.clear()

    def digests(self) -> set[str]:
        """Return everything that must stay."""
        return self.open | set(self.masked.values()) | {blob.digest for blob in self.kept.values()}

    def _note_update(self, update: Update) -> None:
        shared = {name: part.blob for name, part in update.parts.items() if part.shared}
        self.open.update(blob.digest for blob in shared.values())
        if MASKED in shared:
            self.masked[update.site] = shared[MASKED].digest
        if update.dataset is not None:
            self.datasets[update.site] = update.dataset
        if update.kind in _ONE_EACH:
            self.kept.update({f"{update.kind}/{update.site}/{name}": blob for name, blob in shared.items()})

    def _note_fold(self, event: RoundFolded, kind: Kind | str) -> None:
        self.masked.clear()
        if event.model is not None:
            if kind == "initialise":
                self.kept["initial"] = event.model
            else:
                self.previous = self.kept["model"].digest
            self.kept["model"] = event.model
        if event.state is not None:
            self.kept["state"] = event.state
        if event.sums is not None:
            name = "statistics" if kind == "statistics" else f"sums/{event.round}"
            self.kept[name] = event.sums
