import re
from pathlib import Path

import pytest

from configs.presets import DIFFERENCES, presets
from utils import config

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
EXPERIMENTS = config.experiments(CONFIGS)
official = presets["official"]

# As a user of arcface_torch has it: every key its own base.py and its WebFace42M file have.
ARCFACE = """
from easydict import EasyDict as edict

config = edict()
config.margin_list = (1.0, 0.0, 0.4)
config.network = "r50"
config.resume = False
config.save_all_states = False
config.output = None
config.embedding_size = 512
config.sample_rate = 0.2
config.interclass_filtering_threshold = 0
config.fp16 = True
config.optimizer = "sgd"
config.momentum = 0.9
config.weight_decay = 5e-4
config.batch_size = 512
config.lr = 0.4
config.verbose = 10000
config.frequent = 10
config.dali = True
config.gradient_acc = 1
config.seed = 2048
config.num_workers = 2
config.wandb_key = "X"
config.suffix_run_name = None
config.using_wandb = False
config.wandb_entity = "entity"
config.wandb_project = "project"
config.wandb_log_all = True
config.save_artifacts = False
config.wandb_resume = False
config.rec = "/train_tmp/WebFace42M"
config.num_classes = 2059906
config.num_image = 42474557
config.num_epoch = 20
config.warmup_epoch = 2
config.val_targets = ["lfw", "cfp_fp", "agedb_30"]
"""


def test_a_config_of_arcface_torch_is_a_baseline(tmp_path):
    (tmp_path / "wf42m.py").write_text(ARCFACE)
    cfg = config.load(str(tmp_path / "wf42m"), [], CONFIGS)
    assert (cfg.margin_list, cfg.sample_rate, cfg.num_classes) == ((1.0, 0.0, 0.4), 0.2, 2059906)
    assert (cfg.views, cfg.pool, cfg.quality_threshold, cfg.loss) == (("original",), "none", None, "combined")
    assert cfg.name == "wf42m"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_shipped_config_loads_and_documents_its_command(name):
    config.load(name, [], CONFIGS)
    assert "./run.sh" in (CONFIGS / f"{name}.py").read_text()


def test_words_win_over_the_file_and_the_file_over_base():
    cfg = config.load("demo", ["lr=1", "val_targets=['a']", "fp16=true", "quality_threshold=None"], CONFIGS)
    assert (cfg.lr, cfg.val_targets, cfg.fp16, cfg.quality_threshold) == (1.0, ["a"], True, None)
    assert cfg.pool == "proxy" and cfg.momentum == 0.9


def test_a_preset_stands_for_its_keys_where_it_is_named(tmp_path):
    alone = config.load("vgg2_r34_qgface", [], CONFIGS)
    cfg = config.load("vgg2_r34_qgface", ["network=r18", "preset=official"], CONFIGS)
    assert cfg.network == "r18" and cfg.dropout == 0.4 and cfg.quality_gate == "sigmoid"
    assert {key for key in cfg if cfg[key] != alone[key]} == {"preset", *official}
    (tmp_path / "ours.py").write_text("config = {'preset': 'official', 'quality_gate': 'hard'}")
    cfg = config.load(str(tmp_path / "ours"), ["contrast_gate=drop"], CONFIGS)
    assert (cfg.quality_gate, cfg.contrast_gate, cfg.contrast_queries) == ("hard", "drop", "both")
    again = config.load(str(tmp_path / "ours"), ["preset=paper"], CONFIGS)
    assert {key: again[key] for key in presets["paper"]} == presets["paper"]


def test_the_preset_paper_is_what_the_papers_recipe_says():
    recipe = config.load("vgg2_r34_qgface", [], CONFIGS)
    assert {key: recipe[key] for key in presets["paper"]} == presets["paper"]
    assert presets["paper"].keys() == official.keys() and not [key for key in official if official[key] == recipe[key]]


@pytest.mark.parametrize("name", DIFFERENCES)
def test_each_difference_is_one_experiment_in_words(name):
    words = [f"{key}={value}" for key, value in DIFFERENCES[name][1].items()]
    cfg, recipe = (config.load("vgg2_r34_qgface", some, CONFIGS) for some in (words, []))
    assert {key: cfg[key] for key in cfg if cfg[key] != recipe[key]} == DIFFERENCES[name][1]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("preset=oficial", "preset='oficial' in the command line: did you mean 'official'?"),
        ("qualty_threshold=0.3", "did you mean 'quality_threshold'"),
        ("lr=fast", "lr='fast' in the command line: expected float, got str"),
        ("fp16=1", "expected bool, got int"),
        ("batch_size=12.5", "expected int, got float"),
        ("batch_size=True", "expected int, got bool"),
        ("num_epoch=None", "expected int, got NoneType"),
        ("margin_list=0.5", "expected tuple, got float"),
        ("dali_aug=True", "not supported here; expected False"),
        ("interclass_filtering_threshold=0.4", "not supported"),
        ("lr", "expected key=value"),
        ("frequent=0", "frequent=0 in the command line: expected at least 1"),
        ("gradient_acc=0", "expected at least 1"),
        ("lr=nan", "expected float"),
        ("seed=4294967296", "expected at least 0 and at most 4294967295"),
        ("lr=-0.1", "expected at least 0.0"),
        ("dropout=1.5", "expected at least 0.0 and at most 1.0"),
        ("amp_dtype=bf16", "amp_dtype='bf16' in the command line: did you mean 'bfloat16'?"),
        ("optimizer=adam", "did you mean 'adamw'?"),
        ("margin_list=('a',1,2)", "entry='a' in the command line: expected float"),
        ("val_targets=[1]", "expected str, got int"),
    ],
)
def test_mistakes_name_key_value_and_remedy(word, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        config.load("demo", [word], CONFIGS)


def test_files_that_are_no_configs(tmp_path):
    with pytest.raises(ValueError, match="did you mean demo"):
        config.load("demmo", [], CONFIGS)
    for text, message in (
        ("x = 1", "defines `config"),
        ("config = {", "does not run: SyntaxError"),
        ("1/0", "ZeroDiv"),
    ):
        (tmp_path / "bad.py").write_text(text)
        with pytest.raises(ValueError, match=message):
            config.load(str(tmp_path / "bad.py"), [], CONFIGS)


def test_every_key_is_read_by_a_run():
    files = ("train.py", "recognition/build.py", "recognition/run.py", "utils/resume.py")
    script = "".join((ROOT / name).read_text() for name in files)
    keys = config.load("demo", [], CONFIGS).keys()
    assert not [key for key in keys if not re.search(rf'cfg\.{key}\b|"{key}"', script)]
