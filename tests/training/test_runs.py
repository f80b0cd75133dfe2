"""Runs on disk: what they leave, when they are done, and that vBoN sees only ranks."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support import (
    TEXTS,
    offline_settings,
    save_classifier,
    save_reference,
    settings,
    tokenizer,
)

from vbon.artifacts import fingerprint, read_provenance, read_table, write_table
from vbon.cli import main
from vbon.errors import ArtifactError
from vbon.evaluation.policy import Evaluator
from vbon.methods.base import Offline
from vbon.methods.registry import get_method
from vbon.models.language_model import load_language_model, load_tokenizer
from vbon.planning.runs import Run, pair_files
from vbon.pool.cdf import EstimatedCDF, ExactCDF
from vbon.pool.logf import FitWarning, fit_exponential
from vbon.pool.table import load_prompts, rollout_rows
from vbon.rewards import full_texts, load_reward_model
from vbon.sampling import sample
from vbon.training.compute import PLAIN
from vbon.training.inputs import Inputs, load_cdf
from vbon.training.runs import carry_out, in_child

TOKENS = 6
SAMPLING = {"max_new_tokens": TOKENS, "temperature": 1.0}
LOGF = {"m": 24, "estimator": "add1", "pooled_ties": False}
ONLINE = settings(
    rollouts=16, draws_per_prompt=4, minibatch=8, epochs=2, learning_rate=5e-3, iterations=3
)


OFFLINE = offline_settings(learning_rate=5e-3, epochs=3)
ALL = {"trainable": "all", "top_k": 1, "lora_rank": 2, "lora_alpha": 4.0}


def write_prompts(path):
    """Four prompts of two to five tokens."""
    words = tokenizer()
    ids = [words(text)["input_ids"][: 2 + index] for index, text in enumerate(TEXTS[:4])]
    frame = pd.DataFrame(
        {
            "prompt_id": [f"p{index}" for index in range(4)],
            "prompt": words.batch_decode(ids),
            "prompt_ids": ids,
            "source_id": "s",
            "domain": "positive",
        }
    )
    write_table(path, frame, "prompts")


def write_pool(root, transform):
    """24 reference draws a prompt, and their rewards as a method is to see them."""
    model = load_language_model(root / "models/reference")
    words = load_tokenizer(root / "models/reference")
    prompts = load_prompts(root / "prompts/train.parquet")
    limits = {"max_new_tokens": TOKENS, "eos_token_id": words.eos_token_id}
    rollouts = sample(model, prompts, draws=24, seed=9, **limits)
    ids = [
        row[:length]
        for row, length in zip(prompts.ids.tolist(), prompts.lengths.tolist(), strict=True)
    ]
    asked = [ids[index] for index in rollouts.prompt_index.tolist()]
    texts = full_texts(words, asked, rollouts.response_lists())
    score = load_reward_model(root / "models/reward_model", transform=transform)
    pools = np.sort(score(texts).reward.reshape(len(prompts), -1), axis=1)
    frame = pd.DataFrame({"prompt_id": prompts.prompt_id, "num_draws": 24})
    frame["rewards_sorted"] = list(pools)
    frame[["exp_a", "exp_b", "exp_rmse"]] = [fit_exponential(pool) for pool in pools]
    write_table(root / "reference/logf/train.parquet", frame, "logf")
    samples = rollout_rows(rollouts, prompts, words)
    write_table(root / "reference/samples/train.parquet", samples, "samples")
    rewards = samples[["prompt_id", "draw"]].assign(reward_prob=0.5, evaluator_reward=0.0)
    rewards["reward"] = score(texts).reward
    write_table(root / "reference/rewards/train.parquet", rewards, "rewards")


def make_world(root, transform="identity"):
    """Everything that training reads, below ``root``."""
    save_reference(root / "models/reference")
    save_classifier(root / "models/reward_model")
    write_prompts(root / "prompts/train.parquet")
    write_pool(root, transform)
    return root


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A world that tests copy or only read."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def world(built, tmp_path):
    """A world of the test's own."""
    return Path(shutil.copytree(built, tmp_path / "world"))


