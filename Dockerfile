# docker build -t qgface .
# docker run --gpus all --shm-size=8g -v /data:/data -v /runs:/runs qgface CONFIG rec=/data/faces output=/runs/run1
# PyTorch's wheels bring CUDA, cuDNN and NCCL; the base adds what the driver of the host needs to find, and no more.
FROM nvidia/cuda:12.8.1-base-ubuntu24.04

RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /qgface
# packages first: they stay cached while the code changes
COPY run.sh requirements.txt ./
COPY utils/environment.py utils/environment.py
RUN ./run.sh setup
COPY . .
ENV PATH="/qgface/.venv/bin:$PATH"

# Not a shell: run.sh becomes the launcher, which is then process 1 and gets Docker's SIGTERM. Give it time to save:
# docker stop --time 300
ENTRYPOINT ["./run.sh"]
