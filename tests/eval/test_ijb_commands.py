"""python -m eval.ijb_11 and eval.ijb_1n, from the flags to files, tables and messages."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve

from eval import ijb_1n, ijb_11
from recognition.backbones import get_backbone
from tests.ijb import GALLERY, PROBES, layout, subject, write_ijb


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "IJBB"
    write_ijb(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.pt"
    torch.manual_seed(0)
    torch.save(get_backbone("tiny", 32).state_dict(), path)
    return path


def features(seed=0):
    generator = np.random.default_rng(seed)
    h = np.eye(8)[[who for *_, who in layout()]] + 0.7 * generator.normal(size=(len(layout()), 8))
    return h.astype(np.float32)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "features.npy"
    np.save(path, features())
    return path


def flags(folder, out, *more):
    return ["--image-path", str(folder), "--result-dir", str(out), "--target", "IJBB", *map(str, more)]


def cells(printed, first):
    """The row of a printed table that begins with `first`."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines()]
    (row,) = [row for row in rows if row[0] == first]
    return row[1:]


def test_a_model_end_to_end(folder, model, tmp_path, capsys):
    common = ["--model-prefix", model, "--network", "tiny", "--embedding-size", 32, "--batch-size", 16, "--job", "own"]
    ijb_11.main(flags(folder, tmp_path, *common, "--device", "cpu"))
    printed = capsys.readouterr().out
    scores = np.load(tmp_path / "own" / "ijbb.npy")
    assert scores.shape == (GALLERY * PROBES,) and scores.dtype == np.float64 and np.abs(scores).max() <= 1 + 1e-12
    assert (tmp_path / "own" / "ijbb.pdf").read_bytes()[:5] == b"%PDF-"
    assert (tmp_path / "own" / "ijbb.png").read_bytes()[:4] == b"\x89PNG"
    issame = [subject(a) == subject(b) for a in range(GALLERY) for b in range(GALLERY, GALLERY + PROBES)]
    far, tar, _ = roc_curve(issame, scores)
    far, tar = far[::-1], tar[::-1]
    expected = [f"{100 * tar[np.argmin(np.abs(far - x))]:.2f}" for x in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)]
    assert cells(printed, "ijbb-IJBB") == expected
    assert cells(printed, "Methods") == ["1e-06", "1e-05", "0.0001", "0.001", "0.01", "0.1"]
    assert "takes rgb" in printed and "features kept" not in printed
    ijb_1n.main(flags(folder, tmp_path, *common, "--device", "cpu"))
    printed = capsys.readouterr().out
    assert "own-IJBB" in printed and "features kept" in printed
    ijb_1n.main(flags(folder, tmp_path, *common, "--device", "cpu", "--no-flip", "--no-cache"))
    assert "features kept" not in capsys.readouterr().out


def test_features_of_elsewhere_need_no_images(folder, saved, tmp_path, capsys):
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "meta").symlink_to(folder / "meta")
    ijb_11.main(flags(bare, tmp_path, "--features", saved))
    one = np.load(tmp_path / "insightface" / "ijbb.npy")
    # InsightFace's arrays: image beside mirror image
    h = features()
    np.save(saved, np.hstack([0.25 * h, 0.75 * h]))
    ijb_11.main(flags(bare, tmp_path, "--features", saved, "--embedding-size", 8, "--job", "halves"))
    assert np.allclose(np.load(tmp_path / "halves" / "ijbb.npy"), one, atol=1e-6)
    np.save(saved, np.hstack([h, np.ones_like(h)]))
    ijb_11.main(flags(bare, tmp_path, "--features", saved, "--embedding-size", 8, "--no-flip", "--job", "half"))
    assert np.array_equal(np.load(tmp_path / "half" / "ijbb.npy"), one)
    for flag in ("--no-norm-score", "--no-detector-score"):
        np.save(saved, h)
        ijb_11.main(flags(bare, tmp_path, "--features", saved, flag, "--job", flag[2:]))
        assert np.abs(np.load(tmp_path / flag[2:] / "ijbb.npy") - one).max() > 1e-3
    capsys.readouterr()