def make_run(
    root,
    method="vbon",
    seed=0,
    transform="identity",
    online=ONLINE,
    offline=OFFLINE,
    capacity=ALL,
    logf=LOGF,
    **values,
):
    values = values or {"n": 4}
    spec = {
        "method": method,
        "values": values,
        "seed": seed,
        "sampling": SAMPLING,
        "rewards": {"transform": transform, "batch_size": 64},
    }
    if issubclass(get_method(method), Offline):
        spec["offline"] = dataclasses.asdict(offline) | capacity | dataclasses.asdict(PLAIN)
    else:
        spec |= {
            "online": dataclasses.asdict(online) | capacity | dataclasses.asdict(PLAIN),
            "logf": logf,
        }
    setting = "-".join(f"{name}{value}" for name, value in values.items())
    return Run(
        task="sentiment",
        study="",
        method=method,
        setting=setting,
        seed=seed,
        root=str(root),
        shared=str(root),
        pool="train",
        values=values,
        spec=spec,
    )


def carry(run, key=None):
    """Carry a run out in this process; return its status."""
    inputs = Inputs(run.inputs(), dict(run.spec))
    for folder, pairings in pair_files([run]).items():
        rewards = f"{run.root}/reference/rewards/train.parquet"
        given = ["--rewards", rewards, "--pairings", json.dumps(pairings)]
        assert main(["pairs", *given, "--seed", "0", "--folder", folder]) == 0
    described = {**run.to_json(), "inputs": run.inputs()}
    made = run.provenance()
    return carry_out(described, run.instance, inputs, made | ({"key": key} if key else {}))


def record_of(run):
    return json.loads((Path(run.folder) / "run.json").read_text())


def evaluate(run, root, transform="identity"):
    """Responses of a run's policy, as the workflow measures them."""
    words = load_tokenizer(root / "models/reference")
    path = root / "models/reward_model"
    evaluator = Evaluator(
        prompts=load_prompts(root / "prompts/train.parquet"),
        reference=load_language_model(root / "models/reference"),
        tokenizer=words,
        reward_model=load_reward_model(path, 64, transform),
        evaluator=load_reward_model(path, 64),
        responses=8,
        max_new_tokens=TOKENS,
        temperature=1.0,
        seed=0,
    )
    return evaluator.evaluate(load_language_model(Path(run.folder) / "policy"))


def test_a_run_leaves_its_policy_history_and_record(world):
    run = make_run(world)
    assert carry(run) == "ok"
    record, folder = record_of(run), Path(run.folder)
    assert record["status"] == "ok"
    assert record["policy"] == "policy"
    assert record["key"] == run.key()
    assert record["spec"] == run.spec
    assert (record["n"], record["kl_coef"]) == (4, 1 / 3)
    history = read_table(folder / "history.parquet", "history")
    assert history["step"].tolist() == [0, 1, 2]
    assert history["episodes"].tolist() == [16, 32, 48]
    assert record["episodes"] == 48
    assert record["updates"] == 3 * 2 * 2
    assert 48 <= record["sampled_tokens"] <= 48 * TOKENS
    assert read_provenance(folder / "history.parquet")["settings"] == run.spec
    policy = load_language_model(folder / "policy")
    assert record["trainable_parameters"] == policy.num_parameters()
    reference = load_language_model(world / "models/reference")
    pairs = zip(policy.parameters(), reference.parameters(), strict=True)
    assert any(not torch.equal(*pair) for pair in pairs)
    assert len(load_tokenizer(folder / "policy")) == policy.config.vocab_size
    assert not list(folder.parent.glob(".*"))  # nothing half-written is left


