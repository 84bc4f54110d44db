"""From a verification set to features: opening a `.bin` as InsightFace does, extraction beside the bare backbone."""

import pickle
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from eval.bins import load_bin
from eval.features import CHUNK, chunks, extract
from eval.verification import BinImages
from recognition.backbones import get_backbone
from recognition.embedder import Embedder
from tools.bench.faces import noisy_jpegs
from tools.bench.measure import Row, compare_speed, seconds
from utils.bins import write_bin


def write_set(path: Path, images: int) -> None:
    """A `.bin` of drawn faces."""
    write_bin(path, list(noisy_jpegs(images)), [True, False] * (images // 4))


def opening(path: Path, runs: int) -> list[Row]:
    """To the first batch and to the last, both views of each image, against `load_bin` of InsightFace. Needs mxnet."""
    if not find_spec("mxnet"):
        print("mxnet is not installed: no comparison with InsightFace's way to open a .bin, which needs it")
        return []
    images = len(load_bin(path).jpegs)
    peer = {"first batch": lambda: _peer_batch(_peer_load(path)), "whole": lambda: _peer_load(path)}
    ours = {"first batch": lambda: next(chunks(_open(path), 0, images)), "whole": lambda: _walk(_open(path), images)}
    rows = []
    for case in ours:
        rows += compare_speed(f"a .bin of {images:,} images, {case}", ours[case], peer[case], runs, 8, 1 / 8)
    return rows


def extraction(path: Path, network: str, images: int, runs: int) -> list[Row]:
    """Images a second from encoded images to features, against the backbone alone on a batch that lies ready."""
    backbone = get_backbone(network).eval().to(memory_format=torch.channels_last)
    pair_bin = BinImages(load_bin(path))
    some = _Part(pair_bin, images)
    embed = Embedder(backbone, "cpu", batch_size=CHUNK // 2)
    batch = torch.rand(CHUNK // 2, 3, 112, 112).contiguous(memory_format=torch.channels_last)

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(images * 2 // len(batch)):
                backbone(batch)

    took = seconds({"bare": bare, "ours": lambda: extract(embed, some)}, runs)
    rate = {name: 2 * images / time for name, time in took.items()}
    return [Row(f"features of images and mirror images, {network}", "1/s", rate["bare"], rate["ours"], 0.9, True)]


class _Part:
    """The first images of a set."""

    def __init__(self, images: BinImages, count: int):
        self.images, self.count = images, count

    def __len__(self) -> int:
        return self.count

    def read(self, start: int, end: int) -> np.ndarray:
        return self.images.read(start, end)


def _open(path: Path) -> BinImages:
    return BinImages(load_bin(path))


def _walk(images: BinImages, count: int) -> None:
    for chunk in chunks(images, 0, count):
        torch.from_numpy(chunk).flip(2)


def _peer_load(path: Path) -> list[torch.Tensor]:
    """Every image decoded into a float tensor of all images, another such tensor for the mirror images."""
    np.bool = np.bool_  # mxnet 1.9.1 uses the name that numpy has removed
    import mxnet

    with path.open("rb") as file:
        jpegs, _ = pickle.load(file, encoding="bytes")
    views = [torch.empty(len(jpegs), 3, 112, 112) for _ in range(2)]
    for index, encoded in enumerate(jpegs):
        pixels = mxnet.nd.transpose(mxnet.image.imdecode(encoded), axes=(2, 0, 1))
        for mirrored, view in enumerate(views):
            view[index][:] = torch.from_numpy((mxnet.ndarray.flip(pixels, axis=2) if mirrored else pixels).asnumpy())
    return views


def _peer_batch(views: list[torch.Tensor]) -> list[torch.Tensor]:
    return [((view[:CHUNK] / 255) - 0.5) / 0.5 for view in views]
