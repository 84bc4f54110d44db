"""The examples of CONTRIBUTING.md do what they say, put where their first line says."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.tables import TABLES
from eval import features, protocol
from eval.bins import load_bin
from eval.verification import BinImages
from recognition import backbones, margins
from recognition.data import augment
from recognition.head import ClassShard
from recognition.models import open_model, save_model
from recognition.objective import Objective
from recognition.quality import NormStatistics
from tests import faces
from tests.docs.commands import ROOT
from tools.ablation.runs import make_study

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
BLOCKS = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", TEXT, re.DOTALL))
C, D = 7, 8


def module_of(path: str):
    return importlib.import_module(path.removesuffix("/__init__.py").removesuffix(".py").replace("/", "."))


def example(path: str, names: dict | None = None) -> dict:
    """The block's names, beside those of its module."""
    names = dict(vars(module_of(path))) if names is None else names
    exec(BLOCKS[path], names)
    return names


def losses(margin, pool=None) -> torch.Tensor:
    """Of a step in which all pairs are contrasted, after one that fills the pool."""
    torch.manual_seed(0)
    objective = Objective(ClassShard(C, D), margin, pool, NormStatistics(), 1.0 if pool else None)
    if pool is not None:
        objective.pool.head = objective.head
    for _ in range(2):
        h_pVD = torch.randn(6, 2, D, requires_grad=True)
        outcome = objective(h_pVD, torch.arange(6))
    outcome.total.backward()
    assert h_pVD.grad.isfinite().all() and h_pVD.grad.any()
    return outcome.total


def test_every_example_is_tried_here():
    tried = set(re.findall(r'example\("([^"]+)"', Path(__file__).read_text()))
    assert set(BLOCKS) == tried


def test_a_margin():
    margin = example("recognition/margins.py")["margin"]
    cos_B, z_hat_B = torch.tensor([0.5, 0.5]), torch.tensor([-1.0, 1.0])
    assert margin(cos_B, torch.ones(2), z_hat_B).tolist() == pytest.approx([0.5, 0.1])
    assert losses(margin).isfinite()


def test_a_pool():
    queue = example("recognition/pools.py")["FrozenQueue"]
    assert losses(margins.make_margin("adaface"), queue(20, ClassShard(C, D), D)).isfinite()


def test_a_backbone(monkeypatch, tmp_path):
    monkeypatch.setattr(backbones, "_NETWORKS", dict(backbones._NETWORKS))
    example("recognition/backbones/__init__.py")
    network = backbones.get_backbone("mean", D)
    assert network(torch.zeros(2, 3, 112, 112)).shape == (2, D)
    save_model(tmp_path / "model.pt", network.state_dict(), "mean", D)
    assert open_model(tmp_path / "model.pt").embedding_size == D


def test_a_protocol(tmp_path):
    faces.write_pairs(tmp_path / "pairs.bin", 10)
    names = {"NamedTuple": protocol.NamedTuple, "Images": features.Images, "Result": protocol.Result, "np": np}
    target = example("eval/agreement.py", names)["Agreement"](BinImages(load_bin(tmp_path / "pairs.bin")))

    def embed(images):
        return torch.ones(len(images), D) / D**0.5, torch.ones(len(images))

    assert protocol.evaluate(embed, target).metrics == {"cosine": pytest.approx(1.0)}
    assert len(target.digest()) == 64


def test_an_augmentation(monkeypatch):
    monkeypatch.setattr(augment, "PRESETS", dict(augment.PRESETS))
    example("recognition/data/augment.py")
    made = augment.Augment("distant")
    image = faces.photo(0, 0)
    view = made(image, np.full(made.draws, 0.5))
    assert view.shape == image.shape and view.std() < image.std()


def test_a_row(monkeypatch, tmp_path):
    monkeypatch.setitem(TABLES, "beyond", TABLES["beyond"]._replace(rows=dict(TABLES["beyond"].rows)))
    example("configs/tables.py")
    study = make_study("vgg2_r34_qgface", ["beyond"], [0], [], tmp_path)
    assert study.runs[study.rows["beyond", "E, wide margin"]][0].cfg.margin == 0.5


def test_the_places_are_there():
    """Each `name` of the table beside its file."""
    for path, names in re.findall(r"`((?:recognition|eval|configs)/[\w/]+\.py)`: ([^|]+?)(?:;|\|)", TEXT):
        source = (ROOT / path).read_text() if "NAME" not in path else ""
        for name in re.findall(r"`(\w+)", names) if source else ():
            assert re.search(rf"\b{name}\b", source), (path, name)
