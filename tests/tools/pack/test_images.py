"""python -m tools.pack: images of other formats and sizes, bad ones, and photos with landmarks."""

import cv2
import numpy as np
import pytest

from recognition.yunet import YuNet
from tests.onnx_files import photo_for_yunet, yunet
from tests.packing import packed, refused, tree, write_folder
from tools.pack.__main__ import main as pack
from utils.align import TEMPLATE, align
from utils.jpeg import decode, encode


@pytest.fixture
def faces(tmp_path):
    return write_folder(tmp_path / "faces")


# ----- images that are not as they should be --------------------------------------------------------------------------


def test_other_formats_and_sizes(faces, tmp_path):
    image = decode((faces / "ben" / "0.jpg").read_bytes())
    png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    (faces / "ben" / "1.png").write_bytes(png)
    out = {name: data for name, _, data, _ in packed(tmp_path / "out", faces)}
    assert out["ben/1.png.jpg"] == encode(image, 95)
    assert len(out) == 11
    large = cv2.resize(image, (448, 224))
    (faces / "ben" / "1.jpg").write_bytes(encode(large, 100))
    refused(faces, "--output", tmp_path / "b", match=r"ben/1.jpg: 448 x 224 pixels: expected .* 112 x 112; .*--resize")
    out = {name: data for name, _, data, _ in packed(tmp_path / "c", faces, "--resize", "--quality", 80)}
    middle = cv2.resize(large[:, 112:336], (112, 112), interpolation=cv2.INTER_AREA)
    assert np.abs(decode(out["ben/1.jpg"]).astype(int) - middle).mean() < 8
    assert out["ben/0.jpg"] == (faces / "ben" / "0.jpg").read_bytes()
    small = {name: data for name, _, data, _ in packed(tmp_path / "d", faces, "--resize", "--side", 64)}
    assert {decode(data).shape for data in small.values()} == {(64, 64, 3)}
    assert (tmp_path / "d" / "property").read_text() == "3,64,64"


