"""The language-model agent: a chat template, a prompt and a backend."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hpl_gym.agents.agent import Reply
from hpl_gym.agents.backends.request import Backend, Request
from hpl_gym.agents.chat import ChatEncoder, load_prompt
from hpl_gym.core import HPLGymError, MissingExtraError
from hpl_gym.wrappers.transcript import Conversation

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


_MAX_CONTEXT = 6000


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

    Raises:
        HPLGymError: A number is out of its range.
    """

    def __init__(
        self,
        backend: Backend,
        encoder: ChatEncoder,
        *,
        temperature: float = 0.0,
        max_new_tokens: int = 96,
        max_context: int = _MAX_CONTEXT,
    ) -> None:
        if not 0 <= temperature < math.inf or max_new_tokens < 1:
            raise HPLGymError(
                f"A temperature of {temperature} with max_new_tokens={max_new_tokens} cannot be "
                "played: take a temperature from 0 and at least one token."
            )
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
        """Return the model's reply; see `hpl_gym.agents.agent.Agent.act`.

        Raises:
            HPLGymError: There is no room for the prompt and the first observation.
        """
        context = self.encoder.encode(conversation, ask=True)
        if len(context.ids) > self.max_context:
            if not conversation.turns:
                raise HPLGymError(
                    f"Prompt and first observation have {len(context.ids)} tokens, and there is "
                    f"room for {self.max_context}: take a shorter prompt (prompt=brief), a smaller "
                    "max_new_tokens, or a model with more positions."
                )
            return Reply("")
        request = Request(
            context.ids,
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
            len(context.ids),
        )


def request_seed(conversation: Conversation, seed: int) -> int:
    """Return the seed of one reply: it depends on the history and the rollout's seed alone."""
    key = f"{seed} {conversation.digest}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "little")


def load_model(
    folder: str | Path, device: str = "cpu", dtype: torch.dtype | None = None
) -> tuple[PreTrainedModel, Any]:
    """Load a causal language model and its tokenizer from a folder or a hub name.

    Args:
        folder: The folder or the name.
        device: A torch device.
        dtype: Of the weights; None is single precision on a CPU, bfloat16 elsewhere.

    Raises:
        ModelFolderError: It is no model, or it cannot be read.
        HPLGymError: There is no such device.
        MissingExtraError: `transformers` is not installed.
    """
    tokenizer = load_tokenizer(folder)
    check_device(device)
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    dtype = dtype or (torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16)
    with _reading(folder):
        model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=dtype)
    return model.to(device), tokenizer


def check_device(device: str) -> None:
    """Raise where a torch device is not to be had.

    Raises:
        HPLGymError: There is no such device here.
    """
    import torch

    try:
        wanted = torch.device(device)
        found = torch.get_device_module(wanted).device_count() > (wanted.index or 0)
    except RuntimeError:
        found = False
    if not found:
        raise HPLGymError(
            f"There is no device {device!r} here: use device=cpu, or device=cuda on a machine with "
            "a CUDA GPU and a build of torch for it."
        )


