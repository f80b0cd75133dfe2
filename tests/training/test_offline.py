"""The loop over stored draws: what it reads, what it minimises, what it reports."""

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from support import Language, forward_log_probs, make_gpt2, offline_settings

from vbon.artifacts import SCHEMAS
from vbon.batches import OfflineBatch, Prompts, Ranks
from vbon.errors import ArtifactError
from vbon.methods.bon_sft import BoNSFT
from vbon.methods.bonbon import BoNBoN
from vbon.methods.dpo import DPO
from vbon.methods.qrpo import QRPO
from vbon.methods.qrpo_identity import QRPOIdentity
from vbon.models.language_model import token_log_probs
from vbon.objectives import oracle
from vbon.training.offline import Examples, OfflineTrainer
from vbon.training.trainer import Diverged, Environment

EOS = 2
METHODS = [BoNSFT(n=3), DPO(kl_coef=0.1, num_draws=3, num_pairs=3), BoNBoN(n=3)]
PROMPTS = Prompts.from_lists([[5, 6, 7], [8], [9, 10]], ["b", "a", "c"])


def stored(seed=0, draws=4):
    """Draws of three prompts: of one to six tokens, some ended by the end token."""
    rng = np.random.default_rng(seed)
    rows = list(itertools.product(PROMPTS.prompt_id, range(draws)))
    frame = pd.DataFrame(rows, columns=["prompt_id", "draw"])
    lengths = rng.integers(1, 7, len(rows))
    frame["response_ids"] = [rng.integers(3, 20, length).tolist() for length in lengths]
    frame.loc[::3, "response_ids"] = frame.loc[::3, "response_ids"].map(lambda ids: [*ids, EOS])
    frame["log_prob"] = -rng.uniform(1, 9, len(rows))
    return frame


def pairs_of(*rows):
    """Rows of schema "pairs"."""
    frame = pd.DataFrame(rows, columns=["prompt_id", "chosen", "rejected"])
    frame["pair"] = frame.groupby("prompt_id").cumcount()
    return frame


PAIRS = pairs_of(("a", 2, 1), ("b", 0, 3), ("b", 3, 1), ("c", 1, 0), ("a", 3, 0), ("c", 2, 2))


def make_trainer(method=METHODS[1], table=None, seed=0, temperature=1.0, **changes):
    """A trainer of a small GPT-2 on six pairs."""
    reference = make_gpt2(1).requires_grad_(False)
    score = lambda prompts, rollouts: rollouts.response_mask.sum(1).double()  # noqa: E731
    environment = Environment(PROMPTS, reference, score, None, EOS, 6, temperature)
    examples = Examples.from_tables(PAIRS, stored() if table is None else table, PROMPTS)
    chosen = offline_settings(**({"batch_size": 2, "learning_rate": 1e-3} | changes))
    return OfflineTrainer(make_gpt2(), method, environment, examples, chosen, seed)


def test_examples_are_looked_up_by_prompt_and_draw():
    table = stored()
    shuffled = table.sample(frac=1, random_state=3)
    keyed = table.set_index(["prompt_id", "draw"])
    for samples in (table, shuffled):
        examples = Examples.from_tables(PAIRS, samples, PROMPTS)
        assert len(examples) == 6
        for pair, side in itertools.product(range(6), ("chosen", "rejected")):
            row = getattr(examples, side)[pair]
            expected = keyed.loc[(PAIRS["prompt_id"][pair], PAIRS[side][pair])]
            length = examples.lengths[row]
            assert examples.response_ids[row, :length].tolist() == expected["response_ids"]
            assert examples.log_prob_ref[row].item() == expected["log_prob"]
            prompt = PROMPTS.prompt_id[examples.prompt_index[row]]
            assert prompt == PAIRS["prompt_id"][pair]
    chosen = keyed.loc[list(zip(PAIRS["prompt_id"], PAIRS["chosen"], strict=True)), "log_prob"]
    assert examples.mean_nll == pytest.approx(-chosen.mean())


