"""Sampling from a language model with a key-value cache and inverse-CDF draws of tokens."""

import math
from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from vbon.batches import Prompts, Rollouts
from vbon.errors import ConfigError, DataError
from vbon.models.context import context_length
from vbon.models.language_model import make_decoder, output_logits
from vbon.seeding import derive_seed

_DIRECT_VOCAB = 1024  # up to this size one cumulative sum per row is faster than two shorter ones


def inverse_cdf(
    probs: Float[Tensor, "rows vocab"], uniform: Float[Tensor, "rows one"]
) -> Int[Tensor, " rows"]:
    r"""Draw one token per row: the smallest ``k`` with ``sum(probs[:k+1]) > uniform * sum(probs)``.

    This needs one uniform number per row, whereas ``torch.multinomial`` draws one per entry of the
    vocabulary. A large vocabulary is searched in two levels of about :math:`\sqrt{V}` entries.

    Args:
        probs: Non-negative weights, not necessarily normalised.
        uniform: Numbers in [0, 1).

    Example:
        >>> inverse_cdf(torch.tensor([[0.2, 0.0, 0.8]]), torch.tensor([[0.2]])).tolist()
        [2]
    """
    rows, vocab = probs.shape
    if vocab <= _DIRECT_VOCAB:
        return _first_above(probs.cumsum(1), uniform)
    size = math.isqrt(vocab - 1) + 1
    whole = vocab // size * size
    sums = probs[:, :whole].view(rows, -1, size).sum(2)
    if whole < vocab:
        sums = torch.cat((sums, probs[:, whole:].sum(1, keepdim=True)), 1)
    totals = sums.cumsum(1)
    block = _first_above(totals, uniform)[:, None]
    before = totals.gather(1, block) - sums.gather(1, block)
    index = block * size + torch.arange(size, device=probs.device)
    inner = probs.gather(1, index.clamp_max(vocab - 1)).masked_fill_(index >= vocab, 0.0).cumsum(1)
    # Rounding may put the target before the block; then its first possible token is taken.
    target = (uniform * totals[:, -1:] - before).clamp_min(0.0)
    offset = torch.searchsorted(inner, target, right=True)
    # Likewise the last possible token at the block's end.
    last = (inner < inner[:, -1:]).sum(1, keepdim=True)
    return (block * size + torch.minimum(offset, last)).squeeze(1)


def _first_above(
    cumulative: Float[Tensor, "rows vocab"], uniform: Float[Tensor, "rows one"]
) -> Int[Tensor, " rows"]:
    """Index of the first cumulative weight above ``uniform`` times the total."""
    total = cumulative[:, -1:]
    # The product may round to the total, which no cumulative weight exceeds.
    below = torch.nextafter(total, torch.zeros_like(total))
    index = torch.searchsorted(cumulative, torch.minimum(uniform * total, below), right=True)
    return index[:, 0].clamp_max(cumulative.shape[1] - 1)  # NaN sorts above all weights


def prompt_seeds(prompts: Prompts, seed: int) -> list[int]:
    """Seeds of each prompt's draws, which depend on its id and not on the rest of the batch.

    A prompt that occurs several times gets a different seed each time.
    """
    seeds, repeats = [], Counter()
    for name in prompts.prompt_id:
        seeds.append(derive_seed(seed, "draws", name, repeats[name]))
        repeats[name] += 1
    return seeds


