"""The PPO workload of every contestant, and counters of the work done."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from common import NEW_TOKENS, forward_flops, random_prompts

ROLLOUTS, EPOCHS, MINIBATCH = 128, 4, 32
LEARNING_RATE, KL_COEF, TRAINING_PROMPTS = 1e-4, 0.05, 512


def prompts() -> list[list[int]]:
    """The training prompts."""
    return random_prompts(TRAINING_PROMPTS, seed=3)


@dataclass
class Work:
    """Counters, increased where the work is done and not derived from settings.

    Attributes:
        episodes: Number of responses scored.
        tokens: Number of tokens of these responses.
        flops: Lower bound of the operations to sample them, score them under the reference and
            train on them.
        steps: Number of optimiser steps.
        rows: Number of sequences in forward passes with gradient.
        columns: Padded length of these sequences, summed over sequences.
        kl: Last reported KL in nats, which shows that training has an effect.
    """

    episodes: int = 0
    tokens: int = 0
    flops: float = 0.0
    steps: int = 0
    rows: int = 0
    columns: int = 0
    kl: float = float("nan")

    def add_rollouts(self, prompt_lengths: Sequence[int], response_lengths: Sequence[int]) -> None:
        """Count sampled responses: one pass to sample, one by the reference, three per epoch."""
        self.episodes += len(response_lengths)
        self.tokens += sum(response_lengths)
        self.flops += (2 + 3 * EPOCHS) * sum(map(forward_flops, prompt_lengths))

    def add_training(self, rows: int, columns: int) -> None:
        """Count a training batch."""
        self.rows += rows
        self.columns += rows * columns

    def as_dict(self) -> dict[str, float]:
        """Counters by name."""
        return asdict(self)

    def check(self, iterations: int) -> None:
        """Raise AssertionError unless the counters are exactly those of the workload."""
        assert self.episodes == iterations * ROLLOUTS, self
        assert self.tokens == self.episodes * NEW_TOKENS, self
        assert self.steps == iterations * EPOCHS * ROLLOUTS // MINIBATCH, self
        assert self.rows == self.episodes * EPOCHS, self
        longest = self.columns / self.rows - NEW_TOKENS
        # The last token of a response predicts nothing, so it need not be fed back.
        assert 6.5 <= longest <= 8, f"batches are {longest:.2f} tokens longer than a response"
