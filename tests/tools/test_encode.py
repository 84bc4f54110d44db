"""`tools.encode`, `tools.compare` and `tools.search` through their command lines."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from eval.__main__ import main as evaluate
from recognition import FaceEncoder
from recognition.yunet import YuNet
from tests.faces import photo, write_pairs
from tests.onnx_files import photo_for_yunet, pooled, yunet
from tools import compare, encode, search
from tools.gallery import GalleryWriter, open_gallery
from utils.align import TEMPLATE, align

CONTRACT = {"channels": "rgb", "mean": "127.5", "std": "127.5"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A model, 30 faces of 10 people in a folder of folders, and their features by `FaceEncoder`."""
    root = tmp_path_factory.mktemp("data")
    model = pooled(root / "m.onnx", **CONTRACT)
    for person in range(10):
        (root / "faces" / f"{person}").mkdir(parents=True)
        for number in range(3):
            cv2.imwrite(str(root / "faces" / f"{person}" / f"{number}.png"), photo(person, number)[:, :, ::-1])
    paths = [str(root / "faces" / f"{person}" / f"{number}.png") for person in range(10) for number in range(3)]
    u, z = FaceEncoder.open(model, batch_size=4).encode(paths)
    return SimpleNamespace(root=root, model=model, faces=root / "faces", paths=paths, u=u, z=z)


@pytest.fixture(scope="module")
def features(data):
    encode.main([str(data.model), str(data.faces), "--output", str(data.root / "f"), "--batch-size", "4"])
    return data.root / "f"


def test_a_folder_becomes_features_norms_and_names(data, features):
    assert np.array_equal(np.load(features / "features.npy"), data.u)
    assert np.array_equal(np.load(features / "norms.npy"), data.z)
    assert (features / "names.txt").read_text().splitlines() == data.paths
    facts = json.loads((features / "encoding.json").read_text())
    assert facts["model"] == FaceEncoder.open(data.model).model.key() and facts["photos"] == 30
    assert sorted(path.name for path in features.iterdir() if path.suffix) == [
        "encoding.json", "features.npy", "names.txt", "norms.npy",
    ]  # fmt: skip


def test_a_model_with_statistics_gives_indicators(data, tmp_path, monkeypatch):
    encoder = FaceEncoder.open(data.model)
    encoder.model = replace(encoder.model, norm_mean=2.0, norm_std=0.5)
    monkeypatch.setattr(encode, "open_encoder", lambda *_: encoder)
    encode.main([str(data.model), data.paths[0], data.paths[1], "--output", str(tmp_path / "f")])
    assert np.array_equal(
        np.load(tmp_path / "f" / "indicators.npy"), encoder.indicator(encoder.encode(data.paths[:2])[1])
    )


def test_lists_files_and_folders_together(data, tmp_path):
    (tmp_path / "list.txt").write_text(f"{data.paths[7]}\n\n{data.paths[1]}\n")
    words = [str(data.model), str(tmp_path / "list.txt"), data.paths[0], str(data.faces / "9")]
    encode.main([*words, "--output", str(tmp_path / "f")])
    chosen = [7, 1, 0, 27, 28, 29]
    assert list(open_gallery(tmp_path / "f").names) == [data.paths[index] for index in chosen]
    assert np.allclose(open_gallery(tmp_path / "f").u, data.u[chosen], atol=1e-6)


def test_photos_are_aligned_by_a_list_of_landmarks(data, tmp_path):
    large = np.random.default_rng(0).integers(0, 256, (240, 260, 3), dtype=np.uint8)
    points = {"a b.png": TEMPLATE + 60, "c.png": TEMPLATE * 1.5 + 20}
    (tmp_path / "p").mkdir()
    for name in points:
        cv2.imwrite(str(tmp_path / "p" / name), large[:, :, ::-1])
    lines = [f"{name} {' '.join(map(str, where.ravel()))}" for name, where in points.items()]
    (tmp_path / "points.txt").write_text("\n".join(lines))
    words = [str(data.model), str(tmp_path / "p"), "--output", str(tmp_path / "f")]
    with pytest.raises(ValueError, match=r"a b.png cannot be used: 260 x 240 pixels.*--landmarks"):
        encode.main(words)
    encode.main([*words, "--landmarks", str(tmp_path / "points.txt")])
    expected, _ = FaceEncoder.open(data.model).encode([align(large, where) for where in points.values()])
    assert np.allclose(open_gallery(tmp_path / "f").u, expected, atol=1e-6)
    (tmp_path / "points.txt").write_text(lines[0].replace("a b", "other"))
    with pytest.raises(ValueError, match="has no landmarks of these photos: it names other.png"):
        encode.main([*words, "--landmarks", str(tmp_path / "points.txt"), "--force"])


