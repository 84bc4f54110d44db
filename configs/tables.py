"""The paper's tables: what each row changes in a recipe of setting E, and the paper's numbers beside ours.

`python -m tools.ablation` trains and evaluates them (docs/ablation.md). A row's name is the name of its runs, so no two
tables share one.
"""

from typing import NamedTuple

from configs.presets import DIFFERENCES


class Row(NamedTuple):
    """A row of a table."""

    keys: dict[str, object]  # of the config, on top of the recipe
    paper: tuple[float, ...] = ()  # percent, in the order of PAPER; empty: the paper does not have it
    marks: tuple[str, ...] = ()  # what stands in the table's own columns


class Table(NamedTuple):
    """A table; `marks` are the headings of its own columns, between the row's name and the numbers."""

    caption: str
    heading: str
    rows: dict[str, Row]
    marks: tuple[str, ...] = ()


class Column(NamedTuple):
    """Numbers of results.json, as TARGET/METRIC: their mean is shown, in percent. `paper`: the column of PAPER that
    they correspond to. `tested`: metrics in their place where people are drawn; empty: the same."""

    title: str
    metrics: tuple[str, ...]
    paper: str | None = None
    tested: tuple[str, ...] = ()


PAPER = ("d1", "d2", "d3", "TinyFace", "IJB-B", "HQ")  # columns of its Tables I to III
SETTING_E = (92.31, 99.54, 100.0, 69.85, 91.05, 95.43)  # its numbers, in each table that has it
ONE_VIEW, ORIGINAL = ("augmented",), ("original",)
YES, NO = "✓", "×"
ALONE = (
    *("HQ gate", "start of the statistics", "gradient of the positive", "queries", "same identity", "moved keys"),
    *("weight of the contrast", "weight decay", "norm of the initial proxies", "colour in the augmentation"),
    "order of the augmentation",
)
BOTH = {"dropout": 0.4, "augment_options": {"colour_order": "bgr", "downsample_first": True}}