def _check(
    model: PreTrainedModel, prompts: Prompts, draws: int, max_new_tokens: int, temperature: float
) -> None:
    """Refuse what a model would answer with an error of its own, or with no error."""
    for name, value in {"draws": draws, "max_new_tokens": max_new_tokens}.items():
        if value < 1:
            raise ConfigError(f"{name}: {value} is not allowed; give a number of at least 1")
    if not 0 < temperature < math.inf:
        raise ConfigError(f"temperature: {temperature} is not allowed; give a number above 0")
    size = model.config.get_text_config(decoder=True).vocab_size
    columns = torch.arange(prompts.ids.shape[1], device=prompts.ids.device)
    wrong = (columns < prompts.lengths[:, None]) & ((prompts.ids < 0) | (prompts.ids >= size))
    bad = (wrong.any(1) | (prompts.lengths < 1)).nonzero()
    if len(bad):
        row = int(bad[0])
        fault = f"has id {prompts.ids[row][wrong[row]][0]}" if wrong[row].any() else "is empty"
        raise DataError(
            f"prompt {prompts.prompt_id[row]!r} {fault}; give at least one token, each from 0 to "
            f"{size - 1}"
        )
    longest, limit = int(prompts.lengths.max()), context_length(model.config)
    if limit is not None and longest + max_new_tokens > limit:
        raise ConfigError(
            f"max_new_tokens: {max_new_tokens} after a prompt of {longest} tokens exceeds the "
            f"model's context of {limit}; lower it, or give shorter prompts"
        )


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    prompts: Prompts,
    *,
    draws: int,
    max_new_tokens: int,
    eos_token_id: int | Sequence[int],
    seed: int,
    temperature: float = 1.0,
    value_head: nn.Module | None = None,
) -> Rollouts:
    """Draw ``draws`` responses to each prompt from the model's own distribution.

    There is no top-k, top-p or repetition penalty, so the log-probs are those of the distribution
    drawn from.

    Args:
        model: A causal language model.
        prompts: Prompts; each is encoded once for all of its draws.
        draws: Number of responses per prompt.
        max_new_tokens: Length limit in tokens; a response that reaches it is not finished.
        eos_token_id: Token that ends a response and is part of it, or several such tokens.
        seed: Uniform numbers are derived from it, the prompt's id and the draw.
        temperature: Divides the logits, here and in the log-probs.
        value_head: If given, its values of the states before each token are returned.

    Returns:
        Rollouts ordered by prompt, then by draw.

    Raises:
        ConfigError: If an option cannot be used, or the model's context is too short.
        DataError: If a prompt is empty or has ids that the model does not.
    """
    _check(model, prompts, draws, max_new_tokens, temperature)
    prompts, home = prompts.to(model.device), prompts.ids.device
    decoder = make_decoder(model, prompts, draws, max_new_tokens)
    rows, device = len(prompts) * draws, prompts.ids.device
    generators = (torch.Generator().manual_seed(each) for each in prompt_seeds(prompts, seed))
    uniforms = [torch.rand(draws, max_new_tokens, generator=each) for each in generators]
    uniforms = torch.cat(uniforms).to(device)
    ids = torch.zeros(rows, max_new_tokens, dtype=torch.long, device=device)
    mask = torch.zeros(rows, max_new_tokens, dtype=torch.bool, device=device)
    log_probs = torch.zeros(rows, max_new_tokens, device=device)
    values = None if value_head is None else torch.zeros(rows, max_new_tokens, device=device)
    alive = torch.ones(rows, dtype=torch.bool, device=device)
    ends = torch.tensor(eos_token_id, device=device).reshape(-1)
    probs = None
    for step in range(max_new_tokens):
        logits = output_logits(model, decoder.hidden)
        if temperature != 1.0:
            logits = logits / temperature
        logits.sub_(logits.amax(1, keepdim=True))
        probs = torch.exp(logits, out=probs)  # new memory takes longer than the function
        token = inverse_cdf(probs, uniforms[:, step : step + 1])
        log_prob = logits.gather(1, token[:, None]).squeeze(1) - probs.sum(1).log()
        ids[:, step] = token * alive
        mask[:, step] = alive
        log_probs[:, step] = log_prob * alive
        if values is not None:
            values[:, step] = value_head(decoder.hidden) * alive
        alive = alive & (token[:, None] != ends).all(1)
        if step + 1 == max_new_tokens or not alive.any():
            break
        decoder.step(token)
    index = torch.arange(len(prompts), device=device).repeat_interleave(draws)
    return Rollouts(index, ids, mask, ~alive, log_probs, values).to(home)
