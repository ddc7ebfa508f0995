"""The language-model agent: a chat template, a prompt and a backend."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpl_gym.agents.agent import Reply
from hpl_gym.agents.backends.request import Backend, Request
from hpl_gym.agents.chat import ChatEncoder, load_prompt
from hpl_gym.core import HPLGymError, MissingExtraError
from hpl_gym.wrappers.transcript import Conversation

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ModelFolderError(HPLGymError):
    """A path is not a model that can be loaded."""


class LanguageModelAgent:
    """Plays by a language model's replies.

    Args:
        backend: Who generates.
        encoder: How conversations become tokens.
        temperature: Sampling temperature; 0 is greedy.
        max_new_tokens: Longest reply.
        max_context: Longest context in tokens; a conversation that outgrows it gets an empty reply,
            which costs a turn.
    """

    def __init__(
        self,
        backend: Backend,
        encoder: ChatEncoder,
        *,
        temperature: float = 0.0,
        max_new_tokens: int = 96,
        max_context: int = 6000,
    ) -> None:
        self.backend = backend
        self.encoder = encoder
        self.temperature = temperature
        self.max_new_tokens = max_new_tokens
        self.max_context = max_context

    def at_temperature(self, temperature: float) -> LanguageModelAgent:
        """Return this agent, sharing its backend, with another sampling temperature."""
        return LanguageModelAgent(
            self.backend,
            self.encoder,
            temperature=temperature,
            max_new_tokens=self.max_new_tokens,
            max_context=self.max_context,
        )

    async def act(self, conversation: Conversation, seed: int = 0) -> Reply:
        """Return the model's reply; see `hpl_gym.agents.agent.Agent.act`."""
        context = self.encoder.encode(conversation, ask=True)
        if len(context.ids) > self.max_context:
            return Reply("")
        request = Request(
            context.ids,
            context.bounds,
            request_seed(conversation, seed),
            self.temperature,
            self.max_new_tokens,
            self.encoder.end_id,
        )
        completion = await self.backend.generate(request)
        return Reply(
            self.encoder.decode(completion.ids),
            completion.ids,
            completion.logprobs,
            completion.entropies,
        )


def request_seed(conversation: Conversation, seed: int) -> int:
    """Return the seed of one reply: it depends on the history and the rollout's seed alone."""
    key = f"{seed} {conversation.digest}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "little")


def load_model(folder: str | Path, device: str = "cpu") -> tuple[PreTrainedModel, Any]:
    """Load a causal language model and its tokenizer from a folder or a hub name.

    Raises:
        ModelFolderError: It is no model, or it cannot be read.
        MissingExtraError: `transformers` is not installed.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise MissingExtraError(
            "Language models need the train extra: pip install 'hpl-gym[train]'."
        ) from error
    disable_progress_bar()
    path = Path(folder)
    if path.exists() and not (path / "config.json").is_file():
        raise ModelFolderError(
            f"{folder} is not a model folder (it has no config.json): name a folder that "
            "`hpl sft` or `hpl train` wrote, or one saved by save_pretrained()."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        model = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=torch.float32 if device == "cpu" else torch.bfloat16
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelFolderError(f"No model can be loaded from {folder}: {reason}") from error
    return model.to(device), tokenizer


def load_agent(
    folder: str | Path,
    *,
    prompt: str = "alfworld",
    temperature: float = 0.0,
    max_new_tokens: int = 96,
    max_batch: int = 64,
    device: str = "cpu",
) -> LanguageModelAgent:
    """Return an agent that runs the model in `folder` with the `transformers` backend.

    Args:
        folder: A model folder or hub name.
        prompt: A shipped prompt's name or a text file.
        temperature: Sampling temperature; 0 is greedy.
        max_new_tokens: Longest reply.
        max_batch: Most requests decoded together.
        device: A torch device.

    Raises:
        ModelFolderError: The folder holds no model.
    """
    model, tokenizer = load_model(folder, device)
    from hpl_gym.agents.backends.transformers import TransformersBackend

    return LanguageModelAgent(
        TransformersBackend(model, max_batch=max_batch),
        ChatEncoder(tokenizer, load_prompt(prompt)),
        temperature=temperature,
        max_new_tokens=max_new_tokens,
    )
