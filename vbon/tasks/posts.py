"""Posts with summaries: from the grammar, a JSON-lines file or a dataset hub; and their prompts.

The prompt is that of Stiennon et al. (arXiv:2009.01325, appendix B) as Huang et al.
(arXiv:2403.17031) give it: subreddit, title and post, then ``TL;DR:``, which a summary follows.
"""

import itertools
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vbon.errors import ConfigError, DataError
from vbon.seeding import derive_seed
from vbon.tasks.base import ROLES, Task, TextTask
from vbon.tasks.post_grammar import write_posts
from vbon.tasks.registry import register
from vbon.tasks.special_tokens import begun, first_ids
from vbon.tasks.texts import (
    assign_parts,
    check_rows,
    distinct,
    prompt_id,
    read_rows,
    with_test_rows,
)

COLUMNS = ("subreddit", "title", "post", "summary")
IN_DOMAIN, OUT_OF_DOMAIN = "in_domain", "out_of_domain"
_PLAIN = {"add_special_tokens": False, "verbose": False}  # it may be longer than the model
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@register
class Posts(TextTask):
    """Summarize a post; reward model and the larger evaluator are scalar models of rated pairs."""

    section_name = "summarization"
    schema = "posts_section"
    texts_key = "posts"
    figures = ("figure5a", "figure5b", "overoptimisation")
    tables = (*Task.tables, "data", "lead", "section6", "examples", "monitored")
    claims = ("summaries",)
    has_domains = True
    whole = ROLES

    def check_rows(self, where: str) -> None:
        """Refuse sources whose first row is no post with a summary."""
        for key in ("source", "test_source"):
            place = f"{where}.posts.{key}"
            check_rows(self.section["posts"][key], place, lambda *row: _checked(*row)["post"])

    def texts(self, seed: int) -> pd.DataFrame:
        """Posts with summaries."""
        return load_posts(self.section["posts"], seed)

    def prompts(
        self, texts: pd.DataFrame, tokenizer: Any, split: str, seed: int, taken: list[list[int]]
    ) -> pd.DataFrame:
        """Posts to summarize: of the training domain, or of both in equal parts."""
        return make_post_prompts(texts, tokenizer, split, self.section["prompts"])

    def train_model(
        self, role: str, texts: pd.DataFrame, seed: int, folder: Path
    ) -> dict[str, float]:
        """A language model of the summaries, or a scalar model of pairs of them."""
        from vbon.models.build import build_reference, build_scorer, build_tokenizer

        settings = self.section[role]["build"]
        # Padding on the left: responses follow, and scores are read at, the end of a prompt.
        options = {**self.section["tokenizer"], "max_tokens": settings["max_tokens"]}
        sides = ["summary"] if role == "reference" else ["chosen", "rejected"]
        columns = zip(texts["subreddit"], texts["title"], texts["post"], strict=True)
        rendered = [render(*row) for row in columns]
        corpus = itertools.chain(rendered, *(" " + texts[side] for side in sides))
        tokenizer = build_tokenizer(corpus, **options, side="left")
        prompts = prompt_texts(texts, tokenizer, self.section["prompts"]["max_tokens"])
        if role == "reference":
            summaries = (" " + texts["summary"]).tolist()
            return build_reference(summaries, tokenizer, settings, seed, folder, prompts)
        pairs = pd.DataFrame({side: (" " + texts[side]).to_list() for side in sides})
        return build_scorer(pairs.assign(prompt=prompts), tokenizer, settings, seed, folder)

    def quantities(self, texts: pd.DataFrame) -> dict[str, float]:
        """Number of posts and share of those in the training domain."""
        return {"num_posts": len(texts), "in_domain_posts": (texts["domain"] == IN_DOMAIN).mean()}


