"""Who may do what: one table of rights by roles. What stands in no line, nobody may.

Every address of the people's door names the right it needs. A right that a role has for its "own" is a data owner's,
for the sites it answers for.

Example:
    >>> require(Person(name="ana", role="viewer"), "sites.read")
    >>> require(Person(name="ana", role="viewer"), "runs.steer")
    Traceback (most recent call last):
    archipel.spec.errors.TrustError: ana is viewer here and may not stop or resume runs
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from archipel.spec import TrustError
from archipel.spec.people import Person, Role

Right = Literal[
    "self",
    "sites.read",
    "sites.invite",
    "sites.revoke",
    "runs.read",
    "runs.submit",
    "runs.steer",
    "reports.read",
    "models.read",
    "weights.read",
    "events.read",
    "audit.read",
    "people.read",
    "people.change",
]
Cell = Literal["yes", "own", "no"]
ROLES: tuple[Role, ...] = get_args(Role)


class Rule(NamedTuple):
    """A line of the table."""

    says: str
    """What one may, after "may not"."""
    cells: str
    """One word a role, in the order of ROLES."""


# fmt: off
TABLE: dict[Right, Rule] = {
    #                                                                viewer scientist operator owner auditor admin
    "self":          Rule("log out or change their own password",   "yes    yes       yes      yes   yes     yes"),
    "sites.read":    Rule("see sites",                              "yes    yes       yes      yes   yes     yes"),
    "sites.invite":  Rule("invite sites",                           "no     no        yes      no    no      yes"),
    "sites.revoke":  Rule("cut that site off",                      "no     no        yes      own   no      yes"),
    "runs.read":     Rule("see runs",                               "yes    yes       yes      yes   yes     yes"),
    "runs.submit":   Rule("plan jobs, upload code or start runs",   "no     yes       no       no    no      yes"),
    "runs.steer":    Rule("stop or resume runs",                    "no     yes       yes      no    no      yes"),
    "reports.read":  Rule("read reports",                           "no     yes       yes      yes   yes     yes"),
    "models.read":   Rule("see models",                             "yes    yes       yes      yes   yes     yes"),
    "weights.read":  Rule("download weights",                       "no     yes       no       no    no      yes"),
    "events.read":   Rule("read the log",                           "no     yes       yes      yes   yes     yes"),
    "audit.read":    Rule("verify the log",                         "no     no        yes      yes   yes     yes"),
    "people.read":   Rule("see accounts",                           "no     no        no       no    yes     yes"),
    "people.change": Rule("change accounts",                        "no     no        no       no    no      yes"),
}
# fmt: on


def cell(role: Role, right: Right) -> Cell:
    """Return what the table says."""
    found: Cell = TABLE[right].cells.split()[ROLES.index(role)]  # type: ignore[assignment]
    return found


def may(person: Person, right: Right, site: str | None = None) -> bool:
    """Say whether this person has the right; `site` is the one that a right for "own" sites is asked for."""
    found = cell(person.role, right)
    return found == "yes" or (found == "own" and site in person.sites)


def require(person: Person, right: Right | None, site: str | None = None) -> None:
    """Let pass whoever has the right; None, an address without one, is nobody's.

    Raises:
        TrustError: this person has not; the hint says who has.
    """
    if right is None:
        raise TrustError("this address names no right, so nobody may use it", hint="report it as a fault in archipel")
    if may(person, right, site):
        return
    able = [role for role in ROLES if cell(role, right) == "yes"]
    who = ", ".join(able[:-1]) + " and " + able[-1] if len(able) > 1 else able[0]
    least = min(able, key=_weight)
    hint = f"roles that may: {who}; ask one of them, or an admin for `archipel user role {person.name} {least}`"
    raise TrustError(f"{person.name} is {person.role} here and may not {TABLE[right].says}", hint=hint)


def _weight(role: Role) -> tuple[bool, int]:
    """Return how much a role is; one that needs sites named comes after all others."""
    cells = [cell(role, right) for right in TABLE]
    return "own" in cells, cells.count("yes")
