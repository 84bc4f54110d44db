"""Checks of what one pass over a set has seen: index, records, images, labels, identities."""

import mmap

import numpy as np

from recognition.data.sources.folder import FolderSource
from tools.doctor import scan
from tools.doctor.findings import Findings
from tools.doctor.readers import opened
from tools.doctor.scan import Scan
from tools.doctor.sets import DataSet
from tools.doctor.walk import walk

EXACT = 1 << 24  # labels and the keys in ranges are float32, which counts no further
_KINDS = {
    "record": ("unreadable record", "error"),
    "image": ("undecodable image", "error"),
    "size": ("odd size", "error"),
}


def check_items(data: DataSet, found: Scan, findings: Findings) -> None:
    """Records that cannot be read, images that cannot be decoded, are of another size, or grey."""
    reader = opened(data.spec)
    for index, kind, said in found.faults:
        check, severity = _KINDS[kind]
        findings.add(check, severity, f"{reader.where(index)}: {said}", [reader.key(index)])
    images = found.facts["state"] == scan.IMAGE
    for index in np.flatnonzero(images & (found.facts["colour"] == scan.GREY)).tolist():
        findings.add("grey image", "note", f"{reader.where(index)}: all channels alike", [reader.key(index)])


def check_index(data: DataSet, found: Scan, findings: Findings) -> None:
    """Keys and offsets that stand twice, and bytes of the `.rec` that no line of the index covers."""
    for key in data.keys[1:][np.diff(data.keys) == 0].tolist():
        findings.add("index", "error", f"key {key} stands twice: only the first can be read", [key])
    order = np.argsort(data.offsets, kind="stable")
    keys, starts = data.keys[order], data.offsets[order]
    for at in np.flatnonzero(np.diff(starts) == 0).tolist():
        pair = keys[at : at + 2].tolist()
        findings.add("index", "error", f"keys {pair[0]} and {pair[1]} point to the same byte {starts[at]}", pair)
    ends = np.maximum.accumulate(starts + found.facts["stored"][order])
    before, after = np.concatenate([[0], ends]), np.concatenate([starts, [data.rec.stat().st_size]])
    with data.rec.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for at in np.flatnonzero(after > before).tolist():
            start, end = int(before[at]), int(after[at])
            records = [offset for offset, _ in walk(content, start, end)]
            text = f"bytes {start} to {end} of {data.rec.name} ({end - start}) are in no line of the index"
            text += f": {len(records)} whole records there, the first at byte {records[0]}" if records else ""
            findings.add("unindexed bytes", "warning", text, records[:100], start=start, end=end)


def check_keys(data: DataSet, found: Scan, findings: Findings) -> int:
    """The header against the index and `property`; returns the number of identities."""
    spans = {int(data.keys[index]): span for index, span in found.spans.items()}
    header = spans.pop(0, None)
    present = np.unique(data.keys)
    labels = found.facts["label"][found.facts["state"] != scan.SPAN]
    labels = labels[np.isfinite(labels) & (labels >= 0) & (labels < EXACT)]
    count = min(len(spans) or data.stated or (int(labels.max()) + 1 if len(labels) else 0), EXACT)
    if header is None:
        said = "no header record (key 0, flag 2): every record is taken for an image"
        findings.add("header", "error" if spans else "note", said, [0])
    else:
        first, end = min(spans, default=0), max(spans, default=-1) + 1
        if not spans or header != tuple(np.float32([first, end]).tolist()):
            at = f"are at [{first}, {end})" if spans else "are nowhere"
            said = f"it states identities at keys [{header[0]:.0f}, {header[1]:.0f}); they {at}"
            findings.add("header", "error", said, [0])
        else:
            count = end - first
            for key in np.setdiff1d(np.arange(1, end), present, assume_unique=True).tolist():
                findings.add("index", "error", f"key {key} is not in it, the header states 1 to {end - 1}", [key])
    if data.stated is not None and data.stated != count:
        findings.add("property", "error", f"it states {data.stated} identities, the records have {count}", ["property"])
    return count


