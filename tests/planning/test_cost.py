"""Estimates held against counts that do not use their formulas."""

import io
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
from support import make_gpt2
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

from vbon.batches import Prompts
from vbon.cli import main
from vbon.models.language_model import response_logits
from vbon.models.paths import path_of
from vbon.planning.config import load
from vbon.planning.cost import Hardware, Shape, Work, described, estimate, shape_of
from vbon.planning.runs import expand
from vbon.tasks.base import ROLES

ROOT = Path(__file__).parent.parent.parent
PYTHIA_CONFIG = {"vocab_size": 50304, "hidden_size": 2560, "intermediate_size": 10240}
PYTHIA_CONFIG |= {"num_hidden_layers": 32, "num_attention_heads": 32, "tie_word_embeddings": False}
GPT2, PYTHIA = Shape(12, 768, 50257), Shape(32, 2560, 50304, tied=False)


def prepared(*overlays, **section):
    config = load([ROOT / "config.yaml", *(ROOT / "config" / name for name in overlays)])
    task = config["tasks"][-1]
    config[task].update(section)
    runs = [run for run in expand(config) if run.task == task]
    shapes = {role: shape_of(config[task], role, role == "reference") for role in ROLES}
    return config[task], runs, shapes


@pytest.mark.parametrize(
    ("shape", "model", "config"),
    [
        (GPT2, GPT2LMHeadModel, GPT2Config()),
        (
            PYTHIA,
            GPTNeoXForCausalLM,
            GPTNeoXConfig(**PYTHIA_CONFIG),
        ),
    ],
    ids=["gpt2", "pythia-2.8b"],
)
def test_parameters_are_those_of_the_library(shape, model, config):
    with torch.device("meta"):
        counted = sum(parameter.numel() for parameter in model(config).parameters())
    assert shape.parameters == pytest.approx(counted, rel=0.01)


def test_operations_are_those_that_torch_counts():
    # PyTorch does not count products by oneDNN, which takes single precision alone.
    model = make_gpt2(vocab_size=500, layers=3, n_embd=64).double()
    rows, prompt, response = 8, 10, 20
    prompts = Prompts.from_lists([[3] * prompt] * rows, [str(row) for row in range(rows)])
    ids = torch.full((rows, response), 4)
    path_of(model)  # measured once
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        response_logits(model, prompts, ids, torch.ones_like(ids, dtype=torch.bool))
    counted = counter.get_total_flops()
    # The last block goes on with the response alone, and the last token predicts nothing.
    assert Shape(3, 64, 500).forward(rows, prompt, response) == pytest.approx(counted, rel=0.15)
    with FlopCounterMode(display=False) as counter:
        response_logits(model, prompts, ids, torch.ones_like(ids, dtype=torch.bool))[
            0
        ].sum().backward()
    assert counter.get_total_flops() == pytest.approx(3 * counted, rel=0.05)


def test_decoding_reads_by_a_loop_over_steps():
    shape = Shape(2, 8, 100)
    weights, number = (
        4 * shape.parameters,
        4 * 2 * 2 * 8,
    )  # bytes of all; of one token's keys, values
    read = 0
    for step in range(10):
        read += weights + 3 * 7 * number  # three prompts of seven tokens, each read once
        read += 3 * 5 * (step + 0.5) * number  # five draws of each, with all tokens so far
    assert shape.decoding_reads(3, 5, 7, 10) == pytest.approx(read)


def test_the_paper_costs_what_its_counts_say():
    section, runs, shapes = prepared("paper-sentiment.yaml")
    found = estimate(section, runs, shapes, ROLES)
    assert found.pool.tokens == (5000 * 850 + 512 * (600 + 512)) * 40
    online = [run for run in runs if "online" in run.spec]
    assert len(online) == 30 + 32 + 32 + 15 + 18  # vbon but n = 1, ppo, vbon_l, and two studies
    ours = {**section, "sampling": section["sampling"] | {"backend": "native"}}
    again = found.pool.flop - estimate(ours, runs, shapes, ROLES).pool.flop
    rows = 5000 * 850 + 512 * (600 + 512)
    assert again == pytest.approx(GPT2.forward(rows, 5, 40))  # vLLM's log-probs are not used
    per_pass = GPT2.forward(128, 5, 40)
    rewards = Shape(6, 768, 30522).forward(128, 5, 40, head=False)
    drawn = GPT2.forward(128, 5, 40)
    run = 100 * (drawn + per_pass + rewards + 4 * 3 * per_pass)
    assert found.longest.flop == pytest.approx(max(run, found.longest.flop))
    steps = {run.method: run for run in runs}
    alone = estimate(section, [steps["ppo"]], shapes)
    assert alone.training.flop == pytest.approx(run, rel=0.01)
    assert alone.training.tokens == 12_800 * 40
    # DPO: one pass over 60,000 pairs, each of two responses.
    alone = estimate(section, [steps["dpo"]], shapes)
    assert alone.training.flop == pytest.approx(3 * GPT2.forward(120_000, 5, 40), rel=0.02)
    assert found.policies == (195 - 6 + 33) * GPT2.parameters * 4
    assert found.downloads == sum(shapes[role].parameters for role in ROLES) * 4


