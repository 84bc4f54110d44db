"""The doctor's search for like pictures against comparing all with all, and on real faces; damage of every kind."""

import json

import numpy as np
import pytest

from recognition.data.recordio import Header, RecordWriter, pack
from tests.tools.test_doctor import face, write_set
from tools.doctor import channels, checks, duplicates, hashes, neighbours, scan, walk
from tools.doctor.__main__ import main
from tools.doctor.findings import LIMIT, Findings
from tools.doctor.readers import Spec, opened
from tools.doctor.sets import DataSet
from utils.bins import write_bin
from utils.jpeg import decode, encode


def near_and_far(count: int) -> np.ndarray:
    """Random hashes, half of them others with up to 6 bits changed."""
    draw = np.random.default_rng(1)
    values = draw.integers(0, 1 << 64, count, dtype=np.uint64)
    for i in range(count // 2):
        values[i] = values[i + count // 2]
        for bit in draw.choice(64, draw.integers(1, 7), replace=False):
            values[i] ^= np.uint64(1 << int(bit))
    return np.unique(values)


def test_pairs_of_hashes_are_those_of_comparing_all_with_all(monkeypatch):
    values = near_and_far(1200)
    left, right = np.triu_indices(len(values), 1)
    close = np.array([bin(int(a) ^ int(b)).count("1") <= 4 for a, b in zip(values[left], values[right], strict=True)])
    expected = np.stack([left[close], right[close]], axis=1)
    assert len(expected) > 100
    np.testing.assert_array_equal(neighbours.within(values), expected)
    monkeypatch.setattr(neighbours, "_BLOCK", 7)
    np.testing.assert_array_equal(neighbours.within(values), expected)
    found = neighbours.between(values[::2], values[1::2])
    across = expected[(expected % 2).sum(axis=1) == 1]
    assert {(2 * i, 2 * j + 1) for i, j in found.tolist()} == {tuple(sorted(p, key=lambda i: i % 2)) for p in across}
    assert len(neighbours.within(values[:0])) == len(neighbours.between(values[:0], values)) == 0


def test_many_hashes_that_differ_are_not_compared_one_by_one():
    values = np.unique(np.random.default_rng(2).integers(0, 1 << 64, 200_000, dtype=np.uint64))
    values = np.concatenate([values, values[:50] ^ np.uint64(0x8000_0000_0100_0001)])
    assert len(neighbours.within(values)) == 50
    assert scan.FACTS.itemsize <= 32


def test_every_findings_count_goes_on_where_its_examples_end():
    findings = Findings()
    for key in range(LIMIT + 5):
        findings.add("label", "error", "", [key])
    (finding,) = findings.all()
    assert finding.count == LIMIT + 5 and len(finding.examples) == LIMIT


def test_ranges_that_float32_rounds_are_not_held_against_the_set(tmp_path):
    """Key 16,777,217 and later: what a range record says of them is one off, or more."""
    first = checks.EXACT - 3
    keys = np.arange(first, first + 14)
    facts = np.zeros(len(keys), scan.FACTS)
    facts["label"][:12], facts["state"][12:] = np.arange(12) // 6, scan.SPAN
    spans = {12: (float(first), float(first + 3)), 13: (float(np.float32(first + 6)), float(np.float32(first + 12)))}
    findings = Findings()
    data = DataSet(tmp_path, None, keys=keys, offsets=keys)
    checks.check_ranges(data, scan.Scan(facts, spans, []), findings)
    assert [(finding.severity, finding.count) for finding in findings.all()] == [("note", 1)]


def test_a_walk_finds_the_records_around_damage(tmp_path):
    sizes = np.random.default_rng(3).integers(0, 60, 30).tolist()
    with RecordWriter(tmp_path / "a.rec", tmp_path / "a.idx") as writer:
        for key, size in enumerate(sizes):
            payload = b"\x0a\x23\xd7\xce" * (size // 20) + bytes(size)  # in several parts
            writer.write(key, pack(Header(0, 1.0, key, 0), payload))
    data, (_, offsets, _) = (tmp_path / "a.rec").read_bytes(), walk.read_index(tmp_path / "a.idx")
    starts = offsets.tolist()
    assert [start for start, _ in walk.walk(data, 0, len(data))] == starts
    assert [end for _, end in walk.walk(data, 0, len(data))] == [*starts[1:], len(data)]
    damaged = data[: starts[7]] + b"\0" * 4 + data[starts[7] + 4 :]
    assert [start for start, _ in walk.walk(damaged, 0, len(data))] == starts[:7] + starts[8:]
    assert [start for start, _ in walk.walk(data[:-1], 0, len(data) - 1)] == starts[
        : -1 if sizes[-1] % 4 == 0 else None
    ]


def test_no_damage_ends_in_a_traceback(tmp_path):
    """Bytes changed, cut out and put in at random places of every file of the set."""
    draw, codes = np.random.default_rng(4), set()
    whole = {path.name: path.read_bytes() for path in write_set(tmp_path / "whole").iterdir()}
    (tmp_path / "set").mkdir()
    for turn in range(40):
        for name, content in whole.items():
            (tmp_path / "set" / name).write_bytes(content)
        name = ("train.rec", "train.idx", "train.rec", "property")[turn % 4]
        content = bytearray(whole[name])
        for _ in range(draw.integers(1, 4)):
            at, length = int(draw.integers(0, len(content) + 1)), int(draw.integers(1, 40))
            new = draw.integers(0, 256, int(draw.integers(0, 40)), dtype=np.uint8).tobytes()
            content[at : at + length] = new
        (tmp_path / "set" / name).write_bytes(content)
        words = [str(tmp_path / "set"), "--workers", "0", "--json", str(tmp_path / "out.json")]
        codes.add(main(words))
        json.loads((tmp_path / "out.json").read_text())
    assert 1 in codes and codes <= {0, 1}


def test_a_lost_index_is_made_anew_whatever_the_order_of_the_records(tmp_path, capsys):
    """InsightFace writes record 0 last; other writers leave the header's id at 0."""
    for number, ids in enumerate((True, False)):
        root = tmp_path / str(number)
        root.mkdir()
        with RecordWriter(root / "train.rec", root / "train.idx") as writer:
            for key in [*range(1, 9), 9, 10, 0]:
                span = {0: (9, 11), 9: (1, 5), 10: (5, 9)}.get(key)
                label = np.array(span) if span else float((key - 1) // 4)
                header = Header(2 if span else 0, label, key if ids else 0, 0)
                writer.write(key, pack(header, b"" if span else encode(face(key))))
        (root / "train.idx").unlink()
        assert main([str(root), "--workers", "0"]) == 1
        out = capsys.readouterr().out
        assert "recovered: 11 whole records by a walk of the .rec, 8 of them images; 0 bytes are in none" in out
        assert not ids or out.endswith("8 images of 2 identities; 1 error, 0 warnings, 1 note\n")


@pytest.fixture(scope="module")
def celeba(shared_data):
    """(spec, n images, some decoded images) of real faces; ./tests/conftest.py says where they are."""
    folder = shared_data / "celeba_train"
    spec = Spec("records", str(folder / "train.rec"), str(folder / "train.idx"))
    reader = opened(spec)
    return spec, [decode(reader[index].image) for index in range(1, 17000, 140)]


def test_channel_order_of_real_faces(celeba, tmp_path):
    _, faces = celeba
    verdicts = []
    for number, swap in enumerate((False, True)):
        root = tmp_path / str(number)
        (root / "one").mkdir(parents=True)
        for i, image in enumerate(faces):
            (root / "one" / f"{i}.jpg").write_bytes(encode(np.ascontiguousarray(image[..., ::-1]) if swap else image))
        findings, spec = Findings(), Spec("source", str(root))
        found = scan.scan(spec, 112, np.zeros(hashes.BITS, np.float32), 0)
        order = channels.check_channels(found, findings)
        channels.draw_sheet(tmp_path / f"{number}.png", spec, found, order)
        verdicts.append((order["verdict"], [finding.check for finding in findings.all()]))
        sheet = decode((tmp_path / f"{number}.png").read_bytes())
        stored, swapped = sheet[140:600, 40:500], sheet[140:600, 660:1120]
        assert stored[..., 0].mean() == pytest.approx(swapped[..., 2].mean(), abs=1)
        assert (stored[..., 0].mean() > stored[..., 2].mean()) != swap
    assert verdicts == [("looks RGB", []), ("looks BGR", ["channel order"])]


def test_copies_of_real_faces_are_found_and_other_photos_are_not(celeba):
    spec, faces = celeba
    thresholds = scan.sample_thresholds(spec, 0)
    assert (thresholds != 0).all()

    def of(images):
        thumbs = np.array([hashes.thumbnail(image) for image in images])
        return thumbs, hashes.bits(np.array([hashes.coefficients(thumb) for thumb in thumbs]), thresholds)

    thumbs, own = of(faces)
    assert len(neighbours.within(np.unique(own))) == 0  # photos of 122 places of the set
    changes = {"JPEG": lambda image: decode(encode(image, 30)), "darker": lambda image: (image * 0.7).astype(np.uint8)}
    for change in changes.values():
        copies, theirs = of([change(image) for image in faces])
        assert (hashes.distance(own, theirs) <= neighbours.RADIUS).mean() > 0.98
        assert ((thumbs * copies).mean(axis=(1, 2)) >= duplicates.ALIKE).all()


def test_real_faces_in_a_test_set(celeba, tmp_path):
    """A recompressed mirror image of a training image."""
    _, faces = celeba
    root = tmp_path / "set"
    for i, image in enumerate(faces[:40]):
        (root / f"{i // 2:02d}").mkdir(parents=True, exist_ok=True)
        (root / f"{i // 2:02d}" / f"{i:02d}.jpg").write_bytes(encode(image))
    images = [encode(np.ascontiguousarray(faces[7][:, ::-1]), 60), *map(encode, faces[40:43])]
    write_bin(root / "t.bin", images, [False, False])
    assert main([str(root), "--workers", "0", "--json", str(tmp_path / "out.json")]) == 1
    (finding,) = json.loads((tmp_path / "out.json").read_text())["findings"]
    assert finding["check"] == "near overlap with test set" and finding["count"] == 1
    example = finding["examples"][0]
    assert (example["keys"], example["tests"], example["mirrored"]) == (["03/07.jpg"], ["t pair 0 image 0"], True)
