"""Every key, with its default. An experiment's file states only what differs.

The first part has arcface_torch's names and meanings, and its defaults: a config written for arcface_torch runs here
unmodified, as a baseline (one flipped view, margin softmax, no partition, no contrast). The second part is QGFace.
"""

from easydict import EasyDict as edict

config = edict()
config.preset = None  # "paper" or "official" (the authors' released code): stands for the keys in configs/presets.py

# --- data
# rec: a folder with train.rec, train.idx and property; a .rec file; a folder of shards train-*.rec; a folder of one
# folder of images per identity; a train.json that lists tar shards, also in object storage; a list of such places,
# whose identities are different people; or "synthetic": the demo faces, drawn at first use
config.rec = "synthetic"
config.num_classes = None  # comes from the data; a number here is checked against it
config.num_image = None  # likewise
config.num_workers = 2  # loader processes per rank; 0: decode in the training process
config.corrupt = "stop"  # a damaged record or image: "stop" the run, or "skip" it: another sample takes its place
config.recordio_backend = "native"  # "mxnet" reads .rec through mxnet itself, for comparison
config.dali = False  # True: NVIDIA DALI decodes on the GPU; for views=("original",)
config.cache = None  # folder for shards from object storage
config.cache_limit = None  # GiB that they may take; None: no limit
config.shuffle_shards = None  # so many shards are mixed at a time; None: all of the data
config.seed = 2048  # of weights, order and augmentation

# --- network
config.network = "r50"  # r18 r34 r50 r100 r200 mbf small mini nano tiny ...: recognition/backbones
config.embedding_size = 512
config.dropout = 0.0
config.sync_bn = False  # batch statistics over all ranks (InsightFace: per rank)
config.pretrained = None  # a state dict to start the backbone from: model.pt, AdaFace's .ckpt ...; input is RGB

# --- classifier
config.margin_list = (1.0, 0.5, 0.0)  # loss="combined": cos(m1 theta + m2) - m3
config.sample_rate = 1.0  # Partial FC: share of negative classes a step sees; rows it does not see stay as they are
config.proxy_init = "normal"  # of W's rows, deviation 0.01; "unit": norm 1, better in short runs (docs/training.md)
config.memory_budget = 256  # MiB of cosines a rank keeps for the backward pass; beyond it they are computed again

# --- optimisation
config.batch_size = 128  # images per rank and step; with two views each image counts once and gives two samples
config.total_batch_size = None  # images per step over all ranks; overrides batch_size, need not divide by the ranks
config.optimizer = "sgd"  # "sgd" or "adamw"
config.lr = 0.1
config.momentum = 0.9
config.weight_decay = 5e-4
config.decay_batchnorm = True  # False: no weight decay on BatchNorm's scales and shifts
config.num_epoch = 20
config.max_step = None  # stop earlier, after so many optimizer steps
config.warmup_epoch = 0
config.lr_schedule = "polynomial"  # arcface_torch's; "step": divide at milestones, as the paper
config.lr_power = 1.0  # of the polynomial
config.lr_milestones = ()  # epochs after which "step" multiplies by lr_gamma
config.lr_gamma = 0.1
config.clip_grad_norm = 5.0  # of the backbone's gradient, 0: no clipping
config.gradient_acc = 1  # batches per optimizer step; averaged; at an epoch's end, those that fill no step are left out
config.fp16 = False  # autocast; a CPU has it with "bfloat16" alone, else it trains in float32 all the same
config.amp_dtype = "float16"  # "float16" (with loss scaling) or "bfloat16"
config.compile = False  # True: torch.compile makes the step's network; minutes at the start, faster steps after it
config.nonfinite = "skip"  # a step whose loss or gradient is nan or infinite: "skip" it, or "stop" the run
config.nonfinite_limit = 20  # so many skipped steps in a row stop the run
config.device = "auto"  # "auto", "cuda", "cpu"