def test_photos_of_one_name_do_not_share_landmarks(data, tmp_path):
    large = np.random.default_rng(0).integers(0, 256, (240, 260, 3), dtype=np.uint8)
    points = {"a": TEMPLATE + 60, "b": TEMPLATE * 1.5 + 20}
    for name in points:
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "1.png"), large[:, :, ::-1])
    paths = [str(tmp_path / name / "1.png") for name in points]
    lines = ["1.png", *paths], [TEMPLATE, *points.values()]
    text = [f"{name} {' '.join(map(str, where.ravel()))}\n" for name, where in zip(*lines, strict=True)]
    (tmp_path / "points.txt").write_text("".join(text))
    words = [str(data.model), *paths, "--landmarks", str(tmp_path / "points.txt"), "--output", str(tmp_path / "f")]
    encode.main(words)
    expected, _ = FaceEncoder.open(data.model).encode([align(large, where) for where in points.values()])
    assert np.allclose(open_gallery(tmp_path / "f").u, expected, atol=1e-6)
    (tmp_path / "points.txt").write_text(text[0])
    with pytest.raises(ValueError, match=r"calls both .*a/1.png and .*b/1.png 1.png; expected their whole paths"):
        encode.main([*words, "--force"])


def test_photos_are_aligned_by_a_detector(data, tmp_path):
    network = yunet(tmp_path / "yunet.onnx")
    large = photo_for_yunet()
    cv2.imwrite(str(tmp_path / "face.png"), large[:, :, ::-1])
    cv2.imwrite(str(tmp_path / "none.png"), np.zeros_like(large))
    words = [str(data.model), str(tmp_path / "face.png"), str(tmp_path / "none.png"), "--bad", "skip"]
    encode.main([*words, "--detector", str(network), "--output", str(tmp_path / "f")])
    detector = YuNet(network)
    expected, _ = FaceEncoder.open(data.model).encode([align(large, detector(large))])
    assert np.array_equal(open_gallery(tmp_path / "f").u, expected)
    assert (
        tmp_path / "f" / "skipped.txt"
    ).read_text() == f"{tmp_path / 'none.png'}\tthe detector finds no face in it\n"
    assert json.loads((tmp_path / "f" / "encoding.json").read_text())["detector"] == detector.digest


def test_bad_photos_stop_or_are_left_out_and_named(data, tmp_path, capsys):
    (tmp_path / "bad.jpg").write_bytes(b"junk")
    words = [str(data.model), data.paths[0], str(tmp_path / "bad.jpg"), data.paths[1], "--output", str(tmp_path / "f")]
    with pytest.raises(ValueError, match="bad.jpg cannot be used: .*--bad skip"):
        encode.main(words)
    assert not (tmp_path / "f" / "encoding.json").exists()
    encode.main([*words, "--bad", "skip"])
    assert list(open_gallery(tmp_path / "f").names) == data.paths[:2]
    assert np.allclose(open_gallery(tmp_path / "f").u, data.u[:2], atol=1e-6)
    assert (tmp_path / "f" / "skipped.txt").read_text().startswith(f"{tmp_path / 'bad.jpg'}\t4 bytes")
    assert "left out 1 photos" in capsys.readouterr().err
    with pytest.raises(ValueError, match="none of the 1 photos can be used"):
        encode.main([str(data.model), str(tmp_path / "bad.jpg"), "--bad", "skip", "--output", str(tmp_path / "none")])


