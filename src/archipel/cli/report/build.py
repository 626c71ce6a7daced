"""From what control reports, the pooled reference and the fleet's own clock to one Report.

Control has already turned the sites' sums into figures; here they are laid beside the reference, each site is told
whether joining paid, and what it disclosed is put in words. Nothing is rounded and nothing is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from archipel.cli.report.values import (
    VIEWS,
    WAYS,
    Comparison,
    Disclosure,
    Figures,
    Loss,
    Provenance,
    Report,
    SiteReport,
)
from archipel.spec import TaskError
from archipel.spec.views import Disclosure as Sent
from archipel.spec.views import RunReport, Scores
from archipel.spec.views import SiteReport as SiteScores
from archipel.tasks.metrics import is_lower_better

METRICS = ("auc", "accuracy", "entity_f1")
"""Figures a comparison can be led by: the first that was measured, but AUC only where there are two classes."""
SMALLEST_CLASS = 50
"""With fewer test rows than this in a class, a site's AUC says too little."""
NOISE = 0.002
"""A difference up to this counts as none; up to this share of the figure, where it is an error of any size."""
_WORDS = {
    ("check", "manifest"): "counts of rows, labels and bad rows",
    ("statistics", "sums"): "sums and counts over rows",
    ("initialise", "model"): "first weights, made from the seed",
    ("train", "delta"): "change of the model's weights",
    ("train", "control"): "change of the control variate",
    ("statistics", "masked"): "only the sum over sites, of sums and counts over rows",
    ("train", "masked"): "only the sum over sites, of the changes of the model's weights and of the losses",
    ("evaluate", "masked"): "only the sum over sites, of sums over test rows",
    ("statistics", "messages"): "secure aggregation: keys, sealed shares or seeds, signatures",
    ("train", "messages"): "secure aggregation: keys, sealed shares or seeds, signatures",
    ("evaluate", "messages"): "secure aggregation: keys, sealed shares or seeds, signatures",
    ("alone", "model"): "weights of the model trained alone, to be scored elsewhere",
    ("personalise", "model"): "weights of the personalised model, to be scored elsewhere",
    ("evaluate", "sums"): "sums over test rows: counts, log-loss, score histograms",
    ("export", "onnx"): "the common model as ONNX",
}


def build_report(
    run: RunReport,
    reference: Mapping[str, Any] | None,
    phases: Mapping[str, float],
    provenance: Provenance,
    *,
    finished_at: float,
    answers: Mapping[str, str] | None = None,
    question: Mapping[str, list[object]] | None = None,
    refusals: Mapping[str, str] | None = None,
) -> Report:
    """Lay everything side by side; `phases` are the fleet's own (prepare, start, …) and count towards `seconds`.

    `refusals` names why a site's work was not taken; it is shown for sites that scored nothing.
    """
    overall = {way: _comparison(run.overall.get(way)) for way in WAYS}
    sites = [_site(site, run, refusals or {}) for site in run.sites]
    if reference is not None:
        overall["pooled"] = read_reference(reference)
        pooled = reference.get("sites", {})
        sites = [_with(site, "pooled", pooled.get(site.name)) for site in sites]
    metric = _metric(overall, {label for site in run.sites for label in site.labels})
    said = answers or {}
    judged = tuple(_judge(site, metric, said.get(site.name, "")) for site in sites)
    up = sum(item.up_bytes for item in run.moved)
    down = sum(item.down_bytes for item in run.moved)
    return Report(
        job=run.run.job,
        run=run.run.id,
        state=run.run.state,
        finished_at=finished_at,
        metric=metric,
        overall=overall,
        sites=judged,
        seconds=sum(phases.values()),
        phases=dict(phases),
        bytes_moved=run.bytes_moved,
        bytes_up=up,
        bytes_down=down,
        rounds=run.rounds,
        model_name=run.run.job,
        model_version=run.run.model_version or 0,
        model_digest=run.model_digest or "",
        losses=tuple(Loss(round=number, loss=loss) for number, loss in enumerate(run.losses, 1) if loss is not None),
        breakdowns=run.breakdowns,
        privacy=run.privacy,
        secure=run.secure,
        grades=run.grades,
        question=dict(question or {}),
        small_sites=tuple(site.name for site in judged if site.verdict == TOO_SMALL),
        provenance=provenance,
    )


