"""Finding and building methods."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.method.interface import Task
from harness.method.options import parse_options, resolved_options
from harness.method.registry import build_method, check_name, describe, load_method, method_names, task_for
from harness.protocol.models import PROTOCOL
from harness.util.errors import UserError

TASK = Task(3, (1, 16, 16), "online_few_shot")
OWN = '''
from harness import Feedback, Method, Task


class Mine(Method):
    """Answers nothing in particular."""

    def __init__(self, task: Task, width: int = 3, rate: float = 0.5, name: str | None = None) -> None:
        super().__init__(task)
        self.width = width


class NotOne:
    pass
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def test_every_listed_method_loads_and_is_described() -> None:
    lines = describe()
    for name in method_names():
        assert load_method(name).name == name
        assert lines[name]


def test_a_method_can_live_in_any_file(own: Path) -> None:
    loaded = load_method(f"{own}:Mine")
    assert (loaded.name, loaded.own_file) == ("Mine", own)
    assert build_method(loaded.cls, TASK, {"width": 5}, seed=0).width == 5


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ("'online_few_shot'", r"kinds is 'online_few_shot'; write a tuple, as in kinds = \('online_few_shot',\)"),
        ("None", "kinds is None; write a tuple"),
        ("()", "kinds is empty: it would run on nothing; name some of online_few_shot, "),
        ("('online_few_shots',)", "unknown kind of protocol 'online_few_shots'. Did you mean 'online_few_shot'?"),
    ],
)
def test_kinds_that_are_none_are_refused_before_anything_is_run(kinds: str, message: str, own: Path) -> None:
    own.write_text(OWN.replace("    def __init__", f"    kinds = {kinds}\n\n    def __init__", 1))
    with pytest.raises(UserError, match=f"^Mine: {message}"):
        load_method(f"{own}:Mine")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("super().__init__(task)", "pass", r"must begin with super\(\).__init__\(task\)"),
        ("self, task: Task, width", "self, *, width", "must take the task first"),
    ],
)
def test_a_constructor_that_leaves_out_the_task_is_refused(before: str, after: str, message: str, own: Path) -> None:
    own.write_text(OWN.replace(before, after).replace("self.width = width", ""))
    with pytest.raises(UserError, match=rf"Mine.__init__ {message}"):
        build_method(load_method(f"{own}:Mine").cls, TASK, {}, seed=0)


def test_an_option_without_a_default_is_asked_for(own: Path) -> None:
    own.write_text(OWN.replace("width: int = 3", "width: int"))
    with pytest.raises(UserError, match="Mine: option width has no default; give it a value with options"):
        resolved_options(load_method(f"{own}:Mine").cls, {})


def test_an_installed_plugin_is_found_by_its_entry_point(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "plug-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness.methods]\nplugged = own:Mine\nbroken = own:NotOne\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "plugged" in method_names()
    assert load_method("plugged").cls.__name__ == "Mine"
    with pytest.raises(UserError, match=r"own:NotOne is not a method.*harness\.Method"):
        load_method("broken")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cl_lsm", r"unknown method 'cl_lsm'. Did you mean 'cl_lstm'\? Known: cl_lstm, .* more"),
        ("{own}:Mime", r"unknown class in .*own\.py 'Mime'. Did you mean 'Mine'\? Known: Mine\.$"),
        ("{own}:NotOne", "not a method"),
        ("{own}", "names a file but no class"),
        ("nowhere.py:Mine", r"no file 'nowhere\.py'"),
    ],
)
def test_names_that_lead_nowhere_say_what_is_near(own: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_method(name.format(own=own))


@pytest.mark.parametrize("name", ["cl_lstm", "CL_LSTM", "{own}:Mine", "{own}:OnlySeenWhenImported"])
def test_a_name_is_looked_up_without_an_import(name: str, own: Path) -> None:
    own.write_text("raise SystemExit")
    check_name(name.format(own=own))


@pytest.mark.parametrize("name", ["cl_lsm", "{own}", "nowhere.py:Mine"])
def test_names_that_lead_nowhere_are_refused_without_an_import_too(name: str, own: Path) -> None:
    with pytest.raises(UserError, match=r"Did you mean 'cl_lstm'|names a file but no class|no file 'nowhere"):
        check_name(name.format(own=own))


def test_a_file_that_fails_to_import_is_named_with_its_error(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("import nothing_of_the_sort\n")
    with pytest.raises(UserError, match=r"bad\.py could not be imported: ModuleNotFoundError"):
        load_method(f"{path}:Any")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widht": 1}, "has no option 'widht'. Did you mean 'width'"),
        ({"width": "wide"}, "option width: .*integer.*'wide'"),
        ({"width": 2.5}, "option width"),
        ({"width": True}, "option width"),
        ({"rate": "x"}, "option rate"),
    ],
)
def test_options_that_do_not_fit_are_refused(own: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolved_options(load_method(f"{own}:Mine").cls, options)


def test_options_are_completed_with_defaults_and_read_from_text(own: Path) -> None:
    cls = load_method(f"{own}:Mine").cls
    assert resolved_options(cls, {"rate": 1}) == {"width": 3, "rate": 1.0, "name": None}
    texts = ["width=7", "rate=1e-3", "name=null", "flag=true", "word=a=b"]
    assert parse_options(texts) == {"width": 7, "rate": 1e-3, "name": None, "flag": True, "word": "a=b"}
    texts = ["widths=[64, 1e-3, [true]]", "scale={a: 1, b: [x]}", "word='no'", "none=[]"]
    read = {"widths": [64, 1e-3, [True]], "scale": {"a": 1, "b": ["x"]}, "word": "no", "none": []}
    assert parse_options(texts) == read
    for wrong, said in (
        (["width"], "NAME=VALUE"),
        (["a=1", "a=2"], "'a' is given twice"),
        (["a=[1, 2"], "begins as a list and is none"),
        (["a=[1, no]"], "write false, or 'no' in quotes"),
    ):
        with pytest.raises(UserError, match=said):
            parse_options(wrong)


def test_weights_depend_on_the_seed_alone_and_global_state_stays() -> None:
    cls = load_method("opn").cls
    task = Task(3, (1, 16, 16), "online_few_shot", 1)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_method(cls, task, {"channels": 2}, seed=4)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    same, other = (build_method(cls, task, {"channels": 2}, seed=seed) for seed in (4, 5))
    weights = [each.state_dict()["encode.layers.0.weight"] for each in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_delay_is_told_only_to_those_who_declare_the_need() -> None:
    protocol = PROTOCOL.validate_python(
        {
            "kind": "delayed_label",
            "title": "t",
            "dataset": "cifar_fs",
            "episode": {"ways": 5, "presentations": 4, "label_delay": 3},
            "scoring": {"shots": [1]},
        }
    )
    assert task_for(load_method("opn").cls, protocol, (3, 32, 32)).label_delay == 3
    assert task_for(load_method("cl_lstm").cls, protocol, (3, 32, 32)).label_delay is None


@pytest.mark.parametrize("error", ["ValueError('odd')", "RuntimeError('odd\\nmore')", "RuntimeError()"])
def test_what_cannot_be_built_is_told_with_its_place_in_code_of_ones_own(error: str, own: Path) -> None:
    own.write_text(OWN.replace("self.width = width", f"raise {error}"))
    said = "no message" if error.endswith("()") else "odd"
    line = own.read_text().splitlines().index(f"        raise {error}") + 1
    with pytest.raises(UserError, match=rf"^Mine cannot be built: {said} \(own\.py, line {line}, in __init__\)$"):
        build_method(load_method(f"{own}:Mine").cls, TASK, {}, seed=0)
    with pytest.raises(UserError, match=r"^CSN with shifts=9 cannot be built: shifts is one of .*, not 9$"):
        build_method(load_method("csn").cls, TASK, {"shifts": 9}, seed=0)