def test_bad_images(faces, tmp_path, capsys):
    (faces / "ben" / "0.jpg").write_bytes((faces / "anna" / "0.jpg").read_bytes()[:-40])
    (faces / "ben" / "1.jpg").write_bytes(b"no image")
    (faces / "cara" / "0.jpg").unlink()
    (faces / "cara" / "0.jpg").mkdir()
    out = tmp_path / "out"
    refused(faces, "--output", out, match=r"ben/0.jpg: .*it is cut; mend it .* --bad skip")
    assert not (out / "train.rec").exists()
    images = packed(out, faces, "--bad", "skip")  # goes on with what is there
    assert [label for _, label, _, _ in images] == [0] * 5 + [2] * 2
    skipped = (out / "skipped.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in skipped] == ["ben/0.jpg", "ben/1.jpg", "cara/0.jpg"]
    said = capsys.readouterr()
    assert "going on after 5 of 10" in said.out and "7 images of 3 identities" in said.out
    assert "left out 3 images" in said.err and "ben/1.jpg: 8 bytes that start with" in said.err
    assert "1 identities have no image left" in said.err and "ben, label 1" in said.err


def test_no_image_at_all_is_good(tmp_path):
    write_folder(tmp_path / "faces", {"anna": 2})
    for path in (tmp_path / "faces").rglob("*.jpg"):
        path.write_bytes(b"x")
    refused(tmp_path / "faces", "--output", tmp_path / "out", "--bad", "skip", match="none of the 2 images")


# ----- alignment ------------------------------------------------------------------------------------------------------


def write_photo(path, angle=0.4, scale=3.0):
    """A photo of the template's points, turned and scaled; its landmarks."""
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = TEMPLATE @ rotation.T + [200, 50]
    image = np.full((500, 600, 3), 40, np.uint8)
    for number, point in enumerate(points):
        cv2.circle(image, [round(x) for x in point], 20, [(255, 0, 0), (0, 255, 0), (0, 0, 255)][number % 3], -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(image, 100))
    return points


def is_aligned(data: bytes) -> bool:
    image = decode(data).astype(int)
    colours = [image[round(y), round(x)] for x, y in TEMPLATE]
    return image.shape == (112, 112, 3) and [int(np.argmax(one)) for one in colours] == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("separator", ["\t", ",", " ", ", "])
@pytest.mark.parametrize("head", ["", "path x1 y1 x2 y2 x3 y3 x4 y4 x5 y5\n", "1\nx1 y1 x2 y2 x3 y3 x4 y4 x5 y5\n"])
def test_landmarks(tmp_path, separator, head):
    points = write_photo(tmp_path / "photos" / "zed" / "1 2.jpg")
    line = separator.join(["zed/1 2.jpg", *(f"{x:.3f}" for x in points.ravel())])
    (tmp_path / "points").write_text(head.replace(" ", separator) + line + "\n")
    ((name, label, data, _),) = packed(tmp_path / "out", tmp_path / "photos", "--landmarks", tmp_path / "points")
    assert (name, label) == ("zed/1 2.jpg", 0) and is_aligned(data)


def test_landmarks_in_a_list(tmp_path):
    points = write_photo(tmp_path / "zed" / "1.jpg")
    numbers = "\t".join(f"{x:.3f}" for x in points.T.ravel())
    (tmp_path / "zed" / "2.jpg").write_bytes(encode(np.full((112, 112, 3), 7, np.uint8)))
    lines = f"0\tzed/1.jpg\t0\t0\t0\t9\t9\t{numbers}\n1\tzed/2.jpg\t0\t0\t0\t9\t9\t{numbers}\n"
    (tmp_path / "my.lst").write_text(lines)
    one, two = packed(tmp_path / "out", tmp_path / "my.lst")
    assert is_aligned(one[2]) and two[2] == (tmp_path / "zed" / "2.jpg").read_bytes()  # 1 says that it is aligned
    (tmp_path / "my.lst").write_text("0\tzed/2.jpg\t0\n")
    refused(tmp_path / "my.lst", "--output", tmp_path / "b", match="zed/2.jpg: the list says that it is not aligned")
    packed(tmp_path / "c", tmp_path / "my.lst", "--resize")


def test_landmarks_are_those_of_the_upright_photo(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    points = write_photo(tmp_path / "photos" / "zed" / "1.jpg")
    upright = Image.open(tmp_path / "photos" / "zed" / "1.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by viewers
    upright.rotate(90, expand=True).save(tmp_path / "photos" / "zed" / "1.jpg", exif=exif, quality=100)
    (tmp_path / "points").write_text("zed/1.jpg " + " ".join(f"{x:.3f}" for x in points.ravel()))
    ((_, _, data, _),) = packed(tmp_path / "out", tmp_path / "photos", "--landmarks", tmp_path / "points")
    assert is_aligned(data)


def test_a_detector(faces, tmp_path):
    network = yunet(tmp_path / "yunet.onnx")
    photo = photo_for_yunet()
    cv2.imwrite(str(faces / "ben" / "0.png"), photo[:, :, ::-1])
    words = (faces, "--detector", network)
    images = {name: data for name, _, data, _ in packed(tmp_path / "out", *words)}
    assert images["ben/0.png.jpg"] == encode(align(photo, YuNet(network)(photo)), 95)
    assert images["ben/0.jpg"] == (faces / "ben" / "0.jpg").read_bytes()  # of the right size: aligned already
    points = " ".join(f"{x:.1f}" for x in TEMPLATE.ravel())
    (tmp_path / "points").write_text(f"ben/0.png {points}\n")  # the user knows better
    images = {name: data for name, _, data, _ in packed(tmp_path / "b", *words, "--landmarks", tmp_path / "points")}
    assert images["ben/0.png.jpg"] == encode(align(photo, TEMPLATE.round(1)), 95)
    cv2.imwrite(str(faces / "ben" / "2.png"), np.zeros_like(photo))
    refused(*words, "--output", tmp_path / "c", match="ben/2.png: the detector finds no face in it; .*--bad skip")
    (tmp_path / "set.lst").write_text("0\tben/0.png\t0\n")  # 0: not aligned
    ((_, _, data, _),) = packed(tmp_path / "d", tmp_path / "set.lst", "--root", faces, "--detector", network)
    assert data == encode(align(photo, YuNet(network)(photo)), 95)


def test_the_same_by_forked_workers(faces, tmp_path):
    photo = photo_for_yunet()
    for number in range(40):  # more than a worker takes at a time
        cv2.imwrite(str(faces / "ben" / f"{number}.png"), photo[:, :, ::-1])
    words = [str(faces), "--detector", str(yunet(tmp_path / "yunet.onnx")), "--output"]
    for workers in ("0", "2"):
        pack([*words, str(tmp_path / workers), "--workers", workers])
    assert tree(tmp_path / "0") == tree(tmp_path / "2")


def test_detectors_that_cannot_be(faces, tmp_path):
    output = ("--output", tmp_path / "out")
    refused(faces, "--detector", tmp_path / "none.onnx", *output, match="none.onnx does not exist; expected YuNet's")
    refused(faces, "--detector", faces / "ben" / "0.jpg", *output, match="cannot be used .* expected YuNet's ONNX")
    refused(faces, "--detector", "x", "--resize", *output, match="--resize takes photos as they are, --detector aligns")


@pytest.mark.parametrize(
    "line, match",
    [
        ("zed/1.jpg 1 2 3 4 5 6 7 8 9\n", "line 1: expected path x1 y1"),
        ("zed/1.jpg 1 2 3 4 5 6 7 8 9 nan\n", "line 1: .*number, got 'nan'"),
        ("zed/1.jpg 1 2 3 4 5 6 7 8 9 x\n", "line 1: .*got 'x'"),
        ("zed/1.jpg 1 2 3 4 5 6 7 8 9 9\nzed/1.jpg 1 2 3 4 5 6 7 8 9 9\n", "line 2: zed/1.jpg has landmarks in line 1"),
        ("path a b c d e f g h i j\n", "headings only"),
        ("", "is empty"),
        ("\0\0\0", "binary"),
        ("other.jpg 1 2 3 4 5 6 7 8 9 9\n", "none of its 1 paths is an image here; it has 'other.jpg'"),
        ("zed/1.jpg 5 5 5 5 5 5 5 5 5 5\n", "zed/1.jpg: all landmarks are in one place"),
        ("zed/1.jpg 9001 1 9002 1 9001 2 9001 3 9002 3\n", "zed/1.jpg: landmarks .* outside the photo"),
    ],
)
def test_bad_landmarks(tmp_path, line, match):
    write_photo(tmp_path / "photos" / "zed" / "1.jpg")
    (tmp_path / "points").write_text(line)
    refused(tmp_path / "photos", "--landmarks", tmp_path / "points", "--output", tmp_path / "out", match=match)
