"""Check a data set before a week of GPU time is spent on it.

    python -m tools.doctor /data/vggface2 --bins /data/bins --sheet channels.png

DIR is an InsightFace folder (train.rec, train.idx, property), a .rec file, or a folder of one folder of images per
identity. Exit code 0 where nothing was found or only notes, 1 with errors or warnings, 2 for a mistake in the call.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from tools.doctor import channels, checks, duplicates, manifest, overlap, scan
from tools.doctor.findings import Findings
from tools.doctor.readers import opened
from tools.doctor.report import Report
from tools.doctor.sets import DataSet, open_set
from utils.cli import Parser, user_errors


def main(words: list[str]) -> int:
    """Check, print the table, write what was asked for; returns the exit code."""
    options = _parse(words)
    for name in ("json", "sheet", "manifest"):
        path = getattr(options, name)
        if path and not path.absolute().parent.is_dir():
            raise ValueError(f"--{name} {path}: there is no folder {path.parent}; make it first")
        if path and path.is_dir():
            raise ValueError(f"--{name} {path} is a folder; expected the name of a file to write")
    findings = Findings()
    report = Report(str(options.data), findings)
    with tempfile.TemporaryDirectory(prefix="doctor") as scratch:
        opened.cache_clear()  # files may have changed since an earlier call in this process
        data = open_set(options.data, findings, Path(scratch))
        report.recovered = data.recovered
        bins = overlap.find_bins(data.root, options.bins)
        _check_manifest(data, options, report)
        if data.spec:
            _check_images(data, bins, options, report)
    print(report.text())
    if options.json:
        report.write(options.json)
    if options.manifest:
        outputs = [path for path in (options.json, options.sheet) if path]
        count = manifest.write(options.manifest, data.root, outputs, options.workers)
        print(f"manifest of {count:,} files written: cd {data.root} && sha256sum -c {options.manifest.absolute()}")
    return report.exit_code()


def _parse(words: list[str]):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = Parser("python -m tools.doctor", __doc__)
    parser.add_argument("data", metavar="DIR", type=Path, help="the data set")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything that was found there")
    parser.add_argument("--bins", metavar="PATH", type=Path, nargs="+",
                        help=".bin verification sets, or folders of them, that must not share images with the set; "
                             "default: those in DIR")  # fmt: skip
    parser.add_argument("--min-images", metavar="N", type=int, default=2,
                        help="images that an identity should have; default 2: one shows no variation")  # fmt: skip
    parser.add_argument("--sheet", metavar="FILE", type=Path,
                        help="draw faces as stored beside their channel-swapped version, as PNG")  # fmt: skip
    parser.add_argument("--manifest", metavar="FILE", type=Path, help="write the SHA-256 of each file of the set")
    parser.add_argument("--check-manifest", metavar="FILE", type=Path,
                        help=f"compare with such a file; default: {' or '.join(manifest.NAMES)} in DIR")  # fmt: skip
    parser.add_argument("--workers", metavar="N", type=int, default=cores,
                        help="processes; 0: none beside this one; default: one for each core")  # fmt: skip
    options = parser.parse_args(words)
    if options.workers < 0:
        raise ValueError(f"--workers {options.workers}: expected 0 or more processes")
    if options.min_images < 1:
        raise ValueError(f"--min-images {options.min_images}: expected 1 or more")
    return options


def _check_manifest(data: DataSet, options, report: Report) -> None:
    file = options.check_manifest
    if file is not None and not file.is_file():
        raise ValueError(f"--check-manifest {file} does not exist; expected what --manifest or sha256sum wrote")
    if file is None:
        here = [data.root / name for name in manifest.NAMES if (data.root / name).is_file()]
        file = next(
            (path for path in here if not options.manifest or path.resolve() != options.manifest.resolve()), None
        )
    if file is not None:
        report.manifest = manifest.check(file, data.root, options.workers, report.findings)


def _check_images(data: DataSet, bins: list[Path], options, report: Report) -> None:
    findings, workers, started = report.findings, options.workers, time.perf_counter()
    thresholds = scan.sample_thresholds(data.spec, workers)
    found = scan.scan(data.spec, data.side, thresholds, workers)
    scanned = time.perf_counter() - started
    report.images = int((found.facts["state"] == scan.IMAGE).sum())
    checks.check_items(data, found, findings)
    if data.rec:
        checks.check_index(data, found, findings)
        count = checks.check_keys(data, found, findings)
        checks.check_ranges(data, found, findings)
    else:
        count = opened(data.spec).source.num_classes
        checks.check_folder(data, findings)
    checks.check_labels(data, found, count, options.min_images, findings)
    report.identities = count
    report.channel_order = channels.check_channels(found, findings)
    if options.sheet:
        channels.draw_sheet(options.sheet, data.spec, found, report.channel_order)
    duplicates.check_exact(data.spec, found, findings)
    candidates = duplicates.check_near(data.spec, found, workers, findings)
    for path in bins:
        overlap.check_overlap(data.spec, found, path, data.side, thresholds, workers, findings)
    report.speed = {
        "scan_seconds": round(scanned, 2),
        "images_per_second": round(len(found.facts) / scanned, 1),
        "near_candidates": candidates,
        "seconds": round(time.perf_counter() - started, 2),
    }


if __name__ == "__main__":
    with user_errors():
        sys.exit(main(sys.argv[1:]))