# --- output
config.output = None  # run folder; None: work_dirs/<name of the config>
config.resume = "auto"  # from the newest whole checkpoint in `output`, if any; True: there must be one; False: anew
config.resume_changes = []  # keys whose values may differ from the checkpoint's, such as "lr"
config.overwrite = False  # True: a run in `output` that has ended, or has another config or data, is replaced
config.save_every = 1000  # steps between checkpoints, beside those at the end of an epoch; 0: only those
config.keep_checkpoints = 2  # newest ones kept
config.keep_every = None  # so many checkpoints apart, one is kept for good
config.max_time = None  # minutes after which the run saves and ends; the same command continues it
config.step_timeout = 10.0  # minutes; a process that takes longer for a step hangs, and all are stopped
config.frequent = 10  # steps between lines of metrics.jsonl
config.diagnose_every = 100  # steps between looks at the method itself (docs/diagnostics.md); 0: none
config.verbose = 2000  # steps between evaluations; 0: after each epoch
config.val_targets = []  # "lfw" for lfw.bin; scface, ijbb, surveillance:FACES ...: docs/evaluation.md
config.val_dir = None  # their folder; None: `rec`
config.val_faces = True  # keep thumbnails of test images, and show them in report.html; False: no faces leave the set
config.val_pairs = 600  # of its set that cross_resolution takes, a multiple of 10: it embeds each pair twelve times

# --- QGFace: views and augmentation (design: view k is the original, view q the augmented image)
config.views = ("original",)  # ("original",), ("augmented",) or ("original", "augmented")
config.augment = "qgface"  # preset of the augmented view: "none", "adaface", "qgface"
config.augment_options = {}  # parameters that differ from the preset's: recognition/data/augment.py

# --- QGFace: classification and partition
config.loss = "combined"  # "combined" (margin_list), "adaface" or "curricularface" (margin), "magface"
config.margin = 0.4  # m of AdaFace; CurricularFace's paper has 0.5
config.margin_gradient = "exact"  # "insightface": the constant target gradient of arcface_torch
config.norm_range = (10.0, 110.0)  # MagFace's (l_a, u_a), ...
config.margin_range = (0.45, 0.8)  # ... its margins (l_m, u_m) at them, and ...
config.norm_weight = 35.0  # ... the weight lambda_g of its regulariser
config.scale = 64.0  # s
config.quality_threshold = None  # b in [0, 1]; None: no partition
config.quality_scale = 0.333  # c of Eq. 1
config.quality_ema = 0.01  # weight of the newest batch in the norm statistics
config.quality_mean = 20.0  # where the statistics start
config.quality_std = 100.0
config.quality_statistics = "global"  # of the whole batch; "rank": of each rank's part
config.quality_gate = "hard"  # "sigmoid": LQ samples stay, their logits shrink (the released code's Eq. 3)
config.classified_views = "all"  # "originals": the augmented view is not classified

# --- QGFace: contrast
config.pool = "none"  # negatives: "none" (no contrast), "batch", "momentum", "proxy"
config.queue_size = None  # Q rows over all ranks; None: the number of identities
config.queue_dtype = "float32"  # how its rows are stored; "float16" and "bfloat16" halve its memory
config.queue_delta = "broadface"  # "plain": the proxy's move is not divided by |W_then|
config.queue_keys = "unit"  # moved keys are normalised again; "clamped": they are not, their products are clamped
config.contrast_weight = 1.0
config.contrast_scale = 64.0
config.contrast_queries = "augmented"  # "both": the original is a query as well
config.positive_gradient = "stopped"  # "kept": the positive key moves too
config.contrast_gate = "drop"  # HQ pairs count 0; "constant": log(1 + Q), which has no gradient
config.contrast_same_identity = "excluded"  # "zero": rows of the query's identity are negatives with the cosine 0
config.contrast_rescale = False  # True: the weight is times log 129 / log(1 + Q)
config.contrast_denominator = "infonce"  # "negatives": Eq. 14 as printed, without the positive
config.encoder_momentum = 0.999  # pool="momentum": share of the old weights the key encoder keeps

# --- beyond the paper, off by default (docs/method.md)
config.quality_lq_share = None  # share of LQ samples in (0, 1): the threshold, from quality_threshold on, follows it
config.contrast_ramp = (0.0, 0.0)  # epochs between which the contrast's weight rises from 0
# What tells quality. "direction": h's component along the way that augmenting moves features; "sharpness": the
# partition goes by the share of its side that a view has kept.
config.quality_source = "norm"
config.consistency_weight = 0.0  # factor on 1 - cos(q, k), all pairs, the original's gradient stopped

