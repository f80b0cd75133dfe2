"""The ``vbon`` command: one verb for each phase of the workflow, with explicit paths.

A verb's module is imported only when the verb is called, so that ``vbon --help`` and the phases
that read tables load neither torch nor transformers.
"""

import gc
import importlib
import os
import sys

from vbon.errors import VbonError

VERBS = {
    "prefetch": ("vbon.cli.models", "fetch models and datasets from the hub, once"),
    "reviews": ("vbon.cli.data", "load labelled reviews and assign each to one purpose"),
    "posts": ("vbon.cli.data", "load posts with summaries and assign each to one purpose"),
    "build": ("vbon.cli.models", "train, or point to, a reference, reward model or evaluator"),
    "prompts": ("vbon.cli.data", "make prompts of reviews or posts"),
    "sample": ("vbon.cli.pool", "draw reference responses to one shard of prompts"),
    "score": ("vbon.cli.pool", "score the responses of one shard"),
    "merge": ("vbon.cli.pool", "join shards"),
    "logf": ("vbon.cli.pool", "sort each prompt's rewards for the estimates of log F"),
    "prior": ("vbon.cli.pool", "fit the reward distribution that all prompts share"),
    "pairs": ("vbon.cli.pool", "choose the pairs that offline methods are trained on"),
    "baselines": ("vbon.cli.data", "hold the reference's summaries against the posts' beginnings"),
    "data-report": ("vbon.cli.data", "measure the data and refuse them outside their bounds"),
    "enumerate": ("vbon.cli.enumerable", "write enumerable languages and their pools"),
    "train": ("vbon.cli.runs", "carry out runs that are not done yet"),
    "evaluate": ("vbon.cli.runs", "sample and score what runs made"),
    "aggregate": ("vbon.cli.tables", "gather the points and costs of all runs"),
    "optimum": ("vbon.cli.enumerable", "hold trained policies against exact optima"),
    "missing": ("vbon.cli.tables", "list the runs that partial tables lack"),
    "pareto": ("vbon.cli.tables", "find Pareto fronts, shares and hypervolumes"),
    "metrics": ("vbon.cli.tables", "gather a few numbers a method for `dvc metrics`"),
    "matched": ("vbon.cli.comparison", "compare methods at equal KL"),
    "equivalence": ("vbon.cli.comparison", "test vBoN's exact reward against its L bound"),
    "orderings": ("vbon.cli.comparison", "hold the paper's orderings against the points"),
    "claims": ("vbon.cli.claims", "test the paper's claims on a task's tables"),
    "compare": ("vbon.cli.compare", "hold two results folders against each other"),
    "table1": ("vbon.cli.comparison", "compare small samples of rewards with the pool"),
    "figure3": ("vbon.cli.comparison", "choose the prompts whose log F figure 3 shows"),
    "estimators": ("vbon.cli.study", "compare the estimators of log F"),
    "inference": ("vbon.cli.study", "measure what a returned response costs"),
    "section6": ("vbon.cli.summaries", "hold the paper's claims on summaries against responses"),
    "example": ("vbon.cli.summaries", "show every method's summary of one post"),
    "monitored": ("vbon.cli.summaries", "gather the evaluator's reward along training"),
    "convergence": ("vbon.cli.comparison", "measure what the end of training still moved"),
    "training": ("vbon.cli.excerpts", "gather thinned histories of all runs"),
    "samples": ("vbon.cli.excerpts", "gather every run's response to a few test prompts"),
    "models": ("vbon.cli.excerpts", "gather what texts and models are"),
    "table": ("vbon.cli.data", "render a table as Markdown"),
    "figure": ("vbon.cli.tables", "draw one figure"),
    "watch": ("vbon.cli.watch", "show a sweep as it goes on: runs, end, points so far"),
    "report": ("vbon.cli.report", "write the page that shows all results"),
    "workflow": ("vbon.cli.workflow", "run Snakemake alone in this folder, resuming if need be"),
    "restore": ("vbon.cli.restore", "after `dvc pull`: take its files as what Snakemake made"),
    "describe": ("vbon.cli.describe", "print where an artifact came from"),
    "plan": ("vbon.cli.inspect", "list the runs a config asks for and count those to train"),
    "check-config": ("vbon.cli.inspect", "check a configuration and print it completed"),
    "methods": ("vbon.cli.inspect", "list the methods with papers and settings"),
    "tasks": ("vbon.cli.inspect", "list the tasks"),
}


_ONLINE = ("prefetch", "workflow")
"""Verbs that may ask the hub, or call one that may; to all others it is switched off."""


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; errors meant for people are printed as one line, with exit code 1."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        print("usage: vbon <verb> [options]        `vbon <verb> --help` tells a verb's options\n")
        for verb, (_, summary) in VERBS.items():
            print(f"  {verb:<14}{summary}")
        return 0
    if words[0] == "--version":
        from vbon import __version__

        print(__version__)
        return 0
    if words[0] not in VERBS:
        print(f"vbon: unknown verb {words[0]!r}; known: {', '.join(VERBS)}", file=sys.stderr)
        return 2
    if words[0] not in _ONLINE:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
            os.environ.setdefault(name, "1")  # the libraries read it when they are imported
    # The libraries make a million objects as they are imported. To look through them for garbage
    # again and again takes a tenth of the start.
    gc.set_threshold(100_000, 20, 100)
    module = importlib.import_module(VERBS[words[0]][0])
    try:
        getattr(module, words[0].replace("-", "_"))(words[1:])
    except VbonError as error:
        print(f"vbon {words[0]}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 0
    except Exception as error:
        from vbon.artifacts.storage import explain

        told = explain(error)
        if told is None:
            raise
        print(f"vbon {words[0]}: {told}", file=sys.stderr)
        return 1
    return 0
