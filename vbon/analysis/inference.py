"""Cost of one returned response, in tokens and seconds, of best-of-n and trained policies."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vbon.artifacts.tables import read_record
from vbon.batches import Prompts
from vbon.models.end_tokens import end_token_ids
from vbon.models.language_model import load_language_model, load_tokenizer
from vbon.planning.runs import Run
from vbon.pool.table import load_prompts
from vbon.rewards import Completions, RewardModel, load_reward_model
from vbon.sampling import sample
from vbon.seeding import derive_seed

_ROWS = 4096  # responses decoded at a time, for every method
_LONG = 2.0  # total seconds of measurement after which no further one is made
_COSTS = ("tokens", "sample_seconds", "score_seconds", "seconds")
_RELATIVE = ("tokens", "seconds")


@dataclass(frozen=True)
class Cost:
    """Cost of one returned response.

    Attributes:
        tokens: Number of generated tokens, including the end-of-sequence token.
        sample_seconds: Seconds to generate them, in batches of many prompts.
        score_seconds: Seconds to select one response by reward.
    """

    tokens: float
    sample_seconds: float
    score_seconds: float

    @property
    def seconds(self) -> float:
        """Sum of the two."""
        return self.sample_seconds + self.score_seconds


@dataclass(frozen=True)
class Server:
    """Answers prompts and measures the time.

    Attributes:
        prompts: Prompts, each of which gets one response.
        tokenizer: Tokenizer of the reference.
        reward_model: Reward by which best-of-n selects.
        max_new_tokens: Length limit in tokens.
        temperature: Sampling temperature.
        seed: Sampling seed.
        repeats: Number of measurements; the fastest counts, since slower ones waited for the
            machine. A measurement of seconds is not repeated: slow and fast moments average out.
    """

    prompts: Prompts
    tokenizer: PreTrainedTokenizerBase
    reward_model: RewardModel
    max_new_tokens: int
    temperature: float
    seed: int
    repeats: int = 3

    def cost(
        self, model: PreTrainedModel, reference: PreTrainedModel, draws: int = 1
    ) -> tuple[Cost, Cost]:
        """Cost of the best of ``draws`` draws of a model, and of one draw of the reference.

        Measurements of the two alternate, so that a temporary slowdown affects both.

        Args:
            model: Policy or reference.
            reference: The reference.
            draws: Draws per prompt; rewards are computed if more than one.
        """
        ours, theirs = [], []
        for _ in range(self.repeats):
            if sum(cost.seconds for cost in ours) * len(self.prompts) < _LONG:
                ours.append(self._serve(model, draws))
            theirs.append(self._serve(reference, 1))
        return tuple(min(costs, key=lambda cost: cost.seconds) for costs in (ours, theirs))

    def _serve(self, model: PreTrainedModel, draws: int) -> Cost:
        """Cost per prompt of answering every prompt once."""
        tokens, sampled, scored = 0, 0.0, 0.0
        ends = end_token_ids(self.tokenizer, model)
        for rows in torch.arange(len(self.prompts)).split(max(1, _ROWS // draws)):
            batch = self.prompts.select(rows)
            started = time.perf_counter()
            rollouts = sample(
                model,
                batch,
                draws=draws,
                max_new_tokens=self.max_new_tokens,
                eos_token_id=ends,
                seed=derive_seed(self.seed, "inference"),
                temperature=self.temperature,
            )
            sampled += time.perf_counter() - started
            tokens += int(rollouts.response_mask.sum())
            if draws > 1:
                started = time.perf_counter()
                index = rollouts.prompt_index.tolist()
                completions = Completions(self.tokenizer, batch, rollouts.text_lists(), index)
                self.reward_model(completions).reward.reshape(len(rows), draws).argmax(1)
                scored += time.perf_counter() - started
        count = len(self.prompts)
        return Cost(tokens / count, sampled / count, scored / count)


def inference_table(
    runs: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], seed: int
) -> pd.DataFrame:
    """Measure the cost of one returned response by each of some runs.

    Args:
        runs: Runs of one task as plain values.
        settings: ``prompts`` (how many are answered), ``max_new_tokens``, ``temperature``,
            ``batch_size`` and ``transform``.
        seed: Seed of sampling.

    Returns:
        Columns ``method, setting, seed, draws``, those of :class:`Cost` and, relative to one draw
        of the reference, ``relative_tokens`` and ``relative_seconds``.
    """
    torch.set_num_threads(1)
    served = [Run(**run) for run in runs]
    inputs = served[0].evaluation_inputs("test")
    prompts = load_prompts(inputs["prompts"])
    server = Server(
        prompts.select(torch.arange(min(settings["prompts"], len(prompts)))),
        load_tokenizer(inputs["reference"]),
        load_reward_model(inputs["reward_model"], settings["batch_size"], settings["transform"]),
        settings["max_new_tokens"],
        settings["temperature"],
        seed,
    )
    reference = load_language_model(inputs["reference"])
    server.cost(reference, reference)  # the first call is slower than any other
    rows = []
    for run in served:
        record = read_record(Path(run.folder) / "run.json")
        if record["status"] != "ok":
            continue
        is_trained = record["policy"] == "policy"
        model = load_language_model(Path(run.folder) / "policy") if is_trained else reference
        draws = 1 if run.instance.trained else int(getattr(run.instance, "n", 1))
        cost, base = server.cost(model, reference, draws)
        rows.append(
            {
                **{"method": run.method, "setting": run.setting, "seed": run.seed, "draws": draws},
                **{name: getattr(cost, name) for name in _COSTS},
                **{f"relative_{n}": getattr(cost, n) / getattr(base, n) for n in _RELATIVE},
            }
        )
        print(
            f"{run.method} {run.setting}: {cost.tokens:.1f} tokens, {cost.seconds:.2g} s",
            flush=True,
        )
    return pd.DataFrame(rows)
