"""The page at /: its safety by reading, its behaviour in a real browser."""

import base64
import hashlib
import re

from tests.gateway.browser import needs_browser, open_browser
from tests.gateway.suite import open_suite


async def test_the_page_is_small_and_loads_nothing_from_elsewhere(suite):
    answer = await suite.http.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert len(answer.content) < 10_000
    assert not re.findall(r"https?://|src=|@import|innerHTML|<link", answer.text)
    assert (await suite.http.head("/")).status_code == 200


async def test_only_the_pages_own_script_and_style_may_run(suite):
    answer = await suite.http.get("/")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        [text] = re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[directive] == f"'sha256-{digest}'"
    assert (policy["default-src"], policy["connect-src"]) == ("'none'", "'self'")
    assert policy["frame-ancestors"] == "'none'"


async def test_every_link_of_the_page_leads_somewhere(suite):
    page = (await suite.http.get("/")).text
    links = re.findall(r'href="([^"]+)"', page)
    assert len(links) >= 4
    for link in links:
        assert (await suite.http.get(f"/{link}")).status_code == 200, link


QUESTION = "Is <b>9.9</b> bigger?"
TURNS = 'return [...document.querySelectorAll("#turns > div")].map(turn => turn.innerText)'
IDLE = 'document.getElementById("stop").disabled && !document.getElementById("send").disabled'


@needs_browser
async def test_in_a_browser_the_page_shows_workers_and_streams_an_answer_with_its_reasoning_apart():
    async with open_suite() as suite, open_browser() as browser:
        await browser.go(str(suite.http.base_url))
        await browser.until('document.querySelectorAll("#workers tr").length === 3')
        assert "Serves kimi," in str(await browser.run('return document.getElementById("state").innerText'))
        table = str(await browser.run('return document.getElementById("workers").innerText'))
        assert {"vision", "prefill", "decode", "serving"} <= set(table.split())

        suite.say("Nine tenths</think>Yes, <i>9.9</i>.")
        await browser.ask(QUESTION)
        await browser.until(IDLE)
        asked, answered = await browser.run(TURNS)
        assert asked == QUESTION
        assert answered.split("\n") == ["Reasoning", "Nine tenths", "Yes, <i>9.9</i>."]

        suite.say("Sure</think>Really.")
        await browser.ask(QUESTION)
        await browser.until(IDLE)
        prompt = suite.tokenizer.decode(list(suite.decode.submits[-1].prompt_token_ids))
        assert "Yes, <i>9.9</i>." in prompt
        assert (await browser.run(TURNS))[3].endswith("Really.")


@needs_browser
async def test_in_a_browser_a_failure_is_explained_and_an_answer_can_be_stopped():
    async with open_suite() as suite, open_browser() as browser:
        await browser.go(str(suite.http.base_url))
        await browser.until('document.querySelectorAll("#workers tr").length === 3')
        await browser.ask("long " * 20000)
        await browser.until(IDLE)
        assert "context length" in (await browser.run(TURNS))[1]

        await browser.run('document.getElementById("clear").click()')
        assert await browser.run(TURNS) == []
        suite.decode.step_s = 0.02
        suite.say("Hm</think>" + "word " * 2000)
        await browser.ask(QUESTION)
        await browser.until('document.getElementById("turns").innerText.includes("word word")')
        await browser.run('document.getElementById("stop").click()')
        await browser.until(IDLE)
        asked, answered = await browser.run(TURNS)
        assert asked == QUESTION, "the question that failed has left the conversation"
        assert answered.endswith("Stopped.")

        await suite.workers["decode0"].stop()
        await browser.until('document.getElementById("state").className === "bad"')
