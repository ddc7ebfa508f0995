import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hpl_gym.agents import play
from hpl_gym.agents.backends.openai import ChatClient
from hpl_gym.agents.chat_agent import ChatAgent
from hpl_gym.agents.language_model import request_seed
from tests.toy import make

pytest.importorskip("openai")

PROMPT = "Play the game."
ACTIONS = ["go kitchen", "take gold", "go hall", "drop gold"]


class Teacher(BaseHTTPRequestHandler):
    """Knows the toy game's easy task; what it says next depends on the chat alone."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        action = ACTIONS[len(body["messages"]) // 2 - 1]
        text = f"Thought: Next.\nAction: {action}"
        usage = {"prompt_tokens": 50, "completion_tokens": 9, "total_tokens": 59}
        choice = {"index": 0, "message": {"role": "assistant", "content": text}}
        payload = json.dumps({"id": "1", "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Teacher) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def agent(server):
    client = ChatClient("teacher", base_url=f"http://127.0.0.1:{server.server_port}/v1")
    return ChatAgent(client, PROMPT, temperature=0.7, max_tokens=64)


def test_the_teacher_plays_an_episode(server, agent):
    conversation, info = play(make(), agent, task="train/easy", seed=3)
    assert info["success"]
    assert [turn.reply for turn in conversation.turns] == [
        f"Thought: Next.\nAction: {action}" for action in ACTIONS
    ]
    assert len(server.asked) == 4
    for number, body in enumerate(server.asked):
        so_far = conversation.prefix(number)
        assert body["messages"] == so_far.messages(PROMPT)
        assert body["seed"] == request_seed(so_far, 3) % 2**31
        assert (body["temperature"], body["max_tokens"]) == (0.7, 64)
    assert [message["role"] for message in server.asked[1]["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]


def test_one_agent_plays_many_episodes(agent):
    for seed in range(3):
        assert play(make(), agent, task="train/easy", seed=seed)[1]["success"]
    usage = agent.client.usage
    assert (usage.calls, usage.tokens_in, usage.tokens_out) == (12, 600, 108)
