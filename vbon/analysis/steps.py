"""Steps that make tables from tables, and a few from models.

The workflow gives each parameter the file or value of its name for the task at hand
(:meth:`vbon.planning.analysis_values.Values.value`); a table that a step returns, or each output
that it names, is ``tables/<name>.csv``. A new table is a step here, and its name in the ``tables``
of a task.
"""

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from vbon.artifacts import SCHEMAS, read_provenance, read_table
from vbon.artifacts.fingerprint import PACKAGE
from vbon.artifacts.steps import (
    Input,
    Job,
    Kind,
    Model,
    Named,
    Output,
    Runs,
    optional_table,
    step,
    table,
)
from vbon.artifacts.tables import read_either, read_record, write_both, write_csv, write_json
from vbon.errors import DataError
from vbon.tasks.registry import Section

Points = table("points")
TrainRewards = table("rewards", ["prompt_id", "draw", "reward"])
Measured = Runs
"""As ``Runs``, once their responses are measured."""


@step(is_light=True)
def missing(planned: int, folders: list[str]) -> pd.DataFrame:
    """Runs that the configuration requests and that the tables of a partial sweep lack."""
    names = ("method", "setting", "seed")
    rows = [dict(zip(names, Path(folder).parts[-3:], strict=True)) for folder in folders]
    frame = pd.DataFrame(rows, columns=names).assign(folder=folders, planned=planned)
    frame["seed"] = frame["seed"].str.removeprefix("seed")
    return frame


@step
def pareto(
    points: Points, bootstrap: int, seed: int, prompt_means: optional_table("prompt_means"),
    front: Output, job: Job,
) -> None:  # fmt: skip
    """Each method's share of the Pareto fronts and its hypervolume, with intervals.

    Points of several temperatures or domains have no common front: their table has no rows.
    """
    from vbon.analysis.pareto import pareto_table

    if points.drop_duplicates(["temperature", "domain"]).shape[0] > 1:
        frame = pd.DataFrame(columns=list(SCHEMAS["pareto"].columns))
    else:
        frame = pareto_table(points, seed, bootstrap, prompt_means=prompt_means)
    write_both(front, frame, "pareto", job.provenance())


@step(is_light=True)
def headline(points: Points, pareto: table("pareto"), metrics: Output) -> None:
    """A few numbers per method, for ``dvc metrics``."""
    from vbon.analysis.headline import headline as numbers_of

    write_json(metrics, numbers_of(points, pareto))


@step(is_light=True)
def prompt_means(measured: Measured, test_rewards: Named, test_draws: int) -> pd.DataFrame:
    """Every run's means per test prompt, over its responses.

    Args:
        measured: Runs of the task itself.
        test_rewards: Reference draws of the test prompts, at one temperature.
        test_draws: Draws among which win rates are counted.
    """
    from vbon.analysis.prompts import prompt_means_table

    ((split, path),) = test_rewards.items()
    columns = ["prompt_id", "kl", "reward", "reward_prob", "evaluator_reward"]
    responses = _responses(measured, split, columns)
    return prompt_means_table(responses, _ranked(read_table(path, "rewards"), test_draws))


@step
def matched(
    points: Points, bootstrap: int, seed: int, prompt_means: optional_table("prompt_means"),
    matched_kl: Output, attainment: Output, job: Job,
) -> None:  # fmt: skip
    """Methods at equal KL: values at given budgets, and bands of attainment curves."""
    from vbon.analysis.attainment import attainment_bands, matched_table

    record, resampled = job.provenance(), {"prompt_means": prompt_means}
    write_csv(matched_kl, matched_table(points, seed, bootstrap, **resampled), record)
    write_csv(attainment, attainment_bands(points, seed, bootstrap, **resampled), record)


@step
def bands(
    points: Points, oracle_curves: table("oracle_curves"), bootstrap: int, seed: int,
    prompt_means: optional_table("prompt_means"),
) -> pd.DataFrame:  # fmt: skip
    """Differences of methods in bands of KL, beside those of exact optima."""
    from vbon.analysis.bands import bands_table

    return bands_table(points, oracle_curves, seed, bootstrap, prompt_means=prompt_means)


