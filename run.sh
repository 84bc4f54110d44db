#!/usr/bin/env bash
# The one way in: sets the environment up, then runs the demo, a config, the evaluation or the tests. `./run.sh help` explains.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
# glibc: keep freed activations instead of faulting them in anew at every step; a CPU trains 1.4 times faster
export MALLOC_MMAP_MAX_="${MALLOC_MMAP_MAX_:-0}" MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-17179869184}"

usage() {
    cat <<'HELP'
usage: ./run.sh                            train and evaluate the demo (faces drawn by code, a few minutes on a CPU)
       ./run.sh CONFIG [key=value ...]     train a config, one process per GPU (one on a CPU)
       ./run.sh eval MODEL [options]       evaluate a model:  ./run.sh eval work_dirs/demo/model.pt --data data/demo --target demo
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
    PYTHON="$(find_python)"
    if "$PYTHON" "$ROOT/utils/environment.py" "$ROOT/requirements.txt" 2>/dev/null; then
        return
    fi
    local venv="$ROOT/.venv"
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

processes() {
    local gpus=0 word
    for word in "$@"; do
        [ "$word" = "device=cpu" ] && echo 1 && return
    done
    if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
        gpus="$(tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | grep -c '^[^-]')" || gpus=0 # "" and -1 hide every GPU
    elif command -v nvidia-smi >/dev/null; then
        gpus="$(nvidia-smi -L 2>/dev/null | grep -c '^GPU')" || gpus=0
    fi
    echo $((gpus > 0 ? gpus : 1))
}

first_host() {
    local host="${MASTER_ADDR:-}"
    if [ -z "$host" ] && [ -n "${SLURM_JOB_NODELIST:-}" ]; then
        host="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
        host="${host%%$'\n'*}" # not through head: it may close the pipe before scontrol has said everything
    fi
    echo "$host"
}

# Sets `where`: torchrun's words for which machines take part and how they meet.
machines() {
    local nodes="$1" restarts="$2" host port="${MASTER_PORT:-29500}" node="${NODE_RANK:-${SLURM_NODEID:-}}"
    where=(--nnodes "$nodes" --max-restarts "$restarts")
    if [ "$nodes" = 1 ]; then
        where+=(--standalone)
        return
    fi
    host="$(first_host)"
    if [[ "$nodes" = *:* || "$restarts" -gt 0 ]]; then
        # a machine is missed after 10 s; the others wait 5 s for more of them before they start again
        local settings="last_call_timeout=5,keep_alive_interval=2,keep_alive_max_attempt=5"
        if [ -n "${RENDEZVOUS_FILE:-}" ]; then
            host="$RENDEZVOUS_FILE" settings+=",store_type=file"
        else
            [ -n "$host" ] || fail "NNODES=$nodes: MASTER_ADDR says on which machine they meet, or RENDEZVOUS_FILE where"
            host="$host:$port"
        fi
        where+=(--rdzv-backend c10d --rdzv-endpoint "$host" --rdzv-id "${SLURM_JOB_ID:-qgface}" --rdzv-conf "$settings")
        return
    fi
    [[ -z "$node" || "$node" =~ ^[0-9]+$ && "$node" -lt "$nodes" ]] || fail "NODE_RANK=$node: expected 0 to $((nodes - 1))"
    [ -n "$node" ] && [ -n "$host" ] || fail "NNODES=$nodes: NODE_RANK and MASTER_ADDR say which machine this is and who leads"
    where+=(--node-rank "$node" --master-addr "$host" --master-port "$port")
}

train() {
    local nproc="${NPROC:-$(processes "$@")}" nodes="${NNODES:-${SLURM_NNODES:-1}}" restarts="${MAX_RESTARTS:-}" where cores
    [[ "$nproc" =~ ^[1-9][0-9]*$ ]] || fail "NPROC=$nproc: expected a number of processes"
    [[ "$nodes" =~ ^[1-9][0-9]*(:[1-9][0-9]*)?$ && "${nodes%:*}" -le "${nodes#*:}" ]] ||
        fail "NNODES=$nodes: expected a number of machines, or the fewest and the most of them, as 1:2"
    [ -n "$restarts" ] || if [[ "$nodes" = *:* ]]; then restarts=3; else restarts=0; fi
    [[ "$restarts" =~ ^[0-9]+$ ]] || fail "MAX_RESTARTS=$restarts: expected a number"
    [[ "${STOP_EXIT_CODE:-0}" =~ ^[0-9]{1,3}$ ]] || fail "STOP_EXIT_CODE=$STOP_EXIT_CODE: expected an exit code"
    machines "$nodes" "$restarts"
    cores="$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)"
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((cores > nproc ? cores / nproc : 1))}"
    exec "$PYTHON" "$ROOT/utils/launch.py" "${where[@]}" --nproc-per-node "$nproc" "$ROOT/train.py" "$@"
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