@pytest.mark.parametrize("after", [1, 2, 5])
def test_a_run_that_was_ended_goes_on_to_the_same_bytes(data, features, tmp_path, monkeypatch, capsys, after):
    words = [str(data.model), str(data.faces), "--output", str(tmp_path / "f"), "--batch-size", "4"]
    written, whole = [], GalleryWriter.write

    def write(self, batch):
        if len(written) == after:
            raise KeyboardInterrupt
        written.append(batch)
        monkeypatch.setattr(self._journal, "due", lambda: True)
        whole(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(GalleryWriter, "write", write)
        with pytest.raises(KeyboardInterrupt):
            encode.main(words)
    assert not list((tmp_path / "f").glob("*.*y"))
    encode.main(words)
    assert f"going on after {4 * after} of 30" in capsys.readouterr().out
    for name in ("features.npy", "norms.npy", "names.txt", "encoding.json"):
        assert (tmp_path / "f" / name).read_bytes() == (features / name).read_bytes()


def test_what_is_there_is_not_lost(data, features):
    with pytest.raises(ValueError, match="holds encoding.json already"):
        encode.main([str(data.model), data.paths[0], "--output", str(features)])


@pytest.mark.parametrize(
    ("photos", "said"),
    [
        (["none"], "none does not exist"),
        (["empty"], "holds no images"),
        (["phone"], "^phone: 1 .heic passed over, only .jpg, .jpeg, .png, .bmp are read; convert them$"),
        (["a.png", "a.png"], "is named twice"),
        (["a.webp"], r"is it binary\?; expected an image \(.jpg, .jpeg, .png, .bmp\) or a list"),
    ],
)
def test_photos_that_are_not_there(data, tmp_path, monkeypatch, photos, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "phone" / "2026").mkdir(parents=True)
    (tmp_path / "phone" / "2026" / "1.HEIC").write_bytes(b"")
    (tmp_path / "a.webp").write_bytes(b"RIFF\0\0")
    with pytest.raises(ValueError, match=said):
        encode.main([str(data.model), *photos, "--output", "f"])
    with pytest.raises(ValueError, match="expected the name of a folder"):
        encode.main([str(data.model), *photos, "--output", "f.npz"])


def test_photos_of_a_folder_that_cannot_be_read_are_counted(data, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.webp", "b.WEBP", "c.heic", "readme.txt"):
        (photos / name).write_bytes(b"")
    (photos / "d.png").write_bytes(Path(data.paths[0]).read_bytes())
    encode.main([str(data.model), str(photos), "--output", str(tmp_path / "f")])
    said = capsys.readouterr().err.splitlines()
    assert f"note: {photos}: 2 .webp, 1 .heic passed over, only .jpg, .jpeg, .png, .bmp are read; convert them" in said


def test_search_finds_what_every_cosine_finds(data, features, tmp_path, capsys):
    output = tmp_path / "found.csv"
    search.main([str(features), data.paths[4], "--model", str(data.model), "--top", "3", "--output", str(output)])
    with output.open() as file:
        rows = list(csv.DictReader(file))
    cosines = data.u.astype(np.float64) @ data.u[4]
    best = np.argsort(-cosines)[:3]
    assert [row["photo"] for row in rows] == [data.paths[index] for index in best]
    assert [row["rank"] for row in rows] == ["1", "2", "3"] and {row["probe"] for row in rows} == {data.paths[4]}
    assert np.allclose([float(row["similarity"]) for row in rows], cosines[best], atol=1e-6)


def test_search_of_a_folder_in_itself_and_of_foreign_arrays(data, features, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(search, "PROBES", 7)
    search.main([str(features), str(features), "--top", "1"])
    shown = capsys.readouterr().out.split("\n")
    assert shown[0::2][:30] == data.paths and [line.split()[-1] for line in shown[1::2]] == data.paths
    np.save(tmp_path / "own.npy", 3 * data.u[[5, 2]])
    search.main([str(features), str(tmp_path / "own.npy"), "--top", "1"])
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == [
        "0", data.paths[5], "1", data.paths[2],
    ]  # fmt: skip


def test_features_that_do_not_belong_together(data, features, tmp_path):
    other = pooled(tmp_path / "other.onnx", **CONTRACT | {"mean": "0"})
    with pytest.raises(ValueError, match="encoded by different models"):
        search.main([str(features), data.paths[0], "--model", str(other)])
    np.save(tmp_path / "narrow.npy", data.u[:, :5])
    with pytest.raises(ValueError, match="of 12 dimensions, .* of 5"):
        search.main([str(features), str(tmp_path / "narrow.npy")])
    for words in (["--top", "0"], ["--output", "f.txt"], ["--detector", "y.onnx"]):
        with pytest.raises(ValueError, match="expected|of no meaning without --model"):
            search.main([str(features), str(features), *words])
    for photos in (data.paths[0], str(data.faces)):
        with pytest.raises(ValueError, match="photos need --model, which encodes them"):
            search.main([str(features), photos])


def test_search_makes_the_folder_of_its_output(features, tmp_path):
    search.main([str(features), str(features), "--top", "1", "--output", str(tmp_path / "new" / "found.csv")])
    assert len((tmp_path / "new" / "found.csv").read_text().splitlines()) == 31
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="output folder .*file cannot be written"):
        search.main([str(features), str(features), "--output", str(tmp_path / "file" / "found.csv")])


def test_damaged_features(features, tmp_path):
    def copy(name):
        folder = tmp_path / name
        folder.mkdir()
        for path in features.glob("*.*"):
            (folder / path.name).write_bytes(path.read_bytes())
        return folder

    for name, content, said in [
        ("features.npy", b"", "cannot be read as features"),
        ("features.npy", (features / "features.npy").read_bytes()[:-9], "cannot be read as features"),
        ("features.npy", (features / "norms.npy").read_bytes(), r"expected a .npy array \(n, D\)"),
        ("names.txt", b"a\n", "30 features and 1 names"),
        ("encoding.json", b"{", "damaged or of another format"),
        ("encoding.json", b"[]", "damaged or of another format"),
    ]:
        folder = copy(f"{name}-{len(content)}-{len(list(tmp_path.iterdir()))}")
        (folder / name).write_bytes(content)
        with pytest.raises(ValueError, match=said):
            open_gallery(folder)
    with pytest.raises(ValueError, match="holds no features"):
        open_gallery(tmp_path)
    np.savez(tmp_path / "archive.npz", a=np.ones((2, 2)))
    with pytest.raises(ValueError, match="an archive"):
        open_gallery(tmp_path / "archive.npz")


def test_compare_tells_similarity_and_norms(data, capsys):
    compare.main([str(data.model), data.paths[0], data.paths[3]])
    out = capsys.readouterr().out
    assert f"similarity {data.u[0] @ data.u[3]:.4f}" in out and f"{data.paths[3]}: norm {data.z[3]:.2f}\n" in out
    assert "no verdict: the model has no evaluation beside it" in out and "person" not in out


@pytest.mark.parametrize(("off", "said"), [(-0.01, "same person: "), (0.01, "different persons: ")])
def test_compare_with_a_threshold(data, capsys, off, said):
    threshold = str(float(data.u[0] @ data.u[3]) + off)
    compare.main([str(data.model), data.paths[0], data.paths[3], "--threshold", threshold])
    assert f"\n{said}" in capsys.readouterr().out


def test_compare_with_an_evaluation(data, tmp_path, capsys, monkeypatch):
    """The threshold is that of the pairs of strangers, on features of image and mirror image."""
    model = pooled(tmp_path / "m.onnx", **CONTRACT)
    write_pairs(tmp_path / "lfw.bin", pairs=60)
    evaluate([str(model), "--data", str(tmp_path), "--target", "lfw", "--no-cache"])
    words = [str(model), data.paths[0], data.paths[1]]
    capsys.readouterr()
    compare.main(words)
    assert "no verdict: lfw has 30 pairs of strangers, a rate of 1e-3 needs 1000" in capsys.readouterr().out
    compare.main([*words, "--target", "cfp_fp"])
    assert "does not have cfp_fp but lfw" in capsys.readouterr().out

    monkeypatch.setattr(compare, "FAR", 0.1)
    monkeypatch.setattr(compare, "LEAST", 10)
    compare.main(words)
    encoder = FaceEncoder.open(model)
    images = [photo(0, 0), photo(0, 1)]
    h = []
    for image in images:
        u, z = encoder.encode([image, np.ascontiguousarray(image[:, ::-1])])
        h.append((u * z[:, None]).sum(0))
    cosine = h[0] @ h[1] / np.linalg.norm(h[0]) / np.linalg.norm(h[1])
    with np.load(tmp_path / "m_results" / "lfw.npz") as evidence:
        strangers = np.sort(1 - evidence["dist"][~evidence["issame"]] / 2)
    said = capsys.readouterr().out.splitlines()[-1]
    verdict = "same person" if cosine > strangers[-4] else "different persons"  # 3 of 30 may be above
    assert said.startswith(f"{verdict}: {cosine:.4f} with mirror images is ")
    assert f"the threshold {strangers[-4]:.4f} (at a false accept rate of 1e-1 on lfw" in said


def test_an_evaluation_of_another_model_gives_no_verdict(data, tmp_path, capsys):
    model = pooled(tmp_path / "m.onnx", **CONTRACT)
    write_pairs(tmp_path / "lfw.bin", pairs=20)
    evaluate([str(model), "--data", str(tmp_path), "--target", "lfw", "--no-cache"])
    pooled(model, **CONTRACT | {"std": "128"})
    compare.main([str(model), data.paths[0], data.paths[1]])
    assert "is of another model, or of one that took pixels in another way" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--threshold 3.0: expected a cosine"):
        compare.main([str(model), data.paths[0], data.paths[1], "--threshold", "3"])
