# syntax=docker/dockerfile:1
# Two images of one project, both without root and without a compiler:
#   docker build --target app -t stylegan-inversion-app .         the API and the page; no torch, no inversion_core
#   docker build --target worker -t stylegan-inversion-worker .   the worker; its torch brings CUDA, and runs on a CPU too

FROM python:3.11-slim AS base
LABEL org.opencontainers.image.title="stylegan-inversion" \
      org.opencontainers.image.description="Fast StyleGAN inversion: a face photo in, its W+ code out." \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# One user id in both images: they share the artifact volume.
RUN useradd --uid 10001 --create-home inversion && install -d -o inversion -g inversion /data/artifacts
ENV INVERSION_ARTIFACTS_URL=file:///data/artifacts
WORKDIR /srv/inversion
# The packages that we need before our own code: their layer stays when only the code changes.
COPY pyproject.toml constraints.txt README.md LICENSE ./

FROM base AS app
RUN pip install --constraint constraints.txt '.[app,s3,otel]'
COPY inversion_pictures ./inversion_pictures
COPY inversion_worker ./inversion_worker
COPY inversion_app ./inversion_app
RUN pip install --no-deps --force-reinstall .
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
CMD ["uvicorn", "inversion_app.main:create_app", "--factory", "--host", "0.0.0.0", "--port", "8000", "--timeout-graceful-shutdown", "5"]

FROM base AS worker
RUN pip install --constraint constraints.txt '.[worker,s3,otel]'
COPY inversion_pictures ./inversion_pictures
COPY inversion_core ./inversion_core
COPY inversion_worker ./inversion_worker
RUN pip install --no-deps --force-reinstall .
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s \
    CMD ["python", "-m", "inversion_worker.health"]
CMD ["python", "-m", "inversion_worker"]