def test_memory_of_weights_gradients_and_moments_is_counted_as_torch_holds_it():
    section, runs, _ = prepared("smoke.yaml")
    shape = Shape(2, 32, 20)
    model = make_gpt2(layers=2)
    optimizer = torch.optim.AdamW(model.parameters())
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    moments = [x for state in optimizer.state.values() for x in state.values() if x.ndim]
    weights = list(model.parameters())
    held = [*weights, *weights, *(weight.grad for weight in weights), *moments]  # with a reference
    counted = sum(tensor.numel() * tensor.element_size() for tensor in held)
    run = next(run for run in runs if run.method == "ppo")
    shapes = {"reference": shape, "reward_model": None, "evaluator": None}
    small = estimate(section, [run], shapes).memory
    assert small > 0.95 * counted  # activations come on top
    section["sampling"]["max_new_tokens"] *= 4
    assert estimate(section, [run], shapes).memory > 1.5 * (small - counted) + counted


def test_fewer_rows_a_pass_and_blocks_computed_again_need_less_memory():
    section, runs, shapes = prepared("paper-summarization.yaml")
    run = next(run for run in runs if run.method == "dpo")
    used = {}
    for rows, again in ((None, False), (4, False), (4, True)):
        run.spec["offline"].update(rows_per_pass=rows, activation_checkpointing=again)
        used[rows, again] = estimate(section, [run], shapes).memory
    assert used[None, False] > 2 * used[4, False] > 2 * used[4, True] > 50e9


def test_a_value_model_costs_a_trained_model_and_its_passes():
    section, runs, shapes = prepared("paper-summarization.yaml")
    run = next(run for run in runs if run.method == "ppo")
    # With these an update needs more than sampling does.
    run.spec["online"].update(rows_per_pass=32, activation_checkpointing=False)
    before = estimate(section, [run], shapes)
    run.spec["online"].update(value_model="separate")
    after = estimate(section, [run], shapes)
    weights = 4 * 4 * PYTHIA.parameters  # with gradient and two moments, in 4 bytes
    kept = 4 * 32 * (512 + 53) * 2560 * 32 * 16
    assert after.memory - before.memory == pytest.approx(weights + kept)
    # Each epoch three passes, as the policy; and one when the rollouts are made.
    passes = 79 * 13 * PYTHIA.forward(128, 512, 53, head=False)
    assert after.training.flop - before.training.flop == pytest.approx(passes)


def test_hours_are_of_computing_and_of_reading():
    work = Work(flop=3.6e15, read=7.2e15)
    assert work.hours(Hardware(tflops=1, bandwidth=2)) == pytest.approx(2)


def test_check_config_prints_the_estimate_as_comments():
    with redirect_stdout(io.StringIO()) as printed:
        arguments = ["check-config", str(ROOT / "config/paper-sentiment.yaml"), "--tflops", "50"]
        assert main(arguments) == 0
    lines = [line for line in printed.getvalue().splitlines() if line.startswith("# ")]
    words = ("195 runs of the sweep", "tokens drawn", "GPU-hours", "device memory", "of disk")
    for word in words:
        assert any(word in line for line in lines)
    assert "50 TFLOP/s" in printed.getvalue()


def test_models_of_unknown_shape_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(
        "tasks: [sentiment]\nsentiment: {reference: {id: nobody/nothing, revision: main}}"
    )
    assert main(["check-config", str(overlay)]) == 0
    out, err = capsys.readouterr()
    assert "# sentiment: no estimate, since nobody/nothing is not at hand" in out
    assert "sentiment.reference.revision: 'main' is no commit" in err


def test_a_local_model_tells_its_shape(reference_folder):
    section, _, _ = prepared("smoke.yaml")
    section["reference"] = {"id": str(reference_folder), "revision": None, "size": None}
    found = shape_of(section, "reference")
    assert (found.layers, found.width, found.tied) == (2, 32, True)


def test_every_line_names_the_task():
    found = estimate(*prepared("smoke.yaml"))
    assert all(line.startswith("posts: ") for line in described("posts", found, Hardware()))
