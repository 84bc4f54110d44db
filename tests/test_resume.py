"""A run that is stopped anywhere and goes on, on as many ranks or another number, ends as the uninterrupted one."""

import json
import shutil
from itertools import permutations
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
    "diagnose_every=3",
]
POOLS = {
    "proxy": [],
    "momentum": ["encoder_momentum=0.9"],
    "batch": ["optimizer=adamw", "gradient_acc=2", "num_epoch=3"],
}
LAST = 14  # two epochs of 7 steps; with two batches a step three of 3
CLOSE = 1e-4  # float32 sums in another order, four steps long
COLUMNS = 4  # the queue's ring and the classes go through several blocks: their sums depend on where they begin


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return faces.write_run(tmp_path_factory.mktemp("faces"))


def run(size: int, data: Path, output: Path, *words: str, columns: int | None = COLUMNS) -> dict:
    """A run on so many ranks; see `ranks.train`."""
    given = [str(data / "run.py"), f"rec={data}", f"output={output}", *WORDS, *words]
    return gloo.run(size, ranks.train, given, columns)[0]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """(ranks, pool) -> folder and order of an uninterrupted run."""
    made = {}

    def get(size: int, pool: str) -> tuple[Path, list[list[int]]]:
        if (size, pool) not in made:
            output = tmp_path_factory.mktemp("whole") / "run"
            made[size, pool] = output, run(size, data, output, f"pool={pool}", *POOLS[pool])["order"]
        return made[size, pool]

    return get


def cut(source: Path, target: Path, step: int) -> Path:
    """The folder as it is when the run is killed some time after `step`: later lines are in its logs already.

    Returns:
        The checkpoint of that step.
    """
    shutil.copytree(source, target)
    for path in every(target / "checkpoints"):
        if int(path.name[5:]) > step:
            shutil.rmtree(path)
    for name in ("results.json", "model.pt"):
        (target / name).unlink()
    return every(target / "checkpoints")[-1]


def joined(shared: dict, shards: list[dict]) -> dict[str, torch.Tensor]:
    """All tensors of a run, those of several ranks by class or by age."""
    tensors = dict(shared)
    for name in shards[0]:
        if name not in ("head.start", "queue.ring", "queue.next_sequence"):
            tensors[name] = torch.cat([shard[name] for shard in shards])
    if "queue.sequence_K" in tensors:
        age = tensors["queue.sequence_K"].argsort()
        tensors |= {name: value[age] for name, value in tensors.items() if name.startswith("queue.")}
        tensors["queue.next_sequence"] = shards[0]["queue.next_sequence"]
    return tensors


