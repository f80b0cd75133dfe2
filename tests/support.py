"""Tiny models, an enumerable language and settings that tests build in place."""

import itertools
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import chisquare
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

from vbon.batches import Prompts, Scored
from vbon.methods.base import Method
from vbon.models.build import build_tokenizer
from vbon.models.tabular import TabularConfig, TabularLM
from vbon.objectives.best_of_n import log_bon_ratio, log_masses
from vbon.pool.cdf import EstimatedCDF, ExactCDF
from vbon.pool.pairs import Pairing, make_pairs
from vbon.training.anchored import make_online_trainer
from vbon.training.offline import Examples, OfflineSettings, OfflineTrainer
from vbon.training.online import OnlineSettings
from vbon.training.trainer import Environment

_SENTENCE = "the film was good and a plot is weak but this cast great fine bright bad awful dull"
_WORDS = _SENTENCE.split(" ")
TEXTS = [" ".join(_WORDS[start:] + _WORDS[:start]) + "." for start in range(len(_WORDS))]


def tokenizer(classifier=False):
    """Words of :data:`TEXTS`, one token each."""
    return build_tokenizer(TEXTS, vocab_size=64, max_tokens=32, classifier=classifier)


def log_bon(rewards, log_probs, n):
    """Log-probabilities of best-of-n over a finite language."""
    return log_probs + log_bon_ratio(*log_masses(rewards, log_probs), n)


def in_order(rewards):
    """Distinct ranks: of equal rewards the later counts as higher."""
    return np.argsort(np.argsort(rewards, kind="stable")).astype(float)


TIES = {"exchangeable": np.asarray, "ordered": in_order}
"""The two readings of equal rewards, as maps of rewards (arXiv:2407.06057, appendix C)."""


def with_seed(seed, build):
    """Call ``build`` with torch's global generator seeded, and leave that as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def make_gpt2(seed=0, *, vocab_size=20, layers=2, scale=0.3, **config):
    """A GPT-2 of width 32 whose weights are large enough for every part to matter."""
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    sizes = {"vocab_size": vocab_size, "n_layer": layers, "n_embd": 32, "n_head": 4}
    tokens = {"n_positions": 32, "bos_token_id": 2, "eos_token_id": 2}
    options = GPT2Config(**{**sizes, **tokens, **dropout, **config})
    model = with_seed(seed, lambda: GPT2LMHeadModel(options))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            offset = 1.0 if "ln_" in name and name.endswith("weight") else 0.0
            parameter.normal_(offset, scale, generator=generator)
    return model.eval()


def save_reference(folder: Path, seed=0, **config) -> Path:
    """A GPT-2 and its tokenizer in Hugging Face's format."""
    words = tokenizer()
    end = {"eos_token_id": words.eos_token_id, "bos_token_id": words.eos_token_id}
    make_gpt2(seed, vocab_size=len(words), **end, **config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def save_classifier(folder: Path, seed=0, labels=("NEGATIVE", "POSITIVE")) -> Path:
    """A DistilBERT classifier with random weights and its tokenizer."""
    words = tokenizer(classifier=True)
    names = dict(enumerate(labels))
    config = DistilBertConfig(
        vocab_size=len(words),
        dim=16,
        hidden_dim=32,
        n_layers=1,
        n_heads=2,
        max_position_embeddings=32,
        dropout=0.0,
        attention_dropout=0.0,
        seq_classif_dropout=0.0,
        pad_token_id=words.pad_token_id,
        id2label=names,
        label2id={label: index for index, label in names.items()},
    )
    model = with_seed(seed, lambda: DistilBertForSequenceClassification(config))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.5, generator=generator)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def make_table(vocab_size=4, longest_prefix=4, seed=0, scale=1.0):
    """A tabular model with normal logits."""
    model = TabularLM(TabularConfig(vocab_size=vocab_size, longest_prefix=longest_prefix))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.table.normal_(0.0, scale, generator=generator)
    return model.eval()


def forward_log_probs(model, prompt: Sequence[int], responses, temperature=1.0):
    """Log-probs of responses by the model's own ``forward``, one unpadded response at a time."""
    totals = []
    with torch.no_grad():
        for response in responses:
            ids = torch.tensor([[*prompt, *response]])
            logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].double() / temperature
            tokens = torch.tensor(response)[:, None]
            totals.append(logits.log_softmax(1).gather(1, tokens).sum())
    return torch.stack(totals)