@step
def distances(
    fitted: Runs, optima: dict[str, Any], test_rewards: Named, test_draws: int,
    rank_draws: dict[str, Any], oracle_curves: Output, distances: Output, job: Job,
) -> None:  # fmt: skip
    """Exact optima on the test prompts, and the distance of each trained setting to its own.

    Args:
        fitted: Trained runs whose method has such an optimum.
        optima: Name of the optimum of each of their methods.
        test_rewards: Reference draws of the test prompts, at one temperature.
        test_draws: Draws among which win rates are counted.
        rank_draws: Draws per training prompt, for each method trained on ranks among them.
        oracle_curves: Win rate, reward and KL along each family of optima.
        distances: A row per setting.
        job: Of the call.
    """
    from vbon.analysis import tilts

    ((split, path),) = test_rewards.items()
    rewards = read_table(path, "rewards")
    pools = tilts.Pools.of(rewards)
    ranked = _ranked(rewards, test_draws)
    exact = tilts.curves(pools, rank_draws)
    columns = ["prompt_id", "kl", "log_prob_ref", "reward"]
    rows = tilts.distances(_responses(fitted, split, columns), optima, pools, ranked, exact)
    record = job.provenance()
    write_csv(oracle_curves, exact, record)
    write_csv(distances, rows, record)


@step(is_light=True)
def equivalence(points: Points, equivalence_points: Points) -> pd.DataFrame:
    """Win rates of vBoN's exact reward and its L bound, at equal n and seeds."""
    from vbon.analysis.equivalence import equivalence_table

    return equivalence_table(points, equivalence_points)


@step
def orderings(
    points: Points, bootstrap: int, seed: int, equivalence: optional_table("equivalence"),
    prompt_means: optional_table("prompt_means"),
) -> pd.DataFrame:  # fmt: skip
    """The paper's orderings of methods, each with an interval and a verdict."""
    from vbon.analysis.orderings import orderings_table

    tables = {"equivalence": equivalence, "prompt_means": prompt_means}
    return orderings_table(points, seed, bootstrap, **tables)


@step(is_light=True)
def claims(groups: list[str], evidence: Named) -> pd.DataFrame:
    """The paper's claims, each with a statistic, an interval and a verdict.

    A claim whose table is not given is undecided, and its note says what is missing.
    """
    from vbon.analysis.claims import claims_table

    return claims_table(groups, {name: read_either(path) for name, path in evidence.items()})


@step(is_light=True)
def convergence(runs: Runs) -> pd.DataFrame:
    """Movement of the last quarter of each training."""
    from vbon.analysis.convergence import convergence_table

    return convergence_table(
        (run["method"], run["setting"], rows) for run, rows in _histories(runs)
    )


@step(is_light=True)
def table1(train_rewards: TrainRewards) -> pd.DataFrame:
    """Samples of each size against 600 draws: what nested tests hide, and the error of log F."""
    from vbon.analysis.draws import table1 as compare

    return compare(train_rewards)


@step(is_light=True)
def shown_pools(
    train_rewards: TrainRewards, train_prompts: table("prompts", ["prompt_id", "prompt"])
) -> pd.DataFrame:
    """The pools of three prompts, whose estimates of log F figure 3 draws."""
    from vbon.analysis.excerpts import shown_pools as choose

    return choose(train_rewards, train_prompts)


@step(is_light=True)
def unequal(
    points: Points, unequal_points: Named, mappings: dict[str, Any], test_rewards: Named
) -> pd.DataFrame:
    """PPO and vBoN, and their optima, where rewards are unequal across prompts or heavy-tailed."""
    from vbon.analysis.unequal import unequal_table
    from vbon.rewards.unequal import Inequality

    studies = {
        name: (Inequality(**mappings[name]), read_either(path))
        for name, path in unequal_points.items()
    }
    (path,) = test_rewards.values()
    return unequal_table(read_table(path, "rewards"), points, studies)


@step
def trials(trial_points: Named, trained: dict[str, Any], seed: int, bootstrap: int) -> pd.DataFrame:
    """Trials of budgets within a common cost, and the best of each method."""
    from vbon.analysis.trials import trials_table

    points = {study: read_either(path) for study, path in trial_points.items()}
    return trials_table(points, trained, seed, bootstrap)


@step(needs_gpu=True)
def estimators(
    train_rewards: TrainRewards,
    train_prompts: Input,
    reference: Model,
    reward_model: Model,
    scoring: dict[str, Any],
    n: float,
    estimators_points: Points,
) -> pd.DataFrame:
    """Errors of the estimators of log F, and what policies attain with them."""
    from vbon.analysis.estimators import estimators_table
    from vbon.pool.score import features_of
    from vbon.pool.shared import fit_shared

    features = features_of(train_prompts, reference, reward_model, scoring)
    names = read_table(train_prompts, "prompts", ["prompt_id"])["prompt_id"]
    pools = train_rewards.pivot(index="prompt_id", columns="draw", values="reward").loc[names]
    points = estimators_points
    return estimators_table(
        pools.sort_index(axis=1).to_numpy(),
        lambda block: fit_shared(block, *features),
        n,
        points[(points["n"] == n) & (points["status"] == "ok")],
    )


