"""C functions compiled in the process that uses them, by whatever compiler there is."""

from __future__ import annotations

import ctypes
import functools
import logging
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

LOG = logging.getLogger(__name__)

_SECONDS = 60  # that the compiler may take


@functools.cache
def compiled(source: str) -> ctypes.CDLL | None:
    """A library of the C source for the very processor it runs on; None where none can be made.

    No compiler is no fault; one that fails is warned of, once. Nothing is stored: the file is gone when it is loaded,
    so that no other machine, and no later version, can come to load it.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        text, library = Path(folder, "source.c"), Path(folder, "library.so")
        text.write_text(source, encoding="utf-8")
        own = ["-march=native"] if platform.machine() in ("x86_64", "AMD64") else []
        command = [compiler, "-O3", *own, "-shared", "-fPIC", "-o", str(library), str(text)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
            return ctypes.CDLL(str(library))
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or b""
            LOG.warning(
                f"{compiler} could not compile a faster version of some loops ({error}); the results are the same "
                f"without it. {said.decode(errors='replace').strip()[:500]}".strip()
            )
            return None