TOO_SMALL = "too small to tell"
NO_PART = "took no part"


def read_reference(reference: Mapping[str, Any]) -> Comparison:
    """Read what the job's reference returned: {"everyone": {…}, "own": {…}}, or one flat dict for both.

    The pooled model is one model, so both figures are the same where it gives one.
    """
    if any(view in reference for view in VIEWS):
        both = {view: _figures(reference.get(view) or {}) for view in VIEWS}
        return Comparison(everyone=both["everyone"] or both["own"], own=both["own"] or both["everyone"])
    flat = _figures(reference)
    if not flat:
        raise TaskError(
            "the reference returned no figure", hint='return {"accuracy": …, "log_loss": …} from [evaluation] reference'
        )
    return Comparison(everyone=flat, own=flat)


def _figures(found: Mapping[str, Any]) -> Figures:
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def _comparison(scores: Scores | None) -> Comparison:
    if scores is None:
        return Comparison()
    return Comparison(everyone=dict(scores.everyone or {}), own=dict(scores.own or {}))


def _metric(overall: Mapping[str, Comparison], labels: set[str]) -> str:
    found = overall["federated"].everyone or overall["federated"].own
    reference = overall["pooled"].everyone
    for metric in METRICS[len(labels) > 2 :]:
        if metric in found and (not reference or metric in reference):
            return metric
    return next((name for name in found if name not in {"examples", "log_loss"}), "accuracy")


def _site(site: SiteScores, run: RunReport, refusals: Mapping[str, str]) -> SiteReport:
    scores = {way: _comparison(found) for way, found in site.scores.items()}
    own = scores.get("federated", Comparison()).own
    smallest = own.get("smallest_class")
    return SiteReport(
        name=site.name,
        rows=site.rows,
        test_rows=site.test_rows,
        labels=site.labels,
        quarantined=sum(site.quarantined.values()),
        scores=scores,
        smallest_class=None if smallest is None else int(smallest),
        absent="" if site.test_rows else refusals.get(site.name, ""),
        disclosed=tuple(_disclosed(item for item in run.disclosures if item.site == site.name)),
    )


def _with(site: SiteReport, way: str, found: Mapping[str, Any] | None) -> SiteReport:
    if not found:
        return site
    from msgspec import structs

    return structs.replace(site, scores={**site.scores, way: read_reference(found)})


def _disclosed(sent: Iterable[Sent]) -> Iterable[Disclosure]:
    for item in sent:
        what = _WORDS.get((item.phase, item.part), item.part)
        if item.names and item.phase == "statistics":
            what += f": {', '.join(item.names)}"
        yield Disclosure(kind=f"{item.phase} {item.part}", what=what, times=item.times, size_bytes=item.total_bytes)


def _judge(site: SiteReport, metric: str, answer: str) -> SiteReport:
    """Say whether joining paid for the site: the model it serves against the one it would have had alone.

    A site serves its personalised copy where there is one. Taking the better of two on the rows that judge them would
    flatter whoever joined.
    """
    from msgspec import structs

    alone = site.scores.get("alone", Comparison()).own.get(metric)
    federated = site.scores.get("federated", Comparison()).own.get(metric)
    together = site.scores.get("personalised", Comparison()).own.get(metric, federated)
    if site.absent:
        return structs.replace(site, verdict=NO_PART)
    if metric == "auc" and site.smallest_class is not None and site.smallest_class < SMALLEST_CLASS:
        return structs.replace(site, verdict=TOO_SMALL, answer=answer)
    if alone is None or together is None:
        return structs.replace(site, verdict="not measured", answer=answer)
    gain, noise = (alone - together, NOISE * alone) if is_lower_better(metric) else (together - alone, NOISE)
    verdict = "same" if abs(gain) <= noise else "gained" if gain > 0 else "lost"
    return structs.replace(site, gain=gain, verdict=verdict, answer=answer)
