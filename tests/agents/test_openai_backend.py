import asyncio
import json
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hpl_gym.agents.backends.openai import ChatAnswer, ChatClient, OpenAIBackend, ServerError
from hpl_gym.agents.backends.request import Request
from hpl_gym.agents.backends.vllm import TOP_K, top_entropy
from hpl_gym.core import MissingExtraError

pytest.importorskip("openai")

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
USAGE = {"prompt_tokens": 40, "completion_tokens": 3, "total_tokens": 43}


class Answers(ThreadingHTTPServer):
    """A server that answers each request by `answer(body)`: status, headers, body or text."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.lock = threading.Lock()
        self.asked, self.times = [], []
        self.running = self.most = 0
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        """Callers that gave up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.asked.append((self.path, self.headers, body))
            server.times.append(time.monotonic())
            server.running += 1
            server.most = max(server.most, server.running)
        try:
            status, headers, content = server.answer(body)
        finally:
            with server.lock:
                server.running -= 1
        payload = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(answer):
        server = Answers(answer)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def chat(text, usage=USAGE):
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage}


def hello(_):
    return 200, {}, chat("Hi.")


def failing(status, times, headers=(), then=hello):
    """Answer `status` so many times, then go on by `then`."""
    left = [status] * times

    def answer(body):
        if left:
            return left.pop(), dict(headers), {"error": {"message": "busy"}}
        return then(body)

    return answer


def ask(client, count=1):
    async def together():
        asking = [
            client.complete(MESSAGES, seed=seed, temperature=0.5, max_tokens=20)
            for seed in range(count)
        ]
        try:
            return await asyncio.gather(*asking)
        finally:
            await client.close()

    return asyncio.run(together())


def test_an_ordinary_answer(serve):
    server = serve(hello)
    client = ChatClient("teacher", base_url=server.url, api_key="secret")
    assert ask(client) == [ChatAnswer("Hi.", 40, 3)]
    ((path, headers, body),) = server.asked
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert body == {
        "model": "teacher",
        "messages": MESSAGES,
        "seed": 0,
        "temperature": 0.5,
        "max_tokens": 20,
    }


def test_address_and_key_from_the_environment(serve, monkeypatch):
    server = serve(hello)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "from the environment")
    ask(ChatClient("teacher"))
    assert server.asked[0][1]["Authorization"] == "Bearer from the environment"
    monkeypatch.delenv("OPENAI_API_KEY")
    ask(ChatClient("teacher"))
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(ServerError, match="OPENAI_BASE_URL"):
        ChatClient("teacher")


def test_seeds_fit_into_32_bits(serve):
    server = serve(hello)
    client = ChatClient("teacher", base_url=server.url)
    asyncio.run(client.complete(MESSAGES, seed=2**64 - 2, temperature=0, max_tokens=1))
    assert server.asked[0][2]["seed"] == 2**31 - 2


def test_usage_is_counted_and_may_be_missing(serve):
    cached = {**USAGE, "prompt_tokens_details": {"cached_tokens": 32}}
    answers = iter([chat("a"), chat("b", cached), chat(None, None), chat("", {})])
    client = ChatClient("teacher", base_url=serve(lambda _: (200, {}, next(answers))).url)
    texts = [ask(client)[0].text for _ in range(4)]
    assert texts == ["a", "b", "", ""]
    usage = client.usage
    assert (usage.calls, usage.tokens_in, usage.tokens_out) == (4, 80, 6)
    assert usage.tokens_computed == 40 + 8
    assert 0 < usage.seconds < 3


@pytest.mark.parametrize("concurrency", [1, 6])
def test_requests_run_at_once_but_not_too_many(serve, concurrency):
    def slow(body):
        time.sleep(0.05)
        return 200, {}, chat(f"reply to {body['seed']}")

    server = serve(slow)
    answers = ask(ChatClient("teacher", base_url=server.url, concurrency=concurrency), 12)
    assert [one.text for one in answers] == [f"reply to {seed}" for seed in range(12)]
    assert server.most == concurrency


def test_requests_are_spaced_tries_again_included(serve):
    server = serve(failing(429, 2, {"Retry-After": "0.01"}))
    begun = time.monotonic()
    ask(ChatClient("teacher", base_url=server.url, requests_per_minute=600), 6)
    assert len(server.times) == 8
    for place, arrived in enumerate(server.times):
        assert arrived - begun >= 0.1 * place - 0.01


def test_requests_that_come_at_once_wait_for_their_turns(monkeypatch):
    clock, waits = iter((5.0, 5.0, 5.05, 9.0)), []

    async def sleep(seconds):
        waits.append(seconds)

    client = ChatClient("teacher", base_url="http://localhost", requests_per_minute=600)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(asyncio, "sleep", sleep)
    for _ in range(4):
        with suppress(StopIteration):
            client._pace(None).send(None)
    assert waits == pytest.approx([0, 0.1, 0.15, 0])


def test_retry_after_is_kept_to(serve):
    server = serve(failing(429, 1, {"Retry-After": "1.2"}))
    assert ask(ChatClient("teacher", base_url=server.url))[0].text == "Hi."
    first, second = server.times
    assert 1.2 <= second - first < 3


def test_failures_that_pass(serve):
    server = serve(failing(500, 2))
    client = ChatClient("teacher", base_url=server.url)
    assert ask(client)[0].text == "Hi."
    assert len(server.times) == 3
    assert client.usage.calls == 1


