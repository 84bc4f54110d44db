"""Whole runs as a user starts them: through the launcher, on one and on several processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from recognition.models import open_model
from tests import faces, ranks
from tests.packing import write_folder
from utils.bins import write_bin
from utils.jpeg import encode
from utils.stop import STOPPING

ROOT = Path(__file__).resolve().parents[1]
COMMON = ["network=tiny", "embedding_size=32", "frequent=1", "num_workers=0", "lr=0.02"]
QGFACE = [
    "views=('original','augmented')",
    "loss=adaface",
    "quality_threshold=0.2",
    "quality_ema=0.5",
    "pool=proxy",
    "quality_std=1",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return faces.write_run(tmp_path_factory.mktemp("faces"))


def command(data: Path, *words: str, processes: int = 1) -> list[str]:
    start = [sys.executable, str(ROOT / "utils" / "launch.py"), "--standalone", "--nproc-per-node", str(processes)]
    return [*start, str(ROOT / "train.py"), str(data / "run.py"), f"rec={data}", *COMMON, *words]


def environment() -> dict:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def train(data: Path, *words: str, processes: int = 1) -> subprocess.CompletedProcess:
    arguments = command(data, *words, processes=processes)
    return subprocess.run(arguments, env=environment(), capture_output=True, text=True, timeout=120)


def lines(folder: Path) -> list[dict]:
    """Of the training; those of evaluations are left out."""
    every = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in every if "lr" in line]


def losses(folder: Path) -> torch.Tensor:
    return torch.tensor([[line["loss_classification"], line["loss_contrastive"]] for line in lines(folder)])


def test_twenty_steps_are_the_same_on_one_and_two_processes(data, tmp_path):
    for processes in (1, 2):
        words = [*QGFACE, "total_batch_size=9", "max_step=20", f"output={tmp_path / str(processes)}"]
        done = train(data, *words, "val_targets=['pairs']", processes=processes)
        assert done.returncode == 0, done.stderr
    alone, together = losses(tmp_path / "1"), losses(tmp_path / "2")
    assert len(alone) == 20 and (alone[5:, 1] > 0).any()
    torch.testing.assert_close(alone, together, rtol=2e-4, atol=2e-4)
    alone, together = (json.loads((tmp_path / n / "results.json").read_text())["targets"]["pairs"] for n in "12")
    assert 0 <= alone["accuracy"] <= 1 and together == pytest.approx(alone, abs=0.08)
    model = torch.load(tmp_path / "1" / "model.pt", weights_only=True)
    other = torch.load(tmp_path / "2" / "model.pt", weights_only=True)
    torch.testing.assert_close(model, other, rtol=2e-3, atol=2e-4)
    (tmp_path / "1" / "config.json").unlink()  # the model says itself what it is
    opened = open_model(tmp_path / "1" / "model.pt")
    assert (opened.network, opened.channels, opened.mean, opened.std) == ("tiny", "rgb", 127.5, 127.5)


@pytest.mark.parametrize("resumed_on", [1, 2])
def test_a_resumed_run_ends_as_the_uninterrupted_one(data, tmp_path, resumed_on):
    words = [*QGFACE, "total_batch_size=12", "num_epoch=3"]
    assert train(data, *words, f"output={tmp_path / 'whole'}").returncode == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    newest = max((tmp_path / "cut" / "checkpoints").iterdir())
    shutil.rmtree(newest)
    (tmp_path / "cut" / "model.pt").unlink()
    done = train(data, *words, f"output={tmp_path / 'cut'}", "resume=True", processes=resumed_on)
    assert done.returncode == 0, done.stderr
    whole, cut = lines(tmp_path / "whole"), lines(tmp_path / "cut")
    assert [line["step"] for line in whole] == [line["step"] for line in cut] == list(range(1, 22))
    exact = resumed_on == 1
    models = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "cut")]
    torch.testing.assert_close(*models, rtol=0 if exact else 2e-3, atol=0 if exact else 2e-4)
    tolerance = 0 if exact else 2e-4
    torch.testing.assert_close(losses(tmp_path / "whole"), losses(tmp_path / "cut"), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "words",
    [
        ["pool=momentum", *QGFACE[:4], "quality_std=1"],
        ["pool=batch", *QGFACE[:4], "quality_std=1", "gradient_acc=2", "optimizer=adamw"],
        ["sample_rate=0.5", "fp16=True", "amp_dtype=bfloat16", "views=('augmented',)", "augment=adaface"],
        ["lr_schedule=step", "lr_milestones=(1,)", "warmup_epoch=1", "dropout=0.2", "num_workers=2"],
    ],
    ids=lambda words: words[0],
)
def test_the_other_ways_to_train(data, tmp_path, words):
    done = train(data, *words, "batch_size=8", "num_epoch=2", f"output={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    totals = losses(tmp_path / "run").sum(1)
    steps_per_epoch = 11 // (2 if "gradient_acc=2" in words else 1)  # a batch that fills no step is left out
    assert len(totals) == 2 * steps_per_epoch and (totals > 0).all()


def test_a_cpu_computes_in_bfloat16_and_never_in_float16(data, tmp_path):
    found = {}
    for amp_dtype, said in (("none", "float32"), ("float16", "float32"), ("bfloat16", "autocast bfloat16")):
        words = [] if amp_dtype == "none" else ["fp16=True", f"amp_dtype={amp_dtype}"]
        done = train(data, *QGFACE, *words, "batch_size=8", "max_step=4", f"output={tmp_path / amp_dtype}")
        assert done.returncode == 0, done.stderr
        assert f"1 x cpu, {said}" in done.stdout
        found[amp_dtype] = losses(tmp_path / amp_dtype)
    assert torch.equal(found["float16"], found["none"])
    assert not torch.equal(found["bfloat16"], found["none"])
    torch.testing.assert_close(found["bfloat16"][:1], found["none"][:1], rtol=0.02, atol=0.02)


def test_accumulated_batches_are_one_large_batch(data, tmp_path):
    """Without statistics over the batch (CosFace), two batches of 6 give the gradient of one of 12."""
    for words in (["batch_size=12"], ["batch_size=6", "gradient_acc=2"]):
        words += ["max_step=4", "margin_list=(1,0,0.4)", f"output={tmp_path / words[0]}"]
        assert train(data, *words).returncode == 0
    torch.testing.assert_close(losses(tmp_path / "batch_size=12"), losses(tmp_path / "batch_size=6"))


MISTAKES = {
    "unknown key": (["btach_size=4"], "did you mean 'batch_size'"),
    "other data than stated": (["num_classes=12"], "num_classes=12 in the config, but"),
    "no data": (["rec=/nowhere"], "data /nowhere does not exist"),
    "no GPU": (["device=cuda"], "use device=cpu"),
    "no network": (["network=r51"], "did you mean 'r50'"),
    "batch too large": (["batch_size=1000"], "larger than the data set of 88 images"),
    "contrast on one view": (["pool=proxy"], "needs ('original', 'augmented')"),
    "not a folder": (["output=/dev/null/run"], "cannot be written"),
    "nothing to resume": (["resume=True"], "no checkpoint in"),
    "augmentation option": (["augment_options={'crop_aera': (0.5, 1)}"], "crop_area"),
    "not a model": (["pretrained={data}/train.rec"], "is not a PyTorch state dict"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(data, tmp_path, name):
    words, message = MISTAKES[name]
    words = [word.format(data=data) if "{data}" in word else word for word in words]
    done = train(data, f"output={tmp_path / 'run'}", "batch_size=8", "max_step=2", *words)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.strip().startswith("error: ") and "\n" not in done.stderr.strip()
    assert not (tmp_path / "run" / "results.json").exists()


@pytest.mark.parametrize(
    ("word", "message"), [("network=r51", "did you mean 'r50'"), ("sync_bn=True", "for GPUs only")]
)
def test_two_processes_say_an_error_once(data, tmp_path, word, message):
    done = train(data, word, "batch_size=8", f"output={tmp_path}", processes=2)
    assert (done.returncode, done.stderr.count("error:")) == (2, 1) and message in done.stderr, done.stderr


def test_earlier_results_are_left_alone(data, tmp_path):
    words = ["batch_size=8", "max_step=2", f"output={tmp_path / 'run'}"]
    words = [str(data / "run.py"), f"rec={data}", *COMMON, *words]
    ranks.train(words)
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    for extra, message in (
        (["resume=False"], "of a run; resume='auto' continues one that has checkpoints"),
        (["overwrite=True", "rec=/nowhere"], "does not exist"),
        (["overwrite=True", "network=r51"], "did you mean"),
        (["resume=True", "network=mbf"], "of another run: network='tiny', now 'mbf'"),
        (["resume=True", "embedding_size=16"], "of another run: embedding_size=32, now 16"),
        (["resume=True", "batch_size=4"], "total_batch_size=8 keeps it"),
        (["resume=True", "optimizer=adamw"], "of another run: optimizer='sgd', now 'adamw'"),
    ):
        with pytest.raises(ValueError) as caught:  # one line and exit code 2, as every mistake
            ranks.train([*words, *extra])
        assert message in str(caught.value)
        assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before
    written = (tmp_path / "run" / "model.pt").stat().st_mtime_ns
    ranks.train([*words, "overwrite=True"])
    assert (tmp_path / "run" / "model.pt").stat().st_mtime_ns > written


def test_images_that_are_passed_over_are_told_once(data, tmp_path, capsys):
    photos = write_folder(tmp_path / "photos")
    (next(photos.iterdir()) / "phone.heic").write_bytes(b"")
    words = ["val_targets=[]", "batch_size=2", "max_step=1", f"output={tmp_path / 'run'}"]
    ranks.train([str(data / "run.py"), f"rec={photos}", *COMMON, *words])
    assert capsys.readouterr().out.count(f"note: {photos}: 1 .heic passed over") == 1


def test_a_cut_image_stops_the_run_with_its_key(data, tmp_path):
    root = tmp_path / "cut"
    shutil.copytree(data, root)
    content = bytearray((root / "train.rec").read_bytes())
    offset = int((root / "train.idx").read_text().split("\n")[5].split("\t")[1])
    end = content.index(b"\xff\xd9", offset)
    content[end : end + 2] = b"\0\0"
    (root / "train.rec").write_bytes(content)
    for workers in (0, 1):
        done = train(root, "batch_size=8", "max_step=20", f"num_workers={workers}", f"output={tmp_path / 'run'}")
        assert done.returncode == 2
        assert "train.rec: key 5" in done.stderr and "it is cut" in done.stderr and "Traceback" not in done.stderr
        shutil.rmtree(tmp_path / "run")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_fails_before_its_first_checkpoint_gives_the_old_results_back(data, tmp_path, processes):
    words = ["batch_size=4", "max_step=2", f"output={tmp_path / 'run'}"]
    assert train(data, *words, "val_targets=['pairs']").returncode == 0
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    broken = tmp_path / "broken"
    shutil.copytree(data, broken)
    content = (broken / "train.rec").read_bytes()  # every image is cut, but for the first and the last
    whole = content.index(b"\xff\xd9") + 2, content.rindex(b"\xff\xd8")
    middle = content[whole[0] : whole[1]].replace(b"\xff\xd9", b"\0\0")
    (broken / "train.rec").write_bytes(content[: whole[0]] + middle + content[whole[1] :])
    done = train(broken, *words, "overwrite=True", processes=processes)
    assert done.returncode == 2 and "it is cut" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr and done.stderr.count("error:") == 1, done.stderr
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


def test_a_resumed_run_forgets_a_torn_line_and_writes_its_config_again(data, tmp_path):
    words = ["batch_size=8", f"output={tmp_path / 'run'}"]
    assert train(data, *words, "num_epoch=1").returncode == 0
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12, "ep')
    done = train(data, *words, "num_epoch=2", "resume=True", "resume_changes=['num_epoch']")
    assert done.returncode == 0, done.stderr
    assert [line["step"] for line in lines(tmp_path / "run")] == list(range(1, 23))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["num_epoch"] == 2


def test_a_verification_set_is_checked_before_the_training(data, tmp_path):
    root = tmp_path / "faces"
    shutil.copytree(data, root)
    whole = (root / "pairs.bin").read_bytes()
    cut = whole.replace(b"\xff\xd9", b"\0\0", 1)
    for content, message in ((cut, "pairs.bin: image 0 of 80 cannot be used"), (whole[:-9], "pairs.bin is no verif")):
        (root / "pairs.bin").write_bytes(content)
        done = train(root, "batch_size=8", "val_targets=['pairs']", f"output={tmp_path / 'run'}", processes=2)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
        assert not (tmp_path / "run").exists()
    faces.write_pairs(root / "pairs.bin", pairs=6)
    done = train(root, "batch_size=8", "val_targets=['pairs']", f"output={tmp_path / 'run'}")
    assert done.returncode == 2 and "pairs.bin has 6 pairs: expected at least one for each of 10 folds" in done.stderr


def test_an_image_that_cannot_be_decoded_costs_a_target_and_not_the_run(data, tmp_path):
    root = tmp_path / "faces"
    shutil.copytree(data, root)
    images = [encode(faces.photo(number, 0)) for number in range(40)]
    images[33] = images[33][:-60] + images[33][-2:]  # its header is whole
    write_bin(root / "damaged.bin", images, [True, False] * 10)
    targets = "val_targets=['damaged','pairs','surveillance:train']"
    done = train(root, "batch_size=8", "max_step=2", targets, f"output={tmp_path / 'run'}", processes=2)
    assert done.returncode == 0, done.stderr
    said = "damaged was not evaluated: damaged.bin: image 33 of 40 cannot be used"
    assert said in done.stdout + done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(results["targets"]) == ["pairs", "surveillance:train"]
    key = open_model(tmp_path / "run" / "model.pt").key()  # noted as an evaluation does: tools.compare looks for it
    assert results["provenance"]["pairs"]["options"] == {"fusion": "sum", **key}
    drawn = {path.name for path in (tmp_path / "run" / "results").glob("*.svg")}
    assert {"pairs_roc.svg", "surveillance_train_cmc.svg"} <= drawn
    report = (tmp_path / "run" / "report.html").read_text()
    assert "On pairs" in report and "Classification" in report and "<img " in report
    assert f"report      {os.path.relpath(tmp_path / 'run')}/report.html" in done.stdout


def test_a_process_that_dies_is_named(data, tmp_path):
    (tmp_path / "dies.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    start = [sys.executable, str(ROOT / "utils" / "launch.py"), "--standalone", "--nproc-per-node", "1"]
    done = subprocess.run([*start, str(tmp_path / "dies.py")], env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "error: process 0 ended with signal SIGKILL; the others were stopped\n",
    )


def children_of(folder: Path) -> list[str]:
    found = subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True)
    return found.stdout.split()


def test_ctrl_c_leaves_no_process_behind(data, tmp_path):
    words = ["batch_size=8", "num_epoch=1000", "num_workers=1", f"output={tmp_path / 'run'}"]
    process = subprocess.Popen(
        command(data, *words, processes=2), env=environment(), start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    deadline = time.time() + 60
    while not (tmp_path / "run" / "metrics.jsonl").exists() and time.time() < deadline:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in stderr and STOPPING in stderr, stderr
    deadline = time.time() + 10
    while children_of(tmp_path) and time.time() < deadline:
        time.sleep(0.2)
    assert not children_of(tmp_path)


def test_the_partition_may_go_by_what_the_augmentation_has_left(data, tmp_path):
    words = [*COMMON, *QGFACE, "quality_source=sharpness", "quality_threshold=0.5", "max_step=2", "batch_size=16"]
    words = [str(data / "run.py"), f"rec={data}", *words, "augment=qgface", f"output={tmp_path / 'run'}"]
    ranks.train(words)  # no view keeps more than half of its side, and every original keeps it all
    assert [(line["lq_pairs"], line["hq_samples"]) for line in lines(tmp_path / "run")] == [(1.0, 0.5)] * 2
    with pytest.raises(ValueError, match="quality_source='sharpness' goes with"):
        ranks.train([*words, "quality_lq_share=0.1", f"output={tmp_path / 'other'}"])
