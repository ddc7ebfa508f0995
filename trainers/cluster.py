"""Exploration and evaluation on a Ray cluster: workers with environments talk to the policies.

The units of work are those of one process. Where a reply depends on its request alone, as on a CPU,
the files are the same. A worker or policy that dies is started again, and what it was doing is done
again.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from hpl_gym.agents.backends.request import Completion, Request, Usage
from hpl_gym.agents.chat import ChatEncoder, load_prompt
from hpl_gym.agents.language_model import LanguageModelAgent, load_tokenizer, longest_context
from hpl_gym.core import HPLGymError, MissingExtraError, Task
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.worker import Record, Worker, load_policy

_FOREVER = {"max_restarts": -1, "max_task_retries": -1}
_VARIABLES = (
    "HPL_DATA",
    "HPL_CACHE",
    "HPL_MYSQL_DSN",
    "ALFWORLD_DATA",
    "WEBSHOP_DATA",
    "INTERCODE_DATA",
    "OPENAI_BASE_URL",
    "OPENAI_API_KEY",
    "VLLM_BATCH_INVARIANT",
)
_MANY = 10_000  # requests and units that an actor takes at a time


class Cluster:
    """Works with a worker for every CPU of a cluster, and a policy for every GPU, at least one.

    Args:
        config: The run's settings; folders in them must be there on every machine.
        model: The policy's folder, likewise, or hub name.
        policy: What tells it from other policies.
        address: The cluster's address, ``auto`` for the one this machine is in, ``local`` to start
            one here.

    Attributes:
        workers: The workers' actors.

    Raises:
        MissingExtraError: Ray is not installed.
        HPLGymError: There is no such cluster.
    """

    def __init__(self, config: Config, model: Path, policy: str, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError(
                "A cluster needs the ray extra: pip install 'hpl-gym[ray]'."
            ) from error
        self._ray = ray
        variables = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        _call(address)
        try:
            ray.init(
                address=address,
                runtime_env={"env_vars": variables},
                log_to_driver=False,
                logging_level="error",
            )
        except (ConnectionError, ValueError) as error:
            raise _no_cluster(address) from error
        model = model.resolve() if model.is_dir() else model
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        server = ray.remote(**_FOREVER, max_concurrency=_MANY, num_cpus=0, num_gpus=min(1, gpus))
        self._policies = [server(_Policy).remote(config, model) for _ in range(max(1, gpus))]
        self._ask(self._policies)
        worker = ray.remote(**_FOREVER, max_concurrency=_MANY, num_cpus=1)
        self.workers = [
            worker(_Worker).remote(
                config, model, policy, self._policies[number % len(self._policies)]
            )
            for number in range(max(1, int(resources.get("CPU", 1))))
        ]
        self._turns = cycle(self.workers)

    async def branches(self, expert: Record) -> list[Record]:
        """See `Worker.branches`."""
        found: list[Record] = await self._plain(next(self._turns).branches.remote(expert))
        return found

    async def groups(
        self,
        expert: Record,
        branches: Sequence[Record],
        spans: Mapping[str, Sequence[Any]],
    ) -> tuple[list[Record], list[Record]]:
        """See `Worker.groups`."""
        worker = next(self._turns)
        found: tuple[list[Record], list[Record]] = await self._plain(
            worker.groups.remote(expert, branches, spans)
        )
        return found

    async def episode(self, task: Task, split: str) -> Record:
        """See `Worker.episode`."""
        played: Record = await self._plain(next(self._turns).episode.remote(task, split))
        return played

    async def usage(self) -> dict[str, float]:
        """Return the sums over the cluster; see `Worker.usage`."""
        total = Counter[str]()
        for actor in (*self._policies, *self.workers):
            total.update(await self._plain(actor.usage.remote()))
        return dict(total)

    async def close(self) -> None:
        """End the workers and policies, and the cluster if it was started here."""
        self._ray.shutdown()

    def _ask(self, actors: Sequence[Any]) -> None:
        """Wait until actors have begun.

        Raises:
            HPLGymError: One cannot.
        """
        try:
            self._ray.get([actor.usage.remote() for actor in actors])
        except self._ray.exceptions.RayActorError as error:
            self._ray.shutdown()
            raise _not_begun(error) from error

    async def _plain(self, answer: Awaitable[Any]) -> Any:
        """Return an actor's answer, or raise the error as it was there."""
        try:
            return await answer
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, HPLGymError):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayActorError as error:
            raise _not_begun(error) from error


def _call(address: str) -> None:
    """Raise an error where an address is a machine's and nobody answers: Ray would wait."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except OSError as error:
            raise _no_cluster(address) from error


def _not_begun(error: Exception) -> HPLGymError:
    reason = str(error).strip().splitlines()[-1]
    return HPLGymError(f"A worker or policy does not start on the cluster: {reason}")


def _no_cluster(address: str) -> HPLGymError:
    return HPLGymError(
        f"There is no Ray cluster at {address!r}: start one with `ray start --head`, or use --ray "
        "local."
    )


class _Policy:
    """An actor with the model."""

    def __init__(self, config: Config, model: Path) -> None:
        self._backend = load_policy(config, model).backend

    async def generate(self, request: Request) -> Completion:
        return await self._backend.generate(request)

    async def usage(self) -> dict[str, float]:
        done = self._backend.usage
        return {"prefill": done.tokens_computed, "model_seconds": done.seconds}


class _Remote:
    """The backend that asks such an actor."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self.usage = Usage()  # is counted at the policy

    async def generate(self, request: Request) -> Completion:
        answer: Completion = await self._policy.generate.remote(request)
        return answer

    async def close(self) -> None:
        pass


class _Worker:
    """An actor with environments."""

    def __init__(self, config: Config, model: Path, name: str, policy: Any) -> None:
        encoder = ChatEncoder(load_tokenizer(model), load_prompt(config.prompt))
        agent = LanguageModelAgent(
            _Remote(policy),
            encoder,
            max_new_tokens=config.max_new_tokens,
            max_context=longest_context(model, config.max_new_tokens),
        )
        self._worker = Worker(config, agent, name)

    async def branches(self, expert: Record) -> list[Record]:
        return await self._worker.branches(expert)

    async def groups(self, *arguments: Any) -> tuple[list[Record], list[Record]]:
        return await self._worker.groups(*arguments)

    async def episode(self, task: Task, split: str) -> Record:
        return await self._worker.episode(task, split)

    async def usage(self) -> dict[str, float]:
        return await self._worker.usage()
