"""Pieces of a report as HTML: the page around them, a section, a table, a note; no script, no address outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path


def write(text: str, path: Path) -> None:
    """Write a page, whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def document(title: str, parts: Iterable[str]) -> str:
    """Return a page of parts, with its own style inside."""
    style = resources.files("archipel.cli.report").joinpath("page.css").read_text(encoding="utf-8")
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def header(over: str, title: str, facts: Iterable[tuple[str, str]]) -> str:
    """Return the head of a page: a line, the title, and tiles of (value, what it is)."""
    tiles = "".join(f"<li><b>{escape(value)}</b><span>{escape(words)}</span></li>" for value, words in facts)
    return f'<header><p class="over">{escape(over)}</p><h1>{escape(title)}</h1><ul class="tiles">{tiles}</ul></header>'


def section(title: str, body: str) -> str:
    """Return a section; nothing where it has no body."""
    return f"<section><h2>{escape(title)}</h2>\n{body}\n</section>" if body else ""


def note(words: str) -> str:
    """Return a remark; nothing for no words."""
    return f'<p class="note">{escape(words)}</p>' if words else ""


def pairs(facts: Mapping[str, str]) -> str:
    """Return names with their values."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return f"<dl>{items}</dl>"


def table(head: Sequence[str], rows: Iterable[tuple[Sequence[str], str]]) -> str:
    """Return a table of (cells, kind of the row); what follows a line break in a cell is set small."""
    heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f'<tr class="{escape(kind)}">' + "".join(f"<td>{_cell(cell)}</td>" for cell in cells) + "</tr>"
        for cells, kind in rows
    )
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str) -> str:
    first, _, aside = text.partition("\n")
    return escape(first) + (f"<small>{escape(aside)}</small>" if aside else "")