@step(needs_gpu=True)
def inference(
    served: list, points: Points, prompts_served: int, drawing: dict[str, Any],
    scoring: dict[str, Any], seed: int, served_runs: Runs,
) -> pd.DataFrame:  # fmt: skip
    """Tokens and seconds of one returned response, by best-of-n and by each method's policies.

    Args:
        served: The first run of each setting, as plain values.
        points: Points of the task.
        prompts_served: Test prompts that are answered, all at once.
        drawing: ``max_new_tokens`` and ``temperature``.
        scoring: Section ``rewards`` of the configuration.
        seed: Base seed.
        served_runs: The same runs, as inputs.
    """
    from vbon.analysis.inference import inference_table

    settings = {"prompts": prompts_served, **drawing, **scoring}
    rows = inference_table(served, settings, seed)
    keys = ["method", "setting", "seed"]
    measured = points[[*keys, "win_rate", "kl"]]
    return rows.merge(measured, on=keys, validate="one_to_one")


@step
def optimum(
    optimised: list, sections: dict[str, Any], seed: int, optimised_runs: Runs, strings: Named,
    optimum: Output, pools: Output, exact_and_bound: Output, limits: Output, curves: Output,
    job: Job,
) -> None:  # fmt: skip
    """Every trained policy against the exact optimum of its method, string by string.

    Args:
        optimised: Runs as plain values.
        sections: Section of each root; the first is the task's own.
        seed: Base seed.
        optimised_runs: The same runs, as inputs.
        strings: Table of all strings of each root.
        optimum: Distances of policies to their optima.
        pools: The part of them that an estimate of F alone explains.
        exact_and_bound: Distance between the optima of J and L by length.
        limits: Ends of each family of optima.
        curves: Win rate and KL along each family.
        job: Of the call.
    """
    from vbon.analysis import optimum as exact
    from vbon.planning.runs import Run

    languages = {root: exact.Language.load(root) for root in sections}
    rows = (
        exact.compare(run, sections[run.root], languages[run.root])
        for run in (Run(**run) for run in optimised)
    )
    optima = pd.DataFrame([row for row in rows if row is not None])
    main = next(iter(sections))
    language, section, record = languages[main], sections[main], job.provenance(optimised=None)
    write_csv(optimum, optima, record)
    write_csv(pools, exact.pool_study(language, section["pools"], optima, seed), record)
    write_csv(exact_and_bound, exact.exact_and_bound(section, seed), record)
    write_csv(limits, exact.limits(language), record)
    write_csv(curves, exact.curves(language), record)


