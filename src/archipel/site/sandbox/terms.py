"""What a site asks of its sandbox, and what one worker is to close behind itself."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from archipel.spec import Value

Require = Literal["full", "available", "none"]
Positive = Annotated[int, Meta(ge=1)]


class Limits(Value, frozen=True, kw_only=True):
    """What one worker may take of the machine."""

    cores: Positive | None = None
    """Processor cores; None: all."""
    memory_mb: Positive | None = None
    """Memory in MB: of all processes together, with /tmp, in a control group; else private memory of each. None: three
    quarters of the machine's, or of the container's."""
    processes: Positive = 512
    """Processes and threads, all together."""
    file_mb: Positive = 8000
    """Largest file in MB; a result is one file. Never more than a quarter of the free disk, or 64 MB."""
    open_files: Positive = 1024
    tmp_mb: Positive = 2000
    """Room in MB in /tmp and in /dev/shm, each; it is memory, as far as it is used."""


class Sandbox(Value, frozen=True, kw_only=True):
    """A site's terms for the code it is sent."""

    require: Require = "available"
    """"full": no work without every wall; "available": with those there are; "none": without any."""
    limits: Limits = Limits()
    caches: tuple[str, ...] = ()
    """Folders that every task may read, such as one of pretrained models."""
    gpu: bool = True
    """Show NVIDIA devices to jobs that do not ask for the CPU."""


class Confinement(Value, frozen=True, kw_only=True):
    """What a worker closes behind itself: everything that is not named here."""

    read: tuple[str, ...] = ()
    """Files and folders it may read."""
    write: tuple[str, ...] = ()
    """Files that are there and may be written."""
    own: tuple[str, ...] = ()
    """Folders in which it may do anything."""
    devices: tuple[str, ...] = ()
    cores: Positive | None = None
    limits: dict[str, int] = field(default_factory=dict)
    """Name of an rlimit ("DATA") → its value."""
    landlock: Annotated[int, Meta(ge=0)] = 0
    """Version of the kernel's Landlock; 0: do without."""
    seccomp: bool = False
