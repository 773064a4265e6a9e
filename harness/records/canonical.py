"""Plain data as one line of JSON that is the same for the same data, and its hash."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(data: Any) -> str:
    """One line of JSON that is the same for the same data: sorted keys, no spaces, no NaN."""
    return _ENCODER.encode(data)


def sha256_of(data: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `data`."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()
