"""The computation of a language model's log-probs, chosen by measurement when it is first used.

Sampling shares prompts between draws and pads batches; training reads the states of some positions
only. For many architectures that is not what their own ``forward`` computes: it scales or caps
logits, transforms them, looks at a window of positions, adds a bias by distance, or has a recurrent
state. A few short sequences decide: the fastest path that agrees with the model's own ``forward``
of each sequence alone is used, and a model with none is refused.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from vbon.batches import Prompts
from vbon.errors import ConfigError
from vbon.models import by_length, generic, gpt2, gpt_neox, llama, own_forward, tabular
from vbon.models.context import context_length

TOLERANCE = 1e-4
"""Largest difference of log-probs in nats, in float32. It is twice as large for a log-prob of -10
nats, whose logit is rounded more, and smaller for a model with nearly uniform log-probs."""
_HALF_TOLERANCE = 0.1  # of models in half precision, whose rounding depends on the order of sums
_HALF = (torch.bfloat16, torch.float16)
_LENGTHS, _DRAWS, _NEW_TOKENS = (3, 1, 5), 2, 4
_WINDOWS = (
    *("sliding_window", "window_size", "attention_window_size", "attention_chunk_size"),
    "keep_window_size",
)
_LONGEST_WINDOW = 64  # a longer one is not reached by short sequences


@dataclass(frozen=True)
class Path:
    """Functions that compute a model's states and logits.

    Attributes:
        name: ``fast`` (this package's forward pass), ``padded`` (the model's own body, in padded
            batches with a cache), ``by length`` (the same without padding) or ``own forward``
            (its complete forward pass, without padding or cache).
        states: Final hidden states at some positions of right-padded sequences.
        decoder: Class of a decoder of several responses to each prompt.
        logits: Logits of the next token from such states.
        width: Numbers of a state that a value head reads.
    """

    name: str
    states: Callable[..., Tensor]
    decoder: Callable[..., Any]
    logits: Callable[[PreTrainedModel, Tensor], Tensor]
    width: int = 0


_TABLE = Path("table", tabular.hidden_states, tabular.Decoder, tabular.output_logits, 1)
_chosen: dict[tuple[str, frozenset[type]], Path] = {}
"""Paths by configuration and classes of modules: a policy needs no other than its reference."""


def path_of(model: PreTrainedModel) -> Path:
    """The path of a model, measured once per configuration and classes of its modules.

    Raises:
        ConfigError: If the model is refused, in one line with its class.
    """
    path = model.__dict__.get("vbon_path")
    if path is None and isinstance(model, tabular.TabularLM):
        path = model.vbon_path = _TABLE
    elif path is None:
        settings = {k: v for k, v in model.config.to_dict().items() if k != "_name_or_path"}
        key = f"{settings} {model.dtype}", frozenset(map(type, model.modules()))
        path = _chosen.get(key) or _choose(model)
        _chosen[key] = model.vbon_path = path
    return path


def _fast_body(model: PreTrainedModel) -> ModuleType | None:
    return next((part for part in (gpt2, gpt_neox, llama) if part.supports(model)), None)


def _linear(model: PreTrainedModel, hidden: Tensor) -> Float[Tensor, "*batch vocab"]:
    """The output layer alone."""
    return model.get_output_embeddings()(hidden)


class _Outputs(BaseModelOutputWithPastAndCrossAttentions):
    """Final states of a body that has nothing else to give, as router logits or caches."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def _own_head(model: PreTrainedModel, hidden: Tensor) -> Float[Tensor, "*batch vocab"]:
    """Everything that the model's ``forward`` does with the final states of its body."""
    flat = hidden.reshape(1, -1, hidden.shape[-1])
    body, calls = model.base_model, []

    def outputs(*_: Any, **__: Any) -> _Outputs:
        calls.append(True)
        return _Outputs(flat)

    body.forward = outputs
    try:
        ids = torch.zeros(flat.shape[:2], dtype=torch.long, device=flat.device)
        logits = model(**own_forward.inputs(model, ids)).logits
    finally:
        del body.forward
    if not calls:
        raise TypeError(f"{type(model).__name__} does not call its body as a whole")
    return logits.reshape(*hidden.shape[:-1], -1)