def check_labels(data: DataSet, found: Scan, count: int, minimum: int, findings: Findings) -> None:
    """Labels that are no class, classes without images, identities with fewer than `minimum`."""
    reader, facts = opened(data.spec), found.facts
    images = (facts["state"] == scan.IMAGE) | (facts["state"] == scan.UNDECODABLE)
    labels = facts["label"]
    good = images & (labels >= 0) & (labels < count) & (labels == np.floor(labels))
    for index in np.flatnonzero(images & ~good).tolist():
        said = f"{reader.where(index)} has label {labels[index]:g}, expected a class in [0, {count})"
        findings.add("label", "error", said, [reader.key(index)])
    sizes = np.bincount(labels[good & (facts["state"] == scan.IMAGE)].astype(np.int64), minlength=count)
    for identity in np.flatnonzero(sizes == 0).tolist():
        findings.add("empty identity", "error", f"identity {identity} has no image", [identity])
    for identity in np.flatnonzero((sizes > 0) & (sizes < minimum)).tolist():
        said = f"identity {identity} has {sizes[identity]}, expected at least {minimum}"
        findings.add("few images", "warning", said, [identity])


def check_ranges(data: DataSet, found: Scan, findings: Findings) -> None:
    """Each identity record's [first image key, end key) against the labels of the images there."""
    facts = found.facts
    is_image = (facts["state"] == scan.IMAGE) | (facts["state"] == scan.UNDECODABLE)
    keys, labels = data.keys[is_image], facts["label"][is_image]
    claimed, rounded = np.zeros(len(keys), bool), False
    spans = sorted((int(data.keys[index]), span) for index, span in found.spans.items() if data.keys[index])
    for identity, (key, (start, end)) in enumerate(spans):
        if max(start, end) > EXACT:
            said = f"identity record {key}: float32 rounds its [{start:.0f}, {end:.0f}): not checked"
            findings.add("identity range", "note", said, [key])
            rounded = True
            continue
        left, right = np.searchsorted(keys, [start, end])  # nan sorts last
        if not 1 <= start < end or right == left:
            said = f"identity record {key} (identity {identity}): no images at keys [{start:g}, {end:g})"
            findings.add("identity range", "error", said, [key])
            continue
        inside = labels[left:right]
        if (inside == inside[0]).all() and inside[0] != identity:
            said = f"identity record {key} is number {identity}, its images have label {inside[0]:g}"
            findings.add("identity order", "warning", said, [key])
        else:
            for at in (left + np.flatnonzero(inside != identity)).tolist():
                said = f"key {keys[at]} has label {labels[at]:g}; identity record {key} counts it to {identity}"
                findings.add("identity range", "error", said, [int(keys[at]), key])
        for at in (left + np.flatnonzero(claimed[left:right])).tolist():
            said = f"key {keys[at]} lies in the range of more than one identity, also of record {key}"
            findings.add("identity range", "error", said, [int(keys[at]), key])
        claimed[left:right] = True
    for at in np.flatnonzero(~claimed).tolist() if spans and not rounded else []:
        said = f"key {keys[at]} (label {labels[at]:g}) lies in no identity's range"
        findings.add("identity range", "error", said, [int(keys[at])])


def check_folder(data: DataSet, findings: Findings) -> None:
    """Of a folder of images: folders without any, and files that training would not see."""
    if not isinstance(opened(data.spec).source, FolderSource):
        return
    seen = set(opened(data.spec).key(index) for index in range(len(opened(data.spec))))
    kept = {name.split("/")[0] for name in seen}
    for path in sorted(data.root.iterdir()):
        if path.is_dir() and path.name not in kept:
            findings.add("empty identity", "warning", f"{path.name} holds no image: it becomes no class", [path.name])
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            name = file.relative_to(data.root).as_posix()
            if file.is_file() and name not in seen and file.suffix != ".bin" and not file.name.startswith("."):
                findings.add("ignored file", "note", f"{name} is not read by training", [name])
