# medtranslate on a CPU. Build from the root of the repository:
#   docker build -f docker/cpu.Dockerfile -t medtranslate:cpu .
FROM python:3.12-slim AS build
# npm fetches the viewer while medtranslate is built.
RUN apt-get update && apt-get install -y --no-install-recommends npm
COPY . /source
# PyTorch's CPU build first; PyPI's would bring several gigabytes of CUDA libraries.
RUN python -m venv /opt/medtranslate \
 && /opt/medtranslate/bin/pip install --no-cache-dir 'torch>=2.8,<2.14' \
      --index-url https://download.pytorch.org/whl/cpu \
 && /opt/medtranslate/bin/pip install --no-cache-dir /source

FROM python:3.12-slim
COPY --from=build /opt/medtranslate /opt/medtranslate
# Caches of matplotlib and torch go where any user may write; --user may name one without a home.
ENV PATH=/opt/medtranslate/bin:$PATH HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib XDG_CACHE_HOME=/tmp/cache
RUN useradd --uid 1000 --no-create-home medtranslate
USER 1000
WORKDIR /data
ENTRYPOINT ["medtranslate"]
CMD ["--help"]
