"""Gate: lets a task begin if the site's policy does; keeps what it said in the site's own log.

    await gate.admit(task, bring, hold)     returns once the work may begin; raises PolicyError if it may not

What decides is `archipel.site.policy`; here are the file, the journal and the clock. The file is read at the start
(where it is broken, the agent does not start) and again before each decision, so that a rule binds from when it is
written. One that cannot be read then lets nothing begin until it is mended. A policy that was in force and is gone is
such a one: whoever wants none leaves an empty file.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from archipel.data.bundle import LIMIT_BYTES
from archipel.data.signatures import signers_of
from archipel.data.stores.spool import Spool
from archipel.site.agent.terms import terms_of
from archipel.site.journal import Journal
from archipel.site.policy import Allowed, Judge, Pending, Refused
from archipel.site.sandbox import Guard, Sandbox, Walls, require_walls
from archipel.spec import (
    ArchipelError,
    Blob,
    Digest,
    Event,
    JobSpec,
    PolicyError,
    RoundTask,
    SpecError,
    StateError,
    TrustError,
    digest_of,
)
from archipel.spec.event import Level
from archipel.spec.policy import SitePolicy, read_policy
from archipel.spec.wire import Note, Waits

_IN_FORCE = "policy"
"""The journal's setting: digest of the policy that was read last."""
_LOOK_SECONDS = 0.5
"""Between two looks at what somebody may have decided, where a task waits for it."""
_MOST_BUNDLE_BYTES = 2 * LIMIT_BYTES
_LOG = logging.getLogger("archipel.site")
Bring = Callable[[Blob], Awaitable[None]]
Hold = Callable[[Waits], None]


