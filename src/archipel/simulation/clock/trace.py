"""A trace of real devices: a CSV file of ours, one line for each session of a device.

    device,start,end,seconds_per_example,down_mbps,up_mbps
    phone-1,0,3600,0.02,40,8
    phone-1,7200,9000,,,
    phone-2,1800,9000,0.05,,

`device` is any text. From `start` to `end`, in seconds from the trace's begin, the device is available; between its
sessions it is not. The trace begins again when its last session ends. Sessions may stand in any order and overlap:
available twice is available. Without the two columns, availability is drawn as without a trace. The other three say how
fast the device is, in any of its lines; what none of them says is drawn. Nothing else is allowed in the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from archipel.data.readers.csv_table import Table, read_header, read_table
from archipel.simulation.clock.devices import Device, Drawn
from archipel.simulation.clock.sessions import Listed, Session
from archipel.simulation.population.port import Population
from archipel.spec import DataError, UnknownNameError
from archipel.spec.timing import DeviceSpec

DEVICE, START, END = "device", "start", "end"
SPEEDS = ("seconds_per_example", "down_mbps", "up_mbps")
COLUMNS = (DEVICE, START, END, *SPEEDS)
TRACE_STREAM = 0x72ACE
"""Stream from which a client's device is drawn."""


class TracedDevice(msgspec.Struct, frozen=True, kw_only=True):
    """What a trace says of a device."""

    sessions: tuple[Session, ...]
    """Empty: nothing."""
    speeds: dict[str, float]
    """Column → value, where it says one."""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """All of its devices."""

    devices: dict[str, TracedDevice]
    period: float
    """When it begins again, in seconds; 0: it says nothing of availability."""


class Traced:
    """Devices of a trace; what it does not say is drawn."""

    def __init__(self, spec: DeviceSpec, seed: int, trace: Trace, population: Population) -> None:
        """Give every client a device.

        Raises:
            DataError: devices go by clients' names, and one has none or nobody has that name.
        """
        self._drawn = Drawn(spec, seed)
        self._seed = seed
        self._trace = trace
        self._names = sorted(trace.devices)
        self._by_name = spec.assign == "name"
        self._population = population
        if self._by_name:
            _require_same_names(population, trace)

    @property
    def always(self) -> bool:
        """Whether neither the trace nor a draw says when clients are available."""
        return not self._trace.period and self._drawn.always

    def device(self, client: int) -> Device:
        """Return the client's device."""
        drawn, told = self._drawn.device(client), self._trace.devices[self._name(client)]
        sessions = Listed(told.sessions, self._trace.period) if self._trace.period else drawn.sessions
        return msgspec.structs.replace(drawn, sessions=sessions, **told.speeds)

    def _name(self, client: int) -> str:
        if self._by_name:
            return self._population.name(client)
        rng = np.random.default_rng((self._seed, client, TRACE_STREAM))
        return self._names[int(rng.integers(len(self._names)))]


def read_trace(path: Path) -> Trace:
    """Read a trace.

    Raises:
        DataError: it is not there, empty, or a row of it cannot be; names the row, counted from 1 below the header.
        UnknownNameError: it has a column that no trace has.
    """
    if not path.is_file():
        raise DataError(f"there is no trace at {path}", hint="mend `trace` in [simulation.time.devices]")
    table = read_table(path, COLUMNS)
    for name in read_header(path):
        if name not in COLUMNS:
            raise UnknownNameError.of(f"column of the trace {path.name}:", name, COLUMNS)
    _require_columns(path, table)
    if not table.rows:
        raise DataError(f"the trace {path.name} has no devices", hint="give it a row for each session of a device")
    if table.ragged:
        raise _fault(path, table.ragged[0], "has too few or too many fields, or quotes that do not match")
    devices: dict[str, TracedDevice] = {}
    for row in range(table.rows):
        name, session, speeds = _read_row(path, table, row)
        known = devices.get(name, TracedDevice(sessions=(), speeds={}))
        for column, value in speeds.items():
            if known.speeds.get(column, value) != value:
                raise _fault(path, row, f"gives {name!r} another {column} than a row before")
        devices[name] = TracedDevice(sessions=known.sessions + session, speeds={**known.speeds, **speeds})
    period = max((end for device in devices.values() for _, end in device.sessions), default=0.0)
    return Trace(devices=devices, period=period)


def _require_columns(path: Path, table: Table) -> None:
    if DEVICE not in table.columns:
        raise DataError(f"the trace {path.name} has no column {DEVICE!r}", hint=f"its columns: {', '.join(COLUMNS)}")
    if (START in table.columns) != (END in table.columns):
        there, missing = (START, END) if START in table.columns else (END, START)
        hint = "give both, or neither: then availability is drawn"
        raise DataError(f"the trace {path.name} has a column {there!r} and none {missing!r}", hint=hint)


def _read_row(path: Path, table: Table, row: int) -> tuple[str, tuple[Session, ...], dict[str, float]]:
    """Return the row's device, its session where the trace has sessions, and the speeds that it gives."""
    name = table.columns[DEVICE][row]
    if not name:
        raise _fault(path, row, "names no device")
    given = {column: texts[row] for column, texts in table.columns.items() if column != DEVICE}
    numbers = {column: _number(path, row, column, text) for column, text in given.items() if text.strip()}
    speeds = {column: numbers[column] for column in SPEEDS if column in numbers}
    for column, value in speeds.items():
        if value <= 0:
            raise _fault(path, row, f"has {column} {value:g}, which must be above 0")
    if START not in table.columns:
        return name, (), speeds
    return name, (_session(path, row, numbers),), speeds


def _session(path: Path, row: int, numbers: Mapping[str, float]) -> Session:
    for column in (START, END):
        if column not in numbers:
            raise _fault(path, row, f"has no {column}")
    begin, end = numbers[START], numbers[END]
    if begin < 0:
        raise _fault(path, row, f"starts at {begin:g}, before the trace begins at 0")
    if end <= begin:
        raise _fault(path, row, f"ends at {end:g}, and not after its start at {begin:g}")
    return begin, end


def _number(path: Path, row: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _fault(path, row, f"has {column} {text!r}, which is no finite number")
    return value


def _fault(path: Path, row: int, what: str) -> DataError:
    return DataError(f"row {row + 1} of the trace {path.name} {what}", hint="mend the row, or leave it out")


def _require_same_names(population: Population, trace: Trace) -> None:
    hint = 'give every client of the population one device of its name, or set assign = "drawn"'
    unknown = set(trace.devices)
    for client in range(population.count):
        name = population.name(client)
        if name not in trace.devices:
            raise DataError(f"the trace has no device for client {name!r}", hint=hint)
        unknown.discard(name)
    if unknown:
        raise DataError(f"the trace has a device {min(unknown)!r}, and no client has that name", hint=hint)