def load_tokenizer(folder: str | Path) -> Any:
    """Load a model's tokenizer from a folder or a hub name.

    Raises:
        ModelFolderError: It is no model, or it cannot be read.
        MissingExtraError: `transformers` is not installed.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError(
            "Language models need the train extra: pip install 'hpl-gym[train]'."
        ) from error
    check_model(folder)
    with _reading(folder):
        return AutoTokenizer.from_pretrained(str(folder))


def check_model(folder: str | Path) -> None:
    """Raise where a path holds no model; a hub's name is not looked up.

    Raises:
        ModelFolderError: There is no such folder, or no model in it.
    """
    path = Path(folder)
    if not path.exists() and str(folder).startswith(("/", ".", "~")):
        raise ModelFolderError(f"There is no folder {folder}: name a model's folder.")
    if path.exists() and not (path / "config.json").is_file():
        raise ModelFolderError(
            f"{folder} is not a model folder (it has no config.json): name a folder that "
            "`hpl sft` or `hpl train` wrote, or one saved by save_pretrained()."
        )


def check_chat_template(folder: str | Path) -> None:
    """Raise where a model's folder has no chat template; a hub's name is not looked up.

    Raises:
        ModelFolderError: It has none.
    """
    path = Path(folder)
    places = (path / "chat_template.jinja", path / "additional_chat_templates")
    try:
        config = json.loads((path / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        config = {}
    held = bool(config.get("chat_template")) or any(one.exists() for one in places)
    if path.is_dir() and not held:
        raise ModelFolderError(
            f"The model in {folder} has no chat template: name an instruction-tuned one, or set "
            "tokenizer.chat_template in Python and tokenizer.save_pretrained(FOLDER)."
        )


@contextmanager
def _reading(folder: str | Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # libraries raise what they like for broken files
        lines = (str(error).strip() or repr(error)).splitlines()
        reason = " ".join(lines) if lines[0].rstrip().endswith(":") else lines[0]
        if not Path(folder).exists():
            raise ModelFolderError(
                f"There is no folder {folder} in {Path.cwd()}, and no model of that name can be "
                f"loaded from the hub: {reason}"
            ) from error
        raise ModelFolderError(f"No model can be loaded from {folder}: {reason}") from error


def load_agent(
    folder: str | Path,
    *,
    prompt: str = "alfworld",
    temperature: float = 0.0,
    max_new_tokens: int = 96,
    device: str = "cpu",
    backend: Literal["transformers", "vllm", "openai"] = "transformers",
) -> LanguageModelAgent:
    """Return an agent that plays by the model in `folder`.

    Args:
        folder: A model folder or hub name.
        prompt: A shipped prompt's name or a text file.
        temperature: Sampling temperature; 0 is greedy.
        max_new_tokens: Longest reply; a context may be as long as the model has positions for, at
            most 6,000 tokens.
        device: A torch device, for `transformers`.
        backend: What runs the model; with ``openai`` vLLM's server at OPENAI_BASE_URL does, which
            serves it by the folder's name.

    Raises:
        ModelFolderError: The folder holds no model.
        HPLGymError: The model has no room for more than a reply.
        MissingExtraError: The backend is not installed.
    """
    if backend == "transformers":
        model, tokenizer = load_model(folder, device)
    else:
        tokenizer = load_tokenizer(folder)
    max_context = longest_context(folder, max_new_tokens)
    running: Backend
    if backend == "transformers":
        from hpl_gym.agents.backends.transformers import TransformersBackend

        if model.device.type == "cpu":
            # In double precision, a reply does not depend on what else is in its batch.
            model.set_experts_implementation("eager")  # the grouped one is for single precision
            model = model.double()
        running = TransformersBackend(model)
    elif backend == "vllm":
        from hpl_gym.agents.backends.vllm import VLLMBackend

        running = VLLMBackend(str(folder), max_model_len=max_context + max_new_tokens)
    else:
        from hpl_gym.agents.backends.openai import OpenAIBackend

        # The server batches them; a batch's last reply may take a while.
        running = OpenAIBackend(str(folder), concurrency=512, timeout=600.0)
    return LanguageModelAgent(
        running,
        ChatEncoder(tokenizer, load_prompt(prompt)),
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        max_context=max_context,
    )


def longest_context(folder: str | Path, max_new_tokens: int) -> int:
    """Return the most tokens of a context: 6,000, or what the model has room for before a reply.

    Raises:
        ModelFolderError: It is no model, or it cannot be read.
        HPLGymError: It has no room for more than a reply.
    """
    from transformers import AutoConfig

    with _reading(folder):
        known = positions_of(AutoConfig.from_pretrained(str(folder)))
    positions = known or _MAX_CONTEXT + max_new_tokens
    if positions <= max_new_tokens:
        raise HPLGymError(
            f"{folder} has {positions} positions, so replies of {max_new_tokens} tokens leave no "
            "room for a context: set a smaller max_new_tokens."
        )
    return min(_MAX_CONTEXT, positions - max_new_tokens)


def positions_of(config: Any) -> int | None:
    """Return how many tokens a model of a `transformers` configuration has room for, if known."""
    # Some models name it otherwise; their configs answer to this name too, to_dict() does not.
    found: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return found