@dataclass(frozen=True)
class Language:
    """All strings of three letters and an end token of at most ``tokens`` tokens.

    Its two prompts differ in length, so that every test involves padding.
    """

    seed: int = 0
    tokens: int = 3
    levels: float | None = None
    """Rewards are rounded to multiples of this, so that they tie; None leaves them distinct."""

    eos = 3
    prompt_lists = ([0], [1, 2])

    @cached_property
    def prompts(self):
        return Prompts.from_lists(self.prompt_lists, ["short", "long"])

    @cached_property
    def reference(self):
        longest = len(self.prompt_lists[1]) + self.tokens - 1
        return make_table(longest_prefix=longest, seed=self.seed).requires_grad_(False)

    @cached_property
    def responses(self):
        """Finished strings, then unfinished ones at the length limit."""
        finished = [
            [*letters, self.eos]
            for length in range(self.tokens)
            for letters in itertools.product(range(3), repeat=length)
        ]
        return finished + [list(row) for row in itertools.product(range(3), repeat=self.tokens)]

    @cached_property
    def rewards(self):
        """Rewards, [prompts, strings]."""
        rng = np.random.default_rng(self.seed)
        rewards = rng.normal(size=(2, len(self.responses)))
        return rewards if self.levels is None else np.round(rewards / self.levels) * self.levels

    def log_probs(self, model, temperature=1.0):
        """Log-probs of every string, [prompts, strings]."""
        rows = [
            forward_log_probs(model, prompt, self.responses, temperature)
            for prompt in self.prompt_lists
        ]
        return torch.stack(rows)

    @cached_property
    def log_ref(self):
        return self.log_probs(self.reference)

    @cached_property
    def _table(self):
        keys = itertools.product(("short", "long"), map(tuple, self.responses))
        return dict(zip(keys, self.rewards.flatten().tolist(), strict=True))

    def score(self, prompts, rollouts):
        """Rewards of rollouts."""
        pairs = zip(prompts.prompt_id, map(tuple, rollouts.response_lists()), strict=True)
        return torch.tensor([self._table[pair] for pair in pairs], dtype=torch.float64)

    @cached_property
    def cdf(self):
        """Exact log-masses of every reward level."""
        rows = []
        for rewards, log_ref in zip(self.rewards, self.log_ref.numpy(), strict=True):
            below, level = log_masses(rewards, log_ref)
            levels, first = np.unique(rewards, return_index=True)
            rows.append(list(map(torch.from_numpy, (levels, below[first], level[first]))))
        pad = torch.nn.utils.rnn.pad_sequence
        columns = zip(*rows, strict=True)
        return ExactCDF(*(pad(part, True, padding_value=torch.inf) for part in columns))

    def pool(self, draws, seed=0):
        """Ascending rewards of independent reference draws, [prompts, draws]."""
        rng = np.random.default_rng(seed)
        rows = zip(self.rewards, self.log_ref.exp().numpy(), strict=True)
        return np.stack([np.sort(rng.choice(row, draws, p=p / p.sum())) for row, p in rows])

    def estimated_cdf(self, draws, estimator="add1", transform=lambda reward: reward):
        """Log-masses estimated from a pool."""
        pool = torch.from_numpy(transform(self.pool(draws)))
        return EstimatedCDF(pool, torch.full((2, 2), torch.nan).double(), estimator)

    def environment(self, **changes):
        """Training environment, with exact masses unless changed."""
        parts = {
            "prompts": self.prompts,
            "reference": self.reference,
            "score": self.score,
            "cdf": self.cdf,
            "eos_token_id": self.eos,
            "max_new_tokens": self.tokens,
        }
        return Environment(**(parts | changes))

    def policy(self):
        """A trainable copy of the reference."""
        copy = TabularLM(self.reference.config)
        copy.load_state_dict(self.reference.state_dict())
        return copy.eval()

    def train(self, method, settings, seed=0, **changes):
        """Train a copy of the reference; return it and the history."""
        trainer = self.trainer(method, settings, seed, **changes)
        return trainer.policy, list(trainer)

    def trainer(self, method, settings, seed=0, **changes):
        """Trainer of a copy of the reference."""
        parts = self.policy(), method, self.environment(**changes)
        return make_online_trainer(*parts, settings, seed)

    def draws(self, count, seed=0):
        """Independent, scored reference draws of both prompts, as rows of schema "samples"."""
        rng = np.random.default_rng(seed)
        parts = []
        for name, log_ref, rewards in zip(
            self.prompts.prompt_id, self.log_ref.numpy(), self.rewards, strict=True
        ):
            p = np.exp(log_ref)
            drawn = rng.choice(len(p), count, p=p / p.sum())
            part = pd.DataFrame({"prompt_id": name, "draw": np.arange(count)})
            part["response_ids"] = [self.responses[string] for string in drawn]
            part["log_prob"], part["reward"] = log_ref[drawn], rewards[drawn]
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def examples(self, pairing: Pairing, transform=lambda reward: reward):
        """Pairs of reference draws, as an offline run reads them."""
        table = self.draws(pairing.num_draws)
        pairs = make_pairs(table.assign(reward=transform(table["reward"])), pairing, seed=0)
        return Examples.from_tables(pairs, table, self.prompts)

    def train_offline(self, method, settings, examples, seed=0, **changes):
        """Train a copy of the reference on examples; return it and the history."""
        policy = self.policy()
        environment = self.environment(**changes)
        return policy, list(OfflineTrainer(policy, method, environment, examples, settings, seed))


