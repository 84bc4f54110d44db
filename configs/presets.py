"""Presets: many keys under one name. `preset=official` on the command line stands for its keys there, after the
config's file and before the other words; in a file, before the file's own keys.

./run.sh configs/vgg2_r34_qgface.py preset=official rec=/data/vggface2 val_dir=/data/bins
"""

# Each way in which the authors' released code departs from the paper (docs/method.md): the paper's keys, and its. Any
# of them is an experiment of its own: `quality_gate=sigmoid` on the command line. With pool=momentum the released code
# classifies the originals alone, and both queries are refused here: `classified_views=originals
# contrast_queries=augmented` beside the preset.
DIFFERENCES = {
    "HQ gate": ({"quality_gate": "hard"}, {"quality_gate": "sigmoid"}),
    "LQ gate": ({"contrast_gate": "drop"}, {"contrast_gate": "constant"}),
    "start of the statistics": (
        {"quality_mean": 20.0, "quality_std": 100.0},
        {"quality_mean": 0.0, "quality_std": 0.0},
    ),
    "statistics": ({"quality_statistics": "global"}, {"quality_statistics": "rank"}),
    "gradient of the positive": ({"positive_gradient": "stopped"}, {"positive_gradient": "kept"}),
    "queries": ({"contrast_queries": "augmented"}, {"contrast_queries": "both"}),
    "same identity": ({"contrast_same_identity": "excluded"}, {"contrast_same_identity": "zero"}),
    "moved keys": ({"queue_keys": "unit"}, {"queue_keys": "clamped"}),
    "weight of the contrast": ({"contrast_rescale": False}, {"contrast_rescale": True}),
    "weight decay": ({"decay_batchnorm": True}, {"decay_batchnorm": False}),
    "norm of the initial proxies": ({"proxy_init": "normal"}, {"proxy_init": "unit"}),
    "backbone": ({"network": "r34", "dropout": 0.0}, {"network": "adaface_ir34", "dropout": 0.4}),
    "colour in the augmentation": ({"augment_options": {}}, {"augment_options": {"colour_order": "bgr"}}),
    "order of the augmentation": ({"augment_options": {}}, {"augment_options": {"downsample_first": True}}),
    "crop of augment='adaface'": ({"augment_options": {}}, {"augment_options": {"crop_resize": True}}),  # setting A
}


def _merged(side: int) -> dict:
    merged = {}
    for sides in DIFFERENCES.values():
        for key, value in sides[side].items():
            merged[key] = merged.get(key, {}) | value if isinstance(value, dict) else value
    return merged


presets = {"paper": _merged(0), "official": _merged(1)}
