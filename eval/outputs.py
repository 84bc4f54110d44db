"""What an evaluation leaves: results.json, beside it a folder with evidence, charts, thumbnails, qualities."""

from pathlib import Path

import numpy as np

from eval.drawing import draw
from eval.faces import write_faces
from eval.features import Features
from eval.protocol import Target, scored
from eval.quality import indicator
from eval.quality_table import write_quality_csv
from eval.results import Record, evidence_file, write_results


def write_outputs(
    path: Path,
    model: str,
    model_digest: str,
    target: Target,
    features: Features,
    options: dict[str, object],
    norms: tuple[float, float] | None = None,
    faces: bool = True,
) -> Record:
    """Score a target and write its part of results.json, its evidence, charts, thumbnails, and `<name>_quality.csv`.

    Args:
        path: of results.json.
        options: what the numbers depend on beside model and data.
        norms: mean and deviation that the quality indicator is taken from: training's; None: those of these images.
        faces: keep thumbnails of the images that a report shows.

    Raises:
        ValueError: features of other images, a result that is not a finite number.
        OSError: a file cannot be written.
    """
    record = Record(scored(target, features), target.version, target.digest(), options)
    write_results(path, model, model_digest, {target.name: record})
    evidence = evidence_file(path, target.name)
    draw(evidence.parent, target.name, record.result)
    if target.images is not None:
        z = features.z.astype(np.float64)
        mean, std = norms or (z.mean(), z.std())
        csv = evidence.with_name(f"{evidence.stem}_quality.csv")
        write_quality_csv(csv, target.images.names, z, indicator(z, mean, std))
    write_faces(path, target.name, target.images if faces else None, record.result.evidence)
    return record
