"""DatasetManifest: what a site says about a data set, without a row of it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from archipel.spec.canonical import Digest, Name, Value

Count = Annotated[int, Meta(ge=0)]


class DatasetManifest(Value, frozen=True, kw_only=True, tag_field="type", tag="dataset/1"):
    """Schema, counts, label map and digest of a data set at a site, as the contract's check found them."""

    dataset: Name
    digest: Digest
    """Over the names and contents of all files, so that a changed row changes it."""
    size_bytes: Count
    rows: Count
    """Rows that pass the contract (for a folder of text files: files)."""
    quarantined: dict[str, int] = field(default_factory=dict)
    """Reason → rows set aside, such as {"bill_length_mm: missing": 2}."""
    columns: dict[str, str] = field(default_factory=dict)
    """Column → kind, as found."""
    labels: dict[str, int] = field(default_factory=dict)
    """Value of the label column → rows; empty where the contract names no label."""
