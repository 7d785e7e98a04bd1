"""Several processes' metrics as one page."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from poller.model.facts import (
    BatchSent,
    FunctionPrinted,
    MappingMoved,
    MappingRemoved,
    Reloaded,
    ShardMoved,
    SourceRead,
)
from poller.service.families import FAMILIES, PROCESS
from poller.service.merge import Page, Tally, parse, render
from poller.service.observers import Observers

HOSTILE = 'a "name" with \\ and\nlines\u2028and } 1'


def page(text: str) -> Page:
    return parse("".join(f"{line.strip()}\n" for line in text.strip().split("\n")))


def counting(value: float, name: str = "poller_fences_total", kind: str = "counter") -> Page:
    return page(f"# HELP {name} Told.\n# TYPE {name} {kind}\n{name} {value}")


def tally(*processes: str) -> Tally:
    found = Tally()
    for process in processes:
        found.begun(process)
    return found


def values(page: Page) -> dict[str, float]:
    return {series: float(value) for block in page.values() for series, value in block.series.items()}


@pytest.mark.parametrize(
    ("name", "told", "together"),
    [
        pytest.param("poller_invocations_in_flight", (2.0, 3.0), 5.0, id="calls in flight add up"),
        pytest.param("poller_iterator_age_seconds", (2.0, 3.0), 3.0, id="the oldest record counts"),
        pytest.param("poller_mapping_state", (1.0, 1.0), 1.0, id="a state is not counted twice"),
        pytest.param("poller_self_fenced", (1.0, 1.0), 1.0, id="whether one is fenced, as the alert asks"),
        pytest.param("poller_build_info", (1.0, 1.0), 1.0, id="an info stays 1"),
        pytest.param("poller_config_last_reload_successful", (1.0, 0.0), 0.0, id="one that failed is told"),
        pytest.param("process_start_time_seconds", (9.0, 7.0), 7.0, id="since when there is one of them"),
        pytest.param("process_resident_memory_bytes", (9.0, 7.0), 16.0, id="memory adds up"),
    ],
)
def test_gauges_are_joined_as_the_table_says(name: str, told: tuple[float, float], together: float):
    seen = {str(number): counting(value, name, "gauge") for number, value in enumerate(told)}
    assert values(tally("0", "1").merge(seen)) == {name: together}


def test_every_gauge_of_every_process_is_in_the_table():
    metrics = Observers(lambda: 0.0).metrics
    known = {family.name for family in (*FAMILIES, *PROCESS)}
    assert {name for name, block in parse(metrics.scrape()[0].decode()).items() if block.kind == "gauge"} <= known


def test_what_an_ended_process_counted_stays_and_its_gauges_go():
    found = tally("a", "b")
    gauge = counting(4, "poller_invocations_in_flight", "gauge")
    found.merge({"a": counting(5), "b": dict(counting(2)) | dict(gauge)})
    found.ended("b")
    assert values(found.merge({"a": counting(6)})) == {"poller_fences_total": 8.0}
    found.begun("c")
    assert values(found.merge({"a": counting(6), "c": counting(1)})) == {"poller_fences_total": 9.0}


def test_a_process_that_does_not_answer_counts_as_it_was_last_seen():
    found = tally("a", "b")
    found.merge({"a": counting(5), "b": counting(2)})
    assert values(found.merge({"a": counting(6)})) == {"poller_fences_total": 8.0}
    assert values(found.merge({"a": counting(6), "b": counting(4)})) == {"poller_fences_total": 10.0}


def test_an_answer_that_comes_after_the_end_of_its_process_is_not_counted_twice():
    found = tally("a", "b")
    found.merge({"a": counting(5), "b": counting(2)})
    found.ended("b")
    assert values(found.merge({"a": counting(5), "b": counting(3)})) == {"poller_fences_total": 7.0}


def test_of_two_scrapes_that_cross_the_older_takes_nothing_back():
    found = tally("a", "b")
    found.merge({"a": counting(5), "b": counting(9)})
    found.merge({"a": counting(5), "b": counting(7)})
    found.ended("b")
    assert values(found.merge({"a": counting(5)})) == {"poller_fences_total": 14.0}


def test_what_ended_processes_counted_of_a_mapping_goes_with_the_mapping():
    def of(*mappings: str) -> Page:
        lines = "\n".join(f'poller_polls_total{{mapping="{mapping}",outcome="empty"}} 1' for mapping in mappings)
        return page(f"# HELP poller_polls_total P.\n# TYPE poller_polls_total counter\n{lines}\n")

    found = tally("a", "b")
    found.merge({"a": of("x", "xy"), "b": of("x", "xy")})
    found.ended("b")
    found.keep(["x"])
    assert values(found.merge({"a": of("x")})) == {'poller_polls_total{mapping="x",outcome="empty"}': 2.0}


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["count", "miss", "end"]), st.floats(0, 1e6)), max_size=60
    )
)
def test_totals_are_the_sum_of_all_that_was_seen_and_never_go_down(events: list[tuple[str, str, float]]):
    found, lives, shown = Tally(), dict.fromkeys("abcd", 0), 0.0
    counted: dict[str, Fraction] = {}
    seen: dict[str, Fraction] = {}
    for each in "abcd":
        found.begun(f"{each}0")
    for each, event, amount in events:
        life = f"{each}{lives[each]}"
        missing = ""
        match event:
            case "count":
                # A process tells a double, so that is what it has counted.
                counted[life] = Fraction(float(counted.get(life, Fraction(0)) + Fraction(amount)))
            case "miss":
                missing = life
            case _:
                found.ended(life)
                lives[each] += 1
                found.begun(f"{each}{lives[each]}")
        living = [f"{each}{number}" for each, number in lives.items() if f"{each}{number}" != missing]
        pages = {life: counting(float(counted.get(life, 0))) for life in living}
        seen |= {life: counted.get(life, Fraction(0)) for life in living}
        now = values(found.merge(pages))["poller_fences_total"]
        assert now == float(sum(seen.values()))
        assert now >= shown
        shown = now


def observed(shards: int) -> Observers:
    observers = Observers(lambda: 1000.0)
    observers.observe(Reloaded(successful=True, at=5.0))
    observers.observe(MappingMoved(mapping=HOSTILE, state="Enabled", reason=""))
    for number in range(shards):
        observers.observe(ShardMoved(mapping=HOSTILE, shard=str(number), to="owned"))
        observers.observe(
            SourceRead(mapping=HOSTILE, shard=str(number), outcome="records", records=3, seconds=0.3, behind=0.0)
        )
        observers.observe(BatchSent(mapping=HOSTILE, shard=str(number), records=3, age=0.1 * number))
    observers.observe(FunctionPrinted(function="f", request_id="", line=""))
    return observers


def without_process(families: Any) -> list[Any]:
    return [
        (family.name, family.type, family.documentation, [(s.name, s.labels, s.value) for s in family.samples])
        for family in families
        if family.name.startswith("poller_")
    ]


def test_one_process_alone_is_told_as_it_tells_itself():
    metrics = observed(2).metrics
    text = metrics.scrape()[0].decode()
    told = render(tally("a").merge({"a": parse(text)}), openmetrics=False)
    assert parse(told) == parse(text)
    assert [line for line in told.split("\n") if line.startswith("#")] == [
        line for line in text.split("\n") if line.startswith("#")
    ]


def test_the_openmetrics_form_is_what_a_process_alone_would_tell():
    metrics = observed(2).metrics
    alone = metrics.scrape("application/openmetrics-text; version=1.0.0")[0].decode()
    told = render(tally("a").merge({"a": parse(metrics.scrape()[0].decode())}), openmetrics=True)
    ours, theirs = (
        openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # it has no types
        for text in (told, alone)
    )
    assert without_process(ours) == without_process(theirs)
    assert told.endswith("\n# EOF\n")


def test_histograms_of_several_processes_are_one_histogram():
    pages = {str(n): parse(observed(n).metrics.scrape()[0].decode()) for n in (1, 2, 3)}
    text = render(tally(*pages).merge(pages), openmetrics=False)
    samples = {
        (sample.name, sample.labels.get("le", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["poller_batch_records_count", ""] == 6
    assert samples["poller_batch_records_sum", ""] == 18
    assert samples["poller_batch_records_bucket", "2.0"] == 0
    assert samples["poller_batch_records_bucket", "5.0"] == 6
    assert text.count("# TYPE poller_batch_records histogram\n") == 1


def test_a_mapping_that_a_process_has_removed_is_not_told_of_it():
    removing, found = observed(1), tally("a")
    found.merge({"a": parse(removing.metrics.scrape()[0].decode())})
    removing.observe(MappingRemoved(mapping=HOSTILE))
    found.merge({"a": parse(removing.metrics.scrape()[0].decode())})
    found.ended("a")
    found.begun("b")
    assert not [series for series in values(found.merge({"b": counting(1)})) if "mapping=" in series]


@pytest.mark.parametrize("name", ["poller_batch_records_bucket", "poller_polls_total", "python_info"])
def test_only_what_is_asked_for_is_told(name: str):
    metrics = observed(1).metrics
    page = tally("a").merge({"a": parse(metrics.scrape()[0].decode())})
    told = render(page, openmetrics=False, names=[name])
    asked = [line for line in told.split("\n") if line.startswith("# TYPE")]
    assert len(asked) == 1
    assert f"\n{name}{{" in told


def test_a_number_without_a_type_is_refused():
    with pytest.raises(ValueError, match="without a type"):
        parse("poller_fences_total 1\n")
