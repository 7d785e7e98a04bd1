# The daemon as a container: `docker run -v ./config:/etc/poller poller` runs /etc/poller.
FROM python:3.11-slim AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/poller \
 && /opt/poller/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY config ./config
COPY poller ./poller
RUN pip wheel --no-cache-dir --disable-pip-version-check --no-deps --wheel-dir /wheels . \
 && /opt/poller/bin/pip install --no-cache-dir --no-deps /wheels/*.whl

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/poller --create-home poller
COPY --from=build /opt/poller /opt/poller
ENV PATH=/opt/poller/bin:$PATH PYTHONUNBUFFERED=1
USER poller
VOLUME /var/lib/poller
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/healthz', timeout=2)"]
ENTRYPOINT ["poller"]
CMD ["run", "/etc/poller"]
