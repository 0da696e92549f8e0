"""An OpenAI-compatible endpoint that answers from a script, on a port of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


def event(**fields) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def text_event(text, finish=None) -> bytes:
    """An event of /v1/completions."""
    return event(choices=[{"index": 0, "text": text, "finish_reason": finish}])


def delta_event(finish=None, **delta) -> bytes:
    """An event of /v1/chat/completions."""
    return event(choices=[{"index": 0, "delta": delta, "finish_reason": finish}])


def usage_event(prompt, completion, cached=0) -> bytes:
    """The event with the token counts."""
    details = {"cached_tokens": cached}
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": details}
    return event(choices=[], usage=usage)


DONE = b"data: [DONE]\n\n"


def full_answer(body) -> Iterable[bytes]:
    """As many tokens as were asked for, one event each; a prompt has as many as ids or words."""
    if "messages" in body:
        contents = [message["content"] for message in body["messages"]]
        words = " ".join(content if isinstance(content, str) else content[-1]["text"] for content in contents)
        prompt, most = 5 + len(words.split()), body["max_completion_tokens"]
        yield from (delta_event(content="a") for _ in range(most))
        yield delta_event("length")
    else:
        prompt, most = len(body["prompt"]), body["max_tokens"]
        yield from (text_event("a") for _ in range(most))
        yield text_event("", "length")
    yield usage_event(prompt, most)
    yield DONE


class FakeOpenAI:
    """`script`: from the body of a request to the pieces of its answer, sent one by one; None breaks the
    connection. `status`: of all answers; `chunked`: how their ends are known, else by closing.
    """

    def __init__(self) -> None:
        self.script: Callable[[dict], Iterable[bytes | None]] = full_answer
        self.status = 200
        self.chunked = True
        self.models: object = {"data": [{"id": "fake"}]}
        self.requests: list[tuple[str, dict, dict]] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                self._answer(200, [json.dumps(fake.models).encode()])

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.requests.append((self.path, body, dict(self.headers)))
                self._answer(fake.status, fake.script(body))

            def _answer(self, status, pieces):
                self.send_response(status)
                self.send_header("Connection", "close")
                self.close_connection = True
                if fake.chunked:
                    self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for piece in pieces:
                    if piece is None:
                        return
                    head, tail = (b"%x\r\n" % len(piece), b"\r\n") if fake.chunked else (b"", b"")
                    try:
                        self.wfile.write(head + piece + tail)
                    except ConnectionError:  # the client has left
                        return
                if fake.chunked:
                    self.wfile.write(b"0\r\n\r\n")

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
