"""Verbs that make and check data: ``reviews``, ``posts``, ``prompts``, ``data-report``."""

import pandas as pd

from vbon.artifacts import read_provenance, read_table, write_table
from vbon.artifacts.fingerprint import provenance
from vbon.artifacts.tables import atomic_path, read_record, write_csv
from vbon.cli.options import pairs, parser, settings


def reviews(arguments: list[str]) -> None:
    """Load labelled reviews and assign each to one part."""
    from vbon.tasks.reviews import load_reviews, split_reviews

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
        chosen.get("revision"),
        chosen.get("test_source"),
    )
    print(f"{len(loaded)} reviews, {loaded.attrs['duplicates']} repeated texts dropped")
    frame = split_reviews(loaded, chosen["fractions"], args.seed)
    made = provenance({"seed": args.seed, **chosen}, {}, ("vbon.tasks.reviews",))
    write_table(args.output, frame, "reviews", made)


def posts(arguments: list[str]) -> None:
    """Load posts with summaries and assign each to one part."""
    from vbon.tasks.posts import load_posts

    options = parser("posts", posts.__doc__)
    options.add_argument("--settings", type=settings, required=True)
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--output", required=True)
    args = options.parse_args(arguments)
    frame = load_posts(args.settings, args.seed)
    print(f"{len(frame)} posts, {frame.attrs['duplicates']} repeated posts dropped")
    made = provenance({"seed": args.seed, **args.settings}, {}, ("vbon.tasks.posts",))
    write_table(args.output, frame, "posts", made)


def prompts(arguments: list[str]) -> None:
    """Make the training and the test prompts from reviews or posts of their own."""
    from vbon.models.language_model import load_tokenizer
    from vbon.tasks.posts import make_post_prompts
    from vbon.tasks.prompts import make_prompts

    options = parser("prompts", prompts.__doc__)
    options.add_argument("--texts", required=True, help="table of reviews or posts")
    options.add_argument("--reference", required=True, help="model folder, for its tokenizer")
    options.add_argument("--settings", type=settings, required=True)
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--train", required=True, help="output")
    options.add_argument("--test", required=True, help="output")
    args = options.parse_args(arguments)
    chosen, (kind, table) = args.settings, read_texts(args.texts)
    tokenizer = load_tokenizer(args.reference)
    made = provenance(
        {"seed": args.seed, **chosen}, {"texts": args.texts}, (f"vbon.tasks.{_PROMPTS[kind]}",)
    )
    taken: list[list[int]] = []
    for split in ("train", "test"):
        if kind == "posts":
            frame = make_post_prompts(table, tokenizer, split, chosen)
        else:
            own = table[table["part"] == split]
            limits = chosen[f"num_{split}"], chosen["min_tokens"], chosen["max_tokens"]
            frame = make_prompts(own, tokenizer, *limits, args.seed, exclude=taken)
            taken = frame["prompt_ids"].tolist()
        write_table(getattr(args, split), frame, "prompts", made)


_PROMPTS = {"reviews": "prompts", "posts": "posts"}


def read_texts(path: str) -> tuple[str, pd.DataFrame]:
    """The texts of a task, and whether they are reviews or posts."""
    kind = "posts" if read_provenance(path).get("schema") == "posts" else "reviews"
    return kind, read_table(path, kind)


def baselines(arguments: list[str]) -> None:
    """Hold the reference's draws against the posts' beginnings, by evaluator and ROUGE."""
    import torch

    from vbon.models.language_model import load_tokenizer
    from vbon.rewards import load_reward_model
    from vbon.tasks.lead import DRAWN, LEAD, WRITTEN
    from vbon.tasks.lead import baselines as compare

    options = parser("baselines", baselines.__doc__)
    for name in ("texts", "prompts", "samples"):
        options.add_argument(f"--{name}", required=True)
    options.add_argument("--reference", required=True, help="model folder, for its tokenizer")
    options.add_argument("--evaluator", required=True, help="model folder")
    options.add_argument("--settings", type=settings, required=True, help="of rewards")
    options.add_argument("--output", required=True, help=".csv")
    args = options.parse_args(arguments)
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(args.reference)
    samples = read_table(args.samples, "samples")
    frame = read_table(args.prompts, "prompts").merge(
        samples[samples["draw"] == 0], on="prompt_id", validate="one_to_one"
    )
    written = read_table(args.texts, "posts").set_index("source_id").loc[frame["source_id"]]
    own, begun = (
        tokenizer((" " + written[column]).tolist(), add_special_tokens=False)["input_ids"]
        for column in ("summary", "post")
    )
    lengths = frame["response_ids"].map(len)
    responses = {
        DRAWN: frame["response_ids"],
        LEAD: [ids[:length] for ids, length in zip(begun, lengths, strict=True)],
        WRITTEN: own,
    }
    evaluator = load_reward_model(args.evaluator, args.settings["batch_size"])
    texts = {
        name: tokenizer.batch_decode([list(ids) for ids in found], skip_special_tokens=True)
        for name, found in responses.items()
    }
    asked = frame["prompt"].tolist()
    rewards = {
        name: evaluator([a + b for a, b in zip(asked, found, strict=True)]).reward
        for name, found in texts.items()
    }
    names = ("texts", "prompts", "samples", "reference", "evaluator")
    made = provenance(
        args.settings, {name: getattr(args, name) for name in names}, ("vbon.tasks.lead",)
    )
    write_csv(args.output, compare(texts, rewards, written["summary"].tolist()), made)


def data_report(arguments: list[str]) -> None:
    """Measure the data of a task; refuse them if a quantity is outside its bounds."""
    from vbon.tasks.bounds import assert_report
    from vbon.tasks.bounds import data_report as measure

    options = parser("data-report", data_report.__doc__)
    for name in ("texts", "train", "test", "samples", "rewards"):
        options.add_argument(f"--{name}", required=True)
    options.add_argument("--cards", nargs="+", required=True, help="model cards, name=path")
    options.add_argument("--checks", type=settings, required=True)
    options.add_argument("--baselines", help="table of the verb of that name, for posts")
    options.add_argument("--output", required=True, help=".csv")
    args = options.parse_args(arguments)
    cards = {name: read_record(path) for name, path in pairs(args.cards).items()}
    report = measure(
        read_texts(args.texts)[1],
        {split: read_table(getattr(args, split), "prompts") for split in ("train", "test")},
        read_table(args.samples, "samples"),
        read_table(args.rewards, "rewards"),
        {name: card["metrics"] for name, card in cards.items()},
        args.checks,
        pd.read_csv(args.baselines) if args.baselines else None,
    )
    names = ("texts", "train", "test", "samples", "rewards")
    inputs = {name: getattr(args, name) for name in names} | pairs(args.cards)
    inputs |= {"baselines": args.baselines} if args.baselines else {}
    made = provenance(args.checks, inputs, ("vbon.tasks.bounds",))
    write_csv(args.output, report, made)
    assert_report(report)


def table(arguments: list[str]) -> None:
    """Render a table as Markdown."""
    from vbon.artifacts.markdown import markdown_table

    options = parser("table", table.__doc__)
    options.add_argument("--csv", required=True)
    options.add_argument("--output", required=True, help=".md")
    args = options.parse_args(arguments)
    with atomic_path(args.output) as temporary:
        temporary.write_text(markdown_table(args.csv))
