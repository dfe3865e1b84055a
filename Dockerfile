# `make report` in a container: docker build -t cifar-report . && docker run -v "$PWD/outputs:/app/outputs" cifar-report
# A GPU: docker run --gpus all … ; other words of `make report`: docker run … cifar-report make report PROFILE=quick JOBS=2
FROM python:3.12-slim
RUN apt-get update && apt-get install --yes --no-install-recommends git make libpango-1.0-0 libpangoft2-1.0-0 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY . .
RUN make .venv/.installed
ENV CIFAR_REPORT_CACHE=/app/outputs/cache TORCH_HOME=/app/outputs/cache/torch
CMD ["make", "report"]
