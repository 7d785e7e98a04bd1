# syntax=docker/dockerfile:1
# The daemon as a container. `docker run -v ./config:/etc/poller:ro poller` runs /etc/poller; docs/deploying.md has the rest.

FROM python:3.11-slim AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY config ./config
COPY poller ./poller
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --disable-pip-version-check --no-deps --wheel-dir /wheels .

FROM python:3.11-slim AS venv
WORKDIR /src
COPY requirements.lock ./
# botocore describes 400 services in 27 MB: those that are called (the last three by credentials) stay.
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/poller \
 && pip --python /opt/poller/bin/python install --disable-pip-version-check --require-hashes -r requirements.lock \
 && find /opt/poller/lib/python3.*/site-packages/botocore/data -mindepth 1 -maxdepth 1 -type d \
      ! -name kinesis ! -name dynamodb ! -name dynamodbstreams ! -name sqs ! -name sns ! -name s3 ! -name lambda ! -name sts \
      ! -name sso ! -name sso-oidc ! -name signin -exec rm -r {} +
COPY --from=wheel /wheels /wheels
RUN pip --python /opt/poller/bin/python install --disable-pip-version-check --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM python:3.11-slim
LABEL org.opencontainers.image.title="poller" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.description="AWS Lambda's event source mappings, anywhere" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number, so that Kubernetes can see that it is not root.
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/poller --no-create-home --shell /usr/sbin/nologin poller \
 && install -d -o poller -g poller -m 0750 /var/lib/poller \
 && install -d /etc/poller
COPY --from=venv /opt/poller /opt/poller
# The heap in huge pages, where the kernel lets a process ask for them: a tenth of the CPU.
ENV PATH=/opt/poller/bin:$PATH \
    HOME=/var/lib/poller \
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/poller
USER 10001:10001
VOLUME /var/lib/poller
EXPOSE 9464
STOPSIGNAL SIGTERM
# No curl in the image, and no proxy on the way to ourselves: http.client looks at no environment.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import http.client; c = http.client.HTTPConnection('127.0.0.1', 9464, timeout=2); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["poller"]
CMD ["run", "/etc/poller"]
