"""Verbs of the models that a task needs: ``prefetch`` and ``build``, here or by a pointer."""

import itertools
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from vbon.artifacts.fingerprint import MEASURED, content_hash, provenance
from vbon.artifacts.measured import measured
from vbon.artifacts.snapshots import snapshot
from vbon.artifacts.storage import atomic_folder
from vbon.artifacts.tables import write_json, write_record
from vbon.cli.data import read_texts
from vbon.cli.options import parser, settings


def prefetch(arguments: list[str]) -> None:
    """Fetch every model and dataset that a configuration takes from the hub, once.

    Everything else works with the hub switched off.
    """
    from vbon.planning.config import load
    from vbon.planning.hub import fetch, hub_sources

    options = parser("prefetch", prefetch.__doc__)
    options.add_argument("config", nargs="*", default=[], help="overlays on config.yaml")
    options.add_argument("--configfile", nargs="+", default=[], help="the same, as in Snakemake")
    options.add_argument("--sources", type=settings, help="{place: [kind, id, revision]} instead")
    options.add_argument("--output", help="output, .json: the commit of each")
    args = options.parse_args(arguments)
    sources = args.sources
    if sources is None:
        sources = hub_sources(load(["config.yaml", *args.config, *args.configfile]))
    fetched = {}
    for place, (kind, name, revision) in sources.items():
        commit = fetch(place, kind, name, revision)
        fetched[place] = {"kind": kind, "id": name, "revision": revision, "commit": commit}
        print(f"{place}: {name} at {commit}", flush=True)
    if not sources:
        print("nothing is taken from the hub")
    if args.output:
        write_json(Path(args.output), fetched)


def build(arguments: list[str]) -> None:
    """Train a model from scratch on its own texts, or point to one that exists.

    The card (metrics and provenance) stands in the folder only when the model is complete.
    """
    options = parser("build", build.__doc__)
    options.add_argument(
        "--role", choices=["reference", "reward_model", "evaluator"], required=True
    )
    options.add_argument("--texts", required=True, help="table of reviews or posts")
    options.add_argument("--prompt-tokens", type=int, required=True, help="longest prompt")
    options.add_argument("--settings", type=settings, required=True, help="the model's section")
    options.add_argument("--tokenizer", type=settings, required=True, help="tokenizer settings")
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--card", required=True, help="output; the model goes into its folder")
    args = options.parse_args(arguments)
    card, chosen = Path(args.card), args.settings
    made = {"seed": args.seed, "role": args.role, "model": chosen, "tokenizer": args.tokenizer}
    made["prompt_tokens"] = args.prompt_tokens
    card.unlink(missing_ok=True)  # what stands there is not what is asked for
    with atomic_folder(card.parent) as folder:
        metrics: dict[str, float] = {}
        if chosen["id"] is not None:
            _point(folder, chosen["id"], chosen["revision"])
        elif chosen.get("callable") is not None:
            _copy(folder, *chosen["callable"].rsplit(":", 1))
        else:
            size = chosen["build"], args.tokenizer, args.prompt_tokens
            metrics = _train(args.role, args.texts, *size, args.seed, folder)
        record = provenance(made, {"texts": args.texts}, ("vbon.models.build",))
        write_record(folder / card.name, {"metrics": metrics, **record, MEASURED: measured()})


def _point(folder: Path, name: str, revision: str | None) -> None:
    """Name a model by what it is: a commit of the hub's, or the content of a folder."""
    from vbon.models.language_model import POINTER

    if Path(name).expanduser().is_dir():
        content = content_hash(Path(name).expanduser())
        write_json(folder / POINTER, {"id": name, "content": content})
        return
    commit = snapshot(name, revision).name
    write_json(folder / POINTER, {"id": name, "revision": commit, "asked": revision})


def _copy(folder: Path, file: str, name: str) -> None:
    """Keep the source of a function that rewards, and its name."""
    from vbon.rewards.function import NAME, SOURCE, load_function

    load_function(file, name)
    shutil.copyfile(file, folder / SOURCE)
    (folder / NAME).write_text(f"{name}\n")


def _train(
    role: str,
    texts: str,
    chosen: dict[str, Any],
    tokenizer: dict[str, Any],
    prompt_tokens: int,
    seed: int,
    folder: Path,
) -> dict[str, float]:
    import torch

    from vbon.seeding import derive_seed

    torch.set_num_threads(1)
    kind, table = read_texts(texts)
    own, stream = table[table["part"] == role], derive_seed(seed, role)
    if kind == "posts":
        return _train_on_posts(role, own, chosen, tokenizer, prompt_tokens, stream, folder)
    return _train_on_reviews(role, own, chosen, tokenizer, stream, folder)


def _train_on_reviews(
    role: str, own: pd.DataFrame, chosen: dict, tokenizer: dict, seed: int, folder: Path
) -> dict[str, float]:
    from vbon.models.build import build_classifier, build_reference, build_tokenizer

    options = {**tokenizer, "max_tokens": chosen["max_tokens"]}
    if role == "reference":
        vocabulary = build_tokenizer(own["text"], **options)
        return build_reference(own["text"], vocabulary, chosen, seed, folder)
    vocabulary = build_tokenizer(own["text"], **options, classifier=True)
    return build_classifier(own, vocabulary, chosen, seed, folder)


def _train_on_posts(
    role: str,
    own: pd.DataFrame,
    chosen: dict,
    tokenizer: dict,
    prompt_tokens: int,
    seed: int,
    folder: Path,
) -> dict[str, float]:
    from vbon.models.build import build_reference, build_scorer, build_tokenizer
    from vbon.tasks.posts import prompt_texts, render

    # A batch of prompts is continued at its end, which is also where a score is read off.
    options = {**tokenizer, "max_tokens": chosen["max_tokens"], "side": "left"}
    sides = ["summary"] if role == "reference" else ["chosen", "rejected"]
    whole = [render(*row) for row in zip(own["subreddit"], own["title"], own["post"], strict=True)]
    texts = itertools.chain(whole, *(" " + own[side] for side in sides))
    vocabulary = build_tokenizer(texts, **options)
    asked = prompt_texts(own, vocabulary, prompt_tokens)
    if role == "reference":
        return build_reference(
            (" " + own["summary"]).tolist(), vocabulary, chosen, seed, folder, asked
        )
    pairs = pd.DataFrame({side: (" " + own[side]).to_list() for side in sides})
    return build_scorer(pairs.assign(prompt=asked), vocabulary, chosen, seed, folder)
