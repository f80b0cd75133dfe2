"""Pairs of stored draws that offline methods are trained on, by the order of rewards alone."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int

from vbon.errors import ArtifactError, ConfigError, DataError
from vbon.seeding import derive_seed

Rewards = Float64[np.ndarray, " draws"]
Indices = Int[np.ndarray, "pairs two"]


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Pairs of a preferred and another response, taken from blocks of a prompt's first draws.

    Attributes:
        draws: Draws per block.
        pairs: Pairs per block, at random among all with two different rewards; None for one pair,
            the best and the worst draw. If all rewards of a block are equal, both are the same
            draw.
        blocks: Number of disjoint blocks of a prompt's draws.
        ranked: True if every draw is a pair with itself, with its rank among all other draws of
            the prompt that are used, those of other blocks too.
    """

    draws: int
    pairs: int | None = None
    blocks: int = 1
    ranked: bool = False

    def __post_init__(self) -> None:
        most = self.draws * (self.draws - 1) // 2
        if self.pairs is not None and not 1 <= self.pairs <= most:
            raise ConfigError(
                f"num_pairs: {self.pairs} is not allowed; {self.draws} draws have {most} pairs"
            )

    @property
    def num_draws(self) -> int:
        """Number of draws used per prompt."""
        return self.draws * self.blocks

    @property
    def num_pairs(self) -> int:
        """Largest number of pairs per prompt."""
        return self.blocks * (self.draws if self.ranked else self.pairs or 1)

    @property
    def slug(self) -> str:
        """File name of the pairs.

        Example:
            >>> Pairing(draws=8).slug, Pairing(draws=6, pairs=12, blocks=2).slug
            ('best-n8', 'random-d6-p12-b2')
        """
        random = f"random-d{self.draws}-p{self.pairs}"
        name = f"best-n{self.draws}" if self.pairs is None else random
        name = f"ranked-d{self.draws}" if self.ranked else name
        return name + (f"-b{self.blocks}" if self.blocks > 1 else "")

    def choose(self, rewards: Rewards, seed: int, prompt: str) -> Indices:
        """Preferred and other draw of each pair of one prompt.

        Args:
            rewards: Rewards of its first :attr:`num_draws` draws.
            seed: Seed, with prompt and block, of the choice among all pairs of a block.
            prompt: The prompt's id.

        Example:
            >>> rewards = np.array([0.5, 2.0, -1.0])
            >>> Pairing(draws=3).choose(rewards, 0, "p0").tolist()
            [[1, 2]]
            >>> Pairing(draws=3, pairs=3).choose(rewards, 0, "p0").tolist()
            [[1, 0], [0, 2], [1, 2]]
        """
        if self.ranked:
            return np.tile(np.arange(self.num_draws)[:, None], 2)
        blocks = rewards.reshape(self.blocks, self.draws)
        start = self.draws * np.arange(self.blocks)
        if self.pairs is None:
            return np.stack((start + blocks.argmax(1), start + blocks.argmin(1)), 1)
        every = np.array(list(combinations(range(self.draws), 2)))
        parts = []
        for block, part in enumerate(blocks):
            first, second = part[every].T
            ordered = np.where((first > second)[:, None], every, every[:, ::-1])[first != second]
            generator = np.random.default_rng(derive_seed(seed, "pairs", prompt, block))
            kept = np.sort(generator.permutation(len(ordered))[: self.pairs])
            parts.append(start[block] + ordered[kept])
        return np.concatenate(parts)


def check_finite(rewards: pd.DataFrame, where: str = "") -> None:
    """Raise ``DataError``, beginning with ``where``, if a reward is not finite."""
    bad = rewards[~np.isfinite(rewards["reward"])]
    if len(bad):
        row = bad.iloc[0]
        raise DataError(
            f"{where}column 'reward' is {row['reward']} for prompt {row['prompt_id']}, "
            f"draw {row['draw']}; rewards must be finite"
        )


def make_pairs(rewards: pd.DataFrame, pairing: Pairing, seed: int) -> pd.DataFrame:
    """Pairs of every prompt, by key.

    Pairs depend neither on the order of rows nor on the size of rewards, and on no other prompt.

    Args:
        rewards: Columns prompt_id, draw, reward.
        pairing: Pairs of a prompt's draws.
        seed: Seed, with the prompt's id and the block, of the choice among all pairs.

    Returns:
        Rows of schema "pairs", ordered by key; with ranks also ``num_below`` and ``num_level``, the
        numbers of other draws with a lower and with an equal reward.

    Raises:
        ArtifactError: If a prompt lacks a draw.
        DataError: If a reward is not finite.
    """
    check_finite(rewards)
    used = rewards[rewards["draw"] < pairing.num_draws].sort_values(["prompt_id", "draw"])
    parts = []
    for prompt, group in used.groupby("prompt_id", sort=True):
        if group["draw"].tolist() != list(range(pairing.num_draws)):
            raise ArtifactError(
                f"prompt {prompt} has {len(group)} of the draws 0 to {pairing.num_draws - 1} of "
                f"{pairing.slug}"
            )
        values = group["reward"].to_numpy()
        draws = pairing.choose(values, seed, str(prompt))
        columns = {"pair": np.arange(len(draws)), "chosen": draws[:, 0], "rejected": draws[:, 1]}
        if pairing.ranked:
            below, upto = (np.searchsorted(np.sort(values), values, s) for s in ("left", "right"))
            columns |= {"num_below": below, "num_level": upto - below - 1}
        parts.append(pd.DataFrame({"prompt_id": prompt, **columns}))
    return pd.concat(parts, ignore_index=True)
