"""The terms on which a site runs tasks, kept in its journal: given once, they hold until others are given."""

from __future__ import annotations

from archipel.site.journal import Journal
from archipel.site.sandbox.terms import Sandbox
from archipel.spec import decode, encode

_SETTING = "sandbox"


def keep_terms(journal: Journal, sandbox: Sandbox) -> None:
    """Let the site run tasks on these terms from its next start on."""
    journal.remember(_SETTING, encode(sandbox).decode())


def kept_terms(journal: Journal) -> Sandbox:
    """Return the terms the site was last given."""
    kept = journal.setting(_SETTING)
    return Sandbox() if kept is None else decode(kept.encode(), Sandbox)
