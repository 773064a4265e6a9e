"""What a number was made with: machine, versions of libraries, revision of the code."""

from __future__ import annotations

import ast
import os
import platform
import re
import shlex
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from harness.records.parts import Code, Hardware
from harness.util.devices import name_of

_PACKAGES = ("episode-harness", "torch", "torchvision", "numpy", "pydantic", "datasets")

_SECRETS = (
    re.compile(r"()\b(?:hf|gh[pousr]|glpat|github_pat|sk|pk|xox[abpr])[_-][A-Za-z0-9_-]{16,}"),
    re.compile(r"()\bAKIA[A-Z0-9]{16}\b"),
    re.compile(r"(\w+://)[^\s/@]+(?=@)"),
    re.compile(r"((?:token|password|passwd|secret|api[_-]?key)[\w-]*[=:\s]\s*['\"]?)[^\s'\"&]{8,}", re.IGNORECASE),
)
"""Tokens by their form, what stands before a host, and what follows a telling name; group 1 stays."""


def hardware(device: torch.device) -> Hardware:
    """The machine, as seen from this process."""
    gpu = name_of(device) if device.type == "cuda" else None
    return Hardware(device=device.type, cpu=_cpu(), gpu=gpu, threads=torch.get_num_threads(), cores=cores())


_PLACES = ("--out", "--run", "--boards", "--data-root", "--cache")
_IN_PARTS = ("--resume", "--fresh", "--no-board")
"""Options of `harness run` that say nothing of what the run is; those of the first kind have a value."""
_OF_CALLS = frozenset({"out", "folder", "boards", "board", "data_root", "cache"})
"""The same of a call of `harness.run`."""

_LIMITS = {"--episodes": "episodes", "--time": "seconds"}
"""What cuts a training short: options of `harness run`, and the same of a call."""


def public(text: str) -> str:
    """A command line or a place as others may read it: tokens and passwords are left out, the home folder is '~'."""
    for pattern in _SECRETS:
        text = pattern.sub(lambda found: f"{found[1]}***", text)
    home = str(Path.home())
    return re.sub(rf"{re.escape(home)}(?=[/\\\\:'\"\s]|$)", "~", text) if len(home) > 1 else text


def public_command(text: str, limits: str | None = None) -> str:
    """A command line or a call of Python that makes a run, as others may read it (`public`), without the options that
    only say where on one machine it was made, or that it was made in parts.

    `limits` ('episodes=8 time=600s', '' for none) take the place of those that it names: one that was given for the
    last part of a run need not be what ended it.
    """
    given = None if limits is None else dict(each.split("=") for each in limits.split())
    if text.startswith("harness.run("):
        return public(_public_call(text, given))
    if not re.search(r"(^| )harness run ", text):
        return public(text)
    words, kept = iter(shlex.split(text)), []
    dropped = _PLACES if given is None else (*_PLACES, *_LIMITS)
    for word in words:
        name, _, value = word.partition("=")
        if name in dropped:
            if not value:
                next(words, None)
        elif word not in _IN_PARTS:
            kept.append(word)
    for name, value in (given or {}).items():
        kept += [f"--{name}", value]
    return public(shlex.join(kept))


def _public_call(text: str, limits: dict[str, str] | None) -> str:
    tree = ast.parse(text, mode="eval").body
    assert isinstance(tree, ast.Call)
    dropped = _OF_CALLS if limits is None else _OF_CALLS | set(_LIMITS.values())
    tree.keywords = [each for each in tree.keywords if each.arg not in dropped]
    for name, value in (limits or {}).items():
        number = ast.parse(value.removesuffix("s"), mode="eval").body
        tree.keywords.append(ast.keyword(_LIMITS[f"--{name}"], number))
    comment = text.encode()[tree.end_col_offset :].decode()
    return ast.unparse(tree) + comment


def cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


_CODE = ("harness", "methods", "protocols", "pyproject.toml")
"""What runs are made by, in a checkout; not its boards, which they write, nor its docs and tests."""


def code(root: Path | None = None) -> Code:
    """The git commit of a checkout, by default that which this package is in, and whether its code differs from it."""
    root = root or Path(__file__).resolve().parents[2]
    revision = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", *_CODE)
    return Code(revision=revision, dirty=None if revision is None or changed is None else bool(changed))


def _git(root: Path, *words: str) -> str | None:
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
