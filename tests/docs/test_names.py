"""What the documents name is there: linked files and headings, paths, keys of the config and their values, options."""

import re

import pytest

from configs import base, presets
from recognition.data.augment import Parameters
from tests.docs.commands import DOCUMENTS, ROOT
from tools import plan
from tools.ablation import __main__ as ablation
from utils import config

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"(?<![\w./-])((?:configs|docs|eval|examples|recognition|tests|tools|utils)/[\w./-]*\w(?:\.\w+)?)")
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
PAIR = re.compile(r"(?<![\w.@-])([a-z_]+)=(\"[^\"]*\"|\([^)]*\)|\[[^\]]*\]|\{[^}]*\}|[^\s,;:|`\"'}\])]+)")
# words of tools and arguments in Python, which have the form of a key
OTHERS = {*ablation.OWN, *plan.OWN, "pairs", "key", "mask_same_class", "amp", "mmap_mode", "dynamo"}
# in the peers' columns, and examples of what is to be written
NOT_HERE = {"configs/ms1mv3_r50", "scripts/shuffle_rec.py", "eval/agreement.py"}
QUOTES = "\"'"
PEERS = {  # configs/base.py, the experiments' files and the command line of the one, config.py of the other
    "arcface_torch": """margin_list network resume save_all_states output embedding_size sample_rate
        interclass_filtering_threshold fp16 batch_size optimizer lr momentum weight_decay verbose frequent dali dali_aug
        gradient_acc seed num_workers wandb_key suffix_run_name using_wandb wandb_entity wandb_project wandb_log_all
        save_artifacts wandb_resume notes rec num_classes num_image num_epoch warmup_epoch val_targets local_rank""",
    "AdaFace": """data_root train_data_path val_data_path use_mxrecord train_data_subset swap_color_channel prefix gpus
        distributed_backend use_16bit epochs seed batch_size lr lr_milestones lr_gamma num_workers fast_dev_run evaluate
        resume_from_checkpoint start_from_model_statedict use_wandb custom_num_class arch momentum weight_decay head m h
        s t_alpha low_res_augmentation_prob crop_augmentation_prob photometric_augmentation_prob
        accumulate_grad_batches test_run save_all_models""",
}
each = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


@each
def test_links_lead_somewhere(document):
    targets = [target for target in LINK.findall(document.read_text()) if not target.startswith("http")]
    assert not [target for target in targets if not (document.parent / target.partition("#")[0]).exists()]


@each
def test_paths_are_there(document):
    paths = {path for path in PATH.findall(re.sub(r"https?://\S+", "", document.read_text())) if "NAME" not in path}
    assert not [path for path in paths - NOT_HERE if not (ROOT / path).exists()]


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path.name != "api.md"], ids=lambda path: path.name)
def test_keys_are_in_configs_base(document):
    wrong = []
    for code in CODE.findall(document.read_text()):
        for key, value in PAIR.findall(code):
            if key in OTHERS or key in Parameters.__dataclass_fields__ or key in base.arcface_only:
                continue
            if key not in base.config:
                wrong.append(f"{key}={value}")
            elif not re.search(r"[A-Z]{3,}|/|\.\.\.|:", value):  # a word for the reader's own value
                wrong += _refused(key, value)
    assert not wrong


def _refused(key: str, value: str) -> list[str]:
    """What the config says against it."""
    try:
        config.load("demo", [f"{key}={value.strip(QUOTES)}"], ROOT / "configs")
    except ValueError as error:
        return [str(error)]
    return []


def test_every_key_of_a_preset_is_in_the_table_of_differences():
    text = (ROOT / "docs" / "method.md").read_text()
    assert not [key for key in presets.presets["official"] if key not in text]


@pytest.mark.parametrize("peer", PEERS)
def test_every_key_of_the_peers_is_in_the_porting_guide(peer):
    text = (ROOT / "docs" / "porting.md").read_text()
    assert not [key for key in PEERS[peer].split() if not re.search(rf"\b{key}\b", text)]


def test_every_key_that_is_accepted_for_arcface_torch_is_one_of_its():
    assert set(base.arcface_only) <= set(PEERS["arcface_torch"].split())