def settings(**changes):
    """Settings of the loop: a few small iterations."""
    defaults = {
        "iterations": 3,
        "rollouts": 32,
        "draws_per_prompt": 16,
        "epochs": 1,
        "minibatch": 32,
        "learning_rate": 0.05,
        "schedule": "constant",
        "adam_beta2": 0.95,
        "weight_decay": 0.0,
        "gamma": 1.0,
        "lam": 0.95,
        "clip_policy": 0.2,
        "clip_value": None,
        "clip_reward": None,
        "value_target": "to_go",
        "value_model": "shared",
        "value_trains_trunk": True,
        "value_coef": 1.0,
        "max_grad_norm": None,
        "whiten": "batch",
        "warm_start": 0,
        "warm_start_batch": 8,
        "warm_start_rate": 0.01,
        "tilt_floor": None,
        "prompt_scale": 0.0,
        "reward_tail": 0.0,
    }
    return OnlineSettings(**(defaults | changes))


def offline_settings(**changes):
    """Settings of the offline loop: a few small updates."""
    defaults = {
        "epochs": 2,
        "updates": None,
        "batch_size": 8,
        "learning_rate": 0.05,
        "schedule": "linear",
        "warmup": 0.0,
        "adam_beta2": 0.95,
        "weight_decay": 0.0,
        "max_grad_norm": 10.0,
        "blocks": 1,
        "monitors": 2,
        "monitor_rollouts": 8,
    }
    return OfflineSettings(**(defaults | changes))


def until_converged(**changes):
    """Settings under which a tabular policy reaches its optimum in a second or two."""
    size = {"iterations": 100, "rollouts": 512, "draws_per_prompt": 256, "minibatch": 512}
    return settings(**(size | {"schedule": "linear", "learning_rate": 0.1, "lam": 1.0} | changes))


def example_settings(cls: type[Method]):
    """Settings of a method: its ``example``, and usual values of what else it requires."""
    usual = {"n": 3, "kl_coef": 0.5, "updates": 3}
    required = [field.name for field in fields(cls) if field.init and field.default is MISSING]
    missing = set(required) - usual.keys() - cls.example.keys()
    assert not missing, f"{cls.__name__}: add {sorted(missing)} to the class attribute `example`"
    return {name: usual.get(name) for name in required} | dict(cls.example)


def random_scored(batch=64, seed=0):
    """Scored rollouts with every quantity in its range."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(batch, 3, dtype=torch.float64, generator=generator)
    level = uniform[:, 0] * 0.2
    below = uniform[:, 1] * (1 - level)
    reward, anchor_rewards = torch.randn(batch).double(), torch.randn(batch, 2).double()
    return Scored(reward, below.log(), level.log(), level.log(), anchor_rewards)


def p_value(counts, probabilities, least=5.0):
    """p-value of a chi-square test of counts, with rare outcomes merged into one."""
    counts, probabilities = counts[probabilities > 0], probabilities[probabilities > 0]
    expected = probabilities / probabilities.sum() * counts.sum()
    rare = expected < least
    if rare.any():
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    return chisquare(counts, expected).pvalue


def assert_ends(rollouts, eos, tokens):
    """Some responses end with a sampled end token, the others at the limit, and nothing follows."""
    for row, length in enumerate(rollouts.response_mask.sum(1).tolist()):
        counted = rollouts.response_ids[row, :length]
        assert rollouts.response_mask[row, :length].all()
        assert not (counted[:-1] == eos).any()
        assert rollouts.finished[row] == (counted[-1] == eos)
        assert rollouts.finished[row] or length == tokens
        assert not rollouts.response_ids[row, length:].any()
        assert not rollouts.token_log_probs[row, length:].any()
        assert (rollouts.token_log_probs[row, :length] < 0).all()
        assert rollouts.response_lists()[row] == counted.tolist()
    assert 0 < rollouts.finished.float().mean() < 1
