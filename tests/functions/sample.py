"""Handlers as they are written for AWS Lambda: they know nothing of this project."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def echo(event, context):
    return event


def fail(event, context):
    raise ValueError(event.get("message", "it is broken"))


def describe(event, context):
    return {
        "request_id": context.aws_request_id,
        "remaining": context.get_remaining_time_in_millis(),
        "function": context.function_name,
        "version": context.function_version,
        "memory": context.memory_limit_in_mb,
        "arn": context.invoked_function_arn,
        "log_group": context.log_group_name,
        "log_stream": context.log_stream_name,
        "trace": os.environ.get("_X_AMZN_TRACE_ID", ""),
        "directory": str(Path.cwd()),
        "environment": dict(os.environ),
        "pid": os.getpid(),
    }


def speak(event, context):
    """Print what the event says, byte for byte."""
    sys.stdout.flush()
    os.write(1, bytes(event["bytes"]))
    print("to stderr", file=sys.stderr)  # noqa: T201  as handlers do
    return len(event["bytes"])


def leave(event, context):
    print("last words")  # noqa: T201  as handlers do
    os._exit(event["code"])


def exit_politely(event, context):
    sys.exit(event["code"])


def sleep(event, context):
    time.sleep(event["seconds"])
    return {"pid": os.getpid()}


def oversized(event, context):
    return "x" * 6_291_600


def die_later(event, context):
    """Answer, and be gone a moment after that: the answer names the process."""
    subprocess.Popen(["/bin/sh", "-c", f"sleep 0.2; kill -9 {os.getpid()}"])
    return {"pid": os.getpid()}


def breed(event, context):
    """Start a process of our own that outlives the invocation."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(event["file"]).write_text(json.dumps({"pid": os.getpid(), "child": child.pid, "variables": list(os.environ)}))
    time.sleep(event["seconds"])
    return {"pid": os.getpid(), "child": child.pid}


def deaf(event, context):
    """Ignore SIGTERM from now on."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return {"pid": os.getpid()}


def overlap(event, context):
    """Leave a trace of when we ran: start, end, process."""
    start = time.monotonic()
    time.sleep(event["seconds"])
    return {"start": start, "end": time.monotonic(), "pid": os.getpid()}


def recurse(event, context):
    """Fail with a stack of a thousand frames, and a message of 100 000 characters."""

    def down(depth: int) -> None:
        if depth == 0:
            raise RuntimeError("x" * 100_000)
        down(depth - 1)

    down(900)


def kill_itself(event, context):
    os.kill(os.getpid(), event["signal"])


def files(event, context):
    """What our open files are, in order."""
    names = []
    for number in sorted(Path("/proc/self/fd").iterdir(), key=lambda path: int(path.name)):
        try:
            target = str(number.readlink())
        except FileNotFoundError:
            continue  # the listing's own
        names.append("pipe" if target.startswith("pipe:") else target)
    return names


def eat(event, context):
    """Take memory, as much as the event says or without end, and hold it."""
    eaten: list[bytes] = []
    while len(eaten) < event.get("mebibytes", 100_000):
        eaten.append(b"x" * 2**20)
        time.sleep(0.002)
    return event.get("value")


def eat_in_a_child(event, context):
    program = "held = []\nwhile len(held) < 4000: held.append(b'x' * 2**20); __import__('time').sleep(0.002)"
    subprocess.run([sys.executable, "-c", program], check=False)


def read_file(event, context):
    return Path(event["file"]).read_text()


def fork_without_end(event, context):
    """Start a process every 20 ms, each of which stays."""
    while True:
        subprocess.Popen(["sleep", "600"])
        time.sleep(0.02)


def print_without_end(event, context):
    while True:
        sys.stdout.write("y" * 100_000 + "\n")


def print_megabytes(event, context):
    for _ in range(event["lines"]):
        sys.stdout.write("x" * 100 + "\n")
    raise ValueError("printed")


def close_output(event, context):
    for number in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    time.sleep(event["seconds"])
    return "closed"


def kill_group(event, context):
    os.killpg(0, signal.SIGKILL)


def stop_itself(event, context):
    os.kill(os.getpid(), signal.SIGSTOP)


def daemonize(event, context):
    """Leave a process in a session of its own, which keeps our output open."""
    subprocess.Popen(["sleep", "5"], start_new_session=True)
    time.sleep(event["seconds"])