TABLES = {
    "I": Table(
        "Ablations of the framework: augmentation, quality partition and contrastive learning",
        "Setting",
        {
            "Baseline": Row(
                {"views": ORIGINAL, "quality_threshold": None, "pool": "none"},
                (61.69, 97.23, 99.85, 63.98, 90.26, 95.62),
                (NO, NO, NO),
            ),
            "A": Row(
                {"views": ONE_VIEW, "augment": "adaface", "quality_threshold": None, "pool": "none"},
                (66.77, 99.08, 100.0, 67.49, 74.07, 95.76),
                ("AdaFace", NO, NO),
            ),
            # A with the partition: what is found LQ is ignored
            "B": Row(
                {"views": ONE_VIEW, "augment": "adaface", "pool": "none"},
                (68.15, 98.46, 100.0, 67.03, 70.45, 95.73),
                ("AdaFace", YES, NO),
            ),
            "C": Row({"augment": "adaface"}, (70.92, 98.62, 99.69, 66.58, 90.59, 95.71), ("AdaFace", YES, YES)),
            "D": Row(
                {"quality_threshold": None, "pool": "none"},
                (88.62, 99.23, 100.0, 68.80, 89.50, 95.46),
                ("Ours", NO, NO),
            ),
            "E": Row({}, SETTING_E, ("Ours", YES, YES)),
        },
        ("Augmentation", "Quality partition", "Contrast"),
    ),
    "II": Table(
        "Ablation of the queue: where the negatives of the contrast come from",
        "Queue",
        {
            # The paper only says that both views are classified. The partition stays, as the table is about the queue
            # alone; without it the row would be setting D, whose numbers are others.
            "no": Row({"pool": "none"}, (87.85, 99.38, 100.0, 68.24, 90.57, 95.47)),
            "batch": Row({"pool": "batch"}, (87.54, 99.38, 100.0, 68.67, 87.38, 95.28)),
            "momentum": Row({"pool": "momentum"}, (63.08, 97.85, 99.85, 62.34, 88.70, 95.18)),
            "proxy": Row({"pool": "proxy"}, SETTING_E),
        },
    ),
    "III": Table(
        "Ablation of the threshold of the quality partition; none: every sample feels both losses",
        "Threshold",
        {
            "none": Row({"quality_threshold": None}, (90.77, 99.69, 100.0, 69.80, 91.26, 95.08)),
            "0.1": Row({"quality_threshold": 0.1}, (86.00, 99.54, 100.0, 68.13, 90.87, 95.41)),
            "0.2": Row({"quality_threshold": 0.2}, SETTING_E),
            "0.3": Row({"quality_threshold": 0.3}, (88.92, 99.54, 100.0, 68.51, 89.33, 94.95)),
        },
    ),
    # What cannot matter on one device is left out: gated pairs as a constant, statistics of each rank. So is the
    # backbone, IR-34, but for its dropout: `network=adaface_ir34 dropout=0.4` is a word for all rows.
    "differences": Table(
        "Ways in which the authors' released code departs from the paper, each alone on top of E (the resized crop on "
        "top of C), and together",
        "Difference",
        {
            "none of them": Row({}, SETTING_E),
            **{name: Row(DIFFERENCES[name][1]) for name in ALONE},
            "dropout": Row({"dropout": 0.4}),
            "C with the crop resized": Row({"augment": "adaface", "augment_options": {"crop_resize": True}}),
            "all of them": Row({key: value for name in ALONE for key, value in DIFFERENCES[name][1].items()} | BOTH),
        },
    ),
    "beyond": Table(
        "Beyond the paper, on top of E",
        "Idea",
        {
            "E alone": Row({}, SETTING_E),
            "share 0.1": Row({"quality_lq_share": 0.1}),
            "share 0.25": Row({"quality_lq_share": 0.25}),
            "ramp": Row({"contrast_ramp": (1.0, 4.0)}),
            "known quality": Row({"quality_source": "sharpness"}),
            "known quality at 0.3": Row({"quality_source": "sharpness", "quality_threshold": 0.3}),
            "known quality without contrast": Row({"quality_source": "sharpness", "pool": "none"}),
            "direction": Row({"quality_source": "direction"}),
            "direction with share 0.25": Row({"quality_source": "direction", "quality_lq_share": 0.25}),
            "consistency": Row({"consistency_weight": 1.0}),
            "both queries with share 0.25": Row({"contrast_queries": "both", "quality_lq_share": 0.25}),
            "weak contrast on every pair": Row({"quality_threshold": None, "contrast_weight": 0.2}),
            "A with both views": Row({"augment": "adaface", "quality_threshold": None, "pool": "none"}),
            "D with one view": Row({"views": ONE_VIEW, "quality_threshold": None, "pool": "none"}),
            "half sampled down": Row({"augment_options": {"downsample_probability": 0.5}}),
            "milder downsampling": Row({"augment_options": {"downsample_ratio": (0.1, 1.0)}}),
        },
    ),
}

# By recipe; one that is not here has the paper's columns.
SURVEILLANCE = "surveillance:celeba_test"
COLUMNS = {
    "vgg2_r34_qgface": (
        Column("SCface d1", ("scface/d1",), "d1"),
        Column("SCface d2", ("scface/d2",), "d2"),
        Column("SCface d3", ("scface/d3",), "d3"),
        Column("TinyFace", ("tinyface/rank1",), "TinyFace"),
        Column("IJB-B", ("ijbb/tar@far=1e-4",), "IJB-B", ("ijbb/strict_tar@far=1e-4",)),
        Column(
            "HQ avg.",
            ("lfw/accuracy", "cfp_fp/accuracy", "agedb_30/accuracy", "calfw/accuracy", "cplfw/accuracy"),
            "HQ",
        ),
    ),
    "study": (
        Column("d1", (f"{SURVEILLANCE}/d1",), "d1"),
        Column("d2", (f"{SURVEILLANCE}/d2",), "d2"),
        Column("d3", (f"{SURVEILLANCE}/d3",), "d3"),
        Column("LFW, cross-resolution", ("cross_resolution/mean_cross",)),
        Column("LFW", ("lfw/accuracy",)),
        Column("clean rank-1", (f"{SURVEILLANCE}/clean",)),
        Column("HQ avg.", ("lfw/accuracy", f"{SURVEILLANCE}/clean"), "HQ"),
    ),
    "celeba_small": (Column("LFW", ("lfw/accuracy",), "HQ"),),
    "demo": (Column("Demo", ("demo/accuracy",)), Column("Demo, low quality", ("demo_lq/accuracy",))),
}
