"""A language short enough to enumerate: every probability, optimum and metric is a finite sum.

A response is letters, ended by the end token or cut at the length limit. The reference is a
table of seeded logits, or a small transformer fitted to that table; a reward is a table of texts.
Both pass through the same files, trainers and evaluation as the models of the other tasks.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64, Int
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerFast

from vbon.artifacts.fingerprint import MEASURED
from vbon.artifacts.measured import measured
from vbon.artifacts.storage import atomic_folder
from vbon.artifacts.tables import write_record, write_table
from vbon.batches import Prompts
from vbon.models.language_model import response_logits, token_log_probs
from vbon.models.tabular import TabularConfig, TabularLM
from vbon.rewards.table import TABLE
from vbon.seeding import derive_seed

END = "<eos>"
LETTERS = "abcdefgh"


def build_tokenizer(num_letters: int) -> PreTrainedTokenizerFast:
    """One token per letter and an end token, which is the last id."""
    vocabulary = {letter: index for index, letter in enumerate(LETTERS[:num_letters])}
    vocabulary[END] = num_letters
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=END))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()  # no space between letters
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=END, pad_token=END)


def make_prompts(num_letters: int, num_prompts: int) -> pd.DataFrame:
    """Prompts of two letters, in alphabetical order; schema "prompts"."""
    pairs = list(itertools.product(range(num_letters), repeat=2))[:num_prompts]
    names = ["".join(LETTERS[index] for index in pair) for pair in pairs]
    columns = {"prompt_id": names, "prompt": names, "prompt_ids": [list(pair) for pair in pairs]}
    return pd.DataFrame({**columns, "source_id": "enumerable", "domain": "all"})


def all_responses(num_letters: int, max_new_tokens: int) -> list[list[int]]:
    """Every response: shorter ones end in the end token, those at the limit may not.

    Example:
        >>> all_responses(num_letters=2, max_new_tokens=1)
        [[2], [0], [1]]
    """
    finished = [
        [*letters, num_letters]
        for length in range(max_new_tokens)
        for letters in itertools.product(range(num_letters), repeat=length)
    ]
    cut = itertools.product(range(num_letters), repeat=max_new_tokens)
    return finished + [list(letters) for letters in cut]


def padded(responses: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "strings tokens"], Tensor]:
    """Responses as ids and mask, right-padded."""
    rows = [torch.as_tensor(row, dtype=torch.long) for row in responses]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return ids, torch.arange(ids.shape[1]) < lengths[:, None]


@torch.no_grad()
def log_probs(
    model: PreTrainedModel, prompts: Prompts, responses: Sequence[Sequence[int]]
) -> Float64[Tensor, "prompts strings"]:
    """Log-probs in nats of every response to every prompt; each row's probabilities sum to 1."""
    ids, mask = padded(responses)
    rows = []
    for index in range(len(prompts)):
        repeated = prompts.select(torch.full((len(ids),), index))
        rows.append(token_log_probs(model, repeated, ids, mask).double().sum(1))
    return torch.stack(rows)


def build_reference(
    settings: Mapping[str, Any], max_new_tokens: int, prompts: Prompts, seed: int
) -> PreTrainedModel:
    """The reference: a table of normal logits, or a transformer fitted to it.

    Args:
        settings: The task's section of the config.
        max_new_tokens: Length limit of a response.
        prompts: Prompts of the language.
        seed: Seed of the logits and the transformer's weights.
    """
    letters = settings["num_letters"]
    longest = int(prompts.lengths.max()) + max_new_tokens - 1
    table = TabularLM(TabularConfig(vocab_size=letters + 1, longest_prefix=longest))
    generator = torch.Generator().manual_seed(derive_seed(seed, "table"))
    with torch.no_grad():
        table.table.normal_(0.0, settings["logit_scale"], generator=generator)
    if settings["policy_class"] == "tabular":
        return table
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "transformer") % 2**32)
        small = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=letters + 1,
                n_layer=settings["layers"],
                n_embd=settings["width"],
                n_head=2,
                n_positions=longest + 1,
                **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
                **dict.fromkeys(("bos_token_id", "eos_token_id"), letters),
            )
        )
    _fit(small, table, prompts, all_responses(letters, max_new_tokens), settings["fit_steps"])
    return small


