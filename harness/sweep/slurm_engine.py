"""Runs of a sweep as jobs of Slurm, through submitit: an array of jobs for all runs that take the same."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import json
import math
import pickle
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.sweep import slurm_commands as slurm
from harness.sweep.engine import STOPPED, Job, State, Task, say
from harness.sweep.slurm_node import SlurmRun, stop_file
from harness.util.atomic_files import replacing
from harness.util.errors import RunError, UserError
from harness.util.json_files import read_json
from harness.util.option_names import option

FOLDER, JOBS = "slurm", "jobs.json"
"""Below the folder of a sweep: what submitit writes, and which run folder has which job."""

LOOK_EVERY = 5.0
GIVE_UP_AFTER = 15.0
"""Seconds between two looks at the queue, and until a job that has left it without a result is given up: on a shared
file system a result is seen late."""

_REQUEUES = 1000
_LARGEST_ARRAY = 500
YEAR = 365 * 24 * 60
_LOST = {"OUT_OF_MEMORY": -9, "NODE_FAIL": -9}
_CANCELLED = -15
_OWN = ("array", "cpus-per-task", "error", "open-mode", "output", "requeue", "signal", "wrap")


def slurm_options(pairs: Sequence[str]) -> dict[str, str]:
    """What `--slurm NAME=VALUE` says, NAME an option of sbatch. Raises UserError for one that a sweep sets itself."""
    options: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        name = name.lstrip("-").replace("_", "-")
        if not name or not value:
            raise UserError(f"{option('slurm')} takes an option of sbatch as NAME=VALUE (partition=gpu), not '{pair}'")
        if name in _OWN:
            raise UserError(f"{option('slurm')} {pair}: a sweep sets this option of sbatch itself")
        options[name] = value
    return options


def start_slurm(options: Mapping[str, str], jobs: int | None, folder: Path) -> SlurmEngine:
    """Slurm as it is reached from here; jobs of the same sweep that are still in its queue are taken over.

    `options` are those of sbatch, `jobs` limits the cores in use, `folder` is that of the sweep. Raises UserError if
    submitit or Slurm is not there, and RunError if Slurm does not answer or has no such partition.
    """
    try:
        import submitit
    except ImportError:
        raise UserError(
            f"{option('engine', 'slurm')} needs submitit: install the extra with `pip install 'episode-harness[slurm]'`"
        ) from None
    for program in ("sbatch", "squeue", "srun"):
        if shutil.which(program) is None:
            raise UserError(f"there is no Slurm here ({program} is not on PATH); use a login node")
    longest = slurm.longest_time(options.get("partition"))
    minutes = _minutes(options["time"]) if "time" in options else longest or YEAR
    if longest is not None and minutes > longest:
        raise UserError(
            f"{option('slurm')} time={options['time']}: jobs may take {longest} minutes there at most; a run that "
            "takes longer goes back into the queue when its time is over, and is resumed"
        )
    others = {name: value for name, value in options.items() if name != "time"}
    engine = SlurmEngine(submitit, others, minutes, jobs, folder / FOLDER, Queue(getpass.getuser()))
    with contextlib.suppress(OSError, ValueError):
        engine.known = {str(run): str(job) for run, job in read_json(folder / FOLDER / JOBS).items()}
    return engine


def _minutes(text: str) -> int:
    try:
        minutes = slurm.minutes_of(text)
    except ValueError:
        raise UserError(f"{option('slurm')} time={text}: sbatch takes minutes, 4:00:00 or 1-12:00:00") from None
    return YEAR if minutes is None else max(minutes, 1)


@dataclass
class Queue:
    """The jobs of a user, looked up now and then."""

    user: str
    states: dict[str, str] = field(default_factory=dict)
    looked_at: float = -math.inf

    def state(self, job: str) -> str:
        """PENDING, RUNNING, ...; '' for a job that is not in the queue."""
        if time.monotonic() - self.looked_at >= LOOK_EVERY:
            with contextlib.suppress(RunError):  # a controller that is restarted forgets nothing
                self.states = slurm.queued_jobs(self.user)
                self.looked_at = time.monotonic()
        return self.states.get(job, "")


@dataclass
class SlurmEngine:
    """Slurm queues what there is no room for, so that all tasks are handed to it at once."""

    submitit: Any
    options: dict[str, str]
    minutes: int
    jobs: int | None
    folder: Path
    queue: Queue
    known: dict[str, str] = field(default_factory=dict)
    """The jobs of run folders that have not ended; also those of a driver of the sweep that was killed."""
    stopping: list[str] = field(default_factory=list)
    """Jobs that are to stop and have not been told: all are at once, when one of them is looked at."""

    def submit(self, tasks: Sequence[Task]) -> list[Job]:
        new = [task for task in tasks if self.queue.state(self.known.get(str(task.folder), "")) == ""]
        for array in _arrays(new):
            self._submit_array(array)
        return [SlurmJob(self, task, self.known[str(task.folder)]) for task in tasks]

    def close(self) -> None:
        pass

    def forget(self, task: Task) -> None:
        """Its job has ended: if the task comes again, that will be another one."""
        job = self.known.pop(str(task.folder), None)
        if job is not None:
            stop_file(self.folder, job).unlink(missing_ok=True)
        self._write_known()

    def interrupt_stopping(self) -> None:
        """Tells the jobs that are to stop, none twice, whatever fails: after a second SIGINT a run saves nothing."""
        jobs, self.stopping = self.stopping, []
        if jobs:
            slurm.interrupt(jobs)
        for job in jobs:  # after the signal: a run that hears of both would not save
            stop_file(self.folder, job).touch()

    def result_of(self, job: str) -> tuple[str, Any] | None:
        """What a job has returned ("success", exit code) or raised ("error", traceback); None if nothing yet."""
        path = self.submitit.SlurmJob(folder=self.folder, job_id=job).paths.result_pickle
        if not path.is_file():
            return None
        outcome, value = pickle.loads(path.read_bytes())
        return str(outcome), value

    def _submit_array(self, tasks: Sequence[Task]) -> None:
        resources = tasks[0].resources
        executor = self.submitit.SlurmExecutor(folder=self.folder, max_num_timeout=_REQUEUES)
        options = dict(self.options)
        if resources.gpus:  # Slurm shares no GPU between jobs
            options.setdefault("gres", f"gpu:{math.ceil(resources.gpus)}")
        if resources.memory_gb:
            options.setdefault("mem", f"{math.ceil(resources.memory_gb * 1000)}M")
        name = options.pop("job-name", f"harness-{self.folder.parent.name}")
        executor.update_parameters(
            job_name=name,
            time=self.minutes,
            cpus_per_task=resources.cores,
            srun_args=[f"--cpus-per-task={resources.cores}"],
            array_parallelism=max(1, (self.jobs or 10**6) // resources.cores),
            stderr_to_stdout=True,
            additional_parameters={"requeue": True, **options},
        )
        place = Path.cwd()
        runs = [
            SlurmRun(
                dataclasses.replace(task, folder=task.folder.absolute(), log=task.log.absolute()),
                resources.gpus > 0,
                place,
                self.folder.absolute(),
            )
            for task in tasks
        ]
        try:
            with executor.batch():
                jobs = [executor.submit(run) for run in runs]
        except (self.submitit.core.utils.FailedJobError, subprocess.SubprocessError, OSError) as error:
            said = [line.strip() for line in str(error).splitlines() if "sbatch: error" in line]
            raise RunError(f"Slurm took no job: {'; '.join(said) or error}") from None
        self.known |= {str(task.folder): job.job_id for task, job in zip(tasks, jobs, strict=True)}
        self._write_known()

    def _write_known(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / JOBS) as temporary:
            temporary.write_text(json.dumps(self.known, indent=1) + "\n", encoding="utf-8")


def _arrays(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Tasks that take the same, as many together as there can be in one array."""
    alike: dict[str, list[Task]] = {}
    for task in tasks:
        alike.setdefault(task.resources.model_dump_json(), []).append(task)
    for group in alike.values():
        for first in range(0, len(group), _LARGEST_ARRAY):
            yield group[first : first + _LARGEST_ARRAY]


