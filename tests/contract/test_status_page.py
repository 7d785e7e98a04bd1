"""The status page in a real browser, served by the real server: what an operator sees, with a mouse, keys or a phone."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from poller.model.facts import (
    BatchInvoked,
    RosterSeen,
    SelfFenced,
    ShardMoved,
    ShardPassed,
    ShardStands,
    SourceListed,
    SourceRead,
)
from poller.model.outcome import Replied
from poller.service.http import serve
from tests.contract.shown import HOSTILE, Daemon, failing, now, running
from tests.servers.chromium import Page, page
from tests.servers.npm import HERE
from tests.servers.processes import Server

_RIGHT_TO_LEFT = "\u202eesrever \u05d0\u05d1\u05d2"
_AXE = HERE / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    async with running(Daemon()) as started:
        yield started


@pytest.fixture
async def view(browser: Server, daemon: Daemon) -> AsyncIterator[Page]:
    """The page of a poller that has no mapping yet; nothing that a test does with it may break its policy."""
    async with page(browser, f"http://127.0.0.1:{daemon.port}/") as opened:
        await opened.until("!!seen")
        yield opened
        assert opened.problems == []


async def shown(view: Page) -> None:
    """Do not wait for the next refresh."""
    await view.ask("refresh().then(refreshPlots)")


def reading(mapping: str, shard: str, *, age: float = 0.0) -> list[Any]:
    """A shard that is read and whose oldest record is so old."""
    return [
        ShardMoved(mapping=mapping, shard=shard, to="owned", position="TRIM_HORIZON"),
        SourceRead(mapping=mapping, shard=shard, outcome="records", records=1, seconds=0.1, behind=0.0),
        ShardStands(mapping=mapping, shard=shard, checkpoint="4965", oldest=now() - age, behind=0.0, held=1, attempt=0),
    ]


async def names(view: Page) -> list[str]:
    """Mappings and shards in the order of the page."""
    found: list[str] = await view.ask("[...document.querySelectorAll('#mappings .fold')].map((fold) => fold.innerText)")
    return found


async def cells(view: Page, shard: str) -> list[str]:
    """The row of a shard."""
    row = f"[...document.querySelectorAll('.shards tbody th')].find((th) => th.innerText === {json.dumps(shard)})"
    found: list[str] = await view.ask(f"[...{row}.parentElement.children].map((cell) => cell.innerText.trim())")
    return found


async def test_the_first_look_shows_mappings_shards_owners_positions_and_ages(browser: Server, daemon: Daemon):
    daemon.configure("calm", "orders")
    daemon.observe(
        *reading("calm", "s"),
        *failing("orders"),
        ShardMoved(mapping="orders", shard="child", to="blocked_on_parent"),
        ShardMoved(mapping="orders", shard="theirs", to="elsewhere", owner="poller-7"),
        ShardMoved(mapping="orders", shard="over", to="ended"),
    )
    async with page(browser, f"http://127.0.0.1:{daemon.port}/") as view:
        await view.until("document.querySelectorAll('.shards tbody').length === 4")
        assert await names(view) == ["calm", "s", "orders", "shardId-000000000000", "child", "theirs"]
        blocked = await cells(view, "shardId-000000000000")
        assert re.fullmatch(r"blocked · try 4 in \d+ d \d+ h", blocked[1])
        assert blocked[2:] == ["4965", "", "1 min 15 s", "5", "0"]
        assert await cells(view, "child") == ["child", "waits for its parents", "", "", "", "0", "0"]
        assert (await cells(view, "theirs"))[1] == "elsewhere: poller-7"
        head = await view.text("article:nth-of-type(2) .head")
        assert "stream/orders → orders" in head
        assert "1 owned · 1 elsewhere · 1 waiting for parents · 1 ended · PROBLEM: Function call failed" in head
        tiles = (await view.text("#tiles")).split("\n")
        assert tiles[tiles.index("Oldest record") + 1] == "1 min 15 s"
        assert tiles[tiles.index("Blocked") + 1] == "1"
        assert await view.ask("document.title") == "(1) poller"
        assert view.problems == []


async def test_it_follows_what_happens_without_being_loaded_again(daemon: Daemon, view: Page):
    await view.ask("window.loaded = 'once'")
    assert "No mappings are configured." in await view.text()
    daemon.configure("orders")
    daemon.observe(*reading("orders", "s1"))
    await view.until("document.querySelector('.fold')?.innerText === 'orders'")
    daemon.observe(ShardMoved(mapping="orders", shard="s1", to="forgotten"), *reading("orders", "s2"))
    await view.ask("document.querySelector('.fold').click()")
    await shown(view)
    assert await names(view) == ["orders", "s2"]
    daemon.configure()
    await shown(view)
    assert await names(view) == []
    assert await view.ask("window.loaded") == "once"


async def test_a_blocked_shard_shows_the_records_that_block_it_the_tries_and_why_until_it_goes_on(
    daemon: Daemon, view: Page
):
    daemon.configure("orders")
    daemon.observe(*failing("orders"))
    await shown(view)
    told = await view.text("#blocked")
    assert "orders / shardId-000000000000" in told
    assert re.search(r"First of 5 records\s+4966\s+Last record\s+4970\s+Failed\s+3 times", told)
    assert re.search(r"Last error\s+function_error: ValueError: Boom", told)
    assert re.search(r"Request id\s+r", told)
    assert await view.ask("document.querySelector('#blocked [title]').title") == "2027-01-15T08:00:04.000Z"
    assert "function_error: ValueError: Boom" in await view.text("#errors")
    assert await view.ask("document.querySelector('#errors time').dateTime") == "2027-01-15T08:00:00.000Z"
    daemon.observe(
        BatchInvoked(
            mapping="orders",
            shard="shardId-000000000000",
            records=5,
            outcome=Replied(),
            seconds=0.1,
            request_id="r",
            attempt=4,
        ),
        *reading("orders", "shardId-000000000000"),
    )
    await shown(view)
    assert await view.ask("document.getElementById('attention').hidden")
    assert await view.text("#said") == "No shard is blocked any more"


async def test_a_batch_that_was_tried_before_the_process_began_is_shown_as_far_as_it_is_known(
    daemon: Daemon, view: Page
):
    daemon.configure("orders")
    daemon.observe(*reading("orders", "s"))
    daemon.observe(
        ShardStands(mapping="orders", shard="s", checkpoint="4965", oldest=now(), behind=0.0, held=1, attempt=7)
    )
    await shown(view)
    told = await view.text("#blocked")
    assert re.search(r"Record\s+the first behind the position\s+Failed\s+7 times", told)
    assert "Last error" not in told


async def test_the_last_quarter_of_an_hour_is_drawn_and_told_to_who_cannot_see_it(daemon: Daemon, view: Page):
    daemon.configure("orders")
    for number in range(10):
        daemon.observe(*reading("orders", "s", age=100.0 * number))
        daemon.board.look(15.0 * (number + (number > 5)))
    await shown(view)
    await view.ask("document.querySelector('.fold').click()")
    await view.until("document.querySelector('.shards .plot .line').getAttribute('d').length > 20")
    line = await view.ask("document.querySelector('.shards .plot .line').getAttribute('d')")
    assert [part[0] for part in re.findall(r"[ML][^ML]+", line)] == ["M", *"LLLLL", "M", *"LLL"], "a gap is a gap"
    assert line.endswith("59 2.0")
    label = await view.ask("document.querySelector('.shards .plot').getAttribute('aria-label')")
    assert label == "Age of s in the last 15 minutes: now 15 min 0 s, highest 15 min 0 s"


@pytest.mark.parametrize(("age", "colour"), [(10_000.0, ""), (30_000.0, "warn"), (50_000.0, "bad")])
async def test_an_age_is_coloured_by_its_share_of_the_time_that_the_source_keeps_a_record(
    daemon: Daemon, view: Page, age: float, colour: str
):
    daemon.configure("orders")
    daemon.observe(SourceListed(mapping="orders", retention=86_400.0), *reading("orders", "s", age=age))
    await shown(view)
    assert await view.ask("document.querySelector('.head .age').className") == f"age {colour}".strip()
    assert f"{int(age / 864)} % of 1 d" in await view.text(".head .age")


async def test_everything_can_be_done_with_keys_alone(daemon: Daemon, view: Page):
    daemon.configure("orders")
    daemon.observe(*reading("orders", "s1"), *reading("orders", "s2"))
    await shown(view)

    async def focused() -> str:
        outline = await view.ask("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", "what has the focus shows it"
        return str(await view.ask("document.activeElement.innerText || document.activeElement.id"))

    await view.press("Tab")
    assert await focused() == "Skip to the mappings"
    await view.press("Tab")
    assert await focused() == "Pause updates"
    await view.press("Tab", "Tab", "Tab")
    assert await focused() == "troubled"
    await view.press("Tab")
    assert await focused() == "filter"
    await view.press("Tab", "Enter")
    assert await focused() == "orders"
    assert await view.ask("document.activeElement.ariaExpanded") == "true"
    await view.press("Tab", "Enter")
    assert await focused() == "s1"
    assert re.search(
        r"Position\s+4965\s+Owner\s+this replica\s+Since\s+2027-01-15 08:00:00 UTC", await view.text(".more")
    )
    daemon.observe(*reading("orders", "s0"))
    daemon.configure("before", "orders")
    await shown(view)
    assert await names(view) == ["before", "orders", "s0", "s1", "s2"]
    assert await focused() == "s1", "what comes before it does not take the focus away"
    await view.press("Tab", "Tab", "Enter")
    assert '"BatchSize": 100' in await view.text("article:nth-of-type(2) pre")
    await view.press("Tab", shift=True)
    await view.press("Tab", shift=True)
    await view.press("Enter")
    assert not await view.ask("[...document.querySelectorAll('.more')].some((row) => !row.hidden)")


async def test_the_skip_link_leads_to_the_mappings(daemon: Daemon, view: Page):
    await view.press("Tab", "Enter")
    assert await view.ask("document.activeElement.id") == "mappings"


@pytest.mark.parametrize("width", [360, 800, 1280])
async def test_nothing_is_wider_than_the_screen(daemon: Daemon, view: Page, width: int):
    long = "a-very-long-name-of-a-mapping-" * 4
    daemon.configure(long, HOSTILE, _RIGHT_TO_LEFT)
    for mapping in (long, HOSTILE, _RIGHT_TO_LEFT):
        daemon.observe(*failing(mapping, "shardId-00000001687345123456-a1b2c3d4" * 2, reason="x" * 500))
    daemon.observe(RosterSeen(members={"n" * 90: ("leaving", 1.0, "")}))
    daemon.observe(ShardPassed(mapping=long, shard="s" * 90, how="lost", member="m" * 90))
    await view.resize(width, 780, mobile=width < 500)
    await shown(view)
    await view.ask("document.querySelectorAll('.fold[aria-expanded=false]').forEach((fold) => fold.click())")
    await view.ask("document.querySelectorAll('.shards .fold').forEach((fold) => fold.click())")
    await view.ask("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert await view.ask("innerWidth") == width
    assert await view.ask("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    wide = (
        "[...document.querySelectorAll('main *')].filter((each) => each.getBoundingClientRect().right > innerWidth + 1)"
    )
    assert await view.ask(f"{wide}.filter((each) => !each.closest('.unseen')).map((each) => each.outerHTML)") == []


async def test_it_is_dark_for_who_prefers_that(view: Page):
    def brightness(colour: str) -> int:
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3])

    ground = "getComputedStyle(document.body).backgroundColor"
    await view.prefer("dark")
    assert brightness(await view.ask(ground)) < 150
    await view.prefer("light")
    assert brightness(await view.ask(ground)) > 600


@pytest.mark.parametrize("width", [360, 1280])
async def test_an_accessibility_check_finds_nothing(daemon: Daemon, view: Page, width: int):
    daemon.configure("calm", "orders")
    daemon.observe(*reading("calm", "s1", age=30_000.0), *failing("orders"))
    daemon.observe(SourceListed(mapping="calm", retention=86_400.0), SelfFenced(seconds=5.0))
    daemon.observe(RosterSeen(members={"a": ("up", 1.0, ""), "b": ("leaving", 9.0, "")}))
    daemon.observe(ShardPassed(mapping="orders", shard="s9", how="handed_over", member="b"))
    daemon.board.look(0.0)
    await view.resize(width, 900, mobile=width < 500)
    await shown(view)
    await view.ask("document.querySelectorAll('.fold[aria-expanded=false]').forEach((fold) => fold.click())")
    await view.ask("document.querySelectorAll('.shards .fold').forEach((fold) => fold.click())")
    await view.ask(_AXE.read_text())
    for scheme in ("dark", "light"):
        await view.prefer(scheme)
        found = await view.ask("axe.run().then(({violations, passes}) => ({violations, passes: passes.length}))")
        wrong = [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]]
        assert wrong == [], scheme
        assert found["passes"] > 20


async def test_it_says_since_when_the_poller_does_not_answer_and_goes_on_when_it_does(browser: Server):
    daemon = Daemon()
    daemon.configure("orders")
    async with running(daemon):
        port = daemon.port
        opening = page(browser, f"http://127.0.0.1:{port}/")
        view = await opening.__aenter__()
        await view.until("document.querySelectorAll('article').length === 1")
    try:
        await view.ask("refresh()")
        assert not await view.ask("document.getElementById('silent').hidden")
        told = await view.text("#silent")
        assert re.fullmatch(
            r"The poller does not answer since \d\d:\d\d:\d\d \(.+\)\. What you see is from \d\d:\d\d:\d\d\.", told
        )
        assert await view.text("#fresh") == "no answer"
        assert await names(view) == ["orders"]
        await view.ask("refresh()")
        assert await view.text("#silent") == told, "an alert that is said once is read out once"
        async with serve("127.0.0.1", port, metrics=daemon.metrics, board=daemon.board):
            await view.ask("refresh()")
            assert await view.ask("document.getElementById('silent').hidden")
            assert (await view.text("#fresh")).startswith("updated ")
        assert view.problems == []
    finally:
        await opening.__aexit__(None, None, None)


async def test_whatever_the_names_and_reasons_hold_stays_text(daemon: Daemon, view: Page):
    for name in (HOSTILE, _RIGHT_TO_LEFT, "constructor", "__proto__"):
        daemon.configure(HOSTILE, _RIGHT_TO_LEFT, "constructor", "__proto__")
        daemon.observe(*failing(name, shard=name, reason=name))
    daemon.observe(RosterSeen(members={HOSTILE: ("up", 1.0, HOSTILE)}))
    daemon.observe(ShardPassed(mapping=HOSTILE, shard=HOSTILE, how="lost", member=HOSTILE))
    before = await view.ask("document.querySelectorAll('script, img, style').length")
    daemon.board.look(0.0)
    await shown(view)
    assert set(await view.ask("[...document.querySelectorAll('article h3')].map((each) => each.textContent)")) == {
        HOSTILE,
        _RIGHT_TO_LEFT,
        "constructor",
        "__proto__",
    }
    assert HOSTILE in await view.text("#blocked")
    assert HOSTILE in await view.text("#errors")
    assert HOSTILE in await view.text("#members")
    assert await view.ask("document.querySelectorAll('script, img, style').length") == before == 2
    isolated = "[...document.querySelectorAll('.fold > bdi')].every((each) => getComputedStyle(each).unicodeBidi === 'isolate')"
    assert await view.ask(isolated)


async def test_what_the_policy_forbids_is_noticed_by_these_tests(browser: Server, daemon: Daemon):
    async with page(browser, f"http://127.0.0.1:{daemon.port}/") as view:
        await view.ask(
            "document.head.append(Object.assign(document.createElement('style'), {textContent: 'p {top: 0}'}))"
        )
        await view.ask("fetch('http://127.0.0.2:1/').catch(() => null)")
        await view.ask("refresh()")
        assert len([problem for problem in view.problems if problem.startswith("security:")]) == 2


async def test_five_thousand_shards_are_a_page_of_bounded_size_in_which_each_can_be_found(daemon: Daemon, view: Page):
    daemon.configure("m")
    for number in range(5_000):
        daemon.observe(*reading("m", f"shardId-{number:012}", age=float(number)))
    daemon.observe(*failing("m", "shardId-000000000007"))
    daemon.board.look(0.0)
    await shown(view)
    assert await view.ask("document.querySelectorAll('.shards tbody').length") == 0, "many are folded at first"
    await view.ask("document.querySelector('.fold').click()")
    await shown(view)
    listed = await names(view)
    assert listed[:3] == ["m", "shardId-000000000007", "shardId-000000004951"]
    assert listed[-1] == "shardId-000000004999"
    assert len(listed) == 51
    assert "Shown are 50 of 5000: those in trouble, then the oldest." in await view.text("article")
    assert await view.ask("document.querySelectorAll('*').length") < 2_500
    assert await view.ask("document.querySelector('.shards .plot .line').getAttribute('d')") != "M0 0"
    await view.ask(
        "[...document.querySelectorAll('article button')].find((it) => it.innerText === 'Show 100 more').click()"
    )
    assert len(await names(view)) == 151
    await view.ask("document.getElementById('filter').focus()")
    await view.press(*"0003210")
    assert await names(view) == ["m", "shardId-000000003210"]


async def test_many_mappings_are_shown_in_parts(daemon: Daemon, view: Page):
    daemon.configure(*(f"m{number:03}" for number in range(230)))
    await shown(view)
    assert len(await names(view)) == 100
    await view.ask("document.getElementById('more').click()")
    assert len(await names(view)) == 200
    assert await view.text("#more") == "Show more of 230 mappings"


async def test_the_box_finds_mappings_shards_owners_and_states_and_the_switch_what_is_in_trouble(
    daemon: Daemon, view: Page
):
    daemon.configure("calm", "orders")
    daemon.observe(*reading("calm", "s1"), *reading("calm", "s2"), *failing("orders", "s3"))
    daemon.observe(ShardMoved(mapping="orders", shard="s4", to="elsewhere", owner="poller-7"))

    async def found(text: str) -> list[str]:
        await view.ask(f"document.getElementById('filter').value = {json.dumps(text)}")
        await view.ask("document.getElementById('filter').dispatchEvent(new Event('input'))")
        return await names(view)

    await view.ask("document.querySelectorAll('.fold').forEach((fold) => fold.click())")
    await shown(view)
    assert await found("CALM") == ["calm"], "a mapping that is named stays as it was: folded"
    assert await found("s2") == ["calm", "s2"]
    assert await found("poller-7") == ["orders", "s4"]
    assert await found("elsewhere") == ["orders", "s4"]
    assert await found("nothing such") == []
    assert await view.text("#none") == "Nothing fits."
    await found("")
    await view.ask("document.getElementById('troubled').click()")
    assert await names(view) == ["orders", "s3"]


async def test_updates_can_be_paused_by_who_wants_to_read(daemon: Daemon, view: Page):
    await view.ask("document.getElementById('hold').click()")
    asked = await view.ask("performance.getEntriesByName(new URL('api/mappings', location).href).length")
    daemon.configure("orders")
    assert (await view.text("#fresh")).startswith("paused, from ")
    await view.ask("keepFresh()")  # what it does every two seconds
    assert await view.ask("performance.getEntriesByName(new URL('api/mappings', location).href).length") == asked
    await view.ask("document.getElementById('hold').click()")
    await view.until("document.querySelectorAll('article').length === 1")


async def test_a_page_that_nobody_sees_asks_nothing(daemon: Daemon, view: Page):
    await view.hide()
    await view.until("document.hidden")
    asked = await view.ask("performance.getEntriesByName(new URL('api/mappings', location).href).length")
    daemon.configure("orders")
    await view.ask("keepFresh()")  # what it does every two seconds
    assert await view.ask("performance.getEntriesByName(new URL('api/mappings', location).href).length") == asked
    await view.reveal()
    await view.until("document.querySelectorAll('article').length === 1")


async def test_it_says_why_the_poller_is_not_ready_and_what_cuts_this_replica_off(daemon: Daemon, view: Page):
    daemon.configure("orders")
    await shown(view)
    assert await view.text("#unready") == "waiting for the first read of orders"
    daemon.observe(*reading("orders", "s"), SelfFenced(seconds=5.0))
    await shown(view)
    assert await view.text("#unready") == ""
    assert await view.text("#cut") == (
        "This replica has not reached the store since 2027-01-15 07:59:55 UTC and begins no invocation."
    )


async def test_replicas_are_shown_with_their_state_beat_and_shards_and_what_moved_between_them(
    daemon: Daemon, view: Page
):
    daemon.configure("orders")
    daemon.observe(*reading("orders", "s1"))
    daemon.observe(ShardMoved(mapping="orders", shard="s2", to="elsewhere", owner="b"))
    daemon.observe(RosterSeen(members={"b": ("leaving", 9.0, ""), "this replica": ("up", 0.5, "")}))
    daemon.observe(ShardPassed(mapping="orders", shard="s2", how="handed_over", member="b"))
    await shown(view)
    rows = "[...document.querySelectorAll('#members tr')].map((row) => [...row.children].map((cell) => cell.innerText.trim()))"
    assert await view.ask(rows) == [
        ["b", "leaving", "9.0 s ago", "1"],
        ["this replica this one", "up", "0.5 s ago", "1"],
    ]
    assert "orders s2 handed over · b" in await view.text("#moves")


async def test_what_operators_paused_or_asked_for_is_shown_once_the_poller_tells_it(daemon: Daemon, view: Page):
    daemon.configure("orders")
    daemon.observe(*reading("orders", "s1"), *reading("orders", "s2"))
    await shown(view)
    await view.ask("document.getElementById('hold').click()")
    since = "2027-01-15T08:00:00.000Z"
    wishes = {"paused": {"by": "ada", "since": since}, "seek": {"to": "LATEST", "by": "grace", "since": since}}
    await view.ask(f"Object.assign(seen.mappings[0].shards[0], {json.dumps(wishes)})")
    await view.ask("document.querySelector('.fold').click()")
    await view.ask("document.querySelector('.shards .fold').click()")
    assert (await cells(view, "s1"))[1] == "paused"
    assert (await cells(view, "s2"))[1] == "owned"
    told = await view.text(".more")
    assert re.search(r"Paused\s+paused by ada since 2027-01-15 08:00:00 UTC", told)
    assert re.search(r"Asked for\s+seek to LATEST by grace since 2027-01-15 08:00:00 UTC", told)
