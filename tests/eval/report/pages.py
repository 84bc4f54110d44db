"""Results to make reports of: numbers, evidence, faces and a run, drawn at random."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from eval.faces import write_faces
from eval.hardest import hardest_pairs, hardest_probes, sheets
from eval.protocol import Result
from eval.quality import error_vs_discard
from eval.results import Record, write_results
from eval.roc import roc_points
from utils.files import file_digest

PAIRS, PROBES = 200, 60
EVIL = "<script>alert(1)</script>&\"'"


class Images:
    """Grey squares."""

    def __init__(self, count: int):
        self.names = [f"{index}{EVIL}" for index in range(count)]

    def read(self, start: int, end: int) -> np.ndarray:
        return np.full((end - start, 112, 112, 3), start % 256, np.uint8)


def verification(seed: int, right: float = 0.9) -> Record:
    draw = np.random.default_rng(seed)
    issame = np.arange(PAIRS) % 2 == 0
    dist = np.where(issame, 0.8, 1.8) + draw.normal(0, 0.3, PAIRS)
    hits = np.random.default_rng(0).random(PAIRS) < right
    far, tar = roc_points(-dist[issame], -dist[~issame])
    curve = error_vs_discard(-dist[issame], draw.random(PAIRS // 2), -1.2)
    evidence = {"dist": dist.astype(np.float32), "issame": issame, "right/accuracy": hits, "far": far, "tar": tar}
    evidence |= {"discarded": curve.discard, "fnmr": curve.fnmr}
    evidence |= hardest_pairs(dist, issame, *np.arange(2 * PAIRS).reshape(-1, 2).T) | sheets(draw.random(2 * PAIRS))
    metrics = {"accuracy": float(hits.mean()), "threshold": 1.3, "pairs": PAIRS, "xnorm": 20.0}
    result = Result(metrics, ("accuracy",), {"accuracy": (0.83, 0.94)}, evidence, (f"a note {EVIL}",))
    return Record(result, 1, "da7a", {"fusion": "sum"})


def identification(seed: int) -> Record:
    draw = np.random.default_rng(seed)
    identity = np.concatenate([np.arange(10), np.arange(PROBES) % 10])
    h, rank = draw.normal(size=(len(identity), 8)).astype(np.float32), draw.integers(1, 11, PROBES).astype(np.int32)
    evidence = {"rank": rank, "identity": identity[10:], "distance": np.arange(PROBES) % 2}
    for level in ("clean", "d1"):
        evidence |= {f"matched/{level}": draw.random(30), f"unmatched/{level}": draw.random(30)}
        evidence |= hardest_probes(level, h, np.arange(10, 70), np.arange(10), identity, rank)
    metrics = {"clean": 0.5, "d1": 0.25, "probes": PROBES}
    return Record(Result(metrics, ("clean", "d1"), {"d1": (0.1, 0.4)}, evidence), 1, "da7b", {})


def resolutions(seed: int) -> Record:
    draw = np.random.default_rng(seed)
    metrics = {"both@112px": 0.9, "both@8px": 0.7, "cross@8px": 0.6, "mean_cross": 0.6, "pairs": PAIRS}
    evidence = {f"z/{side}px": draw.normal(20, 2, PAIRS) for side in (8, 112)}
    return Record(Result(metrics, ("mean_cross",), {"mean_cross": (0.5, 0.7)}, evidence), 1, "da7c", {})


def write_run(folder: Path, seed: int = 0, right: float = 0.9) -> Path:
    """A run folder that has ended: model, config, metrics, diagnostics, checkpoint, results. Returns results.json."""
    (folder / "checkpoints" / "step_00000040").mkdir(parents=True)
    facts = {"code": "c0de", "torch": "2", "machine": "1 x CPU"}
    (folder / "checkpoints" / "step_00000040" / "state.json").write_text(json.dumps(facts))
    (folder / "model.pt").write_bytes(bytes([seed]))
    (folder / "config.json").write_text(json.dumps({"lr": 0.1 + seed, "network": "tiny", "name": EVIL}))
    lines = [{"step": step, "lr": 0.1, "loss_classification": 9 - step / 10, "loss_contrastive": None, "lq_pairs": 0.2,
              "norm_mean": 15.0, "norm_std": 2.0} for step in range(1, 41)]  # fmt: skip
    lines += [{"step": step, "val/lfw/accuracy": 0.6 + step / 200} for step in (20, 40)]
    lines += [{"step": 20, "diag/positive_cosine": 0.5, "diag/negative_cosine": 0.1}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 41, "torn')
    shape = {"least": 3.0, "most": 9.0, "mean": 6.0, "std": 1.0, "counts": list(range(40))}
    histograms = {"step": 20, "time": 1.0, "z_original": shape, "z_augmented": shape}
    (folder / "diagnostics.jsonl").write_text(json.dumps(histograms) + "\n")
    path, name = folder / "results.json", "surveillance:<b>"
    records = {"lfw": verification(seed, right), name: identification(seed), "cross_resolution": resolutions(seed)}
    write_results(path, folder / "model.pt", file_digest(folder / "model.pt"), records)
    for target, record in records.items():
        write_faces(path, target, Images(2 * PAIRS), record.result.evidence)
    return path


class Page(HTMLParser):
    """What a page holds, and whether its elements are closed in order."""

    VOID = {"meta", "link", "img", "rect", "path", "br"}

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())
