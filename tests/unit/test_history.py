import tracemalloc

from poller.service.history import LOOK, POINTS, RINGS, STEP, History


def tail(points: list[float | None]) -> list[float | None]:
    """What is known at the end, and the gaps in it."""
    known = [index for index, age in enumerate(points) if age is not None]
    return points[known[0] :] if known else []


def test_a_point_is_the_highest_of_its_looks():
    history = History()
    for number, age in enumerate([1.0, 9.0, 2.0, 3.0]):
        history.look({"m": {"s": age}}, number * LOOK)
    assert tail(history.of_shards("m", ["s"])["s"]) == [9.0, 3.0]


def test_the_oldest_shard_stands_for_its_mapping():
    history = History()
    history.look({"m": {"a": 1.0, "b": 7.0}, "idle": {}}, 0.0)
    assert {name: tail(points) for name, points in history.of_mappings().items()} == {"m": [7.0], "idle": []}


def test_a_quarter_of_an_hour_is_kept_and_no_more():
    history = History()
    for number in range(POINTS + 10):
        history.look({"m": {"s": float(number)}}, number * STEP)
    assert history.of_shards("m", ["s"])["s"] == [float(number) for number in range(10, POINTS + 10)]
    assert POINTS * STEP == 900.0


def test_time_in_which_nobody_looked_is_a_gap():
    history = History()
    history.look({"m": {"s": 1.0}}, 0.0)
    history.look({"m": {"s": 2.0}}, 3 * STEP)
    assert tail(history.of_shards("m", ["s"])["s"]) == [1.0, None, None, 2.0]
    history.look({"m": {"s": 3.0}}, 9 * POINTS * STEP)
    assert tail(history.of_shards("m", ["s"])["s"]) == [3.0]


def test_what_is_not_looked_at_any_more_is_forgotten_and_begins_anew():
    history = History()
    history.look({"m": {"s": 1.0}, "gone": {"s": 1.0}}, 0.0)
    history.look({"m": {}}, STEP)
    assert history.of_shards("m", ["s"]) == {}
    assert list(history.of_mappings()) == ["m"]
    history.look({"m": {"s": 2.0}}, 2 * STEP)
    assert tail(history.of_shards("m", ["s"])["s"]) == [2.0]


def test_shards_beyond_the_cap_have_no_points_of_their_own_and_count_for_their_mapping():
    history = History(rings=2)
    history.look({"m": {"a": 1.0, "b": 2.0, "c": 9.0}}, 0.0)
    assert set(history.of_shards("m", "abc")) == {"a", "b"}
    assert tail(history.of_mappings()["m"]) == [9.0]
    history.look({"m": {"b": 2.0, "c": 9.0}}, LOOK)
    assert set(history.of_shards("m", "abc")) == {"b", "c"}


def test_all_rings_together_take_less_than_five_megabytes():
    ages = {f"m{number}": {f"shardId-{shard:012}": 1.0 for shard in range(RINGS // 10)} for number in range(10)}
    history = History()
    tracemalloc.start()
    try:
        history.look(ages, 0.0)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 1_000_000 < taken < 5_000_000
