"""The teacher: an agent that plays by a chat model behind an OpenAI-compatible server."""

from __future__ import annotations

from hpl_gym.agents.agent import Reply
from hpl_gym.agents.backends.openai import ChatClient
from hpl_gym.agents.language_model import request_seed
from hpl_gym.wrappers.transcript import Conversation


class ChatAgent:
    """Plays by a chat model's replies, which come as text.

    Args:
        client: The server.
        prompt: The system prompt.
        temperature: Sampling temperature; 0 is greedy.
        max_tokens: Longest reply in tokens.
    """

    def __init__(
        self, client: ChatClient, prompt: str, *, temperature: float = 0.0, max_tokens: int = 256
    ) -> None:
        self.client = client
        self.prompt = prompt
        self.temperature = temperature
        self.max_tokens = max_tokens

    async def act(self, conversation: Conversation, seed: int = 0) -> Reply:
        """Return the model's reply; see `hpl_gym.agents.agent.Agent.act`.

        The same seed gives the same reply only where the server keeps to seeds.

        Raises:
            ServerError: The server gives no answer.
        """
        answer = await self.client.complete(
            conversation.messages(self.prompt),
            seed=request_seed(conversation, seed),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )
        return Reply(answer.text, tokens_in=answer.tokens_in)
