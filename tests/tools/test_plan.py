"""The formulas of recognition/scaling.py against bytes that are really stored and sent, and `python -m tools.plan`."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from recognition import scaling
from recognition.backbones import get_backbone
from recognition.scaling import Setup
from tests import gloo, ranks
from tools import plan

ROOT = Path(__file__).resolve().parents[2]
# 30 images of two views, 301 identities; blocks of 64 columns
CASE = {"N": 301, "D": 256, "Q": 200, "P": 30, "pool": "proxy", "threshold": None, "budget": 2**20, "steps": 7}
CASES = {
    "none": {"pool": "none"},
    "batch": {"pool": "batch"},
    "proxy": {},
    "momentum": {"pool": "momentum"},
    "half": {"queue_dtype": "float16"},
    "adamw": {"optimizer": "adamw"},
    "recomputed": {"budget": 0},
    "partly kept": {"budget": 16_000},
    "gated": {"threshold": 0.45},
    "sampled": {"sample_rate": 0.3},
    "few classes": {"N": 5, "Q": 5},
    "large queue": {"Q": 100_000},
}


def make_setup(case: dict, size: int, **changes) -> Setup:
    setup = Setup(
        case["N"], case["P"], size, case["D"], 2, case.get("sample_rate", 1.0),
        scaling.optimizer_slots(case.get("optimizer", "sgd"), 0.9), case["pool"], case["Q"],
        case.get("queue_dtype", "float32"), case["budget"], block=64,
    )  # fmt: skip
    return setup._replace(**changes)


@pytest.fixture(scope="module")
def stored():
    """(case, ranks) -> what every rank stores, each trained once."""
    found = {}

    def of(name: str, size: int) -> list[dict]:
        if (name, size) not in found:
            case = CASE | {"queue_dtype": "float32"} | CASES[name]
            found[name, size] = gloo.run(size, ranks.storage_of_steps, case)
        return found[name, size]

    return of


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_what_stays_on_a_rank(stored, name, size):
    parts, report = scaling.memory(make_setup(CASE | CASES[name], size)), stored(name, size)
    assert max(rank["W"] for rank in report) == parts["W"]
    assert max(rank["slots"] for rank in report) == parts["W: optimizer slots"]
    assert max(sum(rank[key] for key in ("W", "slots")) for rank in report) <= parts["W"] + parts["W: optimizer slots"]


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", [name for name in CASES if name != "sampled"])
def test_kept_cosines(stored, name, size):
    case = CASE | CASES[name]
    planned = scaling.memory(make_setup(case, size))["cosines, kept"]
    most = max(stored(name, size), key=lambda rank: rank["W"])
    assert most["scratch"][0] == planned
    block = 4 * case["P"] * 2 * 64
    everything = 4 * case["P"] * 2 * most["columns"]
    assert most["kept"] == planned if planned == everything else planned - block < most["kept"] <= planned


@pytest.mark.parametrize("size", [1, 3])
def test_sampled_classes(stored, size):
    setup = make_setup(CASE | CASES["sampled"], size)
    for rank in stored("sampled", size):
        assert rank["kept"] == 4 * setup.samples * rank["columns"]
        assert rank["columns"] == pytest.approx(setup.columns, rel=0.2)  # they are drawn


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_W_is_held_in_blocks_only(stored, name, size):
    case = CASE | CASES[name]
    setup = make_setup(case, size)
    most = max(stored(name, size), key=lambda rank: rank["W"])
    work = {key: flat for key, flat in most["scratch"].items() if key != 0}
    c = min(64, -(-case["N"] // size))
    exact = {"weighted": 4 * setup.samples * case["D"], "g": 4 * c * case["D"], "product": 4 * c * case["D"]}
    if case["budget"] < 2**20:
        exact["block"] = 4 * setup.samples * c
    if (name, size) == ("partly kept", 3):  # all but the last block, which is smaller
        exact["block"] = 4 * setup.samples * (101 - c)
    if name != "sampled":  # there a block holds about as many as c
        assert work == exact
    assert sum(work.values()) <= 1.3 * scaling.memory(setup)["W: gradient, in blocks"]


@pytest.mark.parametrize("name", ["proxy", "momentum", "half", "few classes"])
def test_a_full_queue_on_one_rank(stored, name):
    (report,) = stored(name, 1)
    case = CASE | CASES[name]
    assert report["rows"] == report["slots of the queue"] == case["Q"]
    assert report["queue"] == scaling.memory(make_setup(case, 1))["queue"]


@pytest.mark.parametrize("name", ["proxy", "momentum", "half"])
def test_a_full_queue_on_three_ranks(stored, name):
    setup, report = make_setup(CASE | CASES[name], 3), stored(name, 3)
    assert sum(rank["rows"] for rank in report) == CASE["Q"]
    assert max(rank["rows"] for rank in report) == setup.queue_rows
    row = scaling.row_bytes(CASE["D"], setup.queue_dtype)
    for rank in report:
        assert rank["queue"] == rank["slots of the queue"] * row
        assert rank["rows"] <= rank["slots of the queue"] <= setup.queue_slots


def test_a_ring_grows_no_further_than_its_rows_twice(stored):
    (report,) = stored("large queue", 1)
    assert report["rows"] == CASE["steps"] * CASE["P"] * 2 < CASES["large queue"]["Q"]
    assert report["slots of the queue"] < 2 * report["rows"]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("name", ["none", "proxy", "momentum", "adamw", "recomputed", "sampled"])
def test_the_peak_of_a_step(stored, name, size):
    """Everything together, against the bytes of all tensors that were alive at once."""
    parts = scaling.memory(make_setup(CASE | CASES[name], size))
    report = stored(name, size)
    unused = scaling.memory(make_setup(CASE | CASES[name], size))["queue"] - max(rank["queue"] for rank in report)
    steady = sum(parts.values()) - parts["queue: while it grows"] - unused
    assert 0.97 * max(rank["peak"] for rank in report) <= steady <= 1.2 * max(rank["peak"] for rank in report)
    assert max(rank["highest"] for rank in report) <= 1.03 * sum(parts.values())


@pytest.mark.parametrize("name", ["tiny", "mini"])
def test_backbone(name):
    backbone, images = get_backbone(name, 64), torch.randn(3, 3, 112, 112)
    network = plan.measure(name, 64)
    live = ranks.Live()
    with live:
        h_BD = backbone(images)
    buffers = sum(buffer.nbytes for buffer in backbone.buffers())
    assert network.weights == sum(p.nbytes for p in backbone.parameters())
    assert network.trainable == sum(p.nbytes for p in backbone.parameters() if p.requires_grad)
    assert network.buffers == buffers
    # the images were there before; the features are not saved by their own layer
    measured = live.now + images.nbytes - h_BD.nbytes
    assert measured == pytest.approx(3 * network.activations, rel=0.01)


def test_backbone_under_autocast():
    """Half the bytes, and the weights once more in half precision."""
    backbone, live = get_backbone("mini", 64), ranks.Live()
    images = torch.randn(3, 3, 112, 112)
    setup, network = Setup(10, 3), plan.measure("mini", 64)
    more = {}
    for half in (False, True):
        parts = scaling.memory(setup._replace(half=half), network)
        more[half] = parts["backbone"] + parts["backbone: activations"] - network.weights - 2 * network.buffers
    with live, torch.autocast("cpu", torch.bfloat16):
        h_BD = backbone(images)
        measured = live.now - h_BD.nbytes
    assert measured == pytest.approx(more[True], rel=0.05)
    assert more[True] < 0.7 * more[False]


SCALARS = (".step", "/head.start", "/head.draws", "/queue.ring", "/queue.next_sequence")


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", ["none", "proxy", "momentum", "half", "adamw"])
def test_the_copy_for_checkpoints(tmp_path, name, size):
    case = CASE | {"queue_dtype": "float32", "N": 300, "Q": 300} | CASES[name]
    reports = gloo.run(size, ranks.copies_of_a_checkpoint, case, tmp_path)
    copied, others = [], []
    for report in reports:
        parts = {key: bytes for key, bytes in report.items() if not key.endswith(SCALARS) and "/quality." not in key}
        copied.append(sum(parts.values()))
        others.append(sum(bytes for key, bytes in report.items() if key not in parts))
    setup = make_setup(case, size)
    assert copied[0] == scaling.checkpoint_bytes(setup, plan.measure("tiny", case["D"]))
    assert copied[1:] == [scaling.checkpoint_bytes(setup)] * (size - 1)
    assert max(others) <= 8 * len(reports[0])


PLAIN = {"N": 7, "D": 5, "Q": 13, "P": 7, "threshold": None, "budget": 2**20, "queue_dtype": "float32"}


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("threshold", [None, 0.45])
@pytest.mark.parametrize("pool", ["none", "batch", "momentum", "proxy"])
@pytest.mark.parametrize("h_dtype", [torch.float32, torch.float16])
def test_what_is_sent(size, threshold, pool, h_dtype):
    case = PLAIN | {"pool": pool, "threshold": threshold, "h_dtype": h_dtype}
    network = scaling.Network(0, 4 * (3 + 1) * 2 * case["D"], 0, 0)
    for calls, lq_pairs in gloo.run(size, ranks.collectives_of_a_step, case):
        if threshold is not None and pool != "none":
            assert 0 < lq_pairs < case["P"]
        setup = make_setup(case, size, half=h_dtype == torch.float16)
        planned = [(call.kind, call.payload) for call in scaling.traffic(setup, network, lq_pairs)]
        assert calls[: len(planned) - 2] + calls[-1:] == planned[:-2] + planned[-1:]
        gradients = calls[len(planned) - 2 : -1]  # a CPU sends each parameter's on its own
        assert size == 1 or ("all_reduce", sum(sent for _, sent in gradients)) == planned[-2]


def test_ring_traffic_by_hand():
    assert scaling.Collective("x", "all_gather", 10).sent(4) == 30  # one's own part and two of others go on
    assert scaling.Collective("x", "all_reduce", 40).sent(4) == 60  # 3 parts to reduce, 3 to spread
    assert scaling.Collective("x", "all_reduce", 40).sent(1) == scaling.Collective("x", "all_gather", 40).sent(1) == 0


def test_accumulated_batches_are_sent_one_by_one_and_the_gradient_once():
    setup, network = Setup(100, 8, 2), scaling.Network(0, 12, 0, 0)
    once, thrice = scaling.traffic(setup, network), scaling.traffic(setup._replace(gradient_acc=3), network)
    assert thrice == once[:-2] * 3 + once[-2:]


def test_a_run_that_does_not_fit_is_refused():
    setup = Setup(10_000_000, 1024, 8, views=2, pool="proxy", queue_size=10_000_000)
    needed = scaling.classifier_bytes(setup)
    rows = 10_000_000 // 8
    assert needed == 2 * rows * 512 * 4 + 2 * rows * (512 * 4 + 20)
    scaling.check_fits(setup, needed)
    with pytest.raises(
        ValueError, match="num_classes=10000000, embedding_size=512, queue_size=10000000 in float32, ranks=8: 9.6 GiB"
    ):
        scaling.check_fits(setup, needed - 1)
    scaling.check_fits(setup._replace(queue_dtype="float16"), needed - 1)
    both = needed + 2 * rows * 512 * 4 + rows * (512 * 4 + 20)  # on a CPU, what is saved is there twice
    scaling.check_fits(setup, both, host=True)
    with pytest.raises(ValueError, match="16.8 GiB are needed"):
        scaling.check_fits(setup, both - 1, host=True)
    with pytest.raises(ValueError, match="19.1 GiB are needed on a rank, 1.0 GiB are free there; use more ranks"):
        scaling.check_fits(Setup(10_000_000, 128, slots=0), 2**30)


def run(capsys, *words: str) -> tuple[int, str, str]:
    code = plan.main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def test_the_plan_of_a_config(capsys):
    code, out, err = run(capsys, "vgg2_r34_qgface", "ranks=4", "classes=8_631", "gpu_gib=24")
    assert (code, err) == (0, "")
    assert "8,631 identities, 512 images of 2 views a batch, 4 x cuda" in out
    assert "backbone: activations" in out and "total, of 24.0 GiB" in out and "all_reduce" in out
    assert out.splitlines()[-1].startswith("host memory, copy for checkpoints: ")  # not the GPU's
    code, out, _ = run(capsys, "vgg2_r34_arcface", "classes=8631", "gpu_gib=80", "total_batch_size=64")
    assert code == 0 and "queue" not in out and "nothing is sent" in out


def test_a_run_that_cannot_fit_is_warned_of(capsys):
    code, out, err = run(capsys, "vgg2_r34_qgface", "ranks=2", "classes=10_000_000", "gpu_gib=24")
    assert code == 1 and "total, of 24.0 GiB" in out
    assert err.startswith("warning: a rank needs ") and err.count("\n") == 1
    assert "more ranks" in err and "queue_dtype='float16'" in err and "queue_size" in err
    code, _, err = run(capsys, "vgg2_r34_qgface", "classes=1000", "gpu_gib=4")
    assert code == 1 and "fewer images a rank" in err
    # a CPU's processes share the machine's memory
    code, out, err = run(capsys, "vgg2_r34_qgface", "classes=10_000_000", "ranks=64", "device=cpu", "network=tiny")
    assert code == 1 and "64 x cpu" in out and "| host memory, copy for checkpoints | " in out


def test_the_smallest_gpu_is_the_limit(monkeypatch):
    gpus = [SimpleNamespace(total_memory=80 * 2**30), SimpleNamespace(total_memory=24 * 2**30)]
    cuda = SimpleNamespace(device_count=lambda: len(gpus), get_device_properties=lambda i: gpus[i])
    monkeypatch.setattr(torch, "get_device_module", lambda kind: cuda)
    assert plan.room("auto", None, 8) == plan.room("cuda", None, 8) == ("cuda", 24 * 2**30)
    assert plan.room("auto", 40.0, 8) == ("cuda", 40 * 2**30)
    assert plan.room("cpu", None, 8)[0] == "cpu"
    gpus.clear()
    assert plan.room("auto", None, 2)[0] == "cpu"
    with pytest.raises(ValueError, match="no GPU is here: gpu_gib=80 says"):
        plan.room("cuda", None, 8)


def test_identities_come_from_the_data(capsys, tmp_path):
    for i in range(3):
        (tmp_path / f"person_{i}").mkdir()
        (tmp_path / f"person_{i}" / "0.jpg").write_bytes(b"")
    code, out, _ = run(capsys, "demo", f"rec={tmp_path}", "device=cpu")
    assert code == 0 and out.startswith("3 identities, 64 images of 2 views a batch, 1 x cpu")


@pytest.mark.parametrize(
    "words, message",
    [
        (["demo", "rank=8"], "unknown key 'rank' on the command line: did you mean 'ranks'?"),
        (["demo", "classe=8"], "did you mean 'classes'?"),
        (["demo", "ranks=0"], "ranks=0: expected a positive integer"),
        (["demo", "ranks=2.5"], "ranks=2.5: expected a positive integer"),
        (["demo", "classes=-3"], "classes=-3: expected a positive integer"),
        (["demo", "gpu_gib=nan"], "gpu_gib=nan: expected a positive number of GiB"),
        (["demo", "gpu_gib=80", "device=cpu"], "gpu_gib=80 with device='cpu'"),
        (["demo", "nework=r50"], "unknown key 'nework' in the command line: did you mean 'network'?"),
        (["dmeo"], "no config 'dmeo': did you mean demo?"),
        (["demo", "ranks"], "ranks=: expected a positive integer"),
        (["demo", "classes=9", "network=r51"], "unknown network 'r51'"),
        (["vgg2_r34_qgface", "rec=/nowhere"], "no num_classes; say classes=N (data /nowhere does not exist"),
    ],
)
def test_mistyped_words(words, message):
    with pytest.raises(ValueError) as trouble:
        plan.main(words)
    assert message in str(trouble.value)


def test_the_command_ends_as_every_command(root):
    def command(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", "tools.plan", *words], cwd=root, capture_output=True, text=True)

    wrong = command("demo", "rank=8")
    assert wrong.returncode == 2 and not wrong.stdout
    assert wrong.stderr == "error: unknown key 'rank' on the command line: did you mean 'ranks'?\n"
    assert command("demo", "classes=120", "gpu_gib=0.1").returncode == 1


def test_the_tables_of_the_documentation(capsys):
    _, out, _ = run(capsys, "--table")
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert out in text
    for name in ("mbf", "r18", "r34", "r50", "r100"):
        network, needs = plan.measure(name, 512), []
        for half in (False, True):
            parts = scaling.memory(Setup(1000, 1024, 8, views=2, half=half), network)
            needs.append(sum(size for part, size in parts.items() if part.startswith("backbone")) / 2**30)
        row = f"{network.weights / 2**20:.1f} MiB | {network.activations / 2**20:.1f} MiB"
        assert f"| {name} | {row} | {needs[0]:.1f} GiB | {needs[1]:.1f} GiB |" in text
