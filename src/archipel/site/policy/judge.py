"""Judge: a policy, what the site remembers and a task in; a verdict out.

    judge = Judge(read_policy(data, "policy.toml"), signers)
    judge.verdict(task, standing, now)        # Allowed() | Pending(waits="approval") | Refused(rule=…, message=…)

The order: is the task one that its job has and its run was begun with; may the job run here at all; has a person
approved it; is it time. So nobody is asked to approve what is refused anyway, and no clock hides a refusal.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from archipel.security.privacy.budget import Budget
from archipel.site.approvals import Standing, is_work
from archipel.site.policy.promise import judge_promise
from archipel.site.policy.proposal import budget_of, judge_proposal
from archipel.site.policy.verdict import Allowed, Pending, Refused, Verdict
from archipel.spec import Blob, Digest, JobSpec, RoundTask
from archipel.spec.policy import SitePolicy

Signers = Callable[[JobSpec, Blob], frozenset[Digest]]
MOST_WAITING = 100
"""Pairs of job and bundle that may wait for a decision; people do not read more."""
_MOST_FOUND = 1000
"""Pairs of which the finding is remembered: control can make up any number."""


class Judge:
    """Judges by one policy. It remembers what it found of a job, which takes a second where noise is accounted for."""

    def __init__(self, policy: SitePolicy, signers: Signers) -> None:
        """Judge by `policy`; `signers` reads who signed a job and a bundle, where the policy asks for that."""
        self.policy = policy
        self._signers = signers
        self._found: dict[tuple[str, str], Refused | None] = {}

    def verdict(self, task: RoundTask, standing: Standing, now: dt.datetime) -> Verdict:
        """Say whether a task may begin; `now` is of any time zone."""
        refused = (
            judge_promise(self.policy, task, standing) or self._of_proposal(task) or self._of_people(task, standing)
        )
        if refused is not None:
            return refused
        if self.policy.approve == "once" and standing.approval != "approved":
            return Pending(waits="approval")
        hours = self.policy.hours
        if hours is not None and is_work(task) and not hours.is_open(now):
            return Pending(waits="hours")
        return Allowed()

    def budget(self, dataset: str) -> Budget | None:
        """Return what all runs on a data set may cost together."""
        return budget_of(self.policy, dataset)

    def _of_proposal(self, task: RoundTask) -> Refused | None:
        key = (task.job.digest, task.bundle.digest)
        if key not in self._found:
            if len(self._found) >= _MOST_FOUND:
                self._found.clear()
            refused = judge_proposal(self.policy, task.job, task.bundle)
            self._found[key] = refused or self._of_signers(task)
        return self._found[key]

    def _of_signers(self, task: RoundTask) -> Refused | None:
        trusted = self.policy.work.signers
        if not trusted or self._signers(task.job, task.bundle).intersection(trusted):
            return None
        message = "nobody this site trusts has signed this job and its code"
        return Refused(rule="work.signers", message=message, hint="`archipel sign JOB`, and run it again")

    def _of_people(self, task: RoundTask, standing: Standing) -> Refused | None:
        if self.policy.approve != "once":
            return None
        if standing.approval == "refused":
            return Refused(rule="approve", message=f"a person at {task.site} refused this job")
        if standing.approval is None and standing.waiting >= MOST_WAITING:
            message = f"{standing.waiting} other jobs wait for a decision at {task.site}"
            return Refused(rule="approve", message=message, hint="try again when they are decided")
        return None
