# The environment, without the project, which is mounted:
#   docker build --target cpu -t biopsy .             (or --target gpu, run with `--gpus all`)
#   docker run --rm -it -u "$(id -u):$(id -g)" -v "$PWD:/project" biopsy dvc repro
FROM python:3.12-slim-bookworm AS base
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /project \
    && useradd --create-home --uid 1000 biopsy \
    && python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/project \
    HOME=/home/biopsy
WORKDIR /tmp/build
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY biopsy biopsy
RUN pip install --no-cache-dir --no-deps . && chmod 0777 /home/biopsy
WORKDIR /project

FROM base AS gpu
RUN pip install --no-cache-dir -c /tmp/build/requirements.txt "tensorflow[and-cuda]"
USER 1000
CMD ["dvc", "repro"]

FROM base AS cpu
USER 1000
CMD ["dvc", "repro"]
