r"""Cost of a configuration, before anything starts: tokens, GPU time, disk and memory.

The formulas are in docs/reference/cost.md. They count the products of matrices, the bytes that
decoding must read, and what stays in memory; nothing is measured.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vbon.methods.base import Anchored
from vbon.planning.hub import gguf_of
from vbon.planning.runs import Run
from vbon.tasks.base import evaluation_splits, is_built

BYTES = 4  # of a weight, a gradient or a cached number: models are kept in single precision
_ACTIVATIONS = 16  # numbers kept for the backward pass, per token, block and unit of width
_STORED = 9  # bytes of a response's token in a table: its id, its text and other columns
_LOGITS = 3  # copies of the logits that a softmax or its gradient makes


@dataclass(frozen=True)
class Shape:
    """A transformer, as far as costs depend on it."""

    layers: int
    width: int  # of the hidden states
    vocab_size: int
    tied: bool = True  # input and output embeddings are one matrix

    @property
    def body(self) -> int:
        """Weights of the blocks: four matrices of attention, two of four times the size."""
        return 12 * self.layers * self.width**2

    @property
    def parameters(self) -> int:
        """All weights except biases, norms and positions."""
        return self.body + self.vocab_size * self.width * (1 if self.tied else 2)

    def forward(self, rows: float, prompt: float, response: float, head: bool = True) -> float:
        """Operations of one pass over ``rows`` sequences; logits are of responses alone.

        Example:
            >>> gpt2 = Shape(12, 768, 50257)
            >>> iteration = gpt2.forward(128, 8, 40) * (1 + 1 + 4 * 3)  # draw, reference, 4 epochs
            >>> round(iteration / 1e12, 1)
            20.2
        """
        tokens = prompt + response
        attention = 2 * self.layers * self.width * tokens  # over half of the others on average
        logits = 2 * self.vocab_size * self.width * response if head else 0
        return rows * (tokens * (2 * self.body + attention) + logits)

    def decoding_reads(self, prompts: float, draws: float, prompt: float, response: float) -> float:
        """Bytes read while ``draws`` responses to each prompt are decoded in one batch.

        At every step the weights, and the keys and values of each prompt (once for all of its
        draws) and of each response.
        """
        cache = 2 * self.layers * self.width * BYTES
        responses = prompts * draws * cache * response**2 / 2
        return response * (self.parameters * BYTES + prompts * prompt * cache) + responses


def shape_of(section: Mapping[str, Any], role: str, has_head: bool = True) -> Shape | None:
    """The shape of a model that is built here, described in the config, or on this machine.

    Args:
        section: The task's section.
        role: ``reference``, ``reward_model`` or ``evaluator``.
        has_head: Whether the model has an output embedding.

    Returns:
        None for a function, and for a model of the hub that has not been fetched.
    """
    model = section[role]
    if model.get("callable") is not None:
        return None
    if is_built(model):
        build = model["build"]
        tied = build.get("architecture", "gpt_neox") != "gpt_neox" or not has_head
        return Shape(build["layers"], build["width"], section["tokenizer"]["vocab_size"], tied)
    if model["size"] is not None:
        return Shape(**model["size"])
    config = config_at_hand(model, role)
    if config is None:
        return None
    config = config.get_text_config(decoder=True)
    try:
        sizes = config.num_hidden_layers, config.hidden_size, config.vocab_size
    except AttributeError:
        return None
    return Shape(*sizes, tied=bool(config.tie_word_embeddings))


def config_at_hand(model: Mapping[str, Any], place: str) -> Any:
    """Configuration in transformers of an existing model; None if it is not on this machine.

    Args:
        model: The model in the section.
        place: Its path there, for errors.
    """
    if is_built(model) or model.get("callable") is not None:
        return None
    from transformers import AutoConfig

    options = {"revision": model["revision"], "local_files_only": True}
    try:
        if (path := gguf_of(model, place)) is not None:
            from vbon.models.gguf import read_config, read_header

            return read_config(read_header(path))
        return AutoConfig.from_pretrained(model["id"], trust_remote_code=False, **options)
    except Exception:  # damaged files raise many kinds; loading the model gives the reason
        return None


@dataclass(frozen=True)
class Hardware:
    """Assumed sustained speed of one device, in 1e12 operations and bytes per second."""

    tflops: float = 100.0
    bandwidth: float = 2.0


@dataclass
class Work:
    """Operations, bytes that decoding reads, and tokens drawn."""

    flop: float = 0.0
    read: float = 0.0
    tokens: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flop + other.flop, self.read + other.read, self.tokens + other.tokens)

    def __mul__(self, count: float) -> "Work":
        return Work(self.flop * count, self.read * count, self.tokens * count)

    def hours(self, hardware: Hardware) -> float:
        """Hours of one device, if computing and reading do not overlap."""
        seconds = self.flop / hardware.tflops + self.read / hardware.bandwidth
        return seconds / 1e12 / 3600


@dataclass(frozen=True)
class Estimate:
    """The cost of a task; numbers are bytes."""

    pool: Work  # drawing and scoring the reference's responses, and the informed start
    training: Work  # of all runs, without their measurement
    evaluation: Work  # drawing and scoring every policy's responses
    longest: Work  # training of the costliest run
    memory: float  # on the device while a run is trained
    downloads: float  # from the hub
    policies: float  # of all trained runs
    tables: float  # with the reference's draws


@dataclass(frozen=True)
class _Task:
    """A section of the config with the shapes of its models."""

    section: Mapping[str, Any]
    reference: Shape
    judges: Sequence[Shape]
    """Reward model and evaluator; none for one that is not a transformer."""

    @property
    def prompt(self) -> float:
        """Tokens of a prompt: the middle of its range, or the longest."""
        limits = self.section["prompts"]
        return (limits.get("min_tokens", limits["max_tokens"]) + limits["max_tokens"]) / 2

    @property
    def response(self) -> int:
        """Tokens of a response, at most."""
        return self.section["sampling"]["max_new_tokens"]

    def drawn(self, prompts: float, draws: float, batches: float = 1) -> Work:
        """Drawing responses, ``batches`` times."""
        flop = self.reference.forward(prompts, self.prompt, 0, head=False)
        flop += self.reference.forward(prompts * draws, 0, self.response)
        read = self.reference.decoding_reads(prompts, draws, self.prompt, self.response)
        return Work(flop, read, prompts * draws * self.response) * batches

    def passed(self, rows: float, times: float = 1, head: bool = True) -> Work:
        """Forward passes of the reference or a policy over prompts and responses."""
        return Work(self.reference.forward(rows, self.prompt, self.response, head=head) * times)

    def judged(self, rows: float, judges: int = 2) -> Work:
        """Scoring by the reward model, and by the evaluator."""
        shapes = self.judges[:judges]
        return Work(sum(s.forward(rows, self.prompt, self.response, head=False) for s in shapes))


def estimate(section: Mapping[str, Any], runs: Sequence[Run], shapes: Mapping[str, Shape | None],
             hubs: Sequence[str] = ()) -> Estimate:  # fmt: skip
    """Estimate the cost of one task.

    Args:
        section: The task's section, complete.
        runs: Its runs and those of its studies.
        shapes: Of ``reference``, ``reward_model`` and ``evaluator``; None for a judge that costs
            nothing.
        hubs: The roles whose models are downloaded.
    """
    judges = [shapes[role] for role in ("reward_model", "evaluator") if shapes[role] is not None]
    task = _Task(section, shapes["reference"], judges)
    trained = [run for run in runs if run.instance.trained and not run.instance.is_reference]
    works = [_training(task, run) for run in trained]
    answered = [run for run in runs if run.instance.trained]
    policy = shapes["reference"].parameters * BYTES
    return Estimate(
        pool=_pool(task) + _informed(task, trained),
        training=sum(works, Work()),
        evaluation=_evaluation(task) * len(answered),
        longest=max(works, key=lambda work: work.flop, default=Work()),
        memory=max((_memory(task, run) for run in trained), default=0.0),
        downloads=sum(shapes[role].parameters * BYTES for role in hubs),
        policies=policy * len(trained),
        tables=2 * _pool(task).tokens * _STORED,  # in shards, and joined
    )


def _pool(task: _Task) -> Work:
    """Every draw of the reference, scored by both judges."""
    prompts, sampling = task.section["prompts"], task.section["sampling"]
    blocks = len(task.section["evaluation"].get("sample_seeds") or [0])
    test = sampling["test_draws"] + blocks * sampling["fresh_draws"]
    size, total = sampling["prompts_per_batch"], Work()
    for count, draws, repeats in (
        (prompts["num_train"], sampling["train_draws"], 1),
        (prompts["num_test"], test, len(evaluation_splits(task.section))),
    ):
        work = task.drawn(size, draws, count / size) + task.judged(count * draws)
        if sampling["backend"] != "native":  # its log-probs are recomputed
            work += task.passed(count * draws)
        total += work * repeats
    return total


def _informed(task: _Task, runs: Sequence[Run]) -> Work:
    """The informed start, once, if any run begins there: three passes, and one of the reference."""
    if not any(run.starts_informed for run in runs):
        return Work()
    draws = min(task.section["informed"]["draws"], task.section["sampling"]["train_draws"])
    return task.passed(draws * task.section["prompts"]["num_train"], 4)


def _evaluation(task: _Task) -> Work:
    """Responses of one policy to the test prompts at every temperature and sample seed."""
    settings, prompts = task.section["evaluation"], task.section["prompts"]["num_test"]
    seeds = len(settings.get("sample_seeds") or [0])
    rows = prompts * settings["responses"]
    once = task.drawn(prompts, settings["responses"]) + task.passed(rows, 2) + task.judged(rows)
    return once * (seeds * len(evaluation_splits(task.section)))


def _training(task: _Task, run: Run) -> Work:
    """One run: rollouts with their scores, and updates, each three passes."""
    if "online" in run.spec:
        online = run.spec["online"]
        rows, draws = online["rollouts"], online["draws_per_prompt"]
        # J-BOND compares every response with two draws of its anchor.
        shares = 3 if isinstance(run.instance, Anchored) else 1
        drawn = task.drawn(rows / draws, draws * shares)
        scored = task.judged(rows * shares, 1) + task.passed(rows)
        if _has_value_model(run):
            scored += task.passed(rows, 1 + 3 * online["epochs"], head=False)
        work = (drawn + scored + task.passed(rows, 3 * online["epochs"])) * online["iterations"]
        fitted = online["warm_start"] * task.section["prompts"]["num_train"]
        return work + task.passed(fitted, 3)
    offline, pairs = run.spec["offline"], run.pairing
    examples = offline["epochs"] * task.section["prompts"]["num_train"] * pairs.num_pairs
    if offline["updates"] is not None:
        examples = offline["updates"] * offline["batch_size"]
    rows = offline["monitor_rollouts"]
    watched = task.drawn(rows, 1) + task.passed(rows) + task.judged(rows, 1)
    sides = 2 if run.instance.contrastive else 1
    return task.passed(examples * sides, 3) + watched * offline["monitors"]


def _has_value_model(run: Run) -> bool:
    """Return True if a run trains a value model beside its policy."""
    online = run.spec.get("online", {})
    return online.get("value_model") == "separate" and not run.instance.leave_one_out


def _memory(task: _Task, run: Run) -> float:
    """Bytes on the device: models, gradients, AdamW's moments, and the larger of two peaks."""
    shape, loop = task.reference, run.spec.get("online") or run.spec["offline"]
    trained = {
        "all": shape.parameters,
        "top_k": 12 * loop["top_k"] * shape.width**2,
        # Two factors of each matrix: 4 of width x width, 2 of width x 4 width.
        "lora": loop["lora_rank"] * shape.layers * shape.width * 18,
    }[loop["trainable"]]
    models = 2 * shape.parameters + sum(judge.parameters for judge in task.judges[:1])
    if task.section["rewards"].get("monitored"):
        models += sum(judge.parameters for judge in task.judges[1:])
    rows = loop.get("minibatch") or loop["batch_size"]
    rows = min(rows, loop["rows_per_pass"] or rows)
    if "offline" in run.spec and run.instance.contrastive:
        rows *= 2
    tokens = rows * (task.prompt + task.response)
    kept = shape.layers * _ACTIVATIONS
    if loop["activation_checkpointing"]:
        kept = shape.layers + _ACTIVATIONS  # what enters each block, and one block's insides
    update = tokens * shape.width * kept
    if _has_value_model(run):  # all of it trained, and kept for the gradient beside the policy
        models, trained, update = models + shape.parameters, trained + shape.parameters, 2 * update
    update += rows * task.response * shape.vocab_size * _LOGITS
    drawn = loop.get("rollouts") or loop["monitor_rollouts"]
    cache = drawn * (task.prompt + task.response) * 2 * shape.layers * shape.width
    sampling = cache + drawn * shape.vocab_size * _LOGITS
    return BYTES * (models + 3 * trained + max(update, sampling))


