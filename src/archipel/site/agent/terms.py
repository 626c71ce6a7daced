"""From a site's policy to the terms its sandbox keeps."""

from __future__ import annotations

from archipel.site.sandbox import Limits, Sandbox
from archipel.spec.policy import SitePolicy
from archipel.spec.quantities import Size

_DISK, _TMP = Size(8e9), Size(2e9)


def terms_of(policy: SitePolicy) -> Sandbox:
    """Return the terms on which the site runs tasks."""
    rules, limits = policy.sandbox, policy.limits
    return Sandbox(
        require=rules.require,
        caches=rules.caches,
        gpu=rules.gpu,
        limits=Limits(
            cores=limits.cores,
            memory_mb=None if limits.memory is None else _mb(limits.memory),
            processes=limits.processes,
            file_mb=_mb(limits.disk or _DISK),
            open_files=limits.open_files,
            tmp_mb=_mb(limits.tmp or _TMP),
        ),
    )


def _mb(size: Size) -> int:
    """Return whole megabytes, one at the least."""
    return max(1, round(size.value / 1e6))