def _fit(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    prompts: Prompts,
    responses: list[list[int]],
    steps: int,
) -> None:
    """Fit the student to the teacher by the exact KL of every next-token distribution."""
    cut = [row for row in responses if row[-1] < student.config.vocab_size - 1]
    ids, mask = padded(cut)
    repeated = prompts.select(torch.arange(len(prompts)).repeat_interleave(len(ids)))
    ids, mask = ids.repeat(len(prompts), 1), mask.repeat(len(prompts), 1)
    with torch.no_grad():
        target = response_logits(teacher, repeated, ids, mask)[0].log_softmax(1)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(steps):
        logits, _ = response_logits(student, repeated, ids, mask)
        loss = (target.exp() * (target - logits.log_softmax(1))).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def make_rewards(
    prompts: pd.DataFrame, responses: list[list[int]], num_letters: int, kind: str, seed: int
) -> pd.DataFrame:
    """Rewards of every text: letters and pairs of letters have seeded weights.

    ``injective`` adds a small seeded term that makes every reward of a prompt distinct; ``tied``
    rounds to a handful of levels. The evaluator sees the same text with weights that differ.

    Returns:
        Columns ``text``, ``reward``, ``evaluator_reward``.
    """
    generator = np.random.default_rng(derive_seed(seed, "rewards"))
    letters = generator.normal(size=num_letters)
    pairs = generator.normal(size=(num_letters, num_letters))
    other = letters + 0.5 * generator.normal(size=num_letters)
    rows = []
    for prompt, start in zip(prompts["prompt"], prompts["prompt_ids"], strict=True):
        for response in responses:
            written = [token for token in response if token < num_letters]
            joined = [*start, *written]
            structure = sum(pairs[pair] for pair in itertools.pairwise(joined))
            reward = letters[written].sum() + 0.5 * structure
            evaluated = other[written].sum() + 0.5 * structure
            text = prompt + "".join(LETTERS[token] for token in written)
            rows.append((text, reward, evaluated))
    frame = pd.DataFrame(rows, columns=["text", "reward", "evaluator_reward"])
    frame[["reward", "evaluator_reward"]] += 0.05 * generator.normal(size=(len(frame), 2))
    if kind == "tied":
        frame["reward"] = frame["reward"].clip(-2, 2).round()
    return frame


def save(
    root: Path,
    settings: Mapping[str, Any],
    max_new_tokens: int,
    seed: int,
    provenance: dict[str, Any],
) -> None:
    """Write the language: models, rewards, prompts and the table of all strings.

    Args:
        root: The task's folder below ``results_dir``.
        settings: The task's section of the config.
        max_new_tokens: Length limit of a response.
        seed: Base seed.
        provenance: Provenance to store.
    """
    letters = settings["num_letters"]
    frame = make_prompts(letters, settings["num_prompts"])
    prompts = Prompts.from_lists(frame["prompt_ids"].tolist(), frame["prompt_id"].tolist())
    responses = all_responses(letters, max_new_tokens)
    reference = build_reference(settings, max_new_tokens, prompts, seed)
    tokenizer = build_tokenizer(letters)
    rewards = make_rewards(frame, responses, letters, settings["reward"], seed)
    for split in ("train", "test"):
        write_table(root / "prompts" / f"{split}.parquet", frame, "prompts", provenance)
    card = {"metrics": {}, **provenance, MEASURED: measured()}
    with atomic_folder(root / "models/reference") as folder:
        reference.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_record(folder / "card.json", card)
    for role, column in (("reward_model", "reward"), ("evaluator", "evaluator_reward")):
        table = rewards[["text", column]].rename(columns={column: "reward"})
        with atomic_folder(root / "models" / role) as folder:
            write_table(folder / TABLE, table, "text_rewards", provenance)
            write_record(folder / "card.json", card)
    strings = pd.DataFrame(
        {
            "prompt_id": np.repeat(frame["prompt_id"].to_numpy(), len(responses)),
            "response_ids": responses * len(frame),
            "log_prob": log_probs(reference, prompts, responses).flatten().numpy(),
            **{name: rewards[name].to_numpy() for name in ("reward", "evaluator_reward")},
        }
    )
    write_table(root / "data/strings.parquet", strings, "strings", provenance)