def _is_linear(model: PreTrainedModel) -> bool:
    """Return True if the output layer is all that follows the body, also for large logits.

    A cap of logits cannot be seen in those of a model that has not been trained.
    """
    generator = torch.Generator().manual_seed(0)
    try:
        layer = model.get_output_embeddings()
        states = torch.randn(4, layer.weight.shape[1], generator=generator).to(layer.weight)
        states *= 100 / _linear(model, states).abs().max()
        ours, own = _linear(model, states), _own_head(model, states)
    except Exception:  # of any architecture; then log-probs of sequences alone decide
        return True
    return bool((ours - own).abs().max() <= (0.5 if model.dtype in _HALF else 0.001))


def _candidates(model: PreTrainedModel) -> Iterator[Path]:
    """Paths from the fastest to the slowest."""
    body = _fast_body(model)
    if body is not None:
        yield Path("fast", body.hidden_states, body.Decoder, body.output_logits)
    window = window_of(model.config)
    for name in ("padded", "by length"):
        if name == "padded" and window is not None and window > _LONGEST_WINDOW:
            continue
        states, decoder = generic.hidden_states, generic.Decoder
        if name == "by length":
            states = partial(by_length.hidden_states, states)
            decoder = partial(by_length.Decoder, decoder)
        for logits in (_linear, _own_head) if _is_linear(model) else (_own_head,):
            yield Path(name, states, decoder, logits)
    yield Path(
        "own forward",
        partial(by_length.hidden_states, own_forward.hidden_states),
        partial(by_length.Decoder, own_forward.Decoder),
        own_forward.output_logits,
    )


def window_of(config: PreTrainedConfig) -> int | None:
    """Smallest window of positions that some layer of a model attends to; None for all of them."""
    config = config.get_text_config()
    layers = [*(getattr(config, "layer_types", None) or ()),
              *(getattr(config, "attention_layers", None) or ())]  # fmt: skip
    if layers and not {"sliding_attention", "chunked_attention", "local", "attention"} & {*layers}:
        return None
    if getattr(config, "use_sliding_window", True) is False:
        return None
    sizes = [getattr(config, name, None) for name in _WINDOWS]
    longest = context_length(config) or float("inf")
    sizes = [size for size in sizes if isinstance(size, int) and 0 < size < longest]
    return min(sizes, default=None)


@dataclass(frozen=True)
class _Sequences:
    """Prompts with responses, and the log-probs of every next token by the model's ``forward``."""

    prompts: Prompts
    responses: Tensor
    truth: Tensor


def _choose(model: PreTrainedModel) -> Path:
    """The fastest path whose log-probs are those of the model's own ``forward``."""
    with _measuring(model):
        try:
            sequences = _sequences(model)
        except ConfigError:
            raise
        except Exception as error:  # of any architecture
            raise _refusal(model, f"its forward pass fails ({_first_line(error)})") from error
        reasons = []
        for path in _candidates(model):
            try:
                path = _with_width(path, model, sequences.prompts)
                if (gap := _gap(path, model, sequences)) <= 0:
                    return path
                reasons.append(f"{path.name}: log-probs differ by {gap + TOLERANCE:.1g} nats")
            except Exception as error:
                reasons.append(f"{path.name}: {_first_line(error)}")
    raise _refusal(
        model, f"neither sampling nor training gives log-probs of its forward ({reasons[-1]})"
    )