def test_what_does_not_belong_together_is_named():
    table = stored()
    with pytest.raises(ArtifactError, match="draw 1 of prompt a is missing"):
        Examples.from_tables(PAIRS, table.query("prompt_id != 'a' or draw != 1"), PROMPTS)
    strange = Prompts.from_lists([[5], [6]], ["b", "a"])
    with pytest.raises(ArtifactError, match="of prompt c is missing, or its prompt is"):
        Examples.from_tables(PAIRS, table, strange)
    with pytest.raises(ArtifactError, match="no pair to train on"):
        Examples.from_tables(PAIRS.iloc[:0], table, PROMPTS)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_are_the_models_own_sums_over_the_stored_tokens(temperature):
    trainer = make_trainer(temperature=temperature)
    index = torch.tensor([4, 0, 3])
    batch = trainer.batch(index)
    keyed = stored().set_index(["prompt_id", "draw"])
    lists = dict(zip(PROMPTS.prompt_id, ([5, 6, 7], [8], [9, 10]), strict=True))
    for side in ("chosen", "rejected"):
        rows = [(PAIRS["prompt_id"][i], PAIRS[side][i]) for i in index.tolist()]
        expected = [
            forward_log_probs(
                trainer.policy, lists[name], [keyed.loc[(name, draw), "response_ids"]], temperature
            ).item()
            for name, draw in rows
        ]
        found = getattr(batch, f"log_prob_{side}")
        torch.testing.assert_close(
            found.double(), torch.tensor(expected).double(), atol=1e-4, rtol=0
        )
        theirs = getattr(batch, f"log_prob_{side}_ref")
        assert theirs.tolist() == pytest.approx(keyed.loc[rows, "log_prob"].tolist(), rel=1e-6)
    assert batch.num_tokens.tolist() == [
        len(keyed.loc[(PAIRS["prompt_id"][i], PAIRS["chosen"][i]), "response_ids"])
        for i in index.tolist()
    ]


def test_only_preferred_responses_are_run_where_nothing_else_is_needed(monkeypatch):
    import vbon.training.offline as module

    rows = []
    original = module.response_logits
    monkeypatch.setattr(
        module, "response_logits", lambda *a: (rows.append(len(a[2])), original(*a))[1]
    )
    for method, expected in zip(METHODS, (3, 6, 6), strict=True):
        batch = make_trainer(method).batch(torch.arange(3))
        assert (batch.log_prob_rejected is None) == (not method.contrastive)
        assert rows.pop() == expected


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_padding_changes_nothing(method):
    """A pair's log-probs are the same beside longer ones, and whatever stands in the padding."""
    trainer = make_trainer(method)
    together = trainer.batch(torch.arange(6))
    parts = [trainer.batch(torch.tensor([pair])) for pair in range(6)]
    alone = torch.cat([part.log_prob_chosen for part in parts])
    torch.testing.assert_close(together.log_prob_chosen, alone, atol=1e-5, rtol=0)
    examples = trainer.examples
    beyond = torch.arange(examples.response_ids.shape[1]) >= examples.lengths[:, None]
    junk = examples.response_ids.masked_fill(beyond, 19)
    trainer.examples = dataclasses.replace(examples, response_ids=junk)
    assert torch.equal(trainer.batch(torch.arange(6)).log_prob_chosen, together.log_prob_chosen)


def test_losses_by_hand():
    """Two pairs of log-ratios 1, -1 and 2, 3; responses of 4 and 6 tokens."""
    batch = make_trainer().batch(torch.arange(2))
    ratio = lambda *values: torch.tensor(values, dtype=torch.float64)  # noqa: E731
    theirs = ratio(-8, -9)
    batch = dataclasses.replace(
        batch,
        log_prob_chosen=ratio(-7, -7),
        log_prob_chosen_ref=theirs,
        log_prob_rejected=theirs + ratio(-1, 3),
        log_prob_rejected_ref=theirs,
        num_tokens=torch.tensor([4, 6]),
        mean_nll=27.0,
    )
    assert BoNSFT(n=3).batch_loss(batch).item() == pytest.approx(14 / 10)
    logistic = lambda x: math.log1p(math.exp(-x))  # noqa: E731
    dpo = DPO(kl_coef=0.5).batch_loss(batch).item()
    assert dpo == pytest.approx((logistic(0.5 * 2) + logistic(0.5 * -1)) / 2)
    bonbon = BoNBoN(n=3).batch_loss(batch).item()  # margin 3, so 9 against 27 nats
    assert bonbon == pytest.approx(0.25 * 7 + 0.75 * ((2 - 3) ** 2 + (-1 - 3) ** 2) / 2)
    fixed = BoNBoN(n=3, loss="sigmoid", alpha="fixed", fixed_alpha=0.005).batch_loss(batch).item()
    pair = (logistic(2 / 6) + logistic(-1 / 6)) / 2  # beta is 1 / 6
    assert fixed == pytest.approx(0.005 * 7 + 0.995 * pair)


REGRESSIONS = [QRPO(n=3, num_draws=50), QRPOIdentity(kl_coef=0.2, num_draws=50)]


