"""The sandbox around a site's worker: task code sees its data set, its own code and a private /tmp, and nothing else.

    guard = Guard(Sandbox(), survey())             # what the site wants, and what this machine has
    enclosure = guard.enclose(View(...))           # how the worker is started, and what it closes behind itself
    confine(enclosure.confinement)                 # in the worker, before it loads any task code

Three walls, each of which stands alone where another is missing: namespaces (bubblewrap), file rules (Landlock) and
a filter of system calls (seccomp). Resource limits hold in any case, on all processes together where there are control
groups. docs/concepts/sandbox.md says what each one stops.
"""

from archipel.site.sandbox.confine import confine
from archipel.site.sandbox.denial import NetworkDeniedError, denial_of
from archipel.site.sandbox.groups import Bounds, Group
from archipel.site.sandbox.guard import Enclosure, Guard, View
from archipel.site.sandbox.survey import Walls, require_walls, survey
from archipel.site.sandbox.terms import Confinement, Limits, Sandbox

__all__ = [
    "Bounds",
    "Confinement",
    "Enclosure",
    "Group",
    "Guard",
    "Limits",
    "NetworkDeniedError",
    "Sandbox",
    "View",
    "Walls",
    "confine",
    "denial_of",
    "require_walls",
    "survey",
]