def _refusal(model: PreTrainedModel, reason: str) -> ConfigError:
    return ConfigError(
        f"reference: {type(model).__name__} is refused, since {reason}; give a causal language "
        "model of docs/reference/models.md"
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


@contextmanager
def _measuring(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode, without gradients or lower precision; the model is left as it was."""
    was_training, device = model.training, model.device.type
    gpus = [model.device] if device == "cuda" else []
    try:
        with (
            torch.no_grad(),
            torch.autocast(device, enabled=False),
            torch.random.fork_rng(devices=gpus),  # some attend to blocks at random
        ):
            model.eval()
            yield
    finally:
        model.__dict__.pop("vbon_path", None)
        model.train(was_training)


def _sequences(model: PreTrainedModel) -> _Sequences:
    """Random sequences of unequal length, and what the model's ``forward`` gives for each alone.

    Raises:
        ConfigError: If the model attends to later tokens.
    """
    device, window = model.device, window_of(model.config) or 0
    limit = context_length(model.config) or 10_000
    new_tokens = max(1, min(_NEW_TOKENS, limit - 1))
    room = limit - new_tokens
    longer = window if window <= _LONGEST_WINDOW else 0
    lengths = [max(1, min(length + longer * (length > 1), room)) for length in _LENGTHS]
    generator = torch.Generator().manual_seed(0)
    size = model.get_input_embeddings().weight.shape[0]
    ids = torch.randint(size, (len(lengths), max(lengths)), generator=generator).to(device)
    rows = len(lengths) * _DRAWS
    responses = torch.randint(size, (rows, new_tokens), generator=generator).to(device)
    names = tuple(map(str, range(len(lengths))))
    prompts = Prompts(ids, torch.tensor(lengths, device=device), names)
    truth = []
    for row, response in enumerate(responses):
        length = lengths[row // _DRAWS]
        whole = torch.cat((ids[row // _DRAWS, :length], response))
        log_probs = _log_probs(model, whole)
        truth.append(log_probs[length - 1 : -1])
    if log_probs.isnan().any():
        raise _refusal(model, "its log-probs are NaN")
    if _excess(_log_probs(model, whole), log_probs, model.dtype) > 0:
        raise _refusal(model, "its forward gives other log-probs each time")
    before = _log_probs(model, whole[:-1])
    if _excess(before, log_probs[:-1], model.dtype) > 0:
        raise _refusal(model, "it attends to later tokens, so it is not causal")
    return _Sequences(prompts, responses, torch.stack(truth))


def _log_probs(model: PreTrainedModel, ids: Tensor) -> Float[Tensor, "tokens vocab"]:
    """Log-probs of every next token by the model's own forward pass of one sequence."""
    return model(**own_forward.inputs(model, ids[None])).logits[0].float().log_softmax(-1)


def _excess(ours: Tensor, truth: Tensor, dtype: torch.dtype) -> float:
    """Largest difference beyond the tolerance; infinite where only one is finite."""
    tolerance = _HALF_TOLERANCE if dtype in _HALF else TOLERANCE
    tolerance *= min(1.0, truth[truth.isfinite()].std().item())
    same = ours == truth  # also where both are -inf
    gap = (ours - truth).abs() - tolerance * (1 + truth.abs() / 10)
    return gap.masked_fill(same, -tolerance).nan_to_num(torch.inf).max().item()


def _with_width(path: Path, model: PreTrainedModel, prompts: Prompts) -> Path:
    """The path with the width of its states, of which the own forward pass appends its logits."""
    states = path.states(model, prompts.ids[:1, :1], torch.zeros_like(prompts.lengths[:1]))
    width = states.shape[1]
    if path.name == "own forward":
        width -= model(**own_forward.inputs(model, prompts.ids[:1, :1])).logits.shape[-1]
    path = Path(path.name, path.states, path.decoder, path.logits, width)
    model.vbon_path = path
    return path


def _gap(path: Path, model: PreTrainedModel, sequences: _Sequences) -> float:
    """Largest difference beyond the tolerance, of sampling and of training."""
    prompts, responses = sequences.prompts, sequences.responses
    new_tokens = responses.shape[1]
    decoder = path.decoder(model, prompts, _DRAWS, new_tokens)
    sampled = [path.logits(model, decoder.hidden)]
    for tokens in responses.T[:-1]:
        decoder.step(tokens)
        sampled.append(path.logits(model, decoder.hidden))
    repeated = prompts.lengths.repeat_interleave(_DRAWS)
    width = int(repeated.max()) + new_tokens
    packed = F.pad(prompts.ids, (0, width - prompts.ids.shape[1])).repeat_interleave(_DRAWS, 0)
    columns = repeated[:, None] + torch.arange(new_tokens, device=packed.device)
    packed = packed.scatter(1, columns, responses)
    at = torch.arange(len(packed), device=packed.device)[:, None] * width + columns - 1
    trained = path.logits(model, path.states(model, packed, at.flatten()))
    both = (torch.stack(sampled, 1), trained.unflatten(0, at.shape))
    truth, dtype = sequences.truth, model.dtype
    return max(_excess(part.float().log_softmax(-1), truth, dtype) for part in both)