def saved(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, joined."""
    checkpoint = Checkpoint(path)
    return joined(checkpoint.shared.below(""), [shard.below("") for shard in checkpoint.shards])


def log(folder: Path, name: str = "metrics.jsonl") -> list[dict]:
    path = folder / name
    told = name == "metrics.jsonl" or path.exists()  # a short run has no diagnostics
    lines = [json.loads(line) for line in path.read_text().splitlines()] if told else []
    return [{key: value for key, value in line.items() if key not in ("time", "samples_per_s")} for line in lines]


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Relative to the norm of the first; 0 only where all bits are equal."""
    assert one.shape == other.shape and one.dtype == other.dtype
    if torch.equal(one, other):
        return 0.0
    return float((one.double() - other.double()).norm() / one.double().norm())


def assert_ended_alike(one: Path, other: Path, exact: bool) -> None:
    """Two runs: weights, momentum, queue, statistics, counters and logs."""
    first, second = saved(every(one / "checkpoints")[-1]), saved(every(other / "checkpoints")[-1])
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert difference(value, second[name]) <= (0 if exact else CLOSE), name
    lines, others = log(one), log(other)
    assert [line["step"] for line in lines] == [line["step"] for line in others]
    for line, theirs in zip(lines, others, strict=True):
        assert line.keys() == theirs.keys()
        for name, value in line.items():
            if name.startswith("val/") and not exact and not name.endswith("xnorm"):
                continue  # a count of pairs beyond a threshold, which may lie between two scores
            close = value if exact or value is None else pytest.approx(value, rel=CLOSE, abs=CLOSE)
            assert theirs[name] == close, (line["step"], name)
    if exact:
        assert log(one, "diagnostics.jsonl") == log(other, "diagnostics.jsonl")
        parts = [Checkpoint(every(folder / "checkpoints")[-1]).state["parts"] for folder in (one, other)]
        assert parts[0] == parts[1]


@pytest.mark.parametrize("pool", POOLS)
def test_resumed_after_any_step_it_is_the_same_to_the_last_bit(data, whole, tmp_path, pool):
    reference, order = whole(1, pool)
    batches = len(order) // (9 if pool == "batch" else 14)  # of a step
    for step in range(1, len(order) // batches, 1 if pool == "proxy" else 4):
        cut(reference, tmp_path / str(step), step)
        again = run(1, data, tmp_path / str(step), f"pool={pool}", *POOLS[pool])["order"]
        assert again == order[step * batches :] and again
        assert_ended_alike(reference, tmp_path / str(step), exact=True)


@pytest.mark.parametrize(("size", "pool"), [(1, "proxy"), (2, "momentum"), (2, "batch")])
def test_diagnostics_change_nothing_to_the_last_bit(data, whole, tmp_path, size, pool):
    reference, order = whole(size, pool)
    assert run(size, data, tmp_path / "run", f"pool={pool}", *POOLS[pool], "diagnose_every=0")["order"] == order
    seen = [line for line in log(reference) if "diag/lq_pairs" in line]
    assert [line["step"] for line in seen] == [*range(3, log(reference)[-1]["step"] + 1, 3)]
    assert [line for line in log(reference) if line not in seen] == log(tmp_path / "run")
    first, second = (saved(every(folder / "checkpoints")[-1]) for folder in (reference, tmp_path / "run"))
    assert {name for name in first if name not in second} == (
        {"diagnostics.u_SD", "diagnostics.sequence_S"} if pool == "proxy" else set()
    )
    assert all(torch.equal(value, first[name]) for name, value in second.items())


@pytest.mark.parametrize("size", [2, *(pytest.param(size, marks=pytest.mark.slow) for size in (3, 4))])
@pytest.mark.parametrize("pool", POOLS)
def test_on_as_many_ranks_too(data, whole, tmp_path, size, pool):
    reference, _ = whole(size, pool)
    cut(reference, tmp_path / "run", 4)
    run(size, data, tmp_path / "run", f"pool={pool}", *POOLS[pool])
    assert_ended_alike(reference, tmp_path / "run", exact=True)


def test_with_every_option_of_the_released_code_and_beyond_it_too(data, tmp_path):
    """What they keep is in the checkpoint: statistics of the first rank, the threshold, two groups of parameters."""
    beyond = (
        "quality_lq_share=0.3",
        "quality_source=direction",
        "consistency_weight=0.5",
        "contrast_ramp=(0.5,1)",
        "keep_checkpoints=99",
    )
    words = ("preset=official", "network=mini", "pool=proxy", *beyond, "num_epoch=1", "val_targets=[]")
    run(2, data, tmp_path / "whole", *words)
    cut(tmp_path / "whole", tmp_path / "cut", 4)
    run(2, data, tmp_path / "cut", *words)
    assert_ended_alike(tmp_path / "whole", tmp_path / "cut", exact=True)
    lines = [line for line in log(tmp_path / "whole") if "loss_contrastive" in line]
    assert lines[-1]["loss_contrastive"] > 0 and lines[-1]["skipped"] == 0
    assert saved(every(tmp_path / "whole" / "checkpoints")[-1])["quality.direction_D"].norm() > 0
    b = float(saved(every(tmp_path / "whole" / "checkpoints")[-1])["quality.b"])
    assert b == lines[-1]["threshold"] != pytest.approx(0.2)


@pytest.mark.parametrize(
    ("before", "after"),
    [(1, 2), (2, 1), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in permutations([1, 2, 3, 4], 2)
                       if max(pair) > 2)],
)  # fmt: skip
def test_on_another_number_of_ranks_the_state_is_the_same_and_what_follows_equal_but_for_rounding(
    data, whole, tmp_path, before, after
):
    reference, order = whole(before, "proxy")
    before_it = saved(cut(reference, tmp_path / "run", 10))  # rounding grows from step to step
    again = run(after, data, tmp_path / "run", "pool=proxy")
    assert again["order"] == order[10:]
    loaded = joined(again["shared"][0], again["sharded"])
    assert loaded.keys() == before_it.keys()
    assert not [name for name, value in before_it.items() if difference(value, loaded[name])]
    for shared in again["shared"][1:]:
        assert not [name for name, value in again["shared"][0].items() if difference(value, shared[name])]
    assert_ended_alike(reference, tmp_path / "run", exact=False)


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


@pytest.mark.parametrize("words", [[], ["overwrite=True"]])
def test_killed_after_its_last_step_it_still_ends_with_that_model_and_its_results(data, whole, tmp_path, words):
    reference, _ = whole(1, "proxy")
    cut(reference, tmp_path / "run", LAST)
    (tmp_path / "run" / "model.pt").write_text("of an earlier step")
    assert run(1, data, tmp_path / "run", "pool=proxy", *words)["order"] == []
    model = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    backbone = Checkpoint(every(tmp_path / "run" / "checkpoints")[-1]).shared.below("backbone.")
    assert model.keys() == backbone.keys() and all(torch.equal(model[name], backbone[name]) for name in model)
    results = [json.loads((at / "results.json").read_text()) for at in (tmp_path / "run", reference)]
    assert results[0]["targets"] == results[1]["targets"]
    assert_ended_alike(reference, tmp_path / "run", exact=True)


def test_a_run_that_is_told_to_end_earlier_than_it_has_come_is_evaluated_where_it_is(data, whole, tmp_path):
    cut(whole(1, "proxy")[0], tmp_path / "run", 8)
    assert run(1, data, tmp_path / "run", "pool=proxy", "max_step=6")["order"] == []
    assert [line["step"] for line in log(tmp_path / "run") if "val/pairs/accuracy" in line] == [5, 8]


def test_the_watchdog_waits_with_a_step_for_the_other_ranks_and_lets_evaluations_take_their_time(
    data, whole, tmp_path, monkeypatch
):
    cut(whole(1, "proxy")[0], tmp_path / "run", 5)
    metrics = tmp_path / "run" / "metrics.jsonl"
    trained = [line for line in metrics.read_text().splitlines(keepends=True) if "val/" not in line]
    metrics.write_text("".join(trained))  # killed in the evaluation after step 5, which comes first now
    events = []

    def noting(owner, name):
        method = getattr(owner, name)

        def noted(*arguments, **options):
            events.append(name)
            return method(*arguments, **options)

        monkeypatch.setattr(owner, name, noted)

    for name in ("__init__", "beat", "pause", "resume", "close"):
        noting(train_py.Watchdog, name)
    noting(train_py.Run, "agree")
    noting(train_py, "evaluate")
    run(1, data, tmp_path / "run", "pool=proxy")
    changes = {"__init__": True, "resume": True, "pause": False, "close": False}
    watching, seen = False, []
    for event, after in zip(events, [*events[1:], "end"], strict=True):
        watching = changes.get(event, watching)
        seen += [watching] * (event == "evaluate")
        assert event != "beat" or after == "agree"
    assert events.count("beat") == LAST - 5 and seen == [False] * 3  # after steps 5, 10 and 14


def test_what_begins_anew_cannot_be_started_again_by_the_launcher(data, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")
    with pytest.raises(ValueError, match="resume=False begins anew at each restart"):
        run(1, data, tmp_path / "run", "resume=False")
    assert not (tmp_path / "run").exists()
