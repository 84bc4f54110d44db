"""ArcFace on VGGFace2 with the paper's schedule: InsightFace's baseline, one flipped view.

./run.sh configs/vgg2_r34_arcface.py rec=/data/vggface2 val_dir=/data/bins
"""

from easydict import EasyDict as edict

from configs.vgg2_r34_qgface import config as qgface

config = edict(qgface)
config.views = ("original",)
config.loss = "combined"
config.margin_list = (1.0, 0.5, 0.0)
config.quality_threshold = None
config.pool = "none"