def load_posts(settings: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """Load posts, check every row, pair summaries and assign each post to one part.

    Posts that repeat an earlier one are dropped. Where the source has no pairs of summaries, the
    summary is preferred to a corruption of it.

    Args:
        settings: The section ``posts`` of the config.
        seed: Seed of the grammar, of the selection from a file, of corruptions and parts.

    Returns:
        Schema "posts"; ``attrs["duplicates"]`` is the number of posts dropped.

    Raises:
        DataError: In one line, with the number of the bad line and the columns found.
        ConfigError: If a setting cannot work.
    """
    source, count = settings["source"], settings["num_posts"]
    if source == "grammar":
        if count is None:
            raise ConfigError("posts.num_posts is null; the grammar needs a number of posts")
        posts = write_posts(count, seed)
        posts.insert(0, "source_id", [f"post-{number:06d}" for number in range(count)])
        posts.attrs["duplicates"] = 0
    else:
        posts = distinct(_read(source, "posts.source", settings), "post", count, seed)
        if settings.get("test_source"):
            tested = _read(settings["test_source"], "posts.test_source", settings)
            posts = with_test_rows(posts, tested, "post")
        posts["chosen"], posts["rejected"] = posts["summary"], corrupted(posts["summary"], seed)
    home = posts["subreddit"].isin(settings["in_domain"])
    posts["domain"] = home.map({True: IN_DOMAIN, False: OUT_OF_DOMAIN})
    return assign_parts(posts, "post", settings["fractions"], seed, "posts")


def _read(source: str, key: str, settings: Mapping[str, Any]) -> pd.DataFrame:
    """The checked rows of a file or dataset."""
    rows = read_rows(source, key, settings.get("revision"))
    posts = pd.DataFrame([{"source_id": name, **_checked(row, at)} for name, at, row in rows])
    if posts.empty:
        raise DataError(f"{source} holds no posts; give at least one row")
    return posts


def _checked(row: Any, where: str) -> dict[str, str]:
    if not isinstance(row, dict):
        raise DataError(f"{where}: is not a JSON object but {type(row).__name__}")
    for column in COLUMNS:
        if column not in row:
            raise DataError(f"{where}: no column {column!r}; columns found: {', '.join(row)}")
        value = row[column]
        empty = column != "title" and isinstance(value, str) and not value.strip()
        if not isinstance(value, str) or empty:
            raise DataError(f"{where}: column {column!r} is empty or not text; got {value!r}")
    return {column: row[column].strip() for column in COLUMNS}


def corrupted(summaries: "pd.Series[str]", seed: int) -> list[str]:
    """A worse summary for each: another post's, or with a sentence dropped or exchanged.

    A summary of one sentence loses the second half of its words instead.

    Example:
        >>> corrupted(pd.Series(["my boss lied. should i quit?", "my dog ate it."]), seed=0)[1]
        'my dog'
    """
    texts, corruptions = summaries.tolist(), []
    if len(set(texts)) < 2:
        raise DataError(f"column 'summary': {len(texts)} posts share one summary; two are needed")
    for number, text in enumerate(texts):
        stream = random.Random(derive_seed(seed, "corrupted", text, number))
        other = stream.choice(texts)
        while other == text:
            other = stream.choice(texts)
        candidates = [other, *_damaged(text, other, stream)]
        corruptions.append(stream.choice([c for c in candidates if c not in ("", text)]))
    return corruptions


def _damaged(text: str, other: str, stream: random.Random) -> tuple[str, str]:
    """The text without one of its sentences, and with one of another text's in its place."""
    sentences, others = _SENTENCE_END.split(text), _SENTENCE_END.split(other)
    place = stream.randrange(len(sentences))
    kept = [*sentences[:place], *sentences[place + 1 :]]
    if not kept:
        words = text.split(" ")
        kept = [" ".join(words[: len(words) // 2])]
    exchanged = [*sentences[:place], stream.choice(others), *sentences[place + 1 :]]
    return " ".join(kept), " ".join(exchanged)


def render(subreddit: str, title: str, post: str) -> str:
    r"""Text of a post that a summary is to follow.

    Example:
        >>> render("dogs", "My terrier", "It ate the sofa.")
        'SUBREDDIT: r/dogs\n\nTITLE: My terrier\n\nPOST: It ate the sofa.\n\nTL;DR:'
    """
    return f"SUBREDDIT: r/{subreddit}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"


def prompt_texts(posts: pd.DataFrame, tokenizer: Any, max_tokens: int) -> list[str]:
    """The prompt of each post; see :func:`prompt_text`."""
    return [prompt_text(row, tokenizer, max_tokens) for row in posts.to_dict("records")]


def prompt_text(row: Mapping[str, str], tokenizer: Any, max_tokens: int) -> str:
    """The prompt of a post, cut to at most ``max_tokens`` tokens.

    The post ends at the last newline within the budget; where it has none, at the end of the last
    sentence, and failing that of the last word.

    Raises:
        ConfigError: If subreddit and title alone exceed the budget.
    """
    post = row["post"]
    while True:
        text = render(row["subreddit"], row["title"], post)
        excess = len(tokenizer(text, **_PLAIN)["input_ids"]) - max_tokens
        if excess <= 0:
            return text
        if not post:
            raise ConfigError(
                f"prompts.max_tokens is {max_tokens}; the title of a post of r/{row['subreddit']} "
                f"needs {excess} more"
            )
        post = _shortened(post, excess, tokenizer)


def _shortened(post: str, excess: int, tokenizer: Any) -> str:
    """The post without its last ``excess`` tokens, back to the end of a line or sentence."""
    offsets = tokenizer(post, **_PLAIN, return_offsets_mapping=True)
    starts = [start for start, _ in offsets["offset_mapping"]]
    kept = post[: starts[-min(excess, len(starts))]]
    if (cut := kept.rfind("\n")) > 0:
        return kept[:cut].rstrip()
    ends = [match.start() for match in _SENTENCE_END.finditer(kept)]
    if not ends and not post[len(kept)].isspace():  # within a word
        ends = [max(kept.rfind(" "), 0)]
    return kept[: ends[-1] if ends else len(kept)].rstrip()


def make_post_prompts(
    posts: pd.DataFrame, tokenizer: Any, split: str, settings: Mapping[str, Any]
) -> pd.DataFrame:
    """Prompts of one split: in-domain ones to train on, both domains in equal parts to test.

    Args:
        posts: Rows of schema "posts".
        tokenizer: A Hugging Face tokenizer of the reference.
        split: ``train`` or ``test``.
        settings: The section ``prompts`` of the config.

    Returns:
        Schema "prompts", those of a domain together.

    Raises:
        ConfigError: If an odd number of test prompts is requested.
        DataError: If a domain has fewer posts than are needed.
    """
    total, domains = settings[f"num_{split}"], [IN_DOMAIN]
    if split == "test":
        domains = [IN_DOMAIN, OUT_OF_DOMAIN]
        if total % 2:
            raise ConfigError(f"prompts.num_test is {total}; two equal domains need an even number")
    parts = []
    for domain in domains:
        rows = posts[(posts["part"] == split) & (posts["domain"] == domain)]
        parts.append(_prompts(rows, tokenizer, total // len(domains), settings["max_tokens"]))
    frame = pd.concat(parts, ignore_index=True)
    sizes = frame["domain"].value_counts()
    assert sizes.nunique() == 1, f"domains of {split} prompts differ in size: {sizes.to_dict()}"
    return frame


def _prompts(rows: pd.DataFrame, tokenizer: Any, count: int, max_tokens: int) -> pd.DataFrame:
    """The first ``count`` distinct prompts of posts of one domain."""
    first = first_ids(tokenizer)
    texts = prompt_texts(rows, tokenizer, max_tokens - len(first))
    frame = rows[["source_id", "domain"]].assign(prompt=texts)
    frame = frame.drop_duplicates("prompt", ignore_index=True)
    if len(frame) < count:
        raise DataError(
            f"prompts: {len(rows)} posts give {len(frame)} distinct prompts, {count} are "
            "requested; raise posts.num_posts, change posts.in_domain or request fewer prompts"
        )
    frame = frame.head(count)
    encoded = tokenizer(frame["prompt"].tolist(), **_PLAIN)["input_ids"]
    frame["prompt_ids"] = ids = [begun(one, first) for one in encoded]
    keys = zip(frame["source_id"], ids, strict=True)
    frame["prompt_id"] = [prompt_id(source, tokens) for source, tokens in keys]
    return frame[["prompt_id", "prompt", "prompt_ids", "source_id", "domain"]]
