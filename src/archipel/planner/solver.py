"""HiGHS behind one function: a linear program, some of its variables whole, solved within a time.

    solved = solve(Program(cost=…, rows=…, …), seconds=10)
    solved.value, solved.bound        # equal where it is optimal; bound <= value always

The one file that imports highspy (Huangfu and Hall, Math. Prog. Comp. 10, 2018). Where time runs out the best solution
found is returned with the bound that was proved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import highspy
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Program:
    """Minimise cost x where low <= A x <= high and 0 <= x <= upper."""

    cost: Floats
    """One a variable."""
    upper: Floats
    """One a variable."""
    whole: npt.NDArray[np.bool_]
    """One a variable: may it only be a whole number?"""
    row: Ints
    """Of each entry of A."""
    column: Ints
    """Of each entry of A."""
    entry: Floats
    low: Floats
    """One a row."""
    high: Floats
    """One a row."""


@dataclass(frozen=True, kw_only=True)
class Solved:
    """What came out."""

    status: Literal["optimal", "time", "infeasible"]
    values: Floats = field(default_factory=lambda: np.zeros(0))
    """Empty: no solution was found in time, or there is none."""
    value: float = np.inf
    bound: float = -np.inf
    """No solution is better than this."""


def solve(program: Program, *, seconds: float, start: Floats | None = None) -> Solved:
    """Solve `program` within `seconds`, beginning from the solution `start` where there is one."""
    highs = highspy.Highs()  # type: ignore[no-untyped-call]
    for option, value in (("output_flag", False), ("time_limit", max(seconds, 0.01)), ("mip_rel_gap", 1e-9)):
        highs.setOptionValue(option, value)
    highs.passModel(_model(program))
    if start is not None:
        solution = highspy.HighsSolution()
        solution.col_value = start.tolist()
        highs.setSolution(solution)
    highs.run()
    return _solved(highs, whole=bool(program.whole.any()))


def _model(program: Program) -> highspy.HighsLp:
    order = np.lexsort((program.row, program.column))
    columns, rows = len(program.cost), len(program.low)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = columns, rows
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = program.cost, np.zeros(columns), program.upper
    lp.row_lower_, lp.row_upper_ = program.low, program.high
    starts = np.concatenate(([0], np.cumsum(np.bincount(program.column, minlength=columns))))
    lp.a_matrix_.start_ = starts.astype(np.int32)
    lp.a_matrix_.index_ = program.row[order]
    lp.a_matrix_.value_ = program.entry[order]
    if program.whole.any():
        kinds = highspy.HighsVarType
        lp.integrality_ = [kinds.kInteger if whole else kinds.kContinuous for whole in program.whole]
    return lp


def _solved(highs: highspy.Highs, *, whole: bool) -> Solved:
    info, status = highs.getInfo(), highs.getModelStatus()
    kinds = highspy.HighsModelStatus
    if status in (kinds.kInfeasible, kinds.kUnboundedOrInfeasible):
        return Solved(status="infeasible")
    optimal = status == kinds.kOptimal
    found = optimal or (whole and info.primal_solution_status == 2)  # 2: kSolutionStatusFeasible
    bound = info.mip_dual_bound if whole else info.objective_function_value if optimal else -np.inf
    if not found:
        return Solved(status="time", bound=bound)
    values = np.array(highs.getSolution().col_value)
    return Solved(
        status="optimal" if optimal else "time", values=values, value=info.objective_function_value, bound=bound
    )
