"""Sets of more images than float32, in which the format's header counts them, tells apart."""

import numpy as np
import pytest

from recognition.data.recordio import Header, RecordError, RecordWriter, pack
from recognition.data.sources import RecordSource

IDENTITIES = 5


@pytest.mark.parametrize("images", [2**24 - 2, 2**24 - 1, 2**24, 2**24 + 1, 2**24 + 2, 2**24 + 3, 2**25 + 1])
def test_a_header_that_float32_has_rounded(tmp_path, monkeypatch, images):
    """Every image key leads to one record, every identity key to another: the index is as large, the file is not."""
    first, end = images + 1, images + 1 + IDENTITIES
    with RecordWriter(tmp_path / "train.rec", tmp_path / "train.idx") as writer:
        writer.write(0, pack(Header(2, np.array([first, end]), 0, 0), b""))
        writer.write(1, pack(Header(0, 3.0, 1, 0), b"image"))
        writer.write(2, pack(Header(2, np.array([1, 2]), 2, 0), b""))  # label 1 would pass for a class
    at = [int(line.split("\t")[1]) for line in (tmp_path / "train.idx").read_text().splitlines()]
    offsets = np.full(end, at[1])
    offsets[0], offsets[first:] = at[0], at[2]
    monkeypatch.setattr("recognition.data.recordio.read_index", lambda _: (range(end), offsets))
    (tmp_path / "property").write_text(f"{IDENTITIES},112,112")
    source = RecordSource(tmp_path)
    assert (len(source), source.num_classes) == (images, IDENTITIES)
    assert source.keys == range(1, first) and source.identity_keys == range(first, end)
    assert source[images - 1] == (b"image", 3)


@pytest.mark.parametrize("first", [-1e30, 0, 1e30])
def test_a_header_that_is_nonsense_is_refused_at_once(tmp_path, monkeypatch, first):
    with RecordWriter(tmp_path / "train.rec", tmp_path / "train.idx") as writer:
        writer.write(0, pack(Header(2, np.array([first, 2**24 + 2]), 0, 0), b""))
    monkeypatch.setattr("recognition.data.recordio.read_index", lambda _: (range(2**24 + 2), np.zeros(2**24 + 2, int)))
    with pytest.raises(RecordError, match="train.rec: header states identities at keys"):
        RecordSource(tmp_path)
