"""Confining a process on Linux: no network, a file system that is read-only, and folders that are not there.

Nothing beyond the standard library is imported here: a process confines itself before it loads anything else.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

BUBBLEWRAP, NAMESPACE = "bubblewrap", "user namespace"
SCRATCH = "/dev/shm"
"""The one folder that a confined process may write to: empty, in memory, its own, gone with it."""

_ENVIRONMENT = ("PATH", "LANG", "LD_LIBRARY_PATH", "HOME")
_PREFIXES = (
    "LC_",
    "OMP_",
    "MKL_",
    "KMP_",
    "OPENBLAS_",
    "NUMEXPR_",
    "CUDA_",
    "NVIDIA_",
    "CUBLAS_",
    "TORCH_",
    "PYTORCH_",
)

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _BIND, _REC, _PRIVATE = 1, 2, 4, 1 << 12, 1 << 14, 1 << 18
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_DEATH_SIGNAL, _CAPBSET_DROP, _NO_NEW_PRIVS = 1, 24, 38


def uncovered(hidden: Iterable[Path], needed: Iterable[Path]) -> list[Path]:
    """The paths that together hide `hidden` but for what is `needed`, such as a method's file in its data folder."""
    wanted = [each.resolve() for each in needed]
    return list(dict.fromkeys(path for each in hidden if each.exists() for path in _covered(each.resolve(), wanted)))


def _covered(path: Path, needed: list[Path]) -> Iterator[Path]:
    inside = [each for each in needed if each.is_relative_to(path)]
    if not inside:
        yield path
    elif path not in inside:
        for child in sorted(path.iterdir()):
            if not child.is_symlink():
                yield from _covered(child, inside)


def import_paths() -> list[str]:
    """Where Python looks for modules here, as absolute paths."""
    return [str(Path(each).absolute()) for each in sys.path]


def environment() -> dict[str, str]:
    """What a confined process gets to know of the environment: how to compute, and no token, file or folder of data."""
    known = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT or name.startswith(_PREFIXES)}
    own = {"PYTHONPATH": os.pathsep.join(import_paths()), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"}
    return {**known, **own, "TMPDIR": SCRATCH}


@cache
def bubblewrap() -> str | None:
    """The program bwrap, where there is one that works here."""
    found = shutil.which("bwrap")
    if found is None:
        return None
    trial = subprocess.run([*wrapped(found, ()), "true"], capture_output=True, timeout=20, check=False)
    return found if trial.returncode == 0 else None


def wrapped(program: str, hidden: Sequence[Path]) -> list[str]:
    """The beginning of a command that runs the rest of it under bubblewrap."""
    covers = [
        word for path in hidden for word in (("--tmpfs", path) if path.is_dir() else ("--ro-bind", "/dev/null", path))
    ]
    command = [program, "--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev", "--proc", "/proc", "--tmpfs", SCRATCH]
    # Started by root, bubblewrap leaves the process all of root's privileges, with which it could undo the mounts.
    return [
        *command,
        *map(str, covers),
        "--cap-drop",
        "ALL",
        "--unshare-all",
        "--die-with-parent",
        "--new-session",
        "--",
    ]


def confine(hidden: Sequence[str]) -> str | None:
    """Confines this process, which must have one thread, in namespaces of its own; why it cannot, or None.

    From here on it runs as a child of the process that was (which waits and ends as it does), sees no other process,
    has no network, can write to `SCRATCH` alone, finds `hidden` folders and files empty, and has no privilege left
    with which to undo any of this.
    """
    if not sys.platform.startswith("linux"):
        return f"user namespaces are a feature of Linux, this is {sys.platform}"
    why_not = _try_in_child(hidden)
    if why_not is not None:
        return why_not
    libc = ctypes.CDLL(None, use_errno=True)
    _enter_namespaces(libc, hidden)
    _continue_in_child(libc)
    with_proc = libc.mount(b"proc", b"/proc", b"proc", _NOSUID | _NODEV, None)
    if with_proc:  # in containers with a masked /proc: the old one shows other processes, which are out of reach
        ctypes.set_errno(0)
    _drop_privileges(libc)
    return None


def _try_in_child(hidden: Sequence[str]) -> str | None:
    """Why a child of this process cannot be confined, or None: what fails halfway leaves this process as it was."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            _enter_namespaces(ctypes.CDLL(None, use_errno=True), hidden)
        except BaseException as error:
            os.write(writing, (str(error) or type(error).__name__).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8", errors="replace") as pipe:
        why_not = pipe.read()
    os.waitpid(child, 0)
    return why_not or None


def _enter_namespaces(libc: ctypes.CDLL, hidden: Sequence[str]) -> None:
    """Leaves network, processes, data and all but reading behind; raises OSError where one of these cannot be."""
    user, group = os.getuid(), os.getgid()
    _must(libc.unshare(_NEWUSER | _NEWNS | _NEWNET | _NEWIPC | _NEWPID), "user namespaces are not allowed here")
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    _must(libc.mount(b"none", b"/", None, _REC | _PRIVATE, None), "mounts cannot be made private")
    attributes = (ctypes.c_uint64 * 4)(_RDONLY, 0, 0, 0)
    size = ctypes.sizeof(attributes)
    answer = libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, ctypes.byref(attributes), size)
    _must(answer, "the file system cannot be made read-only")
    for path in hidden:
        _hide(libc, path)
    _must(libc.mount(b"tmpfs", SCRATCH.encode(), b"tmpfs", _NOSUID | _NODEV, b"size=50%"), "no scratch folder")


def _hide(libc: ctypes.CDLL, path: str) -> None:
    if os.path.isdir(path):
        answer = libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", _RDONLY | _NOSUID | _NODEV, b"size=4k")
    else:
        answer = libc.mount(b"/dev/null", os.fsencode(path), None, _BIND, None)
    _must(answer, f"{path} cannot be hidden")


def _continue_in_child(libc: ctypes.CDLL) -> None:
    """Forks, since only a child is in the new process namespace; the parent waits for it and ends in the same way."""
    child = os.fork()
    if child:
        libc.prctl(_DEATH_SIGNAL, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
            os.kill(os.getpid(), -code)
        os._exit(code)
    libc.prctl(_DEATH_SIGNAL, signal.SIGKILL)


def _drop_privileges(libc: ctypes.CDLL) -> None:
    """Gives up what the owner of a namespace may do in it: mounting and unmounting above all."""
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    for capability in range(64):
        libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capset(ctypes.byref(header), ctypes.byref(none))


def _must(answer: int, otherwise: str) -> None:
    if answer:
        raise OSError(f"{otherwise} ({os.strerror(ctypes.get_errno())})")
