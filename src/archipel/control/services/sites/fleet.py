"""The fleet: every site that has joined, what it holds, and whether it is here."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from archipel.control.services.sites.presence import Attendance, Attendances
from archipel.control.store import sites as rows
from archipel.control.store.database import Database
from archipel.spec import DatasetManifest, ServedModel, UnknownNameError
from archipel.spec.views import Presence, SiteDataset, SitesPage, SiteView
from archipel.spec.wire import Hello


class Fleet:
    """Reads and notes facts about sites."""

    def __init__(self, database: Database, attendances: Attendances, clock: Callable[[], float]) -> None:
        self._database = database
        self._attendances = attendances
        self._clock = clock

    def greet(self, hello: Hello) -> None:
        """Note what a site says when it comes."""
        now = self._clock()

        def change(connection: Connection) -> None:
            rows.greet(connection, hello.site, hello.agent, hello.datasets, now)
            rows.note_seen(connection, hello.site, hello.serving, now)

        self._database.write(change)

    def note_seen(self, site: str, serving: tuple[ServedModel, ...]) -> None:
        """Note that a site was here, and what it serves."""
        now = self._clock()
        self._database.write(lambda connection: rows.note_seen(connection, site, serving, now))

    def list(self) -> SitesPage:
        """Return every site."""
        return SitesPage(sites=self._database.read(self._views))

    def show(self, name: str) -> SiteView:
        """Return one site; an UnknownNameError if it has not joined."""
        views = {view.name: view for view in self._database.read(self._views)}
        if name not in views:
            raise UnknownNameError.of("site", name, views)
        return views[name]

    def holders(self, dataset: str) -> dict[str, DatasetManifest | None]:
        """Return the sites that hold a data set, with what the last check found there."""
        found = self._database.read(rows.all_datasets)
        return {site: held[dataset] for site, held in found.items() if dataset in held}

    def present_holders(self, dataset: str) -> tuple[str, ...]:
        """Return the sites that are here and say they hold a data set, by name."""
        here = [self._attendances.get(site) for site in self._attendances.present()]
        return tuple(sorted(item.site for item in here if item is not None and dataset in item.datasets))

    def attendance(self, site: str) -> Attendance | None:
        """Return a site's open stream."""
        return self._attendances.get(site)

    def presence(self, site: str) -> Presence:
        """Say whether a site is here."""
        return self._attendances.presence(site)

    def _views(self, connection: Connection) -> tuple[SiteView, ...]:
        held = rows.all_datasets(connection)
        certified = rows.certificates_of(connection)
        views = []
        for row in rows.all_sites(connection):
            here = self._attendances.get(row.name)
            data = held.get(row.name, {})
            views.append(
                SiteView(
                    name=row.name,
                    presence=self._attendances.presence(row.name) if row.name in certified else "revoked",
                    joined_at=row.joined_at,
                    seen_at=row.seen_at if here is None or here.lost else self._clock(),
                    agent=row.agent,
                    certificate_expires_at=certified.get(row.name),
                    datasets=tuple(SiteDataset(dataset=name, manifest=data[name]) for name in sorted(data)),
                    working=() if here is None else here.working,
                    serving=rows.served_by(row) if here is None else here.serving,
                )
            )
        return tuple(views)
