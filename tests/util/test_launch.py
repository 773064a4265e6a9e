"""What the environment of a process says of those that were started with it."""

from __future__ import annotations

import pytest

from harness.util.errors import UserError
from harness.util.launch import Launch, another_says_it, launched

WHOLE = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
PLACE = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def test_a_process_of_its_own_was_not_launched() -> None:
    assert launched({}) is None
    assert launched({"RANK": "0", "WORLD_SIZE": "1"}) is None
    assert not another_says_it({})


def test_a_launch_names_its_processes_and_how_to_start_it_again() -> None:
    launch = launched({**WHOLE, **PLACE})
    assert launch == Launch(3, 4, 1, 2)
    assert launch.program == "torchrun --nnodes 2 --nproc-per-node 2 -m harness"
    assert Launch(0, 2, 0, 2).program == "torchrun --nproc-per-node 2 -m harness"
    assert another_says_it(WHOLE)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE is 2, but MASTER_ADDR, MASTER_PORT not set"),
        ({**PLACE, **WHOLE, "RANK": "first"}, "RANK in the environment is 'first'"),
    ],
)
def test_half_a_launch_is_refused(environment: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        launched(environment)