@step
def section6(
    measured: Measured,
    test_prompts: table("prompts", ["prompt_id", "domain"]),
    test_rewards: Named,
    test_draws: int,
    bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """Section 6's claims about summaries, each with an interval and a verdict."""
    from vbon.analysis.temperatures import Evidence, by_prompt, section6_table

    tables = {}
    for split, path in test_rewards.items():
        rewards = read_table(path, "rewards")
        groups = rewards[rewards["draw"] < test_draws].groupby("prompt_id")["evaluator_reward"]
        pools = {name: np.sort(group.to_numpy()) for name, group in groups}
        temperature = float(split.removeprefix("test-t"))
        for run, responses in _responses(measured, split):
            policy = run["method"], run["setting"], run["seed"]
            tables[*policy, temperature] = by_prompt(responses, pools)
    domains = test_prompts.set_index("prompt_id")["domain"].to_dict()
    return section6_table(Evidence.of(tables, domains, seed, bootstrap))


@step(is_light=True)
def example(
    measured: Measured,
    texts: table("texts"),
    test_prompts: table("prompts"),
    split: str,
    subreddit: str,
) -> pd.DataFrame:
    """One post, and every method's summary of it at one temperature."""
    from vbon.analysis.temperatures import example_table

    prompts = test_prompts.merge(texts[["source_id", "subreddit"]], on="source_id")
    candidates = prompts[prompts["subreddit"] == subreddit]
    if candidates.empty:
        raise DataError(
            f"prompts.example: no test prompt is of r/{subreddit}; accepted: "
            f"{', '.join(sorted(set(prompts['subreddit'])))}"
        )
    shown = candidates.iloc[0]
    frame = example_table(shown["prompt_id"], _responses(measured, split))
    frame.insert(0, "prompt", shown["prompt"])
    return frame


@step(is_light=True)
def monitored(runs: Runs) -> pd.DataFrame:
    """The evaluator's reward along every training."""
    columns = ["step", "episodes", "reward", "evaluator_reward", "kl"]
    parts = [
        history[columns].assign(**{name: run[name] for name in ("method", "setting", "seed")})
        for run, history in _histories(runs)
        if "evaluator_reward" in history
    ]
    if not parts:
        raise DataError("history: no run has column 'evaluator_reward'; set rewards.monitored")
    return pd.concat(parts, ignore_index=True)


@step(is_light=True)
def histories(runs: Runs) -> pd.DataFrame:
    """Thinned histories of all runs."""
    from vbon.analysis.excerpts import histories_table

    return histories_table(_histories(runs))


@step(is_light=True)
def excerpts(
    measured: Measured, test_prompts: table("prompts", ["prompt_id", "prompt"]), shown_split: str
) -> pd.DataFrame:
    """Every run's first response to a few test prompts."""
    from vbon.analysis.excerpts import excerpts_table, shown_prompts

    columns = ["prompt_id", "draw", "response", "reward", "reward_prob", "evaluator_reward"]
    return excerpts_table(shown_prompts(test_prompts), _responses(measured, shown_split, columns))


@step(is_light=True)
def cards(descriptions: Named, config: str, seed: int, cards: Output, job: Job) -> None:
    """Settings and measured quality of the texts and models of a task.

    Args:
        descriptions: Cards of models, and the table of texts or strings, by role.
        config: Hash of the configuration.
        seed: Base seed.
        cards: Table to write.
        job: Of the call.
    """
    from vbon.analysis.excerpts import cards_table

    records = {
        role: read_provenance(path) if path.endswith(".parquet") else read_record(path)
        for role, path in descriptions.items()
    }
    write_csv(cards, cards_table(records), {**job.provenance(), "commit": _commit()})


@step(needs_gpu=True)
def lead(
    texts: table("texts"),
    train_prompts: table("prompts"),
    samples: table("samples"),
    reference: Model,
    evaluator: Model,
    scoring: dict[str, Any],
) -> pd.DataFrame:
    """The reference's summaries against the beginnings of the posts, by evaluator and ROUGE."""
    from vbon.analysis.lead import lead_table

    return lead_table(texts, train_prompts, samples, reference, evaluator, scoring["batch_size"])


@step(is_light=True)
def data(
    task: Section,
    texts: table("texts"),
    train_prompts: table("prompts"),
    test_prompts: table("prompts"),
    samples: table("samples"),
    train_rewards: table("rewards"),
    model_cards: Named,
    lead: Annotated[pd.DataFrame | None, Kind("input", lambda path: path and pd.read_csv(path))],
    checks: dict[str, Any],
    output: Output,
    job: Job,
) -> None:
    """Properties of the data; outside their bounds nothing is trained on them."""
    from vbon.analysis.bounds import assert_report, data_report

    report = data_report(
        task.quantities(texts),
        {"train": train_prompts, "test": test_prompts},
        samples,
        train_rewards,
        {role: read_record(path)["metrics"] for role, path in model_cards.items()},
        checks,
        lead,
    )
    write_csv(output, report, job.provenance(task=task))
    assert_report(report)


def _ranked(rewards: pd.DataFrame, draws: int) -> dict[str, np.ndarray]:
    """Ascending rewards of each prompt's first draws, among which win rates are counted."""
    groups = rewards[rewards["draw"] < draws].groupby("prompt_id")["reward"]
    return {name: np.sort(group.to_numpy()) for name, group in groups}


def _records(folders: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Folder and record of each run."""
    return ((folder, read_record(f"{folder}/run.json")) for folder in folders)


def _histories(folders: list[str]) -> Iterator[tuple[Mapping[str, Any], pd.DataFrame]]:
    """Record and history of each run."""
    for folder, record in _records(folders):
        yield record, read_table(f"{folder}/history.parquet", "history")


def _responses(
    folders: list[str], split: str, columns: list[str] | None = None
) -> Iterator[tuple[Mapping[str, Any], pd.DataFrame]]:
    """Record and responses of each run that did not diverge."""
    for folder, record in _records(folders):
        if record["status"] == "ok":
            path = f"{folder}/responses/{split}.parquet"
            yield record, read_table(path, "responses", columns)


def _commit() -> str:
    """Commit of the code, marked where files differ from it; empty outside of a repository."""
    words = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
