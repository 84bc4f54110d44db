"""The Slurm array that trains what is not finished, one task a run."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from tools.ablation.runs import Run
from utils import project


def script(runs: Sequence[Run], recipe: Path, gpus: int, cores: int, jobs: int | None) -> str:
    """An sbatch script (docs/running.md, Slurm): a task that is stopped at its time limit is queued again.

    Args:
        runs: at least one.
        gpus: of each run.
        cores: likewise; Slurm would give one.
        jobs: tasks at a time; None: no limit.
    """
    tasks = f"0-{len(runs) - 1}" + (f"%{jobs}" if jobs else "")
    cases = [f"{number}) set -- {shlex.join(run.words)} ;; # {run}" for number, run in enumerate(runs)]
    return "\n".join([
        "#!/bin/bash",
        f"#SBATCH --job-name=ablation --array={tasks}",
        f"#SBATCH --nodes=1 --ntasks-per-node=1 --gpus-per-node={gpus} --cpus-per-task={cores}",
        "#SBATCH --time=24:00:00 --signal=TERM@120 --requeue --open-mode=append",
        f"#SBATCH --output={shlex.quote(str(runs[0].folder.parent))}/slurm_%A_%a.log",
        'case "$SLURM_ARRAY_TASK_ID" in',
        *cases,
        '*) echo "error: no run $SLURM_ARRAY_TASK_ID" >&2; exit 2 ;;',
        "esac",
        "export STOP_EXIT_CODE=75",
        f"cd {shlex.quote(str(project.home()))} || exit 2",
        f'srun --cpus-per-task={cores} {project.shown("train")} {shlex.quote(str(recipe))} "$@"',
        "code=$?",
        '[ "$code" -ne 75 ] || scontrol requeue "$SLURM_JOB_ID"',
        'exit "$code"',
        "",
    ])  # fmt: skip