def described(name: str, cost: Estimate, hardware: Hardware) -> list[str]:
    """An estimate in words, one line per quantity."""
    parts = {"pool": cost.pool, "training": cost.training, "evaluation": cost.evaluation}
    tokens = Counter({key: work.tokens for key, work in parts.items()})
    hours = Counter({key: work.hours(hardware) for key, work in parts.items()})
    stored = {"models to fetch": cost.downloads, "policies": cost.policies, "draws": cost.tables}
    return [
        f"{name}: at most {_short(tokens.total())} tokens drawn ({_listed(tokens)})",
        f"{name}: {hours.total():.2g} GPU-hours ({_listed(hours)}) if a device sustains "
        f"{hardware.tflops:g} TFLOP/s and {hardware.bandwidth:g} TB/s",
        f"{name}: {cost.longest.hours(hardware):.2g} hours for the longest run, about "
        f"{_short(cost.memory)}B of device memory",
        f"{name}: about {_short(sum(stored.values()))}B of disk ({_listed(stored, 'B')})",
    ]


def _listed(parts: Mapping[str, float], unit: str = "") -> str:
    return ", ".join(f"{name} {_short(value)}{unit}" for name, value in parts.items())


def _short(value: float) -> str:
    """A number with two digits and a thousand's letter.

    Example:
        >>> [_short(value) for value in (0.25, 31.4, 194_000_000, 1.2e12)]
        ['0.25', '31', '190 M', '1.2 T']
    """
    for power, letter in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"), (1, "")):
        if value >= power:
            return f"{float(f'{value / power:.2g}'):g}{letter}"
    return f"{value:.2g}"