# Types of the keys that may be None, and of those that take more than their default shows.
types = {
    "preset": (str, type(None)),
    "rec": (str, list),
    "cache": (str, type(None)),
    "cache_limit": (float, type(None)),
    "shuffle_shards": (int, type(None)),
    "augment_options": (dict,),
    "num_classes": (int, type(None)),
    "num_image": (int, type(None)),
    "pretrained": (str, type(None)),
    "total_batch_size": (int, type(None)),
    "max_step": (int, type(None)),
    "resume": (bool, str),
    "keep_every": (int, type(None)),
    "max_time": (float, type(None)),
    "step_timeout": (float, type(None)),
    "output": (str, type(None)),
    "val_dir": (str, type(None)),
    "quality_threshold": (float, type(None)),
    "quality_lq_share": (float, type(None)),
    "queue_size": (int, type(None)),
}

# The values that make sense, where not every value of the type does.
least = {
    "num_classes": 1, "num_image": 1, "num_workers": 0, "seed": 0, "embedding_size": 1, "dropout": 0.0, "batch_size": 1,
    "total_batch_size": 1, "lr": 0.0, "momentum": 0.0, "weight_decay": 0.0, "num_epoch": 1, "max_step": 1,
    "lr_power": 0.0, "lr_gamma": 0.0, "clip_grad_norm": 0.0, "gradient_acc": 1, "keep_checkpoints": 1, "frequent": 1,
    "save_every": 0, "keep_every": 1, "max_time": 0.0, "step_timeout": 0.01, "diagnose_every": 0,
    "verbose": 0, "val_pairs": 10, "memory_budget": 0, "nonfinite_limit": 1, "margin": 0.0, "norm_weight": 0.0,
    "scale": 0.0, "cache_limit": 0.0, "shuffle_shards": 1, "contrast_scale": 0.0, "contrast_weight": 0.0,
    "queue_size": 0, "quality_std": 0.0, "quality_mean": 0.0, "consistency_weight": 0.0,
}  # fmt: skip
most = {
    "seed": 2**32 - 1, "dropout": 1.0, "sample_rate": 1.0, "quality_threshold": 1.0, "quality_ema": 1.0,
    "encoder_momentum": 1.0, "quality_lq_share": 1.0,
}  # fmt: skip
choices = {
    "preset": ("paper", "official"),
    "corrupt": ("stop", "skip"),
    "resume": ("auto", True, False),
    "recordio_backend": ("native", "mxnet"),
    "optimizer": ("sgd", "adamw"),
    "lr_schedule": ("polynomial", "step"),
    "amp_dtype": ("float16", "bfloat16"),
    "device": ("auto", "cuda", "cpu"),
    "augment": ("none", "adaface", "qgface"),
    "loss": ("combined", "adaface", "curricularface", "magface"),
    "nonfinite": ("skip", "stop"),
    "margin_gradient": ("exact", "insightface"),
    "pool": ("none", "batch", "momentum", "proxy"),
    "queue_dtype": ("float32", "float16", "bfloat16"),
    "queue_delta": ("broadface", "plain"),
    "queue_keys": ("unit", "clamped"),
    "proxy_init": ("normal", "unit"),
    "quality_statistics": ("global", "rank"),
    "quality_gate": ("hard", "sigmoid"),
    "quality_source": ("norm", "direction", "sharpness"),
    "classified_views": ("all", "originals"),
    "contrast_queries": ("augmented", "both"),
    "positive_gradient": ("stopped", "kept"),
    "contrast_gate": ("drop", "constant"),
    "contrast_same_identity": ("excluded", "zero"),
    "contrast_denominator": ("infonce", "negatives"),
}
# What the entries of a tuple or list are.
entries = {
    "rec": str,
    "margin_list": float,
    "norm_range": float,
    "margin_range": float,
    "lr_milestones": int,
    "contrast_ramp": float,
    "val_targets": str,
    "views": str,
    "resume_changes": str,
}

# Keys of arcface_torch without a meaning here. A list: only these values are accepted, others would silently change the
# experiment. None: any value, because nothing that is trained depends on it.
arcface_only = {
    "dali_aug": [False],
    "interclass_filtering_threshold": [0],
    "using_wandb": [False],
    "save_all_states": None,
    "save_artifacts": None,
    "suffix_run_name": None,
    "notes": None,
    "wandb_key": None,
    "wandb_entity": None,
    "wandb_project": None,
    "wandb_log_all": None,
    "wandb_resume": None,
}
