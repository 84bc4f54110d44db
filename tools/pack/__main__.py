"""Pack faces into an InsightFace folder (train.rec, train.idx, train.lst, property), or into webdataset's tar files.

    python -m tools.pack photos --output packed                          a folder of identity folders
    python -m tools.pack faces.lst --root photos --output packed         a list, InsightFace's or im2rec's
    python -m tools.pack a/train.rec b --output both                     two sets become one
    python -m tools.pack photos --landmarks points.txt --output packed   photos, aligned by five points
    python -m tools.pack photos --detector YUNET.onnx --output packed    photos, aligned by the largest face in each

JPEGs of the right size keep their bytes; other images are encoded at --quality. Photos are read with the orientation in
their EXIF data, which landmarks refer to. Landmarks come from --landmarks (path x1 y1 ... x5 y5) or from an InsightFace
list (x1 ... x5 y1 ... y5, used where its first field is 0). Identities are numbered 0, 1, ... in the sources' order,
without gaps; those that have only bad images keep their number.

Images are grouped by identity: a header, the images, then one record for each identity's range, as InsightFace has it.
With --shuffle or --shards the files have neither header nor ranges, which need groups: every record carries its label,
`property` the number of classes, and keys start at 0, as im2rec writes it.

A run that was ended goes on where it was when it is started again with the same arguments; the files appear when all
are whole.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from tools.pack import options as own
from tools.pack.convert import Settings, detector
from tools.pack.journal import Journal
from tools.pack.plan import Plan, Subset, digest
from tools.pack.sinks import check_keys
from tools.pack.sources import Faces, open_faces, opened
from tools.pack.write import PATTERNS, Layout, Writer
from utils.align import TEMPLATE_SIDE
from utils.cli import user_errors
from utils.landmarks import read_landmarks
from utils.workers import one_thread

SHARD_SIZE = 10_000  # images of a tar
SHOWN = 10  # of the images left out


def main(words: list[str]) -> None:
    """Plan, write, publish, report."""
    options = own.make_parser(__doc__).parse_args(words)
    own.check(options)
    opened.cache_clear()  # a caller in Python may have changed the files since
    sources = [open_faces(path, options.root if path.suffix == ".lst" else None) for path in options.sources]
    for note in (source.note for source in sources if source.note):
        print(f"note: {note}", file=sys.stderr)
    plan = _plan(options, sources)
    settings = Settings(_side(options.side, sources), options.quality, options.resize, options.detector)
    layout = _layout(options, plan)
    if layout.ranges:
        check_keys(len(plan), plan.num_classes)
    made_by = settings._replace(detector=_detector_digest(options.detector))
    stamp = digest(plan, (made_by, layout, options.identities))
    said = " ".join(str(word) for word in words if word != "--force")
    with Journal(options.output, "pack", stamp, said, PATTERNS, options.force) as journal:
        lost = []
        if not journal.finished:
            writer = Writer(plan, layout, settings, journal, options.bad == "skip", options.workers)
            if writer.progress.done:
                print(f"going on after {writer.progress.done} of {len(plan)} images")
            lost = writer.run()
        done = journal.notes
        journal.publish()
    _report(options.output, plan, done, lost)


def _plan(options: argparse.Namespace, sources: list[Faces]) -> Plan:
    subset = Subset(options.only, options.without, options.min_images, options.max_images, options.take, options.seed)
    plan = Plan(sources, options.identities, subset, options.shuffle)
    if options.landmarks is not None:
        plan.use_landmarks(read_landmarks(options.landmarks), options.landmarks)
    return plan


def _detector_digest(path: Path | None) -> str | None:
    """Of the detector's file, once it has been tried."""
    if path is None:
        return None
    one_thread()  # workers are forked later
    return detector(path).digest


def _side(asked: int | None, sources: list[Faces]) -> int:
    """The option, else what the sources state."""
    stated = {faces.side for faces in sources if faces.side is not None}
    if asked is None and len(stated) > 1:
        raise ValueError(f"the sources' images have {' and '.join(map(str, sorted(stated)))} pixels; add --side")
    return asked or (stated.pop() if stated else TEMPLATE_SIDE)


def _layout(options: argparse.Namespace, plan: Plan) -> Layout:
    total = len(plan)
    if options.format == "webdataset":
        size = options.shard_size or SHARD_SIZE
        starts = range(0, total, size)
        files = [(f"train-{number:06d}", start, min(start + size, total)) for number, start in enumerate(starts)]
        return Layout(files, ranges=False, tar=True)
    if options.shards is None:
        return Layout([("train", 0, total)], ranges=options.shuffle is None, tar=False)
    count = options.shards
    if count > total:
        raise ValueError(f"--shards {count}: only {total} images to share")
    bounds = [total * number // count for number in range(count + 1)]
    names = [f"train-{number:05d}-of-{count:05d}" for number in range(count)]
    return Layout(list(zip(names, bounds[:-1], bounds[1:], strict=True)), ranges=False, tar=False)


def _report(output: Path, plan: Plan, done: dict, lost: list[tuple[int, str, str]]) -> None:
    print(
        f"{done['written']} images of {plan.num_classes} identities in {output}: "
        f"{done['written'] - done['encoded']} as they were, {done['encoded']} encoded"
    )
    if done["done"] > done["written"]:
        print(f"left out {done['done'] - done['written']} images, see {output / 'skipped.txt'}", file=sys.stderr)
    for _, name, problem in lost[:SHOWN]:
        print(f"  {name}: {problem}", file=sys.stderr)
    left = np.bincount(np.delete(plan.labels, [position for position, _, _ in lost]), minlength=plan.num_classes)
    if len(empty := np.flatnonzero(left == 0)):
        print(
            f"warning: {len(empty)} identities have no image left and keep their labels, the first is "
            f"{plan.identities[empty[0]]}, label {empty[0]}; --without leaves them out",
            file=sys.stderr,
        )


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
