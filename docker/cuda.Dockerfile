# medtranslate on an NVIDIA GPU. Build from the root of the repository:
#   docker build -f docker/cuda.Dockerfile -t medtranslate:cuda .
# PyPI's PyTorch brings its CUDA libraries, so no CUDA base image is needed; the host needs the driver
# and the NVIDIA Container Toolkit.
FROM python:3.12-slim AS build
# npm fetches the viewer while medtranslate is built.
RUN apt-get update && apt-get install -y --no-install-recommends npm
COPY . /source
RUN python -m venv /opt/medtranslate \
 && /opt/medtranslate/bin/pip install --no-cache-dir /source

FROM python:3.12-slim
COPY --from=build /opt/medtranslate /opt/medtranslate
# Caches of matplotlib and torch go where any user may write; --user may name one without a home.
ENV PATH=/opt/medtranslate/bin:$PATH HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib XDG_CACHE_HOME=/tmp/cache \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN useradd --uid 1000 --no-create-home medtranslate
USER 1000
WORKDIR /data
ENTRYPOINT ["medtranslate"]
CMD ["--help"]