@pytest.mark.parametrize("levels", [None, 1.0], ids=["distinct", "tied"])
@pytest.mark.parametrize("method", REGRESSIONS, ids=lambda method: method.name)
def test_a_regression_has_no_loss_at_the_optimum_of_a_language_of_its_draws(method, levels):
    """Each draw is a string of probability 1/50, and its F is the estimate without itself."""
    language = Language(levels=levels)
    examples = language.examples(method.pairing)
    targets = examples.log_ratio_targets(method.log_tilt).view(2, 50)
    draws = language.draws(50).sort_values("prompt_id", kind="stable")  # as pairs are
    drawn = draws["reward"].to_numpy().reshape(2, 50)
    log_ref, given = np.full(50, -np.log(50)), method.optimum_settings()
    for row, rewards in enumerate(drawn):
        if method.name == "qrpo":
            given["log_below"] = examples.ranks.log_below.view(2, 50)[row]
        else:  # a share of the 49 others, and not of 50 draws
            given["kl_coef"] = method.kl_coef * 49 / 50
        best = oracle.optimum(method.optimum, log_ref, rewards, **given)
        np.testing.assert_allclose(targets[row], best - log_ref, rtol=0, atol=1e-12)
    for shift, loss in ((0, 0), (2, 4 * method.kl_coef**2)):
        ours, lengths = targets.flatten(), torch.ones(100, dtype=torch.long)
        batch = OfflineBatch(
            ours + shift + 1, torch.ones_like(ours), lengths, 1.0, log_ratio_target=ours
        )
        assert method.batch_loss(batch).item() == pytest.approx(loss, rel=1e-12, abs=1e-24)


def test_the_normalisers_of_many_distinct_rewards_are_those_of_the_paper():
    """Z = beta / (1 + beta) for the log of a uniform quantile, beta (e^(1/beta) - 1) for itself."""
    many = torch.arange(100_000)
    ranks = Ranks(many, torch.zeros_like(many), len(many) - 1)
    examples = Examples(many, many[:, None], many, many.double(), many, many, ranks)
    for method in REGRESSIONS:
        beta = method.kl_coef
        paper = beta / (1 + beta) if method.name == "qrpo" else beta * math.expm1(1 / beta)
        constant = method.log_tilt(ranks) - examples.log_ratio_targets(method.log_tilt)
        torch.testing.assert_close(
            constant.exp(), constant.new_full((), paper).expand_as(constant), rtol=1e-4, atol=0
        )


def test_every_pair_is_used_once_an_epoch_in_an_order_of_the_seeds():
    trainer = make_trainer(epochs=3)
    epochs = trainer.order.view(3, 6)
    assert (epochs.sort(1).values == torch.arange(6)).all()
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(trainer.order, make_trainer(epochs=3, seed=1).order)


def test_a_number_of_updates_takes_the_place_of_epochs():
    trainer = make_trainer(epochs=3, batch_size=4, updates=5)
    assert trainer.total == 5
    assert torch.equal(trainer.order[:18], make_trainer(epochs=3).order)
    assert [row["episodes"] for row in trainer] == [8, 20]
    assert trainer.updates == 5


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_history_reports_the_policy_at_equal_distances(method):
    trainer = make_trainer(method, epochs=3, batch_size=4, monitors=2, monitor_rollouts=7)
    rows = list(trainer)
    assert trainer.updates == trainer.total == 5  # the last of 2 pairs
    assert [row["episodes"] for row in rows] == [8, 18]
    assert [row["step"] for row in rows] == [0, 1]
    assert trainer.episodes == 18
    assert trainer.sampled_tokens == 0
    for row in rows:
        assert set(SCHEMAS["history"].columns) <= set(row)
        assert np.isfinite(list(row.values())).all()
        assert 1 <= row["reward"] == row["response_length"] <= 6
    assert rows[1]["seconds"] > rows[0]["seconds"]
    assert set(trainer.seconds) == {"sample", "score", "update"}


def test_kl_of_the_history_is_that_of_the_policys_own_responses():
    trainer = make_trainer(epochs=30, learning_rate=5e-3, monitors=1, monitor_rollouts=3000)
    (row,) = trainer
    asked = trainer._monitored
    assert len(asked) == 3
    from vbon.sampling import sample

    limits = {"max_new_tokens": 6, "eos_token_id": EOS}
    rollouts = sample(trainer.policy, asked, draws=1000, seed=99, **limits)
    theirs = token_log_probs(
        trainer.environment.reference,
        asked.select(rollouts.prompt_index),
        rollouts.response_ids,
        rollouts.response_mask,
    )
    ratio = rollouts.log_prob - theirs.double().sum(1)
    error = ratio.std().item() * math.sqrt(2 / 3000)
    assert row["kl"] == pytest.approx(ratio.mean().item(), abs=4 * error)


