"""What an evaluation leaves: results.json, beside it a folder with evidence, pictures and the quality of each image."""

from pathlib import Path

import numpy as np

from eval.drawing import draw
from eval.features import Features, Images
from eval.quality import indicator
from eval.quality_table import write_quality_csv
from eval.results import Record, evidence_file, write_results


def write_outputs(
    path: Path,
    model: str,
    model_digest: str,
    name: str,
    record: Record,
    features: Features,
    images: Images | None,
    norms: tuple[float, float] | None,
) -> None:
    """One target's part of results.json, its evidence, pictures, and `<name>_quality.csv`.

    Args:
        path: of results.json.
        images: None where the features were made elsewhere.
        norms: mean and deviation that the quality indicator is taken from: training's; None: those of these images.
    """
    write_results(path, model, model_digest, {name: record})
    evidence = evidence_file(path, name)
    draw(evidence.parent, name, record.result)
    z = features.z.astype(np.float64)
    mean, std = norms or (z.mean(), z.std())
    names = getattr(images, "names", None) or [str(index) for index in range(len(z))]
    write_quality_csv(evidence.with_name(f"{evidence.stem}_quality.csv"), names, z, indicator(z, mean, std))