def test_an_address_that_is_none():
    client = ChatClient("teacher", base_url="http://localhost:80a0/v1", api_key="x")
    with pytest.raises(ServerError, match="is no address"):
        ask(client)


def test_connections_of_ended_loops_are_dropped(serve):
    client = ChatClient("teacher", base_url=serve(hello).url)
    for _ in range(4):
        asyncio.run(client.complete(MESSAGES, seed=0, temperature=0.5, max_tokens=20))
    assert len(client._open) == 1


@pytest.mark.parametrize(
    ("status", "tries", "text"),
    [
        (500, 2, r"keeps failing \(500\)"),
        (503, 2, r"keeps failing \(503\)"),
        (429, 2, r"keeps failing \(429\)"),
        (401, 1, r"refuses the API key \(401\): set OPENAI_API_KEY"),
        (403, 1, r"refuses the API key \(403\)"),
        (404, 1, r"rejects the request.*busy"),
    ],
)
def test_failures_that_do_not_pass(serve, status, tries, text):
    server = serve(failing(status, 99, {"Retry-After": "0.01"}))
    client = ChatClient("teacher", base_url=server.url, retries=1)
    with pytest.raises(ServerError, match=f"The server at {server.url}/ {text}") as caught:
        ask(client)
    assert len(server.times) == tries
    assert str(caught.value).count("\n") == 0
    assert client.usage.calls == 0


def test_a_server_that_does_not_answer(serve):
    release = threading.Event()

    def never(body):
        release.wait(10)
        return hello(body)

    server = serve(never)
    began = time.monotonic()
    with pytest.raises(ServerError, match="took too long"):
        ask(ChatClient("teacher", base_url=server.url, timeout=0.2, retries=1))
    release.set()
    assert len(server.times) == 2
    assert time.monotonic() - began < 3


def test_a_server_that_is_not_there(serve):
    server = serve(hello)
    server.shutdown()
    server.server_close()
    with pytest.raises(ServerError, match=r"cannot be reached \(.*\): start it"):
        ask(ChatClient("teacher", base_url=server.url, retries=1))


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("application/json", '{"choices": [{"mess'),
        ("text/html", "<html>A page.</html>"),
        ("application/json", "[]"),
        ("application/json", "{}"),
        ("application/json", '{"choices": []}'),
        ("application/json", '{"choices": [{}]}'),
    ],
)
def test_answers_that_are_none(serve, kind, content):
    server = serve(lambda _: (200, {"Content-Type": kind}, content))
    with pytest.raises(ServerError, match="does not speak OpenAI's API"):
        ask(ChatClient("teacher", base_url=server.url, retries=0))


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    for kind in (ChatClient, OpenAIBackend):
        with pytest.raises(MissingExtraError, match=r"pip install 'hpl-gym\[openai\]'"):
            kind("model", base_url="http://127.0.0.1/v1")


def complete(body, *, with_ids=True):
    """What vLLM's server answers: three tokens, each with the likeliest ones."""
    ids = [7, 100, *body["stop_token_ids"]][: body["max_tokens"]]
    top = {f"token_id:{token}": -4.0 for token in range(100, 100 + TOP_K)}
    choice = {
        "index": 0,
        "text": "the same text",
        "finish_reason": "stop",
        "logprobs": {
            "text_offset": [0] * len(ids),
            "tokens": [f"token_id:{token}" for token in ids],
            "token_logprobs": [-9.0 + place for place in range(len(ids))],
            "top_logprobs": [{f"token_id:{token}": -9.0, **top} for token in ids],
        },
    }
    if with_ids:
        choice["token_ids"] = ids
    return 200, {}, {"id": "1", "object": "text_completion", "choices": [choice], "usage": USAGE}


def generate(backend, *requests):
    async def together():
        return await asyncio.gather(*(backend.generate(one) for one in requests))

    return asyncio.run(together())


def test_token_ids_go_in_and_come_out(serve):
    server = serve(complete)
    backend = OpenAIBackend("policy", base_url=server.url)
    ids = tuple(range(40))
    (completion,) = generate(backend, Request(ids, 2**64 - 1, 0.7, 5, 9))
    assert completion.ids == (7, 100, 9)
    assert completion.logprobs == (-9.0, -8.0, -7.0)
    assert completion.entropies == pytest.approx([top_entropy([-4.0] * TOP_K)] * 3)
    ((path, _, body),) = server.asked
    assert path == "/v1/completions"
    assert body == {
        "model": "policy",
        "prompt": list(ids),
        "seed": 2**63 - 1,
        "temperature": 0.7,
        "max_tokens": 5,
        "logprobs": TOP_K,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "stop_token_ids": [9],
        "ignore_eos": True,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }
    assert (backend.usage.calls, backend.usage.tokens_in) == (1, 40)


def test_the_longest_reply_is_asked_for(serve):
    backend = OpenAIBackend("policy", base_url=serve(complete).url)
    some = [Request((1, 2), seed, 1.0, most, 9) for seed, most in enumerate((1, 2, 3))]
    assert [one.ids for one in generate(backend, *some)] == [(7,), (7, 100), (7, 100, 9)]


def test_a_server_without_token_ids(serve):
    server = serve(lambda body: complete(body, with_ids=False))
    with pytest.raises(ServerError, match=r"returns no token ids.*vLLM 0\.11 or later"):
        generate(OpenAIBackend("policy", base_url=server.url), Request((1,), 0, 0.0, 3, 9))
