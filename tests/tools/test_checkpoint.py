"""python -m tools.checkpoint on the checkpoints of a real run."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from recognition.models import open_model
from tests import faces, gloo, ranks
from tools.checkpoint.__main__ import main
from utils.checkpoint import Checkpoint, every, leftovers
from utils.resume import set_aside

CLASSES, D = 11, 8


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two ranks with checkpoints 2, 4 and 6; 7 steps are an epoch."""
    root = tmp_path_factory.mktemp("faces")
    faces.write_records(root, CLASSES)
    (root / "run.py").write_text("from easydict import EasyDict as edict\n\nconfig = edict()\n")
    words = ["network=tiny", f"embedding_size={D}", "num_workers=0", "lr=0.02", "total_batch_size=12", "max_step=6"]
    words += ["save_every=2", "keep_checkpoints=2", "keep_every=1", f"rec={root}", f"output={root / 'out'}"]
    gloo.run(2, ranks.train, [str(root / "run.py"), *words])
    return root / "out"


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def steps(run: Path) -> list[int]:
    return [int(path.name[5:]) for path in every(run / "checkpoints")]


def checkpoint(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step_{step:08d}"


def damage(run: Path, step: int, how: str = "cut") -> None:
    file = checkpoint(run, step) / "shared.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] if how == "cut" else data[:-1] + bytes([data[-1] ^ 1]))


def told(capsys, *words) -> tuple[int, str]:
    """Exit code and what was printed."""
    code = main([str(word) for word in words])
    return code, capsys.readouterr().out


def table(text: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows[1:]}


def refused(*words, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        main([str(word) for word in words])
    assert "\n" not in str(caught.value)


class TestList:
    @pytest.mark.parametrize("place", ["", "checkpoints"])
    def test_a_run(self, run, capsys, place):
        code, text = told(capsys, "list", run / place)
        rows = table(text)
        assert code == 0 and list(rows) == [f"step_{step:08d}" for step in (2, 4, 6)]
        for (step, epoch, count, size, saved, state, kept), expected in zip(rows.values(), (2, 4, 6), strict=True):
            assert (step, epoch, count, state) == (str(expected), f"{expected / 7:.2f}", "2", "whole")
            total = sum(file.stat().st_size for file in checkpoint(run, expected).iterdir())
            assert size == f"{total / 1e6:,.1f} MB" and re.fullmatch(
                r"\d{4}-\d\d-\d\d \d\d:\d\d, \d+ (s|min) ago", saved
            )
            assert kept == ("keep_every=1" if expected == 2 else "keep_checkpoints=2")

    def test_one_checkpoint(self, run, capsys):
        assert list(table(told(capsys, "list", checkpoint(run, 4))[1])) == ["step_00000004"]

    def test_damage_is_found_by_size_or_by_digest(self, run, capsys):
        damage(run, 2)
        damage(run, 4, "flip")
        size = (checkpoint(run, 2) / "shared.safetensors").stat().st_size
        short = f"shared.safetensors has {size} bytes, not {size + 1}"
        flipped = "shared.safetensors has another SHA-256 than when it was written"
        for words, expected in (((), [short, "whole", "whole"]), (("--verify",), [short, flipped, "whole"])):
            assert [row[5] for row in table(told(capsys, "list", run, *words)[1]).values()] == expected

    def test_everything_else_in_the_folder(self, run, capsys):
        folder = run / "checkpoints"
        damage(run, 6)
        set_aside(folder, 4)
        (checkpoint(run, 2) / "state.json").unlink()
        shutil.copytree(checkpoint(run, 4), folder / "best")
        for name in (".step_00000008.abc", ".step_00000001.removed", "mine"):
            (folder / name).mkdir()
        (folder / "notes.txt").write_text("x")
        rows = {name: (row[0], *row[5:]) for name, row in table(told(capsys, "list", run)[1]).items()}
        assert rows.pop("step_00000006.damaged")[1].startswith("shared.safetensors has ")
        assert rows == {
            "step_00000002": ("", "state.json is missing", "keep_checkpoints=2"),
            "step_00000004": ("4", "whole", "keep_checkpoints=2"),
            "best": ("4", "whole", "under a name that no run gives"),
            ".step_00000008.abc": ("", "half written", "until the run starts again"),
            ".step_00000001.removed": ("", "half removed", "until the run starts again"),
            "mine": ("", "no checkpoint", ""),
            "notes.txt": ("", "no checkpoint", ""),
        }

    def test_another_format(self, run, capsys):
        manifest = checkpoint(run, 4) / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"format": 3', '"format": 99'))
        row = table(told(capsys, "list", run)[1])["step_00000004"]
        assert row[5] == "has format 99, this version reads 3; a newer version of this project wrote it"

    def test_a_run_without_checkpoints(self, tmp_path, capsys):
        (tmp_path / "checkpoints").mkdir()
        assert told(capsys, "list", tmp_path) == (0, f"{tmp_path}/checkpoints is empty\n")


class TestVerify:
    def test_a_line_for_each_checkpoint(self, run, finished, capsys):
        code, text = told(capsys, "verify", run, checkpoint(finished, 4))
        assert code == 0 and text.splitlines() == [
            *(f"{checkpoint(run, step)}  whole" for step in (2, 4, 6)), f"{checkpoint(finished, 4)}  whole"
        ]  # fmt: skip

    def test_exit_code_1_where_one_is_not_whole(self, run, capsys):
        damage(run, 4, "flip")
        (checkpoint(run, 4) / "rank_1.safetensors").unlink()
        code, text = told(capsys, "verify", run)
        wrong = "rank_1.safetensors is missing; shared.safetensors has another SHA-256 than when it was written"
        assert code == 1 and text.splitlines()[1] == f"{checkpoint(run, 4)}  {wrong}"
        assert told(capsys, "verify", checkpoint(run, 6))[0] == 0
        set_aside(run / "checkpoints", 2)
        assert told(capsys, "verify", run)[0] == 0 and told(capsys, "verify", f"{checkpoint(run, 4)}.damaged")[0] == 1


class TestConvert:
    def test_model_pt_is_the_runs_own(self, run, tmp_path, capsys):
        code, text = told(capsys, "convert", checkpoint(run, 6), "--to", tmp_path / "model.pt")
        assert (code, text) == (0, f"{tmp_path}/model.pt  tiny after 6 steps\n")
        assert (tmp_path / "model.pt").read_bytes() == (run / "model.pt").read_bytes()

    def test_statistics_that_are_not_of_norms_are_not_told_as_such(self, finished, tmp_path):
        words = [str(finished.parent / "run.py"), f"rec={finished.parent}", f"output={tmp_path / 'out'}", "max_step=2"]
        words += ["network=tiny", f"embedding_size={D}", "num_workers=0", "total_batch_size=12", "loss=adaface"]
        gloo.run(1, ranks.train, [*words, "views=('original','augmented')", "quality_source=direction"])
        main(["convert", str(checkpoint(tmp_path / "out", 2)), "--to", str(tmp_path / "model.pt")])
        assert open_model(tmp_path / "model.pt").norm_mean is None
        assert (tmp_path / "model.pt").read_bytes() == (tmp_path / "out" / "model.pt").read_bytes()

    def test_safetensors_and_pt_are_the_same_model(self, run, tmp_path):
        for name in ("a.pt", "b.safetensors"):
            main(["convert", str(checkpoint(run, 4)), "--to", str(tmp_path / name)])
        one, other = open_model(tmp_path / "a.pt"), open_model(tmp_path / "b.safetensors")
        saved = Checkpoint(checkpoint(run, 4)).shared
        for model in (one, other):
            assert (model.network, model.embedding_size, model.channels, model.mean) == ("tiny", D, "rgb", 127.5)
            assert (model.norm_mean, model.norm_std) == (float(saved["quality.mean"]), float(saved["quality.std"]))
            for name, tensor in model.backbone.state_dict().items():
                assert torch.equal(tensor, saved[f"backbone.{name}"])

    @pytest.mark.parametrize("name", ["head.pt", "head.safetensors"])
    def test_class_weights_of_all_ranks(self, run, tmp_path, capsys, name):
        told(capsys, "convert", checkpoint(run, 4), "--head", tmp_path / name, "--to", tmp_path / "model.pt")
        path = tmp_path / name
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
        shards = Checkpoint(checkpoint(run, 4)).shards
        assert list(state) == ["weight"] and state["weight"].shape == (CLASSES, D)
        for shard in shards:
            start, rows = int(shard["head.start"]), shard["head.weight"]
            assert torch.equal(state["weight"][start : start + len(rows)], rows)
        partial_fc = torch.nn.Linear(D, CLASSES, bias=False)  # what arcface_torch's holds on one process
        partial_fc.load_state_dict(state, strict=True)
        assert (tmp_path / "model.pt").exists()

    def test_one_that_is_not_whole_is_refused(self, run, tmp_path):
        damage(run, 4, "flip")
        refused(
            "convert", checkpoint(run, 4), "--to", tmp_path / "m.pt", match="not whole, nothing is made of it: shar"
        )
        assert not (tmp_path / "m.pt").exists()

    def test_a_file_that_is_there_stays(self, run, tmp_path):
        (tmp_path / "m.pt").write_text("mine")
        words = ["convert", str(checkpoint(run, 4)), "--to", str(tmp_path / "m.pt")]
        refused(*words, match="m.pt exists; --overwrite replaces it")
        assert (tmp_path / "m.pt").read_text() == "mine"
        main([*words, "--overwrite"])
        assert open_model(tmp_path / "m.pt").network == "tiny"

    def test_a_file_is_whole_or_not_there(self, run, tmp_path, monkeypatch):
        def fails(state, file):
            file.write(b"half")
            raise OSError(28, "No space left on device")

        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "m.pt").write_text("before")
        monkeypatch.setattr(torch, "save", fails)
        with pytest.raises(OSError, match="No space"):
            main(["convert", str(checkpoint(run, 4)), "--to", str(tmp_path / "out" / "m.pt"), "--overwrite"])
        assert [(p.name, p.read_text()) for p in (tmp_path / "out").iterdir()] == [("m.pt", "before")]

    def test_mistakes(self, run, tmp_path):
        one, to = checkpoint(run, 4), tmp_path / "m.pt"
        refused("convert", one, match="expected --to FILE, --head FILE, or both")
        refused("convert", one, "--to", to, "--head", to, match="different files")
        refused("convert", run, "--to", to, match="is no checkpoint; `python -m tools.checkpoint list RUN`")
        refused(
            "convert", one, "--to", tmp_path / "m.onnx", match=r"m.onnx: expected a name that ends in .pt, .pth, .safe"
        )
        refused("convert", one, "--to", tmp_path / "absent" / "m.pt", match="its folder does not exist")


class TestPrune:
    @pytest.mark.parametrize(("words", "stay"), [(["1"], [6]), (["2"], [4, 6]), (["1", "--keep-every", "2"], [4, 6]),
                                                 (["5"], [2, 4, 6])])  # fmt: skip
    def test_the_rule_of_the_run(self, run, capsys, words, stay):
        room = sum(file.stat().st_size for step in {2, 4, 6} - {*stay} for file in checkpoint(run, step).iterdir())
        code, text = told(capsys, "prune", run, "--keep", *words, "--dry-run")
        assert code == 0 and f"{room / 1e6:,.1f} MB would be free; nothing was removed" in text
        assert steps(run) == [2, 4, 6] and text.count("would remove") == 3 - len(stay)
        code, text = told(capsys, "prune", run, "--keep", *words)
        assert code == 0 and steps(run) == stay and f"{room / 1e6:,.1f} MB are free again" in text
        for step in {2, 4, 6} - {*stay}:
            assert f"removed {checkpoint(run, step)}, " in text

    @pytest.mark.parametrize(("damaged", "stay"), [([6], [4, 6]), ([4, 6], [2, 4, 6]), ([4], [6])])
    def test_a_whole_one_always_stays(self, run, capsys, damaged, stay):
        for step in damaged:
            damage(run, step, "flip")
        words = ["prune", run, "--keep", "2" if damaged == [4, 6] else "1"]
        text = told(capsys, *words)[1]
        assert steps(run) == stay
        assert ("stays, it is the newest whole one" in text) == (6 in damaged)

    def test_nothing_goes_where_none_is_whole(self, run):
        for step in (2, 4, 6):
            damage(run, step, "flip")
        refused(
            "prune", run, "--keep", 1, match="is whole, and nothing was removed: checkpoint .*step_00000006 is damaged"
        )
        assert steps(run) == [2, 4, 6]

    def test_leftovers_go_when_the_user_says_so(self, run, capsys):
        (run / "checkpoints" / ".step_00000008.abc").mkdir()
        (run / "checkpoints" / "step_00000007.damaged").mkdir()
        text = told(capsys, "prune", run, "--keep", 9)[1]
        assert "note: 1 half-written or half-removed" in text and len(leftovers(run / "checkpoints")) == 1
        assert "would remove 1 half" in told(capsys, "prune", run, "--keep", 9, "--leftovers", "--dry-run")[1]
        assert len(leftovers(run / "checkpoints")) == 1
        assert "removed 1 half" in told(capsys, "prune", run, "--keep", 9, "--leftovers")[1]
        assert leftovers(run / "checkpoints") == [] and steps(run) == [2, 4, 6]
        assert (run / "checkpoints" / "step_00000007.damaged").exists()

    def test_mistakes(self, run, tmp_path):
        refused("prune", run, "--keep", 0, match="--keep 0: expected 1 or more")
        refused("prune", run, "--keep", 1, "--keep-every", 0, match="--keep-every 0: expected 1 or more")
        refused("prune", checkpoint(run, 4), "--keep", 1, match="is one checkpoint: expected the folder of a run")
        refused("prune", tmp_path / "absent", "--keep", 1, match="absent does not exist: expected the folder of a run")


def test_mistakes(run, tmp_path):
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    for command in ("list", "verify"):
        refused(command, tmp_path / "absent", match="absent does not exist: expected the folder of a run")
        refused(command, run / "tensorboard", match="tensorboard has none: expected")
    refused("verify", tmp_path / "empty", match="empty has no checkpoint yet")
    refused(match="required: list.verify.convert.prune; python -m tools.checkpoint --help shows how it is used")
    refused("lists", match="invalid choice: 'lists'")


def test_as_a_command(root, run):
    """A mistake is one line and exit code 2."""
    for words, code in ((["verify", str(run)], 0), (["verify", str(run / "nothing")], 2)):
        done = subprocess.run(
            [sys.executable, "-m", "tools.checkpoint", *words], cwd=root, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == code, done.stderr
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


def test_a_run_tells_the_images_that_it_has_seen(finished):
    state = json.loads((checkpoint(finished, 4) / "state.json").read_text())
    assert state["images"] == 4 * 12
