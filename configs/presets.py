"""Presets: many keys under one name. `preset=official` on the command line stands for its keys there, after the
config's file and before the other words; in a file, before the file's own keys.

./run.sh configs/vgg2_r34_qgface.py preset=official rec=/data/vggface2 val_dir=/data/bins
"""

# Each way in which the authors' released code departs from the paper (docs/method.md): the paper's keys, and its. Any
# of them is an experiment of its own: `quality_gate=sigmoid` on the command line.
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
    "augmentation": (
        {"augment_options": {}},
        {"augment_options": {"crop_resize": True, "downsample_first": True, "colour_order": "bgr"}},
    ),
}

presets = {
    name: {key: value for sides in DIFFERENCES.values() for key, value in sides[side].items()}
    for side, name in enumerate(("paper", "official"))
}
