"""What several replicas tell of mappings, of the fleet and of themselves, as one."""

from __future__ import annotations

from typing import Any

import pytest

from poller.service import together
from poller.service.replicas import ended, next_pause


def shard(id_: str, owner: str | None, state: str = "owned", **more: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "state": state,
        "owner": owner,
        "since": "2026-11-21T00:00:00.000Z",
        "checkpoint": "",
        "iterator_age_seconds": 1.0 if state == "owned" else None,
        "behind_latest_seconds": None,
        "retry": None,
        "records_held": 2 if state == "owned" else 0,
        "records_in_flight": 1 if state == "owned" else 0,
        "invocations_in_flight": 1 if state == "owned" else 0,
    } | more


def mapping(name: str, *shards: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "UUID": "u",
        "State": "Enabled",
        "StateTransitionReason": "User action",
        "LastProcessingResult": "No records processed",
        "enabled": True,
        "configuration": {},
        "shards": list(shards),
        "problems": [],
    } | more


def test_each_shard_is_told_once_and_by_its_owner():
    one = [mapping("m", shard("s1", "h-1"), shard("s2", "h-2", "elsewhere"), shard("s3", "other", "elsewhere"))]
    two = [mapping("m", shard("s1", "h-1", "elsewhere"), shard("s2", "h-2"), shard("s3", "other", "elsewhere"))]
    (told,) = together.mappings([one, two])
    found = [(each["id"], each["owner"], each["state"]) for each in told["shards"]]
    assert found == [("s1", "h-1", "owned"), ("s2", "h-2", "owned"), ("s3", "other", "elsewhere")]


def test_of_two_that_claim_a_shard_the_one_that_got_it_last_is_told():
    one = [mapping("m", shard("s", "h-1", since="2026-11-21T00:00:05.000Z"))]
    two = [mapping("m", shard("s", "h-2", since="2026-11-21T00:00:06.000Z"))]
    for told in ([one, two], [two, one]):
        assert [each["owner"] for each in together.mappings(told)[0]["shards"]] == ["h-2"]


def test_that_a_shard_ended_outweighs_that_somebody_else_has_it():
    told = together.mappings(
        [[mapping("m", shard("s", "h-2", "elsewhere"))], [mapping("m", shard("s", None, "ended"))]]
    )
    assert told[0]["shards"][0]["state"] == "ended"


def test_a_queue_is_read_by_all_and_what_they_hold_adds_up():
    def reading(owner: str, age: float) -> list[dict[str, Any]]:
        configuration = {"EventSourceArn": "arn:aws:sqs:eu-west-1:123456789012:q"}
        return [mapping("q", shard("queue", owner, iterator_age_seconds=age), configuration=configuration)]

    (told,) = together.mappings([reading("h-1", 4.0), reading("h-2", 9.0)])
    (queue,) = told["shards"]
    assert (queue["owner"], queue["records_held"], queue["records_in_flight"]) == ("h-1, h-2", 4, 2)
    assert queue["iterator_age_seconds"] == 9.0
    assert told["LastProcessingResult"] == "No records processed"


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (("Enabled", "Enabled"), "Enabled"),
        (("Enabled", "Creating"), "Creating"),
        (("Enabled", "Disabling"), "Disabling"),
        (("Disabled", "Disabling"), "Disabling"),
    ],
)
def test_a_mapping_is_enabled_when_it_is_in_all_of_them(states: tuple[str, str], told: str):
    for order in (states, states[::-1]):
        (found,) = together.mappings([[mapping("m", State=state)] for state in order])
        assert found["State"] == told


@pytest.mark.parametrize(
    ("results", "told"),
    [
        (("No records processed", "OK"), "OK"),
        (("OK", "PROBLEM: Function call failed"), "PROBLEM: Function call failed"),
        (("No records processed", "No records processed"), "No records processed"),
    ],
)
def test_the_last_result_tells_a_problem_before_a_success(results: tuple[str, str], told: str):
    for order in (results, results[::-1]):
        (found,) = together.mappings([[mapping("m", LastProcessingResult=result)] for result in order])
        assert found["LastProcessingResult"] == told


