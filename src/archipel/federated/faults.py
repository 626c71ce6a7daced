"""What is wrong with an update as far as its description shows; each fault is a Refusal in the site's name."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from archipel.federated.port import Algorithm
from archipel.federated.stages import FOLDED, Stage
from archipel.spec import Kind, Part, Refusal, Update

PARTS: dict[Kind, tuple[str, ...]] = {
    "check": (),
    "statistics": ("sums",),
    "initialise": ("model",),
    "alone": ("model",),
    "personalise": ("model",),
    "evaluate": ("sums",),
    "export": ("onnx",),
}
"""Parts an update must have (train: those the algorithm names)."""
MOST_WEIGHT = 2.0**53
"""A weight counts rows: up to here every count has its own number, and no sum of weights overflows."""
_SAME_VERSION = "run the same archipel version at the site and in control"
_SAME_MODEL = "let the model's shapes depend on the job and the statistics only"


def fault_of(update: Update, stage: Stage, algorithm: Algorithm, manifest: str | None) -> Refusal | None:
    """Return what makes `update` unusable in `stage`, or None; `manifest` is the digest of the model's."""
    wanted = (*algorithm.weighted, *algorithm.uniform) if stage.kind == "train" else PARTS[stage.kind]
    missing = [name for name in wanted if name not in update.parts]
    if missing:
        return _refusal(update, "TaskError", f"{update.site} sent no part {missing[0]!r}", _SAME_VERSION)
    if not math.isfinite(update.weight):
        return _refusal(update, "NonFiniteError", f"the weight of {update.site} is not finite", _SAME_VERSION)
    if update.weight > MOST_WEIGHT:
        message = f"the weight of {update.site} is {update.weight:g}: a weight is a number of rows, 2**53 at the most"
        return _refusal(update, "TaskError", message, _SAME_VERSION)
    private = [name for name in wanted if stage.kind in FOLDED and not update.parts[name].shared]
    if private:
        message = f"{update.site} kept part {private[0]!r} to itself"
        return _refusal(update, "TaskError", message, "let the site's policy share it")
    if stage.kind == "train" and _shapes(update.parts["delta"]) != manifest:
        return _refusal(
            update, "ShapeError", f"the delta of {update.site} has other shapes than the model", _SAME_MODEL
        )
    return None


def odd_models(answered: Mapping[str, Update]) -> list[Refusal]:
    """Refuse, by name, every site whose first model is shaped otherwise than most (a tie: than the first by name)."""
    kinds = {site: answered[site].parts["model"].manifest for site in sorted(answered)}
    if not kinds:
        return []
    [(usual, _)] = Counter(kinds.values()).most_common(1)
    message = "{} built a model of other shapes than most sites"
    odd = [site for site, manifest in kinds.items() if manifest != usual]
    return [_refusal(answered[site], "ShapeError", message.format(site), _SAME_MODEL) for site in odd]


def _shapes(part: Part) -> str | None:
    return part.stands_for or part.manifest


def _refusal(update: Update, error: str, message: str, hint: str) -> Refusal:
    return Refusal(run=update.run, round=update.round, site=update.site, error=error, message=message, hint=hint)