def test_several_score_files_in_one_table(folder, saved, tmp_path, capsys):
    ijb_11.main(flags(folder, tmp_path, "--features", saved, "--job", "first"))
    np.save(saved, features(1))
    np.save(tmp_path / "other.npy", np.load(tmp_path / "first" / "ijbb.npy").astype(np.float32))
    alone = cells(capsys.readouterr().out, "ijbb-IJBB")
    compare = ["--compare", tmp_path / "first" / "ijbb.npy", tmp_path / "other.npy"]
    ijb_11.main(flags(folder, tmp_path, "--features", saved, "--job", "second", *compare))
    printed = capsys.readouterr().out
    assert cells(printed, "ijbb-first-IJBB") == cells(printed, "other-IJBB") == alone
    assert cells(printed, "ijbb-second-IJBB")


def test_identification_table(folder, tmp_path, capsys):
    h = np.eye(8, dtype=np.float32)[[who for *_, who in layout()]]
    np.save(tmp_path / "perfect.npy", h)
    ijb_1n.main(flags(folder, tmp_path, "--features", tmp_path / "perfect.npy"))
    printed = capsys.readouterr().out
    for name in ("rank1", "rank5", "rank10", "tpir@fpir=0.01", "tpir@fpir=0.1"):
        assert cells(printed, name) == ["100.00", "100.00"]


def test_mistakes_are_one_line(folder, saved, model, tmp_path):
    h = features()
    cases = {"nan": h.copy(), "ints": h.astype(int), "few": h[:40], "flat": h[0]}
    cases["nan"][[3, 7], 2] = np.nan
    for name, array in cases.items():
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "text.npy").write_text("no array")
    np.savez(tmp_path / "many.npz", h=h)
    expected = {
        "nan.npy": "features of 2 of 48 images hold NaN or infinity, the first is image 3",
        "ints.npy": "expected \\(images, dimension\\) of floating",
        "few.npy": "features of 40 images, but ijbb has 48",
        "flat.npy": "expected \\(images, dimension\\)",
        "text.npy": "text.npy is no array of features",
        "many.npz": "is an archive",
    }
    for name, message in expected.items():
        for main in (ijb_11.main, ijb_1n.main):
            with pytest.raises(ValueError, match=message):
                main(flags(folder, tmp_path, "--features", tmp_path / name))
    with pytest.raises(FileNotFoundError):
        ijb_11.main(flags(folder, tmp_path, "--features", tmp_path / "absent.npy"))
    with pytest.raises(ValueError, match="has 8 columns: no mirror image.s half to leave out"):
        ijb_11.main(flags(folder, tmp_path, "--features", saved, "--no-flip"))
    for both in ([], ["--features", saved, "--model-prefix", model]):
        with pytest.raises(ValueError, match="--model-prefix MODEL or --features FILE.npy"):
            ijb_11.main(flags(folder, tmp_path, *both))
    np.save(tmp_path / "short.npy", np.zeros(59))
    for name, message in (("short.npy", r"holds \(59,\) float64; expected \(60,\)"), ("text.npy", "no score file")):
        with pytest.raises(ValueError, match=message):
            ijb_11.main(flags(folder, tmp_path, "--features", saved, "--compare", tmp_path / name))


def test_no_lists_of_1n(tmp_path, saved):
    write_ijb(tmp_path / "IJBB")
    for path in (tmp_path / "IJBB" / "meta").glob("*_1N_*"):
        path.unlink()
    with pytest.raises(ValueError, match="meta: has no ijbb_1N_gallery"):
        ijb_1n.main(flags(tmp_path / "IJBB", tmp_path, "--features", saved))


def test_exit_code(folder, saved, tmp_path, root):
    words = flags(folder, tmp_path, "--features", saved)
    words[words.index("IJBB")] = "IJBC"
    done = subprocess.run([sys.executable, "-m", "eval.ijb_11", *words], cwd=root, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and "was --target IJBB meant" in done.stderr
