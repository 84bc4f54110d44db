"""Unpack an InsightFace record file into a folder of identity folders, and a .lst of them.

    python -m tools.unpack faces/train.rec --output photos       photos/<identity>/<name>.jpg, photos/train.lst
    python -m tools.pack photos/train.lst --output again         the same records again

Names are those of the .lst beside the .rec; without one they are <label>/<key>.jpg. Images keep their bytes. A run that
was ended goes on where it was when it is started again with the same arguments; the .lst appears when all is there.
"""

import argparse
import contextlib
import functools
import re
import sys
from pathlib import Path
from typing import NamedTuple

import cv2
from tqdm import tqdm

from recognition.data.lists import Entry, read_list, write_list
from recognition.data.sources import RecordSource
from tools.pack.journal import Journal
from tools.pack.skipped import FINAL, GROWING, Skipped
from tools.pack.sources import RecordFaces, Task, opened
from utils.cli import Parser, user_errors
from utils.jpeg import decode
from utils.lists import ListError
from utils.workers import ordered_map


class Job(NamedTuple):
    """An image and its name below the output folder."""

    task: Task
    name: str


def make_parser() -> Parser:
    parser = Parser("python -m tools.unpack", __doc__)
    parser.add_argument("rec", type=Path, metavar="REC", help="a .rec file, or the folder with it")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder that gets the images and train.lst"
    )
    parser.add_argument("--by-key", action="store_true", help="name images <label>/<key>.jpg whatever the .lst says")
    parser.add_argument("--bad", choices=("stop", "skip"), default="stop", help="images that cannot be decoded")
    parser.add_argument("--workers", type=int, default=2, help="processes; default 2; 0 works in this one")
    parser.add_argument("--force", action="store_true", help="replace the unpacked set that is in DIR")
    return parser


def main(words: list[str]) -> None:
    """Check all names, then write the images and the list."""
    options = make_parser().parse_args(words)
    opened.cache_clear()  # a caller in Python may have changed the files since
    faces = _open(options)
    names = check_names(faces)
    listed = f"{faces.rec.stem}.lst"
    said = " ".join(str(word) for word in words if word != "--force")
    stamp = f"{faces.stamp} {options.by_key}"
    patterns = (listed, FINAL)
    with Journal(options.output, "unpack", stamp, said, patterns, options.force, in_place=True) as journal:
        if not journal.finished:
            if not journal.notes:
                remove_older(options.output, listed)
                journal.note({"done": 0}, {})
            elif journal.notes["done"]:
                print(f"going on after {journal.notes['done']} of {len(names)} images")
            _write(faces, names, journal, options)
        left_out = journal.notes["left_out"]
        journal.publish()
    print(f"{len(names) - left_out} images of {len(faces.identities)} identities and {listed} in {options.output}")
    if left_out:
        print(f"left out {left_out} images, see {options.output / FINAL}", file=sys.stderr)


def _open(options: argparse.Namespace) -> RecordFaces:
    if not 0 <= options.workers <= 256:
        raise ValueError(f"--workers {options.workers}: expected 0 to 256")
    if not options.rec.exists():
        raise ValueError(f"{options.rec} does not exist; expected a .rec file or the folder with it")
    if not isinstance(opened(str(options.rec)), RecordSource):
        raise ValueError(f"{options.rec} is a folder of images already; expected a .rec file or the folder with it")
    faces = RecordFaces(options.rec, use_list=not options.by_key)
    if faces.rec.parent.resolve() == options.output.resolve():
        raise ValueError(f"--output {options.output} is where {faces.rec.name} lies; choose another folder")
    return faces


def check_names(faces: RecordFaces) -> list[str]:
    """Where each image goes, below the output folder; names without a folder get their label as one.

    Raises:
        ListError: a name that leads out of the folder, or that two images have.
    """
    names, known = [], {}
    for number, name in enumerate(faces.names):
        parts = name.split("/")
        if re.search(r"\A/|\A[A-Za-z]:|[\\\0]", name) or not all(parts) or {".", ".."} & set(parts):
            raise ListError(
                f"{faces.rec.with_suffix('.lst')}: entry {number + 1}: {name!r} may lead out of the output folder; "
                "expected identity/name.jpg; --by-key names the images by label and key"
            )
        names.append(name if len(parts) > 1 else f"{faces.numbers[faces.labels[number]]}/{name}")
        if known.setdefault(names[-1], number) != number:
            raise ListError(
                f"{faces.rec.with_suffix('.lst')}: entries {known[names[-1]] + 1} and {number + 1} are both "
                f"{names[-1]!r}; --by-key names the images by label and key"
            )
    return names


def remove_older(output: Path, listed: str) -> None:
    """Remove the images of the set that was unpacked here before, and its list."""
    if not (output / listed).exists():
        return
    inside = output.resolve()
    for entry in read_list(output / listed):
        path = output / entry.name
        if inside in path.resolve().parents:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                path.parent.rmdir()
    (output / listed).unlink()


def unpack_one(output: Path, job: Job) -> str | None:
    """Write an image that can be decoded; what is wrong with another."""
    try:
        data = job.task.read()
        decode(data)
    except (ValueError, cv2.error) as error:
        return " ".join(str(error).split()).removeprefix(f"{job.task.where()}: ")
    path = output / job.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return None


def _write(faces: RecordFaces, names: list[str], journal: Journal, options: argparse.Namespace) -> None:
    start = journal.notes["done"]
    skipped = Skipped(journal.folder, journal.notes["sizes"].get(GROWING, 0))
    jobs = (Job(faces.task(number), names[number]) for number in range(start, len(names)))
    results = ordered_map(functools.partial(unpack_one, options.output), jobs, options.workers)
    number = start
    try:
        with tqdm(total=len(names), initial=start, unit=" images", disable=None) as bar:
            for number, problem in enumerate(results, start):
                if problem is not None and options.bad == "stop":
                    journal.note({"done": number}, skipped.sync())
                    raise ValueError(f"{faces.task(number).where()}: {problem}; --bad skip leaves such images out")
                if problem is not None:
                    skipped.add(number, names[number], problem)
                bar.update()
                if journal.due():
                    journal.note({"done": number + 1}, skipped.sync())
        _finish(faces, names, journal, skipped)
    except OSError as error:
        raise ValueError(
            f"{options.output}: {error.strerror or error} after {number} of {len(names)} images; "
            "mend that and start again with the same arguments: it goes on from there"
        ) from None
    finally:
        results.close()
        skipped.close()


def _finish(faces: RecordFaces, names: list[str], journal: Journal, skipped: Skipped) -> None:
    gone, listed = {position for position, _, _ in skipped.rows()}, f"{faces.rec.stem}.lst"
    numbers = faces.numbers[faces.labels].tolist()
    kept = [number for number in range(len(names)) if number not in gone]
    write_list(journal.folder / listed, (Entry(names[number], numbers[number]) for number in kept))
    journal.finish([*skipped.finish(), listed], {"left_out": len(gone)})


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