@pytest.mark.parametrize(
    ("method", "values", "pairs"),
    [("bon_sft", {"n": 4}, 4), ("dpo", {"kl_coef": 0.1}, 48), ("bonbon", {"n": 4}, 4)],
)
def test_an_offline_run_leaves_the_same_and_says_what_it_used(world, method, values, pairs):
    run = make_run(world, method, **values)
    assert carry(run) == "ok"
    record, folder = record_of(run), Path(run.folder)
    assert (record["status"], record["policy"], record["spec"]) == ("ok", "policy", run.spec)
    assert record["key"] == run.key()
    history = read_table(folder / "history.parquet", "history")
    assert record["updates"] == -(-3 * pairs // OFFLINE.batch_size)
    assert record["episodes"] == history["episodes"].iloc[-1] == 3 * pairs
    assert record["sampled_tokens"] == 0
    assert record["stored_draws"] == (6 if method == "dpo" else 4)
    assert set(record["seconds"]) == {"update", "sample", "score"}
    policy = load_language_model(folder / "policy")
    assert record["trainable_parameters"] == policy.num_parameters()
    reference = load_language_model(world / "models/reference")
    parts = zip(policy.parameters(), reference.parameters(), strict=True)
    assert any(not torch.equal(*part) for part in parts)


def test_offline_runs_share_what_was_loaded_but_not_their_pairs(world):
    short, long = (make_run(world, "bon_sft", n=n) for n in (2, 8))
    paths = [{k: v for k, v in run.inputs().items() if k != "pairs"} for run in (short, long)]
    assert paths[0] == paths[1]
    assert short.inputs()["pairs"] != long.inputs()["pairs"]
    for run in (short, long):
        carry(run)
    inputs = Inputs(paths[0], dict(short.spec))
    for run in (short, long):
        found = inputs.examples(run.inputs()["pairs"])
        assert len(found) == 4
        assert found.prompt_index.unique().tolist() == [0, 1, 2, 3]
    before = long.key()
    Path(short.inputs()["pairs"]).write_bytes(b"other")
    assert not short.is_done()
    assert long.key() == before


def test_best_of_n_and_bonbon_of_one_n_share_their_pairs(world):
    runs = [make_run(world, method, n=4) for method in ("bon_sft", "bonbon")]
    assert len({run.inputs()["pairs"] for run in runs}) == 1
    blocks = make_run(world, "bonbon", n=4, offline=dataclasses.replace(OFFLINE, blocks=3))
    assert pair_files([*runs, blocks]) == {
        f"{world}/reference/pairs": {
            "best-n4": {"draws": 4, "pairs": None, "blocks": 1, "ranked": False},
            "best-n4-b3": {"draws": 4, "pairs": None, "blocks": 3, "ranked": False},
        }
    }


@pytest.mark.parametrize("method", ["vbon", "bon_sft"])
@pytest.mark.parametrize("choice", ["top_k", "lora"])
def test_part_of_a_policy_may_be_trained_and_the_saved_one_is_plain(world, method, choice):
    run = make_run(world, method, capacity=ALL | {"trainable": choice})
    assert carry(run) == "ok"
    policy = load_language_model(Path(run.folder) / "policy")
    reference = load_language_model(world / "models/reference").state_dict()
    assert 0 < record_of(run)["trainable_parameters"] < policy.num_parameters()
    found = policy.state_dict()
    assert found.keys() == reference.keys()
    moved = {name for name in found if not torch.equal(found[name], reference[name])}
    assert moved
    assert "transformer.wte.weight" not in moved


@pytest.mark.parametrize("method", ["bon_sft", "bonbon"])
def test_one_stored_draw_is_the_reference_and_trains_nothing(world, method):
    run = make_run(world, method, n=1)
    assert set(run.inputs()) == {"reference"}
    assert carry(run) == "ok"
    assert record_of(run)["policy"] == "reference"


def test_an_offline_run_that_diverges_is_recorded(world):
    run = make_run(
        world, "dpo", offline=dataclasses.replace(OFFLINE, learning_rate=1e38), kl_coef=1
    )
    assert carry(run) == "diverged"
    assert record_of(run)["stored_draws"] == 6
    assert not (Path(run.folder) / "policy").exists()


def test_the_same_run_gives_the_same_bytes(world):
    weights = []
    for seed in (0, 0, 1):
        run = make_run(world, seed=seed)
        carry(run)
        weights.append((Path(run.folder) / "policy/model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


@pytest.mark.parametrize("method", ["vbon", "vbon_l"])
def test_best_of_one_is_the_reference_and_trains_nothing(world, method):
    run = make_run(world, method, n=1)
    assert set(run.inputs()) == {"reference"}
    assert carry(run) == "ok"
    record = record_of(run)
    assert record["policy"] == "reference"
    assert record["trainable_parameters"] == 0
    assert (record["n"], record["kl_coef"]) == (1, None)
    assert not (Path(run.folder) / "policy").exists()
    assert len(read_table(Path(run.folder) / "history.parquet", "history")) == 0


@pytest.mark.parametrize(("method", "values"), [("reference", {}), ("best_of_n", {"n": 4})])
def test_selection_methods_have_no_policy(world, method, values):
    run = dataclasses.replace(make_run(world, method, n=4), values=values)
    assert carry(run) == "ok"
    record = record_of(run)
    assert record["policy"] is None
    assert record["trainable_parameters"] == 0


def test_a_run_that_diverges_is_recorded_and_keeps_no_policy(world, capsys):
    run = make_run(world, online=dataclasses.replace(ONLINE, learning_rate=1e38))
    assert carry(run) == "diverged"
    record = record_of(run)
    assert record["status"] == "diverged"
    assert record["policy"] is None
    assert not (Path(run.folder) / "policy").exists()
    assert "diverged" in capsys.readouterr().out
    assert run.is_done()  # it would diverge again


def test_a_run_is_done_when_spec_code_and_inputs_are_the_same(world, monkeypatch):
    run = make_run(world)
    assert not run.is_done()
    carry(run)
    assert run.is_done()
    assert make_run(world).is_done()
    (world / "unrelated.txt").write_text("no input")
    assert run.is_done()
    longer = dataclasses.replace(ONLINE, iterations=4)
    assert not make_run(world, online=longer).is_done()
    assert not make_run(world, seed=1).is_done()
    monkeypatch.setattr(fingerprint, "code_fingerprint", lambda *modules: "other code")
    assert not run.is_done()
    monkeypatch.undo()
    assert run.is_done()


@pytest.mark.parametrize(
    "name",
    ["prompts/train.parquet", "reference/logf/train.parquet", "models/reference/config.json"],
)
def test_new_content_of_an_input_undoes_a_run_and_a_new_time_does_not(world, name):
    run = make_run(world)
    before = run.key()
    path = world / name
    os.utime(path, ns=(1, 1))
    assert run.key() == before
    path.write_bytes(path.read_bytes() + b"\0")
    assert run.key() != before


def test_only_methods_that_need_log_f_depend_on_it(world):
    ppo, vbon = make_run(world, "ppo", kl_coef=0.1), make_run(world)
    before = ppo.key(), vbon.key()
    (world / "reference/logf/train.parquet").write_bytes(b"other")
    assert ppo.key() == before[0]
    assert vbon.key() != before[1]


@pytest.mark.parametrize("text", ["", "{", "{}", '{"key": "other"}'])
def test_a_damaged_record_is_no_finished_run(world, text):
    run = make_run(world)
    Path(run.folder).mkdir(parents=True)
    (Path(run.folder) / "run.json").write_text(text)
    assert not run.is_done()


def test_a_crash_leaves_the_old_run_in_place(world, monkeypatch):
    run = make_run(world)
    carry(run)
    before = record_of(run)

    def crash(*arguments, **options):
        raise OSError("disk full")

    monkeypatch.setattr("vbon.training.runs.write_record", crash)
    with pytest.raises(OSError, match="disk full"):
        carry(run, key="new")
    assert record_of(run) == before
    assert run.is_done()
    monkeypatch.undo()
    carry(run, key="new")  # what the crash left does not stand in the way
    assert record_of(run)["key"] == "new"


def test_a_run_whose_policy_or_history_was_changed_is_not_done(world):
    run = make_run(world)
    carry(run)
    assert run.is_done()
    weights = Path(run.folder) / "policy/model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    assert not run.is_done()
    weights.write_bytes(whole)
    assert run.is_done()
    (Path(run.folder) / "history.parquet").unlink()
    assert not run.is_done()


def test_the_record_says_what_made_the_run(world):
    run = make_run(world)
    carry(run)
    record, history = record_of(run), read_provenance(Path(run.folder) / "history.parquet")
    made = run.provenance()
    assert record["spec"] == history["settings"] == made["settings"] == dict(run.spec)
    for name in ("key", "code", "inputs", "paths", "versions"):
        assert record[name] == history[name] == made[name]
    assert record["paths"] == run.inputs()
    assert record["train_seconds"] > 0
    assert record["peak_memory_mb"] > 100
    assert record["hardware"] == history["measured"]["hardware"]


def test_a_new_run_takes_its_old_responses_away(world):
    run = make_run(world)
    carry(run)
    (Path(run.folder) / "responses").mkdir()
    carry(run)
    assert not (Path(run.folder) / "responses").exists()


@pytest.fixture(scope="module")
def two_worlds(tmp_path_factory):
    """The same world under the reward and under its exponential."""
    return {
        transform: make_world(tmp_path_factory.mktemp(transform), transform)
        for transform in ("identity", "exp")
    }


def under_both(two_worlds, method, values):
    """Policy bytes and responses of the same run in both worlds."""
    results = []
    for transform, root in two_worlds.items():
        run = make_run(root, method, transform=transform, **values)
        assert carry(run) == "ok"
        weights = (Path(run.folder) / "policy/model.safetensors").read_bytes()
        results.append((weights, evaluate(run, root, transform)))
    return results


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("vbon", {"n": 4}),
        ("vbon_l", {"n": 4}),
        ("ppo", {"kl_coef": 0.1}),
        ("dpo", {"kl_coef": 0.1}),
    ],
)
def test_the_exponential_of_the_reward_changes_ppo_and_no_bit_of_vbon(two_worlds, method, values):
    (weights, responses), (other_weights, other_responses) = under_both(two_worlds, method, values)
    assert not np.allclose(responses["reward"], other_responses["reward"])
    if get_method(method).rank_based:
        assert weights == other_weights
        pd.testing.assert_series_equal(np.exp(responses["reward"]), other_responses["reward"])
        same = responses.columns.drop("reward")  # ids, log-probs, KL, the evaluator's reward
        pd.testing.assert_frame_equal(responses[same], other_responses[same], check_exact=True)
    else:
        assert weights != other_weights
        assert not responses["log_prob"].equals(other_responses["log_prob"])
    reference = load_language_model(two_worlds["exp"] / "models/reference")
    start = reference.state_dict()["transformer.wte.weight"].numpy().tobytes()
    assert start not in weights  # it has moved at all


def test_rows_of_the_log_f_table_follow_the_prompts(world):
    path = world / "reference/logf/train.parquet"
    table = read_table(path, "logf")
    write_table(path, table.iloc[::-1], "logf")
    prompts = load_prompts(world / "prompts/train.parquet")
    cdf = load_cdf({"logf": str(path)}, LOGF, prompts)
    assert isinstance(cdf, EstimatedCDF)
    assert cdf.sorted_rewards.tolist() == [row.tolist() for row in table["rewards_sorted"]]
    assert cdf.fitted.tolist() == table[["exp_a", "exp_b"]].to_numpy().tolist()
    assert (cdf.estimator, cdf.pooled_ties) == ("add1", False)


def test_a_prompt_without_log_f_is_named(world):
    path = world / "reference/logf/train.parquet"
    write_table(path, read_table(path, "logf").iloc[1:], "logf")
    with pytest.raises(ArtifactError, match="lacks the prompt p0"):
        load_cdf({"logf": str(path)}, LOGF, load_prompts(world / "prompts/train.parquet"))


def test_exact_levels_in_the_table_take_the_place_of_the_pool(world):
    path = world / "reference/logf/train.parquet"
    table = read_table(path, "logf")
    levels = [np.arange(count, dtype=float) for count in (1, 2, 3, 4)]
    table["levels"] = levels
    table["log_below"] = [np.log(row / len(row), where=row > 0, out=row * 0 - 9) for row in levels]
    table["log_level"] = [np.full(len(row), -np.log(len(row))) for row in levels]
    write_table(path, table, "logf")
    cdf = load_cdf({"logf": str(path)}, LOGF, load_prompts(world / "prompts/train.parquet"))
    assert isinstance(cdf, ExactCDF)
    asked = torch.tensor([3, 1, 0]), torch.tensor([3.0, 1.0, 0.0]).double()
    below, level = cdf(*asked, torch.zeros(3).double())
    assert below.tolist() == pytest.approx([np.log(3 / 4), np.log(1 / 2), -9])
    assert level.tolist() == pytest.approx([np.log(1 / 4), np.log(1 / 2), 0])


def fail():
    os._exit(3)


def write(path):
    path.write_text("done")


def test_a_child_that_fails_is_reported(tmp_path):
    in_child(write, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "done"
    with pytest.raises(ChildProcessError, match="code 3"):
        in_child(fail)


def test_inverse_binomial_sampling_reads_no_pool_and_its_draws_are_counted(world):
    fresh = LOGF | {"estimator": "ibs", "m": 8}
    runs = [make_run(world, logf=fresh), make_run(world, seed=1)]
    assert "logf" not in runs[0].inputs()
    beyond = []
    for run in runs:
        assert carry(run) == "ok"
        history = read_table(Path(run.folder, "history.parquet"), "history")
        episodes = history["episodes"].diff().fillna(history["episodes"])
        record = json.loads(Path(run.folder, "run.json").read_text())
        beyond.append(record["sampled_tokens"] - history["response_length"] @ episodes)
    # Each of the 48 rollouts asks for one draw of up to six tokens or more.
    assert beyond[0] > 48
    assert beyond[1] == pytest.approx(0, abs=1e-6)


def test_a_missing_fit_is_told_once_and_not_where_it_is_not_used(world):
    path = world / "reference/logf/train.parquet"
    table = read_table(path, "logf")
    table.loc[0, "exp_a"] = np.nan
    write_table(path, table, "logf")
    prompts = load_prompts(world / "prompts/train.parquet")
    with pytest.warns(FitWarning, match="1 of 4 prompts have no exponential fit; add1"):
        load_cdf({"logf": str(path)}, LOGF | {"estimator": "exponential"}, prompts)
    load_cdf({"logf": str(path)}, LOGF, prompts)


def test_the_prior_is_read_in_the_order_of_the_prompts(world):
    prompts = load_prompts(world / "prompts/train.parquet")
    names = list(reversed(prompts.prompt_id))
    frame = pd.DataFrame({"prompt_id": names, "worth": 30.0})
    frame["knots"] = [[0.0, 1.0]] * 4
    frame["shares"] = [[0.1 * row, 0.5, 0.9] for row in range(1, 5)]
    path = world / "reference/logf/prior-m24.parquet"
    write_table(path, frame, "prior")
    paths = {"logf": str(world / "reference/logf/train.parquet"), "prior": str(path)}
    cdf = load_cdf(paths, LOGF | {"estimator": "shared"}, prompts)
    share = cdf.prior.share_below(np.array([0, 3, 3]), np.array([-1.0, -1.0, 0.0]))
    assert share.tolist() == pytest.approx([0.4, 0.1, 0.5])
    assert cdf.prior.worth == 30


@pytest.mark.parametrize(("method", "values"), [("vbon", {"n": 4}), ("ppo", {"kl_coef": 0.5})])
def test_a_warm_start_uses_stored_draws_and_is_recorded(world, method, values):
    plain = make_run(world, method, **values)
    assert carry(plain) == "ok"
    updates = record_of(plain)["updates"]
    warm = dataclasses.replace(ONLINE, warm_start=6)
    run = make_run(world, method, online=warm, **values)
    run.spec["stored_draws"] = 12
    assert carry(run) == "ok"
    record = record_of(run)
    assert record["stored_draws"] == 12
    assert record["updates"] == updates + 4 * 6 // ONLINE.warm_start_batch
    assert record["seconds"]["warm_start"] > 0


@pytest.mark.parametrize("method", ["vbon", "dpo"])
def test_a_policy_that_starts_informed_is_penalised_for_leaving_the_reference(world, method):
    save_reference(world / "models/informed")
    start = load_language_model(world / "models/informed")
    with torch.no_grad():
        start.get_input_embeddings().weight.mul_(1.5)
    start.save_pretrained(world / "models/informed")
    values = {"n": 4} if method == "vbon" else {"kl_coef": 1}
    still = {"learning_rate": 1e-12, "weight_decay": 0.0}
    loops = {
        "online": dataclasses.replace(ONLINE, **still),
        "offline": dataclasses.replace(OFFLINE, **still),
    }
    run = make_run(world, method, capacity=ALL | {"start": "informed"}, **loops, **values)
    assert run.inputs()["start"] == str(world / "models/informed")
    assert carry(run) == "ok"
    policy = load_language_model(f"{run.folder}/policy").state_dict()
    reference = load_language_model(world / "models/reference").state_dict()
    name = next(name for name, value in reference.items() if value.ndim == 2)
    assert torch.allclose(policy[name], 1.5 * reference[name], atol=1e-6)
    history = read_table(Path(run.folder) / "history.parquet", "history")
    assert history["kl"].iloc[0] > 0.01
    plain = make_run(world, method, capacity=ALL | {"start": "reference"}, **loops, **values)
    assert "start" not in plain.inputs()
