"""The verbs of the command line. A user's mistake is one readable line on standard error, never a traceback."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import click

from poller import __version__
from poller.model.errors import SettingsError, causes

_UNUSABLE = 2


class _Seconds(click.FloatRange):
    """A number that can be compared, which NaN is not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Refuse NaN, too."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


_config = click.argument("config", type=click.Path(path_type=Path, readable=False))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="poller")
def main() -> None:
    """AWS Lambda's event source mappings, anywhere."""
    _open_streams()


@main.command()
@_config
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
)
@click.option("--log-format", type=click.Choice(["json", "console"]), help="Default: console on a terminal, else json.")
@click.option(
    "--replicas",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that divide the work and share the store, one HTTP server and `memory`.",
)
@click.option("--dry-run", is_flag=True, help="Invoke nothing, store nothing; log what would have been sent.")
@click.option(
    "--part", type=(int, int, click.Path(path_type=Path, readable=False), str), hidden=True, help="Of such a process."
)
def run(
    config: Path,
    log_level: str,
    log_format: str | None,
    replicas: int,
    part: tuple[int, int, Path, str] | None,
    *,
    dry_run: bool,
) -> None:
    """Run the daemon in the foreground. SIGTERM or SIGINT stops it, SIGHUP reloads CONFIG (a file or a folder)."""
    from poller.service import signals

    signals.hold()  # the imports take a second
    from poller.service import app, aside, logs
    from poller.service.part import Part

    chosen: Literal["json", "console"] = "json"
    if log_format == "console" or (log_format is None and sys.stderr.isatty()):
        chosen = "console"
    mine = Part(number=part[0], of=part[1], socket=part[2], address=part[3]) if part else None
    logs.configure(log_level, chosen, sys.stderr, replica=mine.number if mine else 0)
    if dry_run:
        sys.exit(_or_refuse(lambda: aside.dry_run(config, os.environ)))
    if replicas > 1:
        from poller.service.replicas import run_replicas

        options = ("--log-level", log_level, "--log-format", chosen)
        sys.exit(_or_refuse(lambda: run_replicas(config, os.environ, replicas, options)))
    sys.exit(_or_refuse(lambda: app.run(config, os.environ, mine)))


@main.command()
@_config
@click.option("--connect", is_flag=True, help="Also ask each source, function and destination whether it may be used.")
def check(config: Path, *, connect: bool) -> None:
    """Read and validate CONFIG; print every mistake as FILE:LINE: path.to.key: what is wrong, what is allowed."""
    from poller.service import logs
    from poller.service.check import connect as ask
    from poller.settings import load

    logs.configure("error", "console", sys.stderr)

    async def checked() -> int:
        settings = load(config, os.environ, now=time.time())
        failures = [line async for line in ask(settings)] if connect else []
        for line in failures:
            click.echo(f"{config}: {line}", err=True)
        if not failures:
            count = len(settings.mappings)
            click.echo(f"{config}: {count} mapping{'' if count == 1 else 's'}, all good")
        return 1 if failures else 0

    sys.exit(_or_refuse(checked))


@main.command()
@click.option("--url", default="http://127.0.0.1:9464", show_default=True, help="Where the daemon serves HTTP.")
@click.option("--json", "as_json", is_flag=True, help="Print the raw answer.")
def status(url: str, *, as_json: bool) -> None:
    """Ask a running daemon for its mappings and shards."""
    from poller.service.status import show_status

    sys.exit(show_status(url, as_json))


_url = click.option("--url", default="http://127.0.0.1:9464", show_default=True, help="Where the daemon serves HTTP.")
_token = click.option(
    "--token", envvar="POLLER_TOKEN", help="Its server.token. Default: the environment's POLLER_TOKEN."
)
_shard = click.option("--shard", default="", help="Only this shard of a stream.")


@main.command()
@click.argument("mapping")
@_shard
@_url
@_token
def pause(mapping: str, shard: str, url: str, token: str | None) -> None:
    """Deliver nothing of MAPPING, on all replicas, until `poller resume`. Its iterator age keeps growing."""
    from poller.service.ordering import order

    sys.exit(order(url, token, mapping, "pause", {"shard": shard}))


@main.command()
@click.argument("mapping")
@_shard
@_url
@_token
def resume(mapping: str, shard: str, url: str, token: str | None) -> None:
    """Let MAPPING, with all its shards, or one shard go on."""
    from poller.service.ordering import order

    sys.exit(order(url, token, mapping, "resume", {"shard": shard}))