class Gate:
    """The one way in for work; without a policy file everything passes that the privacy ledger lets pass."""

    def __init__(
        self,
        site: str,
        file: Path,
        *,
        journal: Journal,
        spool: Spool,
        walls: Walls,
        clock: Callable[[], float],
        note: Callable[[Note], None],
    ) -> None:
        """Read the policy in `file`; `clock` gives seconds since the Unix epoch, `note` tells control something.

        Raises:
            SpecError: it is not valid.
            StateError: it cannot be read, there was one and it is gone, or it asks for walls that are missing.
        """
        self._site = site
        self._file = file
        self._journal = journal
        self._spool = spool
        self._walls = walls
        self._clock = clock
        self._note = note
        self._judge: Judge | None = None
        self._turn = asyncio.Lock()
        self.in_force = ""
        """Digest of the policy that was read last; empty: there is none."""
        self.trouble: ArchipelError | None = None
        """Why the policy cannot be read now."""
        self._refresh()

    @property
    def guard(self) -> Guard:
        """How a worker that starts now is confined."""
        return Guard(Sandbox() if self._judge is None else terms_of(self._judge.policy), self._walls)

    @property
    def policy(self) -> SitePolicy | None:
        """The site's policy as it was read last; None: it has none."""
        return None if self._judge is None else self._judge.policy

    @property
    def least_sites(self) -> int:
        """Fewest sites in a round."""
        return 1 if self._judge is None else self._judge.policy.least_sites

    @property
    def peers(self) -> dict[str, Digest] | None:
        """Public keys of the only sites that secure sums may be with; None: of any."""
        return (None if self._judge is None else self._judge.policy.peers) or None

    def helper_pin(self, helper: str) -> Digest | None:
        """Return the only public key that is believed to be a helper's; None: any that is certified."""
        pin = None if self._judge is None else self._judge.policy.helpers.get(helper)
        return None if pin == "certified" else pin

    async def admit(self, task: RoundTask, bring: Bring, hold: Hold) -> None:
        """Return once the work may begin, also by the privacy ledger; `hold` is told what it waits for meanwhile.

        Raises:
            PolicyError: it may not.
            BudgetError: a data set's budget does not allow it.
        """
        waits: Waits = ""
        while True:
            async with self._turn:  # of two tasks of a new run, the second meets what the first was pinned to
                said = await asyncio.to_thread(self._decide, task)
            if said is None:
                await bring(_within_bounds(task.bundle))
                continue
            if said != waits:
                waits = said
                hold(waits)
                await self._tell(task, waits, bring)
            if not waits:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    def record(self, task: RoundTask, error: TrustError) -> None:
        """Write into the site's own log that a task was refused, and why."""
        said = {"kind": task.kind, "step": task.step, "error": type(error).__name__, "message": error.message}
        self._log("site.refused", "warning", task, **said)

    # ---- one look -------------------------------------------------------------------------------------------

    def _decide(self, task: RoundTask) -> Waits | None:
        """Let a task in, or return what it waits for; None: the rules take its bundle, which is not here."""
        try:
            judge, self.trouble = self._refresh(), None
        except (SpecError, StateError) as error:
            self.trouble = error
            return "policy"
        if judge is None:
            self._journal.ledger.admit(task)
            return ""
        if judge.policy.work.signers and not self._spool.has(task.bundle.digest):
            return None
        now = dt.datetime.fromtimestamp(self._clock(), dt.UTC)
        match judge.verdict(task, self._journal.approvals.standing(task), now):
            case Refused() as refused:
                raise refused.as_error()
            case Pending(waits=waits):
                return waits
            case Allowed():
                self._journal.ledger.admit(task, judge.budget(task.job.data.dataset))
                if self._journal.approvals.pin(task):
                    self._log("site.run.begun", "info", task, policy=self.in_force)
        return ""

    def _refresh(self) -> Judge | None:
        """Read the policy again where it is another one; None: there is none, and never was."""
        data = self._read()
        if data is None:
            return None
        digest = digest_of(data)
        if self._judge is None or digest != self.in_force:
            policy = read_policy(data, str(self._file))
            require_walls(terms_of(policy), self._walls)
            self._judge = Judge(policy, self._signers)
            self.in_force = digest
            if self._journal.setting(_IN_FORCE) != digest:
                self._log("site.policy.read", "info", policy=digest)
                self._journal.remember(_IN_FORCE, digest)
        return self._judge

    def _signers(self, job: JobSpec, bundle: Blob) -> frozenset[Digest]:
        return signers_of(bytes(self._spool.view(bundle.digest)), job)

    def _read(self) -> bytes | None:
        try:
            return self._file.read_bytes()
        except FileNotFoundError:
            if not self._journal.setting(_IN_FORCE):
                return None
            hint = "put it back; where no rule is wanted any more, let it be an empty file"
            raise StateError(f"{self._file} is gone, and this site had a policy", hint=hint) from None
        except OSError as error:
            hint = "let the account of the agent read it"
            raise StateError(f"{self._file} cannot be read: {error.strerror}", hint=hint) from error

    # ---- what is said about it ------------------------------------------------------------------------------

    async def _tell(self, task: RoundTask, waits: Waits, bring: Bring) -> None:
        """Say to control what a task waits for now, and put a new job before the site's people, with its code."""
        if not waits:
            return
        if waits == "approval":
            await bring(_within_bounds(task.bundle))
            asked = await asyncio.to_thread(self._journal.approvals.ask, task, self._clock())
            _LOG.info("run %s waits: archipel policy approve %s %s", task.run, self._file.parent, asked.name)
        elif self.trouble is not None:
            _LOG.error("nothing begins: %s; %s", self.trouble.message, self.trouble.hint)
        self._note(Note(what="site.waits", level="warning", run=task.run, detail={"for": waits}))

    def _log(self, what: str, level: Level, task: RoundTask | None = None, **detail: str | int) -> None:
        run = None
        if task is not None:
            run, detail = task.run, {"job": task.job.digest, "bundle": task.bundle.digest, **detail}
        actor = f"site/{self._site}"
        event = Event(
            at=self._clock(), what=what, actor=actor, level=level, run=run, site=self._site, detail={**detail}
        )
        self._journal.log(event)


def _within_bounds(bundle: Blob) -> Blob:
    """Return a bundle that is not too large to be brought before it is let in."""
    if bundle.size_bytes > _MOST_BUNDLE_BYTES:
        message = f"bundle: {bundle.size_bytes} bytes are more than a bundle has"
        raise PolicyError(message, hint="narrow `include` in [task]")
    return bundle
