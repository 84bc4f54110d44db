"""The options of `python -m tools.pack`, and what of them does not go together."""

import argparse
from pathlib import Path

from tools.pack.plan import MERGES
from utils.cli import Parser
from utils.jpeg import MAX_SIDE

_RANGES = {  # expected in [least, most]
    "side": (1, MAX_SIDE),
    "quality": (1, 100),
    "workers": (0, 256),
    "shards": (1, 99_999),
    "shard_size": (1, 10**9),
    "take": (1, 10**9),
    "min_images": (1, 10**9),
    "max_images": (1, 10**9),
    "shuffle": (0, 2**63),
    "seed": (0, 2**63),
}


def make_parser(description: str) -> Parser:
    """All options, with their defaults."""
    parser = Parser("python -m tools.pack", description)
    add = parser.add_argument
    add("sources", nargs="+", type=Path, metavar="SOURCE", help="folder of identity folders, .lst, .rec or its folder")
    add("--output", type=Path, required=True, metavar="DIR", help="folder that gets the packed set")
    add("--root", type=Path, help="folder that the paths in a .lst start from; default: the list's own")
    add("--identities", choices=MERGES, default=MERGES[0], help="of several sources: each source's are its own people "
        "(default); the same names are the same people; the same labels are")  # fmt: skip
    add("--only", type=Path, metavar="FILE", help="keep these identities: names, one on each line")
    add("--without", type=Path, metavar="FILE", help="leave these out, for example those of a test set")
    add("--min-images", type=int, default=1, metavar="N", help="leave out identities with fewer")
    add("--take", type=int, metavar="N", help="N identities, chosen by --seed")
    add("--max-images", type=int, metavar="N", help="at most N of each identity, chosen by --seed")
    add("--seed", type=int, default=0, help="of --take and --max-images; default 0")
    add("--landmarks", type=Path, metavar="FILE", help="align photos: path x1 y1 ... x5 y5 on each line")
    add("--detector", type=Path, metavar="YUNET.onnx", help="align photos without landmarks by their largest face")
    add("--side", type=int, help="pixels; default: what a .rec's property states, else 112; training takes 112 only")
    add("--resize", action="store_true", help="images of other sizes: scale the square in their middle")
    add("--quality", type=int, default=95, help="of the JPEGs encoded here; default 95")
    add(
        "--bad", choices=("stop", "skip"), default="stop", help="images that cannot be used; skip: skipped.txt has them"
    )
    add("--format", choices=("rec", "webdataset"), default="rec", help="records (default), or tar files")
    add("--shuffle", type=int, metavar="SEED", help="the images in random order")
    add("--shards", type=int, metavar="N", help="N record files")
    add("--shard-size", type=int, metavar="N", help="images in each tar; default 10000")
    add("--workers", type=int, default=2, help="processes; default 2; 0 works in this one")
    add("--force", action="store_true", help="replace a set that is in DIR")
    return parser


def check(options: argparse.Namespace) -> None:
    """Refuse numbers out of their ranges and options that exclude each other.

    Raises:
        ValueError: says what was given and what is expected.
    """
    for name, (least, most) in _RANGES.items():
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            raise ValueError(f"--{name.replace('_', '-')} {value}: expected {least} to {most}")
    tar = options.format == "webdataset"
    if tar and options.shards is not None:
        raise ValueError("--shards counts record files; with --format webdataset, --shard-size says how large tars are")
    if not tar and options.shard_size is not None:
        raise ValueError("--shard-size is for --format webdataset; --shards says how many record files")
    if options.detector is not None and options.resize:
        raise ValueError("--resize takes photos as they are, --detector aligns them; use one of them")
    lists = [path for path in options.sources if path.suffix == ".lst"]
    if options.root is not None and not lists:
        raise ValueError("--root says where the paths in a .lst start from, and no source is a .lst")
    for path in options.sources:
        folder = path.parent if path.suffix in (".lst", ".rec") else path
        if folder.resolve() == options.output.resolve():
            raise ValueError(f"--output {options.output} is where the source {path} lies; choose another folder")
