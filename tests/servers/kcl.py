"""The real Kinesis Client Library: its daemon for other languages, run with the jars that PyPI's kclpy-ext carries."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.system.cloud import REGION
from tests.system.daemon import waited

_PROCESSOR = Path(__file__).with_name("kcl_processor.py")
_STOPPING = 20.0
"""Seconds that the library has to let its shards go."""


@dataclass(frozen=True, kw_only=True)
class Application:
    """An application of the library: its lease table has its name."""

    name: str
    stream: str
    kinesis_url: str
    dynamodb_url: str
    folder: Path

    @property
    def out(self) -> Path:
        """Where its record processors write what they got."""
        return self.folder / f"{self.name}.got"

    @property
    def log(self) -> Path:
        return self.folder / f"library-{self.name}.log"

    def got(self) -> dict[str, list[str]]:
        """The texts of the records it got so far, in order, by shard."""
        found: dict[str, list[str]] = defaultdict(list)
        for line in self.out.read_text().splitlines() if self.out.exists() else ():
            shard, _, text = json.loads(line)
            found[shard].append(text)
        return found

    def texts(self) -> list[str]:
        """All of them."""
        return [text for texts in self.got().values() for text in texts]

    def properties(self) -> str:
        """Its configuration: everything that the library waits for is short."""
        return "\n".join(
            f"{name} = {value}"
            for name, value in {
                "executableName": f"{sys.executable} {_PROCESSOR} {self.out}",
                "applicationName": self.name,
                "streamName": self.stream,
                "workerId": self.name,
                "AwsCredentialsProvider": "DefaultCredentialsProvider",
                "processingLanguage": "python/3.11",
                "initialPositionInStream": "TRIM_HORIZON",
                "regionName": REGION,
                "kinesisEndpoint": self.kinesis_url,
                "dynamoDBEndpoint": self.dynamodb_url,
                "retrievalMode": "POLLING",
                "metricsLevel": "NONE",
                "disableWorkerMetrics": "true",
                "workerMetricsReporterFreqInMillis": 1000,
                "failoverTimeMillis": 3000,
                "leaseAssignmentIntervalMillis": 500,
                "shardSyncIntervalMillis": 1000,
                "parentShardPollIntervalMillis": 200,
                "idleTimeBetweenReadsInMillis": 200,
                "schedulerInitializationBackoffTimeMillis": 200,
                "shutdownGraceMillis": 1000,
            }.items()
        )


@contextmanager
def running(application: Application) -> Iterator[subprocess.Popen[bytes]]:
    """Run one worker of the application; it is killed, with its record processors, at the end."""
    java, package = shutil.which("java"), find_spec("amazon_kclpy")
    assert java, "no java on this machine: run tests/servers/debian.sh"
    assert package is not None, "kclpy-ext is not installed: it is in the dev group"
    jars = Path(package.submodule_search_locations[0]) / "jars" / "*" if package.submodule_search_locations else ""
    properties = application.folder / f"{application.name}.properties"
    properties.write_text(application.properties())
    flags = ["-Daws.cborEnabled=false", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    main = "software.amazon.kinesis.multilang.MultiLangDaemon"
    with application.log.open("ab") as log:
        process = subprocess.Popen(
            [java, *flags, "-cp", str(jars), main, "--properties-file", str(properties)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=application.folder,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def stopped(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, as an operator stops it: its record processors checkpoint once more."""
    process.terminate()
    await waited("the end of the library", lambda: process.poll() is not None, _STOPPING)
