"""configs/tables.py: the paper's rows on its recipe are settings that can be trained, and those that it describes."""

import shlex
from collections import Counter

import pytest
import torch

from configs.tables import COLUMNS, PAPER, TABLES
from recognition.build import make_objective
from tools.ablation.runs import ROOT, make_study
from utils import config, parallel

ROWS = [(table, row) for table, content in TABLES.items() for row in content.rows]
WORDS = ["embedding_size=8", "network=tiny"]


@pytest.fixture(scope="module")
def study():
    return make_study("vgg2_r34_qgface", list(TABLES), [0], WORDS, ROOT)


def cfg(study, table, row):
    return study.runs[study.rows[table, row]][0].cfg


def test_a_row_is_known_by_its_name():
    assert max(Counter(row for _, row in ROWS).values()) == 1
    assert not [row for _, row in ROWS if "," in row]  # rows=D,E


@pytest.mark.parametrize("table, row", ROWS)
def test_every_row_can_be_trained(study, table, row):
    content = TABLES[table]
    assert len(content.rows[row].marks) == len(content.marks)
    assert len(content.rows[row].paper) in (0, len(PAPER))
    objective = make_objective(cfg(study, table, row), 5, parallel.World(0, 1, 0, torch.device("cpu")))
    h_pVD = torch.randn(4, len(cfg(study, table, row).views), 8)
    key_h_pD = h_pVD[:, 0] if objective.pool is not None and objective.pool.from_momentum_encoder else None
    assert objective(h_pVD, torch.arange(4), key_h_pD).total.isfinite()


def test_columns_name_the_papers():
    assert {column.paper for columns in COLUMNS.values() for column in columns} <= {*PAPER, None}
    assert tuple(column.paper for column in COLUMNS["vgg2_r34_qgface"]) == PAPER


def test_settings(study):
    """Table I and its captions (Sec. IV-B): view, augmentation, partition, contrast."""
    both = ("original", "augmented")
    found = {}
    for row in TABLES["I"].rows:
        own = cfg(study, "I", row)
        found[row] = own.views, own.augment, own.quality_threshold, own.pool
    assert found.pop("Baseline")[0::2] == (("original",), None)
    assert found == {
        "A": (("augmented",), "adaface", None, "none"),
        "B": (("augmented",), "adaface", 0.2, "none"),
        "C": (both, "adaface", 0.2, "proxy"),
        "D": (both, "qgface", None, "none"),
        "E": (both, "qgface", 0.2, "proxy"),
    }
    for row, content in TABLES["I"].rows.items():
        own = cfg(study, "I", row)
        assert content.marks[1:] == tuple("✓" if x else "×" for x in (own.quality_threshold, own.pool != "none"))


def test_setting_a_is_the_recipe_of_adaface(study):
    recipe = config.load("vgg2_r34_adaface", WORDS, ROOT / "configs")
    own = cfg(study, "I", "A")
    assert {key for key in own if own[key] != recipe[key]} == {"name", "seed", "output", "val_targets", "verbose"}


def test_rows_of_the_same_config_are_one_run_and_have_the_papers_same_numbers(study):
    again = [("II", "proxy"), ("III", "0.2"), ("differences", "none of them"), ("beyond", "E alone")]
    assert {study.rows[place] for place in [("I", "E"), *again]} == {"E"}
    assert len(study.runs) == len(ROWS) - len(again)
    for name in study.runs:
        assert len({TABLES[t].rows[r].paper for t, r in ROWS if study.rows[t, r] == name}) == 1


def test_the_commands_of_single_rows_are_those_of_the_tables(study):
    """docs/ablation.md: one line a run, with the keys that make its row another than the recipe."""
    marker = '    $train "$targets" output=$runs/'
    text = (ROOT / "docs/ablation.md").read_text()
    lines = [line.removeprefix(marker) for line in text.splitlines() if marker in line]
    found = {row: words for row, *words in map(shlex.split, lines)}
    assert f' seed=0 verbose={study.runs["E"][0].cfg.verbose}"\n' in text  # of all of them
    assert set(found) == {name for (table, _), name in study.rows.items() if table in ("I", "II", "III")}
    recipe = config.load("vgg2_r34_qgface", WORDS, ROOT / "configs")
    for row, words in found.items():
        own, wanted = config.load("vgg2_r34_qgface", [*WORDS, *words], ROOT / "configs"), study.runs[row][0].cfg
        changed = {key for key in recipe if wanted[key] != recipe[key]} - {"val_targets", "output", "seed", "verbose"}
        assert {key for key in recipe if own[key] != recipe[key]} == changed
        assert all(own[key] == wanted[key] for key in changed)
