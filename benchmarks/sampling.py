"""Sampling speed of vbon's default sampler and ``transformers.generate``, in tokens per second.

``python benchmarks/sampling.py`` checks that both draw from the same distribution, then times
them in turn on one core: 16 prompts, 64 responses per prompt, 40 tokens per response. With
``--shape llama`` the model has the shape of SmolLM-135M: 8 prompts, 64 responses, 16 tokens.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from common import (
    GPT2,
    LLAMA,
    VOCAB,
    Shape,
    Timing,
    alternate,
    build_llama,
    build_model,
    forward_flops,
    random_prompts,
    report,
    timed,
    use_one_core,
    write_json,
)
from transformers import GenerationConfig, PreTrainedModel

from vbon.batches import Prompts, Rollouts
from vbon.sampling import sample

LOG_PROB_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Workload:
    """Sizes of model and batch: prompts, responses per prompt, and batches of the peer."""

    shape: Shape
    prompts: int
    draws: int
    batches: tuple[int, ...]
    checked: int
    """Number of first tokens whose frequencies are checked."""


WORKLOADS = {
    "gpt2": Workload(GPT2, 16, 64, (64, 256, 1024), checked=20_000),
    "llama": Workload(LLAMA, 8, 64, (64, 128, 256), checked=2000),
}


def generate(
    model: PreTrainedModel, prompt_lists: list[list[int]], batch: int, new_tokens: int
) -> list[torch.Tensor]:
    """Responses of ``transformers.generate``, prompts padded on the left, batch by batch."""
    config = GenerationConfig(
        do_sample=True, top_k=0, top_p=1.0, max_new_tokens=new_tokens, pad_token_id=0
    )
    responses = []
    for start in range(0, len(prompt_lists), batch):
        chunk = prompt_lists[start : start + batch]
        longest = max(map(len, chunk))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in chunk])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in chunk])
        out = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
        responses.append(out[:, longest:])
    return responses


def draw(
    model: PreTrainedModel, prompts: Prompts, draws: int, new_tokens: int, seed: int
) -> Rollouts:
    """Responses of the default sampler; their end token is outside the vocabulary."""
    end = model.config.vocab_size
    return sample(
        model, prompts, draws=draws, max_new_tokens=new_tokens, eos_token_id=end, seed=seed
    )


def check_log_probs(
    model: PreTrainedModel, prompt_lists: list[list[int]], new_tokens: int
) -> float:
    """Largest difference of a token's log-prob from the model's own forward pass, in nats."""
    prompts = Prompts.from_lists(prompt_lists, [str(i) for i in range(len(prompt_lists))])
    rollouts, worst = draw(model, prompts, 2, new_tokens, seed=1), 0.0
    for row, index in enumerate(rollouts.prompt_index.tolist()):
        response = rollouts.response_ids[row]
        ids = torch.cat((torch.tensor(prompt_lists[index]), response))[None]
        with torch.no_grad():
            logits = model(ids, attention_mask=torch.ones_like(ids)).logits[
                0, len(prompt_lists[index]) - 1 : -1
            ]
        expected = logits.log_softmax(-1).gather(1, response[:, None]).squeeze(1)
        worst = max(worst, (expected - rollouts.token_log_probs[row]).abs().max().item())
    assert worst < LOG_PROB_TOLERANCE, f"log-probs differ by {worst:.1e} nats"
    return worst


def check_frequencies(model: PreTrainedModel, prompt: list[int], draws: int) -> list[float]:
    """Total variation error of both samplers' first tokens, relative to that of exact sampling.

    Tokens are counted modulo 2000.
    """
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0, -1].double()
    groups = torch.arange(len(logits)) % VOCAB
    probs = torch.zeros(VOCAB, dtype=torch.float64).index_add(0, groups, logits.softmax(0))
    ours = draw(model, Prompts.from_lists([prompt], ["0"]), draws, 1, seed=2).response_ids[:, 0]
    theirs = torch.cat(generate(model, [prompt] * draws, 1000, new_tokens=1))[:, 0]
    counts = torch.distributions.Multinomial(draws, probs).sample((20,))
    noise = (counts / draws - probs).abs().sum(1).mean() / 2
    ratios = []
    for name, tokens in (("vbon", ours), ("transformers", theirs)):
        frequencies = torch.bincount(tokens % VOCAB, minlength=VOCAB) / draws
        ratios.append(((frequencies - probs).abs().sum() / 2 / noise).item())
        assert ratios[-1] < 1.1, f"{name}: first tokens are off by {ratios[-1]:.2f} x the noise"
    return ratios


def main() -> None:
    """Check both samplers, time them and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=WORKLOADS, default="gpt2", help="default gpt2")
    parser.add_argument("--rounds", type=int, default=5, help="alternated rounds (default 5)")
    parser.add_argument("--out", type=Path, help="also write the results to this JSON file")
    arguments = parser.parse_args()
    use_one_core()
    torch.manual_seed(0)
    work = WORKLOADS[arguments.shape]
    length = work.shape.new_tokens
    model = build_llama() if arguments.shape == "llama" else build_model()
    prompt_lists = random_prompts(work.prompts, seed=3, vocab=work.shape.vocab)
    difference = check_log_probs(model, prompt_lists, length)
    ours, theirs = check_frequencies(model, prompt_lists[0], work.checked)
    print(f"log-probs within {difference:.1e} nats of the model's forward pass")
    print(f"first-token error over sampling noise: vbon {ours:.2f}, transformers {theirs:.2f}")

    prompts = Prompts.from_lists(prompt_lists, [str(i) for i in range(work.prompts)])
    repeated = [prompt for prompt in prompt_lists for _ in range(work.draws)]
    tokens = work.prompts * work.draws * length
    flops = sum(forward_flops(len(prompt), work.draws, work.shape) for prompt in prompt_lists)

    def run_ours() -> Timing:
        with timed() as elapsed:
            rollouts = draw(model, prompts, work.draws, length, seed=0)
        assert int(rollouts.response_mask.sum()) == tokens
        return Timing(tokens, flops, **elapsed)

    def run_theirs(batch: int) -> Timing:
        with timed() as elapsed:
            responses = generate(model, repeated, batch, length)
        assert sum(map(torch.Tensor.numel, responses)) == tokens
        return Timing(tokens, flops, **elapsed)

    contestants = {"vbon": run_ours}
    for batch in work.batches:
        contestants[f"generate, batch {batch}"] = lambda batch=batch: run_theirs(batch)
    for run in contestants.values():
        run()  # warm-up
    rounds = alternate(arguments.rounds, contestants)
    peers = [name for name in contestants if name != "vbon"]
    results = report(rounds, "tokens", "vbon", peers) | {"log_prob_difference": difference}
    if arguments.out:
        write_json(arguments.out, results)


if __name__ == "__main__":
    main()
