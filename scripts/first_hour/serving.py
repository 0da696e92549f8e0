"""Checks of a suite that runs."""

from __future__ import annotations

import json
import re
import shutil
import time

from scripts.first_hour.clone import ANY_PORTS, PERIGEE, Clone
from scripts.first_hour.failed import Failed, expect

QUESTION, ANSWER = "Which one is bigger, 9.11 or 9.9?", "9.9 is bigger."
ROLES = ("vision", "prefill", "decode", "gateway")
_PYTHON = ".venv/bin/python"
_EXAMPLES = {
    "agent": (["What's the weather in Beijing?"], "22 degrees"),
    "vision": (["examples/receipt.png", "What is in this image? Describe it in detail."], "2.46"),
    "structured": (["Give me JSON with server Alice and port 17."], "{'server': 'Alice', 'port': 17}"),
}


def greeting_answers(clone: Clone) -> str:
    """The commands of the start screen, as they stand there."""
    assert clone.suite is not None
    commands = re.findall(
        rf"^  ({re.escape(PERIGEE)} chat .*|curl .*|{_PYTHON} -c .*)$", clone.suite.text, re.M
    )
    expect(len(commands) == 3, f"the screen shows {len(commands)} commands")
    tried = [each for each in commands if shutil.which(each.split()[0]) or each.startswith(".venv")]
    for command in tried:
        done = clone.run("sh", "-c", command)
        expect(done.status == 0 and done.out.strip(), f"{command[:60]}: {done.text.strip()}")
    return f"{len(tried)} of {len(commands)} commands run"


def status(clone: Clone) -> str:
    """Four services that serve."""
    shown = clone.answered("status")
    expect(all(re.search(rf"^{role} +serving +\d+ ", shown, re.M) for role in ROLES), shown)
    return "4 services serve"


def logs(clone: Clone) -> str:
    """Lines for people by default, of one service and of all; as they are with --json; new ones with -f."""
    line = r"\d\d:\d\d:\d\d\.\d{3}  {role} +(info|debug|warning) +\S.*"
    every = clone.answered("logs").splitlines()
    for role in ROLES:
        expect(any(re.fullmatch(line.replace("{role}", role), each) for each in every), f"no line of {role}")
    one = clone.answered("logs", "decode", "-n", "3", "--json").splitlines()
    expect(len(one) == 3 and all(json.loads(each)["event"] for each in one), "\n".join(one))
    with clone.watch(PERIGEE, "logs", "-f", "-n", "0", "gateway") as follower:
        time.sleep(1.0)
        clone.answered("chat", "Hello", "--max-tokens", "4", *clone.door())
        follower.until(r"gateway +info +\S", 20)
        follower.interrupt()
        follower.wait(10)
    return f"{len(every)} lines of 4 services"


def workers_have_pids(clone: Clone) -> str:
    """The process ids of the status."""
    pids = {role: str(clone.service(role)["pid"]) for role in ROLES[:3]}
    rows = {row.split()[0]: row.split() for row in clone.answered("workers", *clone.operator()).splitlines()}
    expect(all(pid in rows[role] for role, pid in pids.items()), str(rows))
    return ", ".join(f"{role} {pid}" for role, pid in pids.items())


def chat(clone: Clone) -> str:
    """Takes standard input, answers as JSON, counts tokens per second; and a conversation at a terminal."""
    words = ("chat", "--temperature", "0", *clone.door())
    expect(clone.answered(*words, stdin=QUESTION).endswith(f"{ANSWER}\n"), "another answer to standard input")
    answer = json.loads(clone.answered(*words, QUESTION, "--json", "--timing"))
    expect(answer["content"] == ANSWER and answer["usage"]["completion_tokens"] > 1, str(answer))
    rate = answer["timing"]["tokens_per_second"]
    conversation = clone.tests(
        "tests/cli/commands/test_chat.py::test_a_terminal_gets_a_conversation",
        "tests/cli/chat/test_dialogue.py",
    )
    return f"{rate:.0f} tokens/s; {conversation}"


def examples(clone: Clone) -> str:
    """Each program in examples/."""
    state = clone.state()
    for name, (words, printed) in _EXAMPLES.items():
        done = clone.run(_PYTHON, f"examples/{name}.py", *words, f"{state['rest']}/v1")
        expect(done.status == 0 and printed in done.out, f"{name}: {done.text.strip()}")
    done = clone.run(_PYTHON, "examples/grpc_chat.py", QUESTION, state["grpc"])
    expect(ANSWER in done.out, f"grpc_chat: {done.text.strip()}")
    return ", ".join((*_EXAMPLES, "grpc_chat"))


