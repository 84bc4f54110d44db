#!/usr/bin/env bash
# The one way in: sets the environment up, then runs the demo, a config, the evaluation or the tests. `./run.sh help` explains.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
# as utils/start.py sets it for training: keep freed memory instead of faulting it in anew
export MALLOC_MMAP_MAX_="${MALLOC_MMAP_MAX_:-0}" MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-17179869184}"

usage() {
    cat <<'HELP'
usage: ./run.sh                            train and evaluate the demo (faces drawn by code, a few minutes on a CPU)
       ./run.sh CONFIG [key=value ...]     train a config, one process per GPU (one on a CPU)
       ./run.sh eval MODEL [options]       evaluate a model:  ./run.sh eval work_dirs/demo/model.pt --data data/demo --target demo
       ./run.sh doctor [options]           check this machine: packages, GPU, NCCL, disk, memory ... and how to mend it
       ./run.sh test [--slow] [options]    lint, format, types and tests; options go to pytest
       ./run.sh setup                      set the environment up and stop
       ./run.sh help                       this text

CONFIG is a file or a name in configs/; configs/base.py lists every key.

  NPROC=2 ./run.sh CONFIG                  two processes on this machine (gloo on a CPU, NCCL on GPUs)
  NNODES=2 NODE_RANK=0 MASTER_ADDR=host MASTER_PORT=29500 ./run.sh CONFIG
                                           one of two machines, which see `output` on a shared disk; under Slurm
                                           (srun ./run.sh CONFIG, one task per node) these come from Slurm
  NNODES=1:2 MASTER_ADDR=host ./run.sh CONFIG
                                           one of at least one and at most two machines, which may come and go;
                                           RENDEZVOUS_FILE=shared/file instead of MASTER_ADDR lets any of them go
  MAX_RESTARTS=3 ./run.sh CONFIG           start processes that failed again, this many times (default: 3 where
                                           machines may come and go, else 0)
  STOP_EXIT_CODE=75 ./run.sh CONFIG        exit code of a run that was stopped before its end (default 0)
  OMP_NUM_THREADS=4 ./run.sh CONFIG        CPU threads of each process (else the cores are shared out)

Ctrl-C and SIGTERM stop after the current step and save; the same command continues. docs/running.md tells more.

The packages of requirements.txt go into .venv, unless the active environment already has them.
HELP
}

fail() {
    echo "error: $*" >&2
    exit 2
}

find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.10 to 3.13 on the PATH; install one"
}

set_up() {
    local venv="$ROOT/.venv"
    PYTHON="$(find_python)"
    if "$PYTHON" "$ROOT/utils/environment.py" "$ROOT/requirements.txt" 2>/dev/null; then
        return
    fi
    if ! cmp -s "$ROOT/requirements.txt" "$venv/requirements.txt"; then
        echo "setting up $venv (once; needs a package index)" >&2
        "$PYTHON" -m venv "$venv" >&2 || fail "cannot make $venv; on Debian and Ubuntu: apt install python3-venv"
        if ! "$venv/bin/python" -m pip install -q -r "$ROOT/requirements.txt"; then
            echo "trying again without mxnet, which is optional" >&2
            grep -v '^mxnet' "$ROOT/requirements.txt" >"$venv/without-mxnet.txt"
            "$venv/bin/python" -m pip install -q -r "$venv/without-mxnet.txt" >&2 ||
                fail "the packages of requirements.txt cannot be installed; see pip's message above"
        fi
        cp "$ROOT/requirements.txt" "$venv/requirements.txt"
    fi
    PYTHON="$venv/bin/python"
}

check_machine() { # with the Python that set_up would take, but without setting anything up
    PYTHON="$(find_python)"
    if [ -x "$ROOT/.venv/bin/python" ] && ! "$PYTHON" "$ROOT/utils/environment.py" "$ROOT/requirements.txt" 2>/dev/null; then
        PYTHON="$ROOT/.venv/bin/python"
    fi
    exec "$PYTHON" "$ROOT/utils/machine" "$@"
}

train() {
    exec "$PYTHON" "$ROOT/utils/start.py" "$ROOT/train.py" "$@"
}

run_tests() {
    cd "$ROOT"
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
    local cores
    cores="$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)"
    "$PYTHON" -m ruff check .
    "$PYTHON" -m ruff format --check .
    "$PYTHON" -m mypy
    exec "$PYTHON" -m pytest -q -n "$((cores < 4 ? cores + 1 : 4))" "$@" # whole runs also wait: one more than cores
}

case "${1:-}" in
help | -h | --help) usage ;;
setup) set_up ;;
doctor)
    shift
    check_machine "$@"
    ;;
test)
    set_up
    shift
    run_tests "$@"
    ;;
eval)
    set_up
    shift
    exec "$PYTHON" "$ROOT/eval" "$@" # by path: `-m` would look into the current folder first
    ;;
"")
    set_up
    train "$ROOT/configs/demo.py"
    ;;
*)
    set_up
    train "$@"
    ;;
esac