@main.command()
@click.argument("mapping")
@click.option(
    "--to", required=True, help="TRIM_HORIZON, LATEST, a time (ISO 8601 or unix seconds), or a sequence number."
)
@click.option("--after", is_flag=True, help="Go on behind the record of that sequence number.")
@_shard
@_url
@_token
def seek(mapping: str, to: str, shard: str, url: str, token: str | None, *, after: bool) -> None:
    """Have MAPPING, a stream's, go on elsewhere: what lies between is passed over, or delivered again."""
    from poller.service.ordering import order

    sys.exit(order(url, token, mapping, "seek", {"shard": shard, "to": to, "after": after}))


@main.command()
@_config
@click.argument("mapping")
@click.option("--from", "since", required=True, help="A time: ISO 8601 or unix seconds.")
@click.option("--to", "until", required=True, help="A later one, which is over.")
@click.option("--function", help="Invoke this function of CONFIG in place of the mapping's.")
def replay(config: Path, mapping: str, since: str, until: str, function: str | None) -> None:
    """Deliver again what arrived in MAPPING's stream in a span of time; its checkpoint stays where it is.

    Uses the mapping's filters, batches, retries and destination. Run it again to go on after a stop or a crash.
    """
    from poller.service import aside, logs

    logs.configure("info", "console" if sys.stderr.isatty() else "json", sys.stderr)
    span = {"since": since, "until": until}
    sys.exit(_or_refuse(lambda: aside.replay(config, os.environ, mapping=mapping, function=function, **span)))


@main.command()
@_config
@click.argument("mapping")
@click.option("--dry-run", is_flag=True, help="Say what would be delivered, and deliver and remove nothing.")
@click.option("--drop-expired", is_flag=True, help="Remove the documents whose records have left the stream.")
def redrive(config: Path, mapping: str, *, dry_run: bool, drop_expired: bool) -> None:
    """Deliver again what MAPPING gave up, as its on-failure destination (a queue or a bucket) was told.

    A document is removed when its batch is delivered. One that fails stays, and so do those behind it in its shard.
    """
    from poller.service import logs
    from poller.service.redrive import redrive as again

    logs.configure("error", "console", sys.stderr)
    how = {"dry_run": dry_run, "drop_expired": drop_expired}
    sys.exit(_or_refuse(lambda: again(config, os.environ, mapping=mapping, tell=click.echo, **how)))


@main.group()
def checkpoints() -> None:
    """Write the stored positions to a file, or read them from one."""


@checkpoints.command("export")
@_config
@click.argument("mapping", required=False)
def export_(config: Path, mapping: str | None) -> None:
    """Print the positions of MAPPING, or of all mappings of streams, as JSON."""
    from poller.service import logs
    from poller.service.checkpoints import export

    logs.configure("error", "console", sys.stderr)

    async def exported() -> int:
        click.echo(await export(config, os.environ, mapping=mapping))
        return 0

    sys.exit(_or_refuse(exported))