@dataclass
class SlurmJob:
    """A job of Slurm, one element of an array."""

    engine: SlurmEngine
    task: Task
    job: str
    stopped: bool = False
    missing_since: float | None = None
    code: int | None = None

    def poll(self) -> State:
        self.engine.interrupt_stopping()
        if self.code is None:
            state = self._state()
            if isinstance(state, str):
                return state
            self.code = state
            self.engine.forget(self.task)
        return self.code

    def stop(self) -> None:
        self.stopped = True
        self.engine.stopping.append(self.job)

    def kill(self) -> None:
        slurm.cancel(self.job)

    def _state(self) -> State:
        result = self.engine.result_of(self.job)
        if result is not None:
            outcome, value = result
            return int(value) if outcome == "success" else self._failed(1, str(value).strip().splitlines()[-1])
        state = self.engine.queue.state(self.job)
        if state:
            self.missing_since = None
            return "queued" if state in {"PENDING", "REQUEUED", "REQUEUE_HOLD"} else "running"
        looked_at = self.engine.queue.looked_at
        if self.missing_since is None:
            self.missing_since = looked_at
        if self.stopped and looked_at > self.missing_since:
            return STOPPED
        if looked_at - self.missing_since < GIVE_UP_AFTER:
            return "queued"
        ended = slurm.state_of_job(self.job) or "gone from the queue"
        return self._failed(_LOST.get(ended, _CANCELLED), f"job {self.job} is {ended} and has left no result")

    def _failed(self, code: int, why: str) -> int:
        say(self.task.log, "Slurm", why)
        return code
