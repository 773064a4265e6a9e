"""The memory of this machine."""

from __future__ import annotations

import os


def machine_memory() -> int:
    """Bytes of memory of this machine; more than any has (2^63) where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 2**63
