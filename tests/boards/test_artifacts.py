"""Weights beside a board: what is kept, and what lies elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.boards.artifacts import keep, scores_of, weights_of
from harness.boards.verify import allows
from harness.runs.folder import read_record
from harness.util.errors import UserError
from harness.util.tensor_files import sha256_of

pytestmark = pytest.mark.usefixtures("tiny_board")


def test_large_weights_are_kept_only_when_asked_to(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.boards import artifacts

    monkeypatch.setattr(artifacts, "SMALL", 100)
    record = keep(read_record(run), run, Path("boards"))
    assert record.kept == ""
    assert weights_of(record, Path("boards")) is None
    assert scores_of(record, Path("boards")) is not None
    assert "not kept beside the board" in capsys.readouterr().err
    assert keep(read_record(run), run, Path("boards"), "checkpoints").kept == "checkpoints"
    with pytest.raises(UserError, match="it can be 'checkpoints'"):
        keep(read_record(run), run, Path("boards"), "s3://bucket")


def test_rows_of_an_installed_harness_say_where_their_weights_are(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.boards import places

    record = keep(read_record(run), run, Path("boards"), "checkpoints")
    assert "kept in the folder checkpoints" in allows(record, Path("boards"))
    installed = Path("installed")
    installed.mkdir()
    with pytest.raises(UserError, match="is missing"):
        weights_of(record, installed)
    monkeypatch.setattr(places, "boards_dir", lambda: installed)
    assert weights_of(record, installed) is None
    assert "only with a checkout of the project" in allows(record, installed)
    (installed / "checkpoints").mkdir()
    with pytest.raises(UserError, match="is missing"):
        weights_of(record, installed)


def test_weights_on_the_hub_are_uploaded_once_fetched_and_checked(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is played by a folder; what is tested is that the row names it and that its files are not trusted."""
    import huggingface_hub

    hub = Path("hub")
    uploads = []

    class Api:
        def file_exists(self, repository: str, name: str) -> bool:
            return (hub / repository / name).is_file()

        def upload_file(self, *, path_or_fileobj: Path, path_in_repo: str, repo_id: str) -> None:
            uploads.append(path_in_repo)
            (hub / repo_id).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path_or_fileobj, hub / repo_id / path_in_repo)

    def download(repository: str, name: str) -> str:
        if not (hub / repository / name).is_file():
            raise RuntimeError("404 Not Found\nmore")
        return str(hub / repository / name)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    for _ in range(2):
        record = keep(read_record(run), run, Path("boards"), "hf://me/weights")
    assert record.kept == "hf://me/weights"
    assert uploads == [f"{record.checkpoint}.safetensors"]
    found = weights_of(record, Path("boards"))
    assert found is not None
    assert sha256_of(found) == record.checkpoint
    found.write_bytes(b"something else")
    with pytest.raises(UserError, match="damaged"):
        weights_of(record, Path("boards"))
    found.unlink()
    with pytest.raises(UserError, match=r"hf://me/weights could not give .*: 404 Not Found"):
        weights_of(record, Path("boards"))
