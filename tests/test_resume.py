"""A run that is stopped anywhere and goes on, on as many ranks or another number, ends as the uninterrupted one."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import train as train_py
from tests import faces, gloo, ranks
from utils.checkpoint import Checkpoint, every

WORDS = [
    *("network=tiny", "embedding_size=16", "frequent=2", "num_workers=0", "lr=0.02", "total_batch_size=12"),
    *("views=('original','augmented')", "loss=adaface", "quality_threshold=0.2", "quality_ema=0.5", "quality_std=1"),
    *("num_epoch=2", "save_every=1", "keep_checkpoints=99", "queue_size=40", "verbose=5", "val_targets=['pairs']"),
]
POOLS = {
    "proxy": [],
    "momentum": ["encoder_momentum=0.9"],
    "batch": ["optimizer=adamw", "gradient_acc=2", "num_epoch=3"],
}
LAST = 14  # two epochs of 7 steps; with two batches a step three of 3
COLUMNS = 4  # the queue's ring and the classes go through several blocks: their sums depend on where they begin


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    faces.write_records(root)
    faces.write_pairs(root / "pairs.bin")
    (root / "run.py").write_text("from easydict import EasyDict as edict\n\nconfig = edict()\n")
    return root


def run(size: int, data: Path, output: Path, *words: str) -> list[list[int]]:
    """A run on so many ranks; returns its samples by step."""
    given = [str(data / "run.py"), f"rec={data}", f"output={output}", *WORDS, *words]
    return gloo.run(size, ranks.train, given, COLUMNS)[0]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """(ranks, pool) -> folder and order of an uninterrupted run."""
    made = {}

    def get(size: int, pool: str) -> tuple[Path, list[list[int]]]:
        if (size, pool) not in made:
            output = tmp_path_factory.mktemp("whole") / "run"
            made[size, pool] = output, run(size, data, output, f"pool={pool}", *POOLS[pool])
        return made[size, pool]

    return get


def cut(source: Path, target: Path, step: int) -> None:
    """The folder as it is when the run is killed some time after `step`: later lines are in its logs already."""
    shutil.copytree(source, target)
    for path in every(target / "checkpoints"):
        if int(path.name[5:]) > step:
            shutil.rmtree(path)
    for name in ("results.json", "model.pt"):
        (target / name).unlink()


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, those of several ranks joined by class or by age."""
    saved = Checkpoint(path)
    joined = {name: saved.shared[name] for name in saved.shared.names()}
    for name in saved.shards[0].names():
        if name not in ("head.start", "queue.ring", "queue.next_sequence"):
            joined[name] = torch.cat([shard[name] for shard in saved.shards])
    if "queue.sequence_K" in joined:
        age = joined["queue.sequence_K"].argsort()
        joined |= {name: value[age] for name, value in joined.items() if name.startswith("queue.")}
        joined["queue.next_sequence"] = saved.shards[0]["queue.next_sequence"]
    return joined


def log(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("time", "samples_per_s")} for line in lines]


def assert_same(one: Path, other: Path, exact: bool) -> None:
    """Two finished runs: weights, momentum, queue, statistics, counters and logs."""
    first, second = tensors(every(one / "checkpoints")[-1]), tensors(every(other / "checkpoints")[-1])
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0 if exact else 2e-3, atol=0 if exact else 2e-4, msg=name)
    lines, others = log(one), log(other)
    assert [line["step"] for line in lines] == [line["step"] for line in others]
    for line, theirs in zip(lines, others, strict=True):
        assert line.keys() == theirs.keys()
        for name, value in line.items():
            assert theirs[name] == (value if exact or "val/" in name else pytest.approx(value, rel=2e-4, abs=2e-4)), (
                name
            )
    parts = [Checkpoint(every(folder / "checkpoints")[-1]).state["parts"] for folder in (one, other)]
    if exact:
        assert parts[0] == parts[1]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("pool", POOLS)
def test_resumed_on_as_many_ranks_it_is_the_same_to_the_last_bit(data, whole, tmp_path, size, pool):
    reference, order = whole(size, pool)
    steps = range(1, len(order) // (2 if pool == "batch" else 1)) if size == 1 else (3,)
    for step in steps:
        cut(reference, tmp_path / str(step), step)
        again = run(size, data, tmp_path / str(step), f"pool={pool}", *POOLS[pool])
        assert again == order[-len(again) :] and again
        assert_same(reference, tmp_path / str(step), exact=True)


@pytest.mark.parametrize("after", [1, 2, 3, 4])
@pytest.mark.parametrize("before", [1, 2, 3, 4])
def test_resumed_on_another_number_of_ranks(data, whole, tmp_path, before, after):
    if before == after:
        return
    reference, order = whole(before, "proxy")
    cut(reference, tmp_path / "run", 5)
    again = run(after, data, tmp_path / "run", "pool=proxy")
    assert again == order[5:]
    assert_same(reference, tmp_path / "run", exact=False)


def test_a_run_lets_go_of_the_checkpoint_that_it_went_on_from(data, whole, tmp_path, monkeypatch):
    """Pruned later, it would keep its room on the disk until the run ends."""
    cut(whole(1, "batch")[0], tmp_path / "run", 3)
    maps, save = [], train_py.Run.save

    def saving(*arguments):
        maps.append(Path("/proc/self/maps").read_text())
        save(*arguments)

    monkeypatch.setattr(train_py.Run, "save", saving)
    run(1, data, tmp_path / "run", "pool=batch", *POOLS["batch"])
    assert maps and not [text for text in maps if str(tmp_path) in text]
