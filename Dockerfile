# Two images of one project, both without root, pip's leftovers and a compiler:
#   docker build --target app -t stylegan-inversion-app .         the API and the page; no torch, no inversion_core
#   docker build --target worker -t stylegan-inversion-worker .   the worker; torch as pip finds it, with CUDA
# With --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu the worker gets torch for the CPU alone, which is
# some GB smaller; docker-compose.yml does that for the worker that runs on the CPU.

FROM python:3.11-slim AS base
LABEL org.opencontainers.image.title="stylegan-inversion" \
      org.opencontainers.image.description="Fast StyleGAN inversion: a face photo in, its W+ code out." \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    INVERSION_ARTIFACTS_URL=file:///data/artifacts
# One user id in both images: they share the artifact volume.
RUN useradd --uid 10001 --create-home inversion && install -d -o inversion -g inversion /data/artifacts
WORKDIR /srv/inversion

# What is installed is made in stages of its own, and only /opt is taken from them. First the packages of others: their
# layer stays as it is until another one is required.
FROM python:3.11-slim AS requirements
WORKDIR /src
COPY pyproject.toml ./
COPY .ci/requirements.py ./.ci/
RUN python3 .ci/requirements.py app heif s3 otel > app.txt \
    && python3 .ci/requirements.py worker film heif s3 otel > worker.txt

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PIP_PYTHON=/opt/venv/bin/python
RUN python3 -m venv --without-pip /opt/venv
WORKDIR /src
COPY constraints.txt ./

FROM build AS app-packages
COPY --from=requirements /src/app.txt ./
RUN pip install --constraint constraints.txt --requirement app.txt \
    && find /opt/venv/lib -type d -path '*/numpy/*' -name tests -prune -exec rm -r {} +

FROM app-packages AS app-code
COPY pyproject.toml README.md LICENSE LICENSE-PACKS ./
COPY inversion_commands ./inversion_commands
COPY inversion_pictures ./inversion_pictures
COPY inversion_worker ./inversion_worker
COPY inversion_app ./inversion_app
RUN pip install --no-deps --ignore-installed --prefix /opt/code .

FROM base AS app
COPY --from=app-packages /opt/venv /opt/venv
COPY --from=app-code /opt/code /opt/venv
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
CMD ["python", "-m", "inversion_app", "--host", "0.0.0.0", "--port", "8000", "--timeout-graceful-shutdown", "5"]

FROM build AS worker-packages
ARG TORCH_INDEX=
COPY --from=requirements /src/worker.txt ./
# torch brings its own tests and its headers for a compiler, which take 200 MB.
RUN pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} --constraint constraints.txt --requirement worker.txt \
    && find /opt/venv/lib -type d \( -path '*/torch/include' -o -path '*/torch/test' -o -path '*/numpy/*/tests' \
        -o -path '*/sympy/*/tests' -o -path '*/networkx/*/tests' \) -prune -exec rm -r {} + \
    && find /opt/venv/lib -path '*/torch/bin/*' -type f ! -name torch_shm_manager -delete

FROM worker-packages AS worker-code
COPY pyproject.toml README.md LICENSE LICENSE-PACKS ./
COPY inversion_commands ./inversion_commands
COPY inversion_pictures ./inversion_pictures
COPY inversion_core ./inversion_core
COPY inversion_worker ./inversion_worker
RUN pip install --no-deps --ignore-installed --prefix /opt/code .

FROM base AS worker
LABEL org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-NC-SA-4.0 AND MIT"
COPY --from=worker-packages /opt/venv /opt/venv
# The default pack, which the wheel does not hold, where the library looks for packs of the system.
COPY packs/faces-128 /opt/venv/share/stylegan-inversion/packs/faces-128
COPY --from=worker-code /opt/code /opt/venv
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s \
    CMD ["python", "-m", "inversion_worker.health"]
CMD ["python", "-m", "inversion_worker"]
