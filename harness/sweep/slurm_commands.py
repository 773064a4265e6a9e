"""Slurm's own commands: what partitions there are, which jobs are in the queue, and signals to these."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Sequence

from harness.util.errors import RunError, UserError, nearest
from harness.util.option_names import option

_SECONDS = 60.0


def longest_time(partition: str | None) -> int | None:
    """The minutes that a job may take in a partition (several, as sbatch takes them: in each; None: the default one);
    None where that is not limited.

    Raises UserError for a partition that is not there, and RunError if Slurm does not answer.
    """
    limits: dict[str, int | None] = {}
    default = ""
    for line in _call("sinfo", "--noheader", "--format=%P|%l").splitlines():
        name, limit = line.strip().split("|")
        limits[name.rstrip("*")] = minutes_of(limit)
        if name.endswith("*"):
            default = name.rstrip("*")
    chosen = [default] if partition is None and default else (partition or "").split(",")
    for name in chosen:
        if name not in limits:
            if partition is None:
                names = ", ".join(limits)
                raise UserError(f"Slurm has no default partition; give {option('slurm')} partition=NAME: {names}")
            guess = nearest(name, limits)
            hint = f" Did you mean '{guess}'?" if guess else ""
            raise UserError(f"there is no Slurm partition '{name}'.{hint} There are: {', '.join(limits)}.")
    return min((minutes for name in chosen if (minutes := limits[name]) is not None), default=None)


def minutes_of(limit: str) -> int | None:
    """Minutes, rounded up, of a time as Slurm writes it: MINUTES, MINUTES:SECONDS, HOURS:MINUTES:SECONDS, DAYS-HOURS,
    DAYS-HOURS:MINUTES or DAYS-HOURS:MINUTES:SECONDS. None where it is not limited; ValueError for anything else.

    >>> minutes_of("1-02:30:00"), minutes_of("90"), minutes_of("infinite")
    (1590, 90, None)
    """
    if limit.strip().lower() in {"infinite", "unlimited", "n/a"}:
        return None
    days, dash, rest = limit.strip().rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if len(parts) > 3 or min(parts) < 0:
        raise ValueError(limit)
    if dash:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    else:
        hours, minutes, seconds = (0, *parts, 0) if len(parts) == 1 else (0, *parts) if len(parts) == 2 else parts
    return (int(days or 0) * 24 + hours) * 60 + minutes + (seconds > 0)


def queued_jobs(user: str) -> dict[str, str]:
    """The state of each of a user's jobs that is in the queue or runs, elements of arrays as 12_3."""
    lines = _call("squeue", "--noheader", "--array", f"--user={user}", "--format=%i|%T").splitlines()
    pairs = (line.strip().partition("|") for line in lines)
    return {job: state for job, _, state in pairs}


def state_of_job(job: str) -> str:
    """The state of a job that is there or has just ended; '' where Slurm has forgotten it."""
    try:
        said = _call("scontrol", "show", "job", "--oneliner", job)
    except RunError:
        return ""
    match = re.search(r"\bJobState=(\w+)", said)
    return match.group(1) if match else ""


def interrupt(jobs: Sequence[str]) -> None:
    """Takes back those jobs that wait; those that run are sent SIGINT."""
    # In one call each: as soon as a job has ended, Slurm begins the next one that waits.
    _quietly("scancel", "--state=PENDING", *jobs)
    _quietly("scancel", "--signal=INT", *jobs)


def cancel(job: str) -> None:
    """Takes a job back or ends it."""
    _quietly("scancel", job)


def _quietly(*words: str) -> None:
    """A job that has ended in the meantime cannot be signalled, which is no error."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(words, check=False, capture_output=True, timeout=_SECONDS)


def _call(*words: str) -> str:
    try:
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunError(f"Slurm does not answer: {words[0]}: {error}") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise RunError(f"Slurm does not answer: {said[-1] if said else f'{words[0]} failed'}")
    return done.stdout
