"""Whole runs on damaged records, and on several sets of data, on one and on several processes."""

import re
import struct
from pathlib import Path

import pytest
import torch

from recognition.data.recordio import RecordFile, RecordWriter
from tests import faces
from tests.test_train import QGFACE, losses, train
from train import main

CUT, MAGIC, LABEL = 9, 30, 50  # keys of what is damaged


def set_of(root: Path, **counts) -> Path:
    """Records and an empty config, as `train` starts a run on them."""
    faces.write_records(root, **counts)
    (root / "run.py").write_text("from easydict import EasyDict as edict\n\nconfig = edict()\n")
    return root


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> Path:
    """88 images: one is cut, one has no magic word, one a label that is no class."""
    root = set_of(tmp_path_factory.mktemp("damaged"))
    idx = [int(line.split("\t")[1]) for line in (root / "train.idx").read_text().splitlines()]
    content = bytearray((root / "train.rec").read_bytes())
    end = content.rindex(b"\xff\xd9", idx[CUT], idx[CUT + 1])
    content[end : end + 2] = bytes(2)
    content[idx[MAGIC]] ^= 1
    struct.pack_into("<f", content, idx[LABEL] + 12, 11.0)  # after the part's 8 bytes and the flag
    (root / "train.rec").write_bytes(content)
    return root


def keys(text: str) -> list[int]:
    return [int(key) for key in re.findall(r"\bkey (\d+)", text)]


def test_damaged_samples_are_skipped_alike_on_one_and_two_processes(damaged, tmp_path):
    """Each damaged sample falls to one process of the two; an epoch of 11 steps takes all 88 images."""
    for processes in (1, 2):
        words = [*QGFACE, "corrupt=skip", "total_batch_size=8", "num_epoch=2", f"output={tmp_path / str(processes)}"]
        done = train(damaged, *words, f"num_workers={processes - 1}", processes=processes)
        assert done.returncode == 0, done.stderr
        for epoch in (0, 1):
            said = re.search(rf"epoch {epoch}: 3 damaged samples were left out\n((?:  .*\n?)+)", done.stdout)
            assert said and sorted(keys(said[1])) == [CUT, MAGIC, LABEL], done.stdout
        lines = (tmp_path / str(processes) / "damaged.txt").read_text().splitlines()
        assert [line.split("\t")[1] for line in lines] == ["epoch 0"] * 3 + ["epoch 1"] * 3
        assert [sorted(keys("\n".join(part))) for part in (lines[:3], lines[3:])] == [[CUT, MAGIC, LABEL]] * 2
    alone, together = ((tmp_path / name / "damaged.txt").read_text() for name in "12")
    assert alone == together and "it is cut" in alone and "no record at byte" in alone and "has label 11" in alone
    assert len(losses(tmp_path / "1")) == 22
    torch.testing.assert_close(losses(tmp_path / "1"), losses(tmp_path / "2"), rtol=2e-4, atol=2e-4)


@pytest.mark.slow
def test_a_run_that_stops_at_damage_says_one_line(damaged, tmp_path):
    done = train(damaged, "total_batch_size=8", f"output={tmp_path / 'run'}", processes=2)
    assert done.returncode == 2 and done.stderr.count("error:") == 1 and "Traceback" not in done.stderr, done.stderr
    assert keys(done.stderr)[0] in (CUT, MAGIC, LABEL)
    assert re.search("^error: ", done.stderr, re.MULTILINE)  # not at the end of the progress bar


@pytest.mark.slow
def test_a_run_resumes_after_damage_as_if_it_had_not_stopped(damaged, tmp_path):
    words = ["corrupt=skip", "batch_size=8", f"output={tmp_path / 'run'}"]
    assert train(damaged, *words, "num_epoch=1").returncode == 0
    with (tmp_path / "run" / "damaged.txt").open("a") as file:
        file.write("step 12\tepoch 1\ttold by a run that was killed before its next checkpoint\n")
    done = train(damaged, *words, "num_epoch=2", "resume=True", "resume_changes=['num_epoch']")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "run" / "damaged.txt").read_text().splitlines()
    assert [line.split("\t")[1] for line in lines] == ["epoch 0"] * 3 + ["epoch 1"] * 3


def test_a_list_of_folders_and_a_window_of_shards(damaged, tmp_path):
    """Two sets whose identities are different people; the second is in shards."""
    other = set_of(tmp_path / "other", identities=5, photos=6)
    shards = tmp_path / "shards"
    shards.mkdir()
    records = RecordFile(other / "train.rec", other / "train.idx")
    for place in range(3):
        with RecordWriter(shards / f"train-{place:05}.rec", shards / f"train-{place:05}.idx") as writer:
            for key in range(10 * place + 1, 10 * place + 11):
                writer.write(key, records.read(key))
    (shards / "property").write_text("5,112,112")
    words = [f"rec={[str(damaged), str(shards)]}", "corrupt=skip", "shuffle_shards=2", "batch_size=8", "num_epoch=1"]
    done = train(other, *words, "num_classes=16", "num_image=118", f"output={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert "118 images of 16 identities" in done.stdout and "train.rec + " in done.stdout
    assert len(losses(tmp_path / "run")) == 14


@pytest.mark.parametrize(
    "words, message",
    [
        (["rec=[]"], "rec=[] names no data"),
        (["rec=[{data}, 7]"], "expected str, got int"),
        (["shuffle_shards=2"], "shuffle_shards=2: the data has no shards"),
        (["dali=True"], "dali=True needs a GPU, and corrupt='stop'"),
        (["rec=nonsense://train.json"], "nonsense://train.json cannot be read: ValueError: Protocol not known"),
        (["rec=memory://none/train.json"], "memory://none/train.json cannot be read: FileNotFoundError"),
    ],
    ids=lambda words: str(words)[:24],
)
def test_mistakes_about_the_data_are_one_line(damaged, tmp_path, words, message):
    words = [word.format(data=repr(str(damaged))) if "{data}" in word else word for word in words]
    words = [f"rec={damaged}", "network=tiny", "batch_size=8", "device=cpu", f"output={tmp_path / 'run'}", *words]
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        main([str(damaged / "run.py"), *words])
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()
