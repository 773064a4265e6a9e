"""Sweeps that are interrupted at random moments, and given again, until they are done: a program, and what tests use.

    python -m tests.helpers.interrupted_sweeps smoke_all --folder build/local
    python -m tests.helpers.interrupted_sweeps smoke_all --folder build/ray --reference build/local -- --engine ray

runs the sweep in a new folder and signals its driver (Ctrl-C, SIGTERM or SIGKILL) ten times. Then each run must be on
its board once, and the rows (times aside) and scores must be those of an undisturbed sweep: that in the folder
`--reference`, or else one that runs first, in FOLDER/undisturbed, on the local engine. Words after `--` are options of
`harness sweep`; `--every` is the longest time between two signals, to be chosen so that ten of them come in time.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.helpers import sweeps

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


def interrupted(
    command: Sequence[str], place: Path, times: int, every: float, seed: int, env: Mapping[str, str] | None = None
) -> list[str]:
    """Gives a command until it is done; the names of the signals that its processes were sent.

    The first `times` of these are signalled, each at most `every` seconds after its first line. AssertionError if one
    ends otherwise than well or by its signal.
    """
    draw, sent = random.Random(seed), list[str]()
    while True:
        said = place / "said.txt"
        with said.open("w") as out:
            sweep = subprocess.Popen(
                command, cwd=place, env=env or sweeps.environment(), stdout=out, stderr=subprocess.STDOUT
            )
        hit = False
        if len(sent) < times:
            while sweep.poll() is None and "logs in" not in said.read_text():
                time.sleep(0.02)
            number = draw.choice(SIGNALS)
            try:
                sweep.wait(draw.uniform(0, every))
            except subprocess.TimeoutExpired:
                sweep.send_signal(number)
                sent.append(number.name)
                hit = True
        code = sweep.wait()
        if code == 0:
            return sent
        assert hit, said.read_text()
        assert code in {130, -signal.SIGKILL}, said.read_text()


def main(argv: Sequence[str] | None = None) -> int:
    """0 if the interrupted sweep came to what the undisturbed one came to; AssertionError if it did not."""
    parser = argparse.ArgumentParser(
        prog="interrupted_sweeps",
        description="interrupt a sweep at random, and compare",
        epilog="Words after -- are options of harness sweep.",
    )
    parser.add_argument("sweep", help="a sweep file, or the name of a shipped sweep")
    parser.add_argument("--folder", type=Path, required=True, help="a new working directory")
    parser.add_argument("--reference", type=Path, help="the working directory of an undisturbed sweep")
    parser.add_argument("--cache", type=Path, help="of data and checks (default: FOLDER/cache)")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--every", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=0)
    own = list(sys.argv[1:] if argv is None else argv)
    at = own.index("--") if "--" in own else len(own)
    args, words = parser.parse_args(own[:at]), own[at + 1 :]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, and so by all sweeps, in a shell's background
    folder = args.folder.absolute()
    folder.mkdir(parents=True)
    sweep = str(Path(args.sweep).absolute()) if Path(args.sweep).is_file() else args.sweep
    cache = str((args.cache or folder / "cache").absolute())
    command = [sys.executable, "-m", "harness", "sweep", sweep, "--cache", cache, "--boards", "boards"]
    reference = args.reference
    if reference is None:
        reference = folder / "undisturbed"
        reference.mkdir()
        subprocess.run(command, cwd=reference, env=sweeps.environment(), check=True)
    started = time.monotonic()
    sent = interrupted([*command, *words], folder, args.times, args.every, args.seed)
    count = sweeps.same(folder, reference)
    signals = ", ".join(f"{number} {name}" for name, number in sorted(Counter(sent).items()))
    print(f"{count} runs, {len(sent)} interruptions ({signals}), {time.monotonic() - started:.0f} s")
    print(f"each run is once on its board; rows (times aside) and scores are those in {reference}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