def test_the_latest_problems_of_all_are_told_and_not_more_than_one_process_would_tell():
    def problems(second: int) -> list[dict[str, Any]]:
        return [{"time": f"2026-11-21T00:00:{second + 2 * n:02}.000Z", "reason": "r"} for n in range(10)]

    (told,) = together.mappings([[mapping("m", problems=problems(0))], [mapping("m", problems=problems(1))]])
    assert [each["time"][17:19] for each in told["problems"]] == [f"{second:02}" for second in range(19, 9, -1)]


def test_mappings_that_only_some_have_yet_are_told_in_the_order_of_names():
    told = together.mappings([[mapping("b")], [mapping("a"), mapping("b")], []])
    assert [each["name"] for each in told] == ["a", "b"]


def view(name: str, *members: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "members": list(members), "fenced_since": None, "store_problem": None, "moves": []} | more


def moved(time: str, what: str = "claimed") -> dict[str, Any]:
    return {"time": time, "what": what, "member": None, "mapping": "m", "shard": "s"}


def member(name: str, age: float, **more: Any) -> dict[str, Any]:
    return {"name": name, "state": "up", "beat_age_seconds": age, "address": None, "moves": None, "fences": None} | more


def test_a_member_is_told_as_who_saw_it_last_saw_it_with_its_own_counts():
    one = view("h-1", member("h-1", 0.4, moves=3, fences=1), member("h-2", 0.9), member("x", 0.3))
    two = view("h-2", member("h-1", 0.2), member("h-2", 0.1, moves=5, fences=0))
    told = together.fleet([one, two], "h")
    assert (told["name"], told["here"]) == ("h", ["h-1", "h-2"])
    assert [(m["name"], m["beat_age_seconds"], m["moves"], m["fences"]) for m in told["members"]] == [
        ("h-1", 0.2, 3, 1),
        ("h-2", 0.1, 5, 0),
        ("x", 0.3, None, None),
    ]


def test_what_moved_and_what_is_wrong_is_told_of_all():
    one = view("h-1", fenced_since="2026-01-01T00:00:05Z", moves=[moved("3"), moved("1")])
    two = view("h-2", store_problem={"since": "s", "reason": "away"}, moves=[moved("2")])
    told = together.fleet([one, two], "h")
    assert told["fenced_since"] == "2026-01-01T00:00:05Z"
    assert told["store_problem"] == {"since": "s", "reason": "away"}
    assert [move["time"] for move in told["moves"]] == ["3", "2", "1"]


def test_a_plot_shows_the_highest_age_that_one_of_them_knows():
    one = {"step_seconds": 15.0, "ages": {"m": [None, 1.0, 5.0], "only here": [1.0, None, None]}}
    two = {"step_seconds": 15.0, "ages": {"m": [None, 2.0, None]}}
    told = together.history([one, two])
    assert told == {"step_seconds": 15.0, "ages": {"m": [None, 2.0, 5.0], "only here": [1.0, None, None]}}
    assert together.history([]) == {"step_seconds": 15.0, "ages": {}}


def test_they_are_ready_when_all_are():
    assert together.readiness({1: {"ready": True}, 2: {"ready": True}}, "") == (True, {"ready": True})
    waiting = {"ready": False, "reason": "waiting for the first read of m", "waiting": ["m"]}
    ready, told = together.readiness({1: {"ready": True}, 2: waiting, 3: None}, "")
    assert not ready
    assert told["reason"] == "replica 2: waiting for the first read of m; replica 3: does not answer"
    assert told["waiting"] == ["m"]
    ready, told = together.readiness({1: {"ready": True}}, "SIGTERM")
    assert (ready, told["reason"]) == (False, "stopping: SIGTERM")


def test_a_replica_that_ends_again_and_again_is_started_after_longer_and_longer_pauses():
    pauses = [0.0]
    for _ in range(8):
        pauses.append(next_pause(pauses[-1], lived=2.0))
    assert pauses[1:] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert next_pause(30, lived=60.0) == 1


def test_how_a_process_ended_is_told_by_name():
    assert [ended(code) for code in (1, -9, -15, -63)] == [
        "exit code 1",
        "signal SIGKILL",
        "signal SIGTERM",
        "signal 63",
    ]