@checkpoints.command("import")
@_config
@click.argument("file", type=click.Path(path_type=Path, readable=False, dir_okay=False))
@click.option("--force", is_flag=True, help="Also while a replica that lives has the shards and they are not paused.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
def import_(config: Path, file: Path, *, force: bool, dry_run: bool) -> None:
    """Make the stored positions those of FILE, which `poller checkpoints export` wrote."""
    from poller.service import checkpoints, logs

    logs.configure("error", "console", sys.stderr)
    how = {"force": force, "dry_run": dry_run}
    sys.exit(_or_refuse(lambda: checkpoints.import_(config, os.environ, file, tell=click.echo, **how)))


@main.command()
@_config
@click.argument("function")
@click.argument("event", required=False, metavar="[EVENT.json]")
def invoke(config: Path, function: str, event: str | None) -> None:
    """Invoke one FUNCTION of CONFIG with an event (- reads standard input; default: {}).

    The result goes to standard output; the function's log and the duration go to standard error. Exit 0: it returned,
    1: it failed, 2: it could not be invoked.
    """
    from poller.service import logs
    from poller.service.invoke import invoke as once
    from poller.service.invoke import read_event
    from poller.settings import load

    logs.configure("error", "console", sys.stderr)

    async def invoked() -> int:
        settings = load(config, os.environ, now=time.time())
        return await once(settings, function, await read_event(event))

    sys.exit(_or_refuse(invoked))


@main.command()
@click.argument("source", type=click.Choice(["kinesis", "dynamodb", "sqs"]))
def event(source: Literal["kinesis", "dynamodb", "sqs"]) -> None:
    """Print a sample event, for `poller invoke CONFIG FUNCTION -`."""
    from poller.service.events import sample

    click.echo(sample(source))


@main.command()
def schema() -> None:
    """Print the JSON Schema of CONFIG."""
    from poller.settings import schema as build

    click.echo(json.dumps(build(), indent=2))


@main.command("filter")
@click.argument("pattern")
@click.argument("file", type=click.Path(path_type=Path, readable=False, dir_okay=False), required=False)
@click.option(
    "--source",
    type=click.Choice(["kinesis", "dynamodb", "sqs"]),
    help="Take each line as a record of this source's events. Default: the line is what the pattern sees.",
)
@click.option("--explain", is_flag=True, help="Say of every other line which condition refused it.")
def filter_(
    pattern: str, file: Path | None, source: Literal["kinesis", "dynamodb", "sqs"] | None, *, explain: bool
) -> None:
    """Print the lines of FILE (default: standard input), each an event in JSON, that match PATTERN (or @FILE)."""
    from poller.service.filtering import try_pattern

    try:
        code = try_pattern(
            pattern,
            source or "document",
            file,
            stdin=sys.stdin.buffer,
            stdout=sys.stdout.buffer,
            tell=lambda line: click.echo(line, err=True),
            explain=explain,
        )
    except SettingsError as error:
        click.echo(str(error), err=True)
        code = _UNUSABLE
    sys.exit(code)


@main.command("import-kcl")
@click.argument("table")
@click.option(
    "--config", required=True, type=click.Path(path_type=Path, readable=False), help="CONFIG (a file or a folder)."
)
@click.option("--mapping", required=True, help="The mapping of CONFIG that reads the application's stream.")
@click.option("--timestamp", help="What AT_TIMESTAMP stands for in TABLE: unix seconds, or 2026-11-20T10:00:00Z.")
@click.option("--force", is_flag=True, help="Overwrite the positions that are there, and let them go backwards.")
@click.option("--dry-run", is_flag=True, help="Say what would become of every row, and write nothing.")
@click.option(
    "--write-back", is_flag=True, help="Write the poller's positions into TABLE, for the application to go on."
)
@click.option(
    "--settle",
    type=_Seconds(min=0),
    default=30.0,
    show_default=True,
    help="Seconds for which nothing may move in TABLE: three times the application's failoverTimeMillis.",
)
def import_kcl(config: Path, timestamp: str | None, **options: Any) -> None:
    """Go on where an application of the Kinesis Client Library stopped, from the leases in TABLE (DynamoDB)."""
    from poller.service import logs
    from poller.service.kcl import Asked
    from poller.service.kcl import import_kcl as carry
    from poller.settings import load
    from poller.settings.values import timestamp as moment

    try:
        number = timestamp is not None and timestamp.replace(".", "", 1).isdecimal()
        at = None if timestamp is None else moment(float(timestamp) if number else timestamp)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--timestamp") from error
    logs.configure("error", "console", sys.stderr)

    async def carried() -> int:
        settings = load(config, os.environ, now=time.time())
        asked = Asked(timestamp=at, **options)
        return await carry(
            settings, asked, clock=time.time, tell=click.echo, complain=lambda line: click.echo(line, err=True)
        )

    sys.exit(_or_refuse(carried))


@main.command()
@click.option("--seconds", type=_Seconds(min=1), help="End after so many seconds, with a summary.")
def demo(seconds: float | None) -> None:
    """See it work: a local server, traffic of all three sources, the real daemon, and a live table."""
    from poller.demo import show

    sys.exit(_or_refuse(lambda: show(seconds)))


def _open_streams() -> None:
    """Let standard streams that were closed lead nowhere: uvloop aborts when it is given one of their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  # until the process ends


def _or_refuse(work: Callable[[], Awaitable[int]]) -> int:
    """Run to an exit code; an unusable configuration is told line by line."""
    from poller.service.loop import run_on_loop

    try:
        return run_on_loop(work)
    except* SettingsError as group:
        for error in causes(group):
            click.echo(str(error), err=True)
    return _UNUSABLE
