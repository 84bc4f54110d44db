"""Folders of faces to pack, and runs that are killed."""

import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from recognition.data.recordio import RecordFile, unpack
from tests.faces import photo
from tools.pack import journal
from tools.pack.__main__ import main as pack
from utils.jpeg import encode

QUIET = ["--workers", "0"]
IDENTITIES = {"cara": 3, "anna": 5, "ben": 2}  # photos; in the order of names: anna 0, ben 1, cara 2


def write_folder(root: Path, identities: dict[str, int] = IDENTITIES) -> Path:
    """`root/<name>/<number>.jpg`; the names tell the photos, so that two folders hold different ones."""
    for name, photos in identities.items():
        (root / name).mkdir(parents=True)
        for number in range(photos):
            data = encode(photo(sum(name.encode()) + len(str(root)), number), 90)
            (root / name / f"{number}.jpg").write_bytes(data)
    return root


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def packed(output: Path, *words) -> list[tuple[str, int, bytes, int]]:
    """Run tools.pack. The images as (name, label, bytes, key) in the order of the file; keys, ranges, list and property
    are checked against each other.
    """
    pack([*map(str, words), "--output", str(output), *QUIET])
    assert not list(output.glob(".*"))
    images, classes = [], int((output / "property").read_text().split(",")[0])
    for rec in sorted(output.glob("*.rec")):
        records = RecordFile(rec, rec.with_suffix(".idx"))
        header, _ = unpack(records.read(int(records.keys[0])))
        end = int(header.label[0]) if header.flag == 2 else None
        keys = [int(key) for key in records.keys if end is None or 1 <= key < end]
        lines = [line.split("\t") for line in rec.with_suffix(".lst").read_text().splitlines()]
        for key, (aligned, name, label) in zip(keys, lines, strict=True):
            header, data = unpack(records.read(key))
            assert (header.flag, header.id, header.label, aligned) == (0, key, int(label), "1")
            assert 0 <= int(label) < classes
            images.append((name, int(label), data, key))
        if end is not None:
            ranges = [unpack(records.read(end + label))[0] for label in range(classes)]
            assert [one.id for one in ranges] == list(range(end, end + classes)) and records.keys[-1] == ranges[-1].id
            for label, one in enumerate(ranges):
                assert [key for key, image in zip(keys, images, strict=True) if image[1] == label] == list(
                    range(int(one.label[0]), int(one.label[1]))
                )
    return images


def refused(*words, match: str) -> None:
    """tools.pack says in one line what is wrong."""
    with pytest.raises(ValueError, match=match) as caught:
        pack([*QUIET, *map(str, words)])
    assert "\n" not in str(caught.value)


def killed(main: Callable[[list[str]], None], words: list[str], after: int) -> bool:
    """Run in a process that kills itself at its `after`-th change of the disk; False if it ended before that.

    It notes its progress after every image, and writes every few bytes.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _prepare(after)
            main(words)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"the run failed: {status}"
    return status == signal.SIGKILL


def _prepare(after: int) -> None:
    journal.SECONDS, journal._BUFFER, left = 0, 3000, [after]
    os.fsync = lambda file: None

    def counted(function):
        def call(*args, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **options)

        return call

    for name in ("pwrite", "replace", "unlink", "ftruncate", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