def docs_offline(clone: Clone) -> str:
    """The page loads nothing; `model` and `messages` come first; each route has an example."""
    page, document = clone.get("/docs"), json.loads(clone.get("/openapi.json"))
    loads = re.findall(r"<(?:script|link|img|iframe)\b|@import|url\(|\ssrc=", page)
    expect(not loads, f"it loads {loads}")
    first = list(document["components"]["schemas"]["ChatBody"]["properties"])[:2]
    expect(first == ["model", "messages"], f"first come {first}")
    routes, commands = sum(map(len, document["paths"].values())), page.count("<pre>curl")
    expect(commands == routes, f"{commands} examples of {routes} routes")
    tests = clone.tests(
        "tests/gateway/http/pages/test_field_texts.py", "tests/gateway/http/pages/test_docs_page.py"
    )
    return f"{routes} routes, each with an example; {tests}"


def restart(clone: Clone) -> str:
    """A new process of decode serves."""
    before = clone.service("decode")["pid"]
    said = clone.answered("restart", "decode")
    after = clone.service("decode")
    expect(after["pid"] != before and after["state"] == "serving" and after["starts"] == 2, str(after))
    return said.strip().splitlines()[-1]


def health_says_draining(clone: Clone) -> str:
    """`perigee health` says that a worker is draining, until it is back."""
    address = clone.service("prefill")["address"]
    clone.answered("drain", "prefill", "--force", *clone.operator())
    drained = clone.perigee("health", address)
    expect("draining: it admits no new requests" in drained.text, drained.text.strip())
    clone.answered("undrain", "prefill", *clone.operator())
    back = clone.answered("health", address)
    expect("draining" not in back, back.strip())
    return drained.text.strip().removeprefix("perigee health: ")


def ctrl_c_says_what_it_waits_for(clone: Clone) -> str:
    """One request runs."""
    suite = clone.suite
    assert suite is not None
    with clone.watch(_PYTHON, "-c", _LONG_STREAM, clone.state()["rest"]) as client:
        client.until("begun", 60)
        suite.interrupt()
        line = suite.until(r"waiting for gateway \(1 request may finish\), \d+ s at most", 20)
    suite.until(r"waiting for vision, prefill, decode, \d+ s at most", 60)
    suite.wait(60)
    clone.suite = None
    expect(clone.perigee("status").status == 1, "a suite still runs")
    return line.text.strip()


def warns_and_notes(clone: Clone) -> str:
    """On all addresses without keys, and without a compiler, the start screen says so."""
    words = (str(clone.directory / PERIGEE), "run", *ANY_PORTS, "--host", "0.0.0.0", "--insecure")
    # A PATH without programs.
    with clone.watch(*words, env={"PATH": str(clone.home)}) as suite:
        suite.until(r"^Ctrl-C stops everything", 180)
        for said in (_KEYLESS, "there is no C compiler"):
            expect(said in suite.text, f"no line {said!r}")
        stopped = clone.answered("stop").splitlines()
        expect(re.fullmatch(r"waiting for gateway, \d+ s at most", stopped[0]), stopped[0])
        expect(stopped[-1] == "stopped", stopped[-1])
        suite.wait(60)
    return "both on the screen"


_KEYLESS = "Warning: other machines reach REST and gRPC, and nobody needs an API key"
_LONG_STREAM = """
import json, sys, urllib.request
messages = [{"role": "user", "content": "Count."}]
body = {"messages": messages, "stream": True, "max_tokens": 30000, "ignore_eos": True}
headers = {"Content-Type": "application/json"}
request = urllib.request.Request(sys.argv[1] + "/v1/chat/completions", json.dumps(body).encode(), headers)
for number, line in enumerate(urllib.request.urlopen(request, timeout=120)):
    if number == 9:
        print("begun", flush=True)
"""


def stopped(clone: Clone) -> None:
    """Ends what is left. Never fails."""
    if clone.suite is not None:
        try:
            clone.suite.interrupt()
            clone.suite.wait(60)
        except (Failed, ProcessLookupError):
            clone.suite.kill()
