"""A site's part in secure aggregation: its plain answers stay here, and what it says in each leg is made of them.

    compute     the worker does the task; `prepare` keeps the answer and says only what its vector will hold
    the others  `speak` lets the site's session take its next step; with a helper, see `helped`

The rules it keeps:
  1. What a step leads to is stored before the step's answer is returned; so is the abort of a session.
  2. The terms must be about the very sum that was computed: its run, its number, the model it began from, its fields.
     The number is that of the sum, whatever round it is asked in: shares are released once for a sum.
  3. In a run that has secure aggregation, nothing that can be summed is answered in plain.

It runs in the agent, which has the site's key, and never in the process that runs a job's code.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from archipel.federated.secure.legs import LEAST_SITES, SECURED, is_secure, number_of
from archipel.federated.secure.opening import CORRECTION, MASKED
from archipel.federated.secure.shared_noise import SharedNoise
from archipel.federated.secure.vector import (
    Prepared,
    encode_answer,
    fields_of,
    manifest_of_sums,
    require_in_range,
)
from archipel.security import PrivateKey, key_digest
from archipel.security.privacy import NoiseStream, require_private_fit
from archipel.security.secagg import Identity, Layout, Membership, Policy, SiteSession, Trust
from archipel.security.two_server import Seat
from archipel.site.worker.helped import Helped
from archipel.site.worker.noise import sum_secret
from archipel.site.worker.sum_memory import Plain, Secrets, require_about, store_vector
from archipel.site.worker.weights import Blobs, open_arrays, open_tensors, open_weights
from archipel.spec import (
    Blob,
    Digest,
    Part,
    RoundTask,
    SecureAggregationError,
    SpecError,
    StateError,
    TrustError,
    Update,
    decode,
    encode,
    failpoint,
)

Array = npt.NDArray[Any]


class SecureSite:
    """One site; `speak` and `prepare` do not overlap for one run."""

    def __init__(  # noqa: PLR0917 - what a site is
        self,
        site: str,
        key: PrivateKey,
        certificate: Callable[[], str],
        authority: str,
        secrets: Secrets,
        blobs: Blobs,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes] = os.urandom,
        least_sites: Callable[[], int] = lambda: LEAST_SITES,
        peers: Callable[[], Mapping[str, Digest] | None] = lambda: None,
        helper_pin: Callable[[str], Digest | None] = lambda _: None,
        *,
        noise_key: Path,
    ) -> None:
        """Be a site under `authority` (PEM), with its present certificate (PEM) for `key`.

        `clock` gives seconds since the Unix epoch, `entropy` so many random bytes. `least_sites` is what the site's
        policy asks for; a sum of fewer than 3 is refused in any case. `peers` are digests of public keys, as the policy
        names them: of the only sites a sum may be with; `helper_pin` gives that of a helper. `noise_key` is the file of
        the secret that its shares of noise follow from, made when first needed.
        """
        self._site = site
        self._key = key
        self._certificate = certificate
        self._authority = authority
        self._peers = peers
        self._helper_pin = helper_pin
        self._believed: dict[str, tuple[Mapping[str, Digest] | None, Trust]] = {}
        self._helped = Helped(secrets, blobs, entropy)
        self._secrets = secrets
        self._blobs = blobs
        self._clock = clock
        self._entropy = entropy
        self._least_sites = least_sites
        self._noise_key = noise_key

    def require_allowed(self, task: RoundTask) -> None:
        """Refuse a task that asks in plain for what is only to be added up.

        Raises:
            TrustError: it does.
        """
        secured = task.kind in SECURED
        hint = "nothing was sent; ask control's operator why it asks"
        if task.leg is None and secured and is_secure(task.job):
            raise TrustError(f"{task.kind} is asked in plain in a job with secure aggregation", hint=hint)
        if task.leg is None and secured and self._secrets.history(task.run).sessions:
            raise TrustError(f"{task.kind} is asked in plain in a run that had secure aggregation", hint=hint)
        if task.leg is not None and not (secured and is_secure(task.job)):
            raise TrustError(f"{task.kind} of this job is no secure sum", hint=hint)

    def prepare(self, task: RoundTask, update: Update) -> tuple[Update, set[str]]:
        """Keep a computed answer; return what is said of it, and the blobs that nothing needs any more.

        Raises:
            SpecError, NonFiniteError: it cannot be added up under the job's [privacy].
        """
        if task.kind == "train":
            delta = update.parts["delta"]
            manifest, _ = open_tensors(self._blobs, delta.blob)
            require_in_range(open_weights(self._blobs, delta.blob).vector, task.job)
            parameters = sum(tensor.count for tensor in manifest.tensors)
            about: dict[str, Any] = {"manifest": manifest.digest, "parameters": parameters}
        else:
            about = {}
        certificate = self._certificate()
        sums = manifest_of_sums(self._sums(update))
        prepared = Prepared(certificate=certificate, sums=sums, **about)
        plain = Plain(
            update=update, certificate=certificate, subject=_subject(task).digest, fields=fields_of(task.job, prepared)
        )
        blobs = frozenset(part.blob.digest for part in update.parts.values())
        dropped = self._secrets.keep_plain(task.run, number_of(task.kind, task.step), encode(plain), blobs)
        failpoint("site.leg.compute")
        return _said(task, encode(prepared), seconds=update.seconds), dropped

    def speak(self, task: RoundTask) -> tuple[Update, set[str]]:
        """Take the session's next step; return what the site says, and the blobs that nothing needs any more.

        Raises:
            SecureAggregationError: the session is aborted, for a reason named first; nothing more is said in it.
            StateError: the answer, the session or the masked vector is not here any more.
        """
        self.require_allowed(task)
        if task.job.privacy.helper == self._site:
            message, vector, dropped = self._helped.help(task, self._seat(self._certificate(), None))
            return _said(task, message, CORRECTION, vector), dropped
        kept = self._secrets.plain(task.run, number_of(task.kind, task.step))
        if kept is None:
            raise StateError(f"{self._site} has computed nothing to add", hint="resume the run: it is asked again")
        plain = decode(kept, Plain)
        if task.job.privacy.helper is None:
            message, vector = self._stepped(task, plain)
        else:
            seat = self._seat(plain.certificate, task.job.privacy.helper)
            message, vector = self._helped.answer(task, seat, plain, partial(self._values, task, plain))
        return _said(task, message, MASKED, vector if task.leg == "mask" else None), set()

    def _stepped(self, task: RoundTask, plain: Plain) -> tuple[bytes, Blob | None]:
        if task.leg == "advertise":
            session, vector = self._joined(task, plain)
        else:
            session, vector = self._restored(task, plain)
        try:
            message, vector = self._step(task, session, plain, vector)
        finally:
            self._keep(session, vector)
        return message, vector

    # ---- one step -------------------------------------------------------------------------------------------

    def _step(
        self, task: RoundTask, session: SiteSession, plain: Plain, vector: Blob | None
    ) -> tuple[bytes, Blob | None]:
        match task.leg:
            case "advertise":
                failpoint("site.leg.advertise")
                return session.advertise(), vector
            case "share":
                failpoint("site.leg.share")
                return session.share(task.message), vector
            case "mask":
                session.receive(task.message)
                return self._masked(task, session, plain, vector)
            case "consent":
                failpoint("site.leg.consent")
                return session.consent(task.message), vector
            case "release":
                history = self._secrets.history(task.run)
                failpoint("site.leg.release")
                return session.release(task.message, history=history), vector
        raise SpecError(
            f"a leg nobody knows: {task.leg}", hint="run the same archipel version at the site and in control"
        )

    def _masked(
        self, task: RoundTask, session: SiteSession, plain: Plain, vector: Blob | None
    ) -> tuple[bytes, Blob | None]:
        before = session.reply("mask")
        if before is not None and vector is not None:
            self._blobs.require(vector.digest)
            return before, vector
        values, weight = self._values(task, plain, session.terms.layout, session.terms.shape.quorum)
        message, words = session.mask(values, weight=weight)
        blob = store_vector(self._blobs, task, words)
        failpoint("site.leg.mask")
        return message, blob

    def _values(self, task: RoundTask, plain: Plain, layout: Layout, least: int) -> tuple[dict[str, Array], float]:
        """Return what the site adds to a sum that can be opened over `least` sites."""
        update = noise = None
        if task.kind == "train":
            update = open_weights(self._blobs, plain.update.parts["delta"].blob).vector
            noise = self._noise(task, least)
        return encode_answer(layout, update, self._sums(plain.update), _weight_of(task, plain.update), noise)

    def _noise(self, task: RoundTask, least: int) -> SharedNoise | None:
        privacy = task.job.privacy.distributed
        if privacy is None:
            return None
        require_private_fit(task.job)
        secret = sum_secret(self._noise_key, task, number_of(task.kind, task.step))
        return SharedNoise.of(privacy, least, NoiseStream(secret, "update"))

    def _sums(self, update: Update) -> dict[str, Array]:
        if update.kind == "train":
            return {name: np.float64(value) for name, value in update.metrics.items()}  # type: ignore[misc]
        return open_arrays(self._blobs, update.parts["sums"].blob)

    # ---- the session ----------------------------------------------------------------------------------------

    def _member(self, certificate: str) -> Membership:
        now = dt.datetime.fromtimestamp(self._clock(), dt.UTC)
        identity = Identity(self._key, certificate)
        policy = Policy(min_sites=max(LEAST_SITES, self._least_sites()))
        return Membership(self._site, identity, self._trust(None), policy, now)

    def _seat(self, certificate: str, helper: str | None) -> Seat:
        """Return who this site is in a sum with a helper; None: it is the helper."""
        return Seat(
            site=self._site,
            identity=Identity(self._key, certificate),
            trust=self._trust(helper),
            now=dt.datetime.fromtimestamp(self._clock(), dt.UTC),
            least_sites=max(LEAST_SITES, self._least_sites()),
            peers=self._pins(None),
        )

    def _pins(self, helper: str | None) -> Mapping[str, Digest] | None:
        """Return the only keys that are believed, of sites or of a helper; None: all that the authority certifies."""
        if helper is not None:
            pin = self._helper_pin(helper)
            return None if pin is None else {helper: pin}
        peers = self._peers()
        return None if peers is None else {**peers, self._site: key_digest(self._key.public_key())}

    def _trust(self, helper: str | None) -> Trust:
        """Return who is believed: kept for as long as the policy says the same, for it remembers what it verified."""
        pins = self._pins(helper)
        kept = self._believed.get(helper or "")
        if kept is None or kept[0] != pins:
            kept = self._believed[helper or ""] = (pins, Trust(self._authority, pins=pins))
        return kept[1]

    def _joined(self, task: RoundTask, plain: Plain) -> tuple[SiteSession, Blob | None]:
        member, number = self._member(plain.certificate), number_of(task.kind, task.step)
        known = self._secrets.session(task.run, number)
        if known is not None:
            session = SiteSession.restore(known[0], member)
            if encode(session.terms) == task.message:
                return session, known[1]
        history = self._secrets.history(task.run)
        session = SiteSession.join(task.message, member=member, history=history, entropy=self._entropy(32))
        require_about(session.terms, task, plain)
        return session, None

    def _restored(self, task: RoundTask, plain: Plain) -> tuple[SiteSession, Blob | None]:
        known = self._secrets.session(task.run, number_of(task.kind, task.step))
        if known is None:
            raise SecureAggregationError(
                f"out-of-order: {task.leg} is asked, and this site joined no session", hint="resume the run"
            )
        return SiteSession.restore(known[0], self._member(plain.certificate)), known[1]

    def _keep(self, session: SiteSession, vector: Blob | None) -> None:
        terms = session.terms
        history = session.remembered(self._secrets.history(terms.run))
        self._secrets.keep_session(terms.run, terms.round, session.state(), vector, history)


def _subject(task: RoundTask) -> Blob:
    """Return what a sum is computed from: a model, or where there is none yet, the task's code."""
    return task.model or next((model.blob for model in task.models), task.bundle)


def _weight_of(task: RoundTask, update: Update) -> float:
    """Return what the site counts; with noise as much as any other, whatever the job's code says."""
    return update.weight if task.kind == "train" and task.job.privacy.distributed is None else 1.0


def _said(
    task: RoundTask, message: bytes, name: str = MASKED, vector: Blob | None = None, *, seconds: float = 0.0
) -> Update:
    parts = {} if vector is None else {name: Part(blob=vector)}
    return Update(
        run=task.run, round=task.round, site=task.site, kind=task.kind, parts=parts, message=message, seconds=seconds
    )
