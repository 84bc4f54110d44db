"""A tiny folder in InsightFace's IJB layout: drawn faces with their landmarks in wide photos, a dozen templates."""

from pathlib import Path

import cv2
import numpy as np

from tests.faces import photo
from utils.align import TEMPLATE

GALLERY, PROBES = 6, 10  # templates; template numbers are 3, 6, 9 ...
IMAGES = 3  # of each template: two frames of one video and a photo


def number(row: int) -> int:
    return 3 * row + 3


def subject(row: int) -> int:
    return row if row < GALLERY else (row * 5) % GALLERY


def layout() -> list[tuple[str, int, int, int]]:
    """Name, template row, media and subject of each image, not in the order of templates."""
    rows = [(row, image) for image in range(IMAGES) for row in range(GALLERY + PROBES)]
    return [(f"{i}.png", row, 100 * row + (image > 1), subject(row)) for i, (row, image) in enumerate(rows)]


def write_ijb(folder: Path, target: str = "IJBB") -> None:
    """The lists, and 48 photos of 160 x 120 pixels, each with a turned, shifted and scaled face."""
    name, generator = target.lower(), np.random.default_rng(0)
    (folder / "meta").mkdir(parents=True)
    (folder / "loose_crop").mkdir()
    tid_mid, points = [], []
    for index, (file, row, media, who) in enumerate(layout()):
        angle, scale = generator.uniform(-0.5, 0.5), generator.uniform(0.5, 0.8)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = np.hstack([turn, np.array([[80], [60]]) - turn @ np.array([[56], [56]])])
        image = cv2.warpAffine(photo(who, index), matrix, (160, 120), borderValue=(90, 120, 60))
        cv2.imwrite(str(folder / "loose_crop" / file), image[..., ::-1])
        landmarks = TEMPLATE @ turn.T + matrix[:, 2]
        tid_mid.append(f"{file} {number(row)} {media}\n")
        points.append(f"{file} {' '.join(f'{x:.3f}' for x in landmarks.ravel())} {generator.uniform(0.5, 1):.3f}\n")
    pairs = [(a, b) for a in range(GALLERY) for b in range(GALLERY, GALLERY + PROBES)]
    lines = [f"{number(a)} {number(b)} {int(subject(a) == subject(b))}\n" for a, b in pairs]
    meta = folder / "meta" / name
    Path(f"{meta}_face_tid_mid.txt").write_text("".join(tid_mid))
    Path(f"{meta}_name_5pts_score.txt").write_text("".join(points))
    Path(f"{meta}_template_pair_label.txt").write_text("".join(lines))
    letter = "S" if target == "IJBB" else "G"
    parts = {f"gallery_{letter}1": range(3), f"gallery_{letter}2": range(3, GALLERY),
             "probe_mixed": range(GALLERY, GALLERY + PROBES)}  # fmt: skip
    for part, rows in parts.items():
        text = "".join(f"{number(row)},{subject(row)},{image}.png\n" for row in rows for image in range(IMAGES))
        Path(f"{meta}_1N_{part}.csv").write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n" + text)
