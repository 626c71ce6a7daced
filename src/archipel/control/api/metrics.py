"""Figures for Prometheus, computed when asked for: nothing is counted twice, nothing is global."""

from __future__ import annotations

from collections import Counter
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from archipel.control.api.office import Office
from archipel.spec.views import Presence, RunState


def figures(office: Office) -> bytes:
    """Return all figures in Prometheus' text format."""
    registry = CollectorRegistry()
    sites = Gauge("archipel_sites", "Sites that have joined, by presence.", ["presence"], registry=registry)
    found = Counter(site.presence for site in office.fleet.list().sites)
    for presence in get_args(Presence):
        sites.labels(presence).set(found[presence])
    runs = Gauge("archipel_runs", "Runs, by state.", ["state"], registry=registry)
    states = Counter(run.state for run in office.standing.list().runs)
    for state in get_args(RunState):
        runs.labels(state).set(states[state])
    versions = Gauge("archipel_model_versions", "Registered model versions.", registry=registry)
    versions.set(office.registry.count())
    return generate_latest(registry)
