"""Verbs that make and check data: ``reviews``, ``prompts``, ``data-report``."""

import json
from pathlib import Path

import pandas as pd

from vbon.artifacts import read_table, write_table
from vbon.artifacts.fingerprint import provenance
from vbon.artifacts.tables import atomic_path
from vbon.cli.options import pairs, parser, settings


def reviews(arguments: list[str]) -> None:
    """Load labelled reviews and assign each to one part."""
    from vbon.tasks.corpus import load_reviews, split_reviews

    options = parser("reviews", reviews.__doc__)
    options.add_argument("--settings", type=settings, required=True)
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--output", required=True)
    args = options.parse_args(arguments)
    chosen = args.settings
    loaded = load_reviews(
        chosen["source"],
        chosen["num_reviews"],
        chosen["text_column"],
        chosen["label_column"],
        args.seed,
    )
    print(f"{len(loaded)} reviews, {loaded.attrs['duplicates']} repeated texts dropped")
    frame = split_reviews(loaded, chosen["fractions"], args.seed)
    made = provenance({"seed": args.seed, **chosen}, {}, ("vbon.tasks.corpus",))
    write_table(args.output, frame, "reviews", made)


def prompts(arguments: list[str]) -> None:
    """Cut the training and the test prompts from reviews of their own."""
    from vbon.models.language_model import load_tokenizer
    from vbon.tasks.prompts import make_prompts

    options = parser("prompts", prompts.__doc__)
    options.add_argument("--reviews", required=True)
    options.add_argument("--reference", required=True, help="model folder, for its tokenizer")
    options.add_argument("--settings", type=settings, required=True)
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--train", required=True, help="output")
    options.add_argument("--test", required=True, help="output")
    args = options.parse_args(arguments)
    chosen, table = args.settings, read_table(args.reviews, "reviews")
    tokenizer = load_tokenizer(args.reference)
    made = provenance(
        {"seed": args.seed, **chosen}, {"reviews": args.reviews}, ("vbon.tasks.prompts",)
    )
    taken: list[list[int]] = []
    for split in ("train", "test"):
        frame = make_prompts(
            table[table["part"] == split],
            tokenizer,
            chosen[f"num_{split}"],
            chosen["min_tokens"],
            chosen["max_tokens"],
            args.seed,
            exclude=taken,
        )
        taken = frame["prompt_ids"].tolist()
        write_table(getattr(args, split), frame, "prompts", made)


def data_report(arguments: list[str]) -> None:
    """Measure the data of a task; refuse them if a quantity is outside its bounds."""
    from vbon.tasks.report import assert_report
    from vbon.tasks.report import data_report as measure

    options = parser("data-report", data_report.__doc__)
    for name in ("reviews", "train", "test", "samples", "rewards"):
        options.add_argument(f"--{name}", required=True)
    options.add_argument("--cards", nargs="+", required=True, help="model cards, name=path")
    options.add_argument("--checks", type=settings, required=True)
    options.add_argument("--csv", required=True, help="output")
    options.add_argument("--markdown", required=True, help="output")
    args = options.parse_args(arguments)
    cards = {name: json.loads(Path(path).read_text()) for name, path in pairs(args.cards).items()}
    report = measure(
        read_table(args.reviews, "reviews"),
        {split: read_table(getattr(args, split), "prompts") for split in ("train", "test")},
        read_table(args.samples, "samples"),
        read_table(args.rewards, "rewards"),
        {name: card["metrics"] for name, card in cards.items()},
        args.checks,
    )
    write_report(report, args.csv, args.markdown)
    assert_report(report)


def write_report(table: pd.DataFrame, csv: str, markdown: str) -> None:
    """Write a small table as CSV and as Markdown."""
    with atomic_path(csv) as temporary:
        table.to_csv(temporary, index=False)
    shown = table.map(lambda value: f"{value:.4g}" if isinstance(value, float) else str(value))
    rows = [list(shown.columns), ["---"] * len(shown.columns), *shown.to_numpy().tolist()]
    with atomic_path(markdown) as temporary:
        temporary.write_text("".join(f"| {' | '.join(row)} |\n" for row in rows))
