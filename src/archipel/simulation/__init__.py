"""Many sites in one place, through the worker code of live sites and the same coordinator: the same bytes."""

from archipel.simulation.driver import Outcome, Simulation

__all__ = ["Outcome", "Simulation"]