def test_the_learning_rate_rises_and_falls():
    chosen = offline_settings(warmup=0.4)
    rates = [chosen.rate(update, 10) for update in range(11)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])
    constant = dataclasses.replace(chosen, schedule="constant", warmup=0.0)
    assert [constant.rate(update, 10) for update in (0, 9)] == [1, 1]
    rows = list(make_trainer(warmup=0.4, epochs=5, learning_rate=1.0, monitors=15, batch_size=2))
    expected = [chosen.rate(update, 15) for update in range(15)]
    assert [row["learning_rate"] for row in rows] == pytest.approx(expected)


def test_gradients_are_scaled_down_to_the_limit():
    free, tight = (make_trainer(max_grad_norm=limit, monitors=1) for limit in (None, 1e-3))
    rows = [next(iter(trainer)) for trainer in (free, tight)]
    assert [row["clip_fraction"] for row in rows] == [0, 1]
    norm = torch.nn.utils.get_total_norm([part.grad for part in tight.policy.parameters()])
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_numbers_that_are_not_finite_stop_the_run(what):
    table = stored()
    if what == "loss":
        table["log_prob"] = np.inf
        trainer = make_trainer(table=table)
    else:
        trainer = make_trainer()
        trainer.policy.lm_head.weight.register_hook(lambda grad: grad * math.nan)
    with pytest.raises(Diverged, match=f"{what}.* is .* after 0 updates"):
        list(trainer)
    pairs = zip(trainer.policy.parameters(), make_gpt2().parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs), "the update was not made"


def test_parameters_that_are_not_trained_stay():
    trainer = make_trainer()
    trainer.policy.transformer.wte.requires_grad_(False)
    again = OfflineTrainer(
        trainer.policy, trainer.method, trainer.environment, trainer.examples, trainer.settings, 0
    )
    before = {name: part.clone() for name, part in trainer.policy.named_parameters()}
    list(again)
    after = dict(trainer.policy.named_parameters())
    assert torch.equal(after["transformer.wte.weight"], before["transformer.wte.weight"])
    assert not torch.equal(after["transformer.wpe.weight"], before["transformer.wpe.weight"])


@pytest.mark.slow
def test_dpo_under_bradley_terry_labels_reaches_the_optimum_of_kl_rl():
    r"""With labels of probability sigma(r - r'), the minimiser is the reference times exp(r/beta).

    40000 pairs a prompt, labelled by chance; sampling leaves a total variation of about 0.02.
    """
    language, beta, count = Language(), 0.5, 40_000
    rng = np.random.default_rng(0)
    tables, pairs = [], []
    for name, log_ref, rewards in zip(
        language.prompts.prompt_id, language.log_ref.numpy(), language.rewards, strict=True
    ):
        strings = np.arange(len(log_ref))
        table = pd.DataFrame({"prompt_id": name, "draw": strings, "log_prob": log_ref})
        tables.append(table.assign(response_ids=language.responses))
        one, two = rng.choice(strings, (2, count), p=np.exp(log_ref) / np.exp(log_ref).sum())
        prefers = rng.random(count) < 1 / (1 + np.exp(rewards[two] - rewards[one]))
        sides = np.where(prefers, one, two), np.where(prefers, two, one)
        named = {"prompt_id": name, "chosen": sides[0], "rejected": sides[1]}
        pairs.append(pd.DataFrame(named))
    examples = Examples.from_tables(pd.concat(pairs), pd.concat(tables), language.prompts)
    chosen = offline_settings(epochs=20, batch_size=8000, learning_rate=0.1, monitors=1)
    policy, _ = language.train_offline(DPO(kl_coef=beta), chosen, examples)
    for ours, log_ref, rewards in zip(
        language.log_probs(policy), language.log_ref, language.rewards, strict=True
    ):
        best = oracle.optimum("kl_rl", log_ref.numpy(), rewards, kl_coef=beta)
        assert oracle.total_variation(log_ref.numpy(), best) > 0.2
        assert oracle.total_variation(ours.numpy(), best) < 0.05


@pytest.mark.slow
def test_dpo_under_labels_that_never_disagree_goes_on_and_on():
    """No learning rate decay, no stop: the loss goes to 0 and the policy leaves the reference."""
    language, method = Language(), DPO(kl_coef=1.0, num_draws=6, num_pairs=15)
    examples = language.examples(dataclasses.replace(method.pairing, blocks=300))
    chosen = offline_settings(
        epochs=40, batch_size=1000, schedule="constant", monitors=4, monitor_rollouts=500
    )
    _, rows = language.train_offline(method, chosen, examples)
    objective = [row["objective"] for row in rows]
    assert objective == sorted(objective)
    assert objective[-1] > -0.1 > objective[0]
    assert rows[-1]["kl"] > rows[0]["kl"] > 0.5
