"""`archipel models` and `archipel predict`: what was made, and what it answers at a site."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archipel.cli import wording
from archipel.cli.asking import ask, in_words
from archipel.cli.planes import Control, Json, OperatorFile, State, connect
from archipel.spec import ModelVersion, ServedModel, SpecError, StateError, UnknownNameError, encode
from archipel.spec.views import SiteView


def models(
    name: Annotated[str | None, Parameter(help="Only versions of this model, with their lineage.")] = None,
    /,
    *,
    state: State = None,
    control: Control = None,
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Show registered models and where they came from."""
    with connect(state, control, operator) as client:
        found = client.models(name)
    if as_json:
        print(encode({"models": found}).decode())
        return
    console = Console()
    if not found:
        console.print("no models yet: `archipel run JOB` makes one", highlight=False)
        return
    console.print(_table(found))
    if name is not None:
        _show_lineage(found[0], console)


def predict(
    model: Annotated[str, Parameter(help="Name of the model.")],
    /,
    *,
    site: Annotated[str, Parameter(help="The site whose copy is asked; its endpoint is on its own loopback.")],
    question: Annotated[
        str,
        Parameter(
            name="--input",
            allow_leading_hyphen=True,
            help='JSON such as \'{"features": [[39.1, 18.7]]}\', @FILE, or "-" for stdin.',
        ),
    ],
    state: State = None,
    control: Control = None,
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Ask the model that a site serves, at the site's own endpoint (Open Inference Protocol v2)."""
    asked = _read_question(question)
    with connect(state, control, operator) as client:
        sites = client.sites()
    served = _served(sites, site, model)
    answer = ask(served.url, model, asked)
    if as_json:
        print(json.dumps(answer))
        return
    print(in_words(answer))
    Console(stderr=True).print(f"{model} version {served.version}, {served.copy} copy of {site}", style="dim")


def _read_question(text: str) -> dict[str, list[Any]]:
    if text.startswith("@"):
        path = Path(text[1:])
        if not path.is_file():
            raise SpecError(f"no file {path}", hint="--input @FILE names a JSON file")
        text = path.read_text(encoding="utf-8")
    elif text == "-":
        text = sys.stdin.read()
    hint = "such as --input '{\"features\": [[39.1, 18.7, 181, 3750]]}'"
    try:
        found = json.loads(text)
    except ValueError as error:
        raise SpecError(f"--input is not JSON: {error}", hint=hint) from error
    if not isinstance(found, dict) or not all(isinstance(value, list) for value in found.values()):
        raise SpecError("--input must be an object: input name → list of rows", hint=hint)
    return found


def _served(sites: tuple[SiteView, ...], site: str, model: str) -> ServedModel:
    found = next((item for item in sites if item.name == site), None)
    if found is None:
        raise UnknownNameError.of("site", site, [item.name for item in sites])
    names = [item.name for item in found.serving]
    served = next((item for item in found.serving if item.name == model), None)
    if served is None:
        if names:
            raise UnknownNameError.of(f"model at {site}:", model, names)
        raise StateError(
            f"{site} serves no model", hint="run a job with `serve` in [deployment]; see `archipel status`"
        )
    if not served.url:
        raise StateError(f"{site} serves {model} at no address yet", hint="ask again in a moment")
    return served


def _table(found: tuple[ModelVersion, ...]) -> Table:
    table = Table(
        "model", "version", "run", "figures", "size", "weights", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for item in found:
        figures = wording.figures(item.metrics)
        size = wording.size(item.weights.size_bytes)
        table.add_row(
            item.name, str(item.version), item.run, escape(figures) or "—", size, item.weights.digest[:19] + "…"
        )
    return table


def _show_lineage(model: ModelVersion, console: Console) -> None:
    console.print(f"\nversion {model.version} was made from", style="bold")
    lineage = model.lineage
    facts = {"job": lineage.job, "code": lineage.bundle, "weights": model.weights.digest}
    facts |= {f"data of {site}": digest for site, digest in sorted(lineage.datasets.items())}
    for name, digest in facts.items():
        console.print(f"  {name:<24} {digest}", highlight=False, soft_wrap=True)
    sites = sorted({site for cohort in lineage.participation for site in cohort})
    console.print(f"  {len(lineage.participation)} rounds over {', '.join(sites)}", highlight=False, soft_wrap=True)
