"""Scores of a run, for its report, out of sums alone.

Scores come from the final evaluation's sums alone, which every site computed on its own test rows. For each kind of
model ("federated", "alone", "personalised"):

    everyone   site s: its model on everyone's rows (the sums of all sites, added).
               overall: the sites' figures, averaged by their test rows
    own        site s: its model on its own rows.
               overall: each row scored by its own site's model (the sites' own sums, added)

`everyone` is left out where a site's model was not shown to all the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.spec.views import Breakdown, Scores
from archipel.tasks.metrics import breakdowns, summarise

Sums = Mapping[str, npt.NDArray[Any]]
FEDERATED = "federated"
EXAMPLES = "examples"


class Tables:
    """Scores out of each site's sums: site → model → sums."""

    def __init__(self, sites: Mapping[str, Mapping[str, Sums]]) -> None:
        self._sites = dict(sorted(sites.items()))

    @classmethod
    def of(cls, evaluated: Mapping[str, Sums]) -> Tables:
        """Read each site's evaluation sums, whose keys are "MODEL|SUM"."""
        return cls({site: by_model(sums) for site, sums in evaluated.items()})

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of models that were scored."""
        return tuple(sorted({model.partition("/")[0] for models in self._sites.values() for model in models}))

    def test_rows(self, site: str) -> int:
        """Return how many rows a site scored its models on."""
        figures = [summarise(sums) for sums in self._sites.get(site, {}).values()]
        return int(figures[0].get(EXAMPLES, 0)) if figures else 0

    def at(self, site: str) -> dict[str, Scores]:
        """Return a site's scores, by kind of model."""
        found = {}
        for kind in self.kinds:
            own, everyone = self._own(site, kind), self._everyone(site, kind)
            if own is not None or everyone is not None:
                found[kind] = Scores(own=_figures(own), everyone=_figures(everyone))
        return found

    def overall(self) -> dict[str, Scores]:
        """Return the scores over all sites, by kind of model."""
        return {
            kind: Scores(own=_figures(self._all_own(kind)), everyone=self._mean_everyone(kind)) for kind in self.kinds
        }

    def breakdowns(self) -> tuple[Breakdown, ...]:
        """Class by class, of the federated model on everyone's rows."""
        sums = self._all_own(FEDERATED)
        return () if sums is None else breakdowns(sums)

    def _own(self, site: str, kind: str) -> Sums | None:
        return self._sites.get(site, {}).get(_model_of(kind, site))

    def _everyone(self, site: str, kind: str) -> Sums | None:
        name = _model_of(kind, site)
        parts = [models.get(name) for models in self._sites.values()]
        return added([part for part in parts if part is not None]) if all(part is not None for part in parts) else None

    def _all_own(self, kind: str) -> Sums | None:
        parts = [own for site in self._sites if (own := self._own(site, kind)) is not None]
        return added(parts) if parts else None

    def _mean_everyone(self, kind: str) -> dict[str, float] | None:
        weighted = [(self.test_rows(site), _figures(self._everyone(site, kind))) for site in self._sites]
        known = [(rows, figures) for rows, figures in weighted if figures is not None]
        total = sum(rows for rows, _ in known)
        if not total:
            return None
        names = sorted(set.intersection(*(set(figures) for _, figures in known)) - {EXAMPLES})
        means = {name: sum(rows * figures[name] for rows, figures in known) / total for name in names}
        return {EXAMPLES: float(max(figures.get(EXAMPLES, 0.0) for _, figures in known)), **means}


def overall_of(total: Mapping[str, Sums]) -> dict[str, Scores]:
    """Return the scores over all sites out of added sums by kind of model, where no site's own are known."""
    found = {}
    for kind, sums in sorted(total.items()):
        figures = summarise(sums)
        found[kind] = Scores(own=figures, everyone=figures if kind == FEDERATED else None)
    return found


def breakdowns_of(total: Mapping[str, Sums]) -> tuple[Breakdown, ...]:
    """Class by class, of the federated model, out of added sums by kind of model."""
    return breakdowns(total[FEDERATED]) if FEDERATED in total else ()


def by_model(sums: Sums) -> dict[str, Sums]:
    """Split "MODEL|SUM" keys."""
    found: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for key, value in sums.items():
        model, _, name = key.rpartition("|")
        found.setdefault(model, {})[name] = value
    return dict(found)


def added(parts: list[Sums]) -> Sums:
    """Add sums by name, in the order given."""
    total: dict[str, npt.NDArray[Any]] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total[name] + value if name in total else np.asarray(value, np.float64)
    return total


def _model_of(kind: str, site: str) -> str:
    return FEDERATED if kind == FEDERATED else f"{kind}/{site}"


def _figures(sums: Sums | None) -> dict[str, float] | None:
    return None if sums is None else summarise(sums)
