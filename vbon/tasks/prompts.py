"""Prompts of a data set of the user's: texts or conversations, with rows that rewards may read."""

import copy
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd

from vbon.artifacts.encoding import parsed
from vbon.errors import ConfigError, DataError
from vbon.tasks.base import ROLES, Task, TextTask, is_built
from vbon.tasks.registry import register
from vbon.tasks.special_tokens import chat_ids, text_ids
from vbon.tasks.texts import check_rows, distinct, prompt_id, read_rows, shuffled, with_test_rows

_LOG = logging.getLogger(__name__)
Messages = list[dict[str, Any]]
"""A conversation: role and content of each turn, and what else a chat template may read."""


@register
class OwnPrompts(TextTask):
    """Answer prompts of a data set so that a reward model or function is pleased."""

    schema = "prompts_section"
    texts_key = "prompts"
    has_ties = True
    # The others compare with optima for rewards without ties.
    tables = (
        *Task.tables, "data", "convergence", "prompt_means", "matched", "orderings", "inference",
        "trials", "unequal",
    )  # fmt: skip

    @classmethod
    def filled(cls, section: dict[str, Any]) -> dict[str, Any]:
        """The section, with the reward model as evaluator if it names none."""
        given = section.get("evaluator")
        if isinstance(given or {}, dict) and not any((given or {}).values()):
            return {**section, "evaluator": copy.deepcopy(section.get("reward_model", {}))}
        return section

    def check(self, where: str) -> None:
        """Refuse also models to be built, and a section without prompts."""
        super().check(where)
        settings = self.section["prompts"]
        for role in ROLES:
            if is_built(self.section[role]):
                also = ", or the GGUF file of one" if role == "reference" else ", or a callable"
                raise ConfigError(
                    f"{where}.{role}.id: null is not allowed, since tasks of kind {self.kind} "
                    f"build no model; give an id or a local folder{also}"
                )
        for key in ("source", "test_source"):
            if settings[key] == "grammar" or (settings[key] is None and key == "source"):
                raise ConfigError(
                    f"{where}.prompts.{key}: {settings[key]!r} is not allowed; give a file or "
                    "folder with your prompts, or a dataset id"
                )
        if self.section["logf"]["estimator"] == "ibs" and self.section["logf"]["pooled_ties"]:
            raise ConfigError(
                f"{where}.logf.estimator: 'ibs' is not allowed with pooled_ties, for which it has "
                "no stored draws; give add1, or pooled_ties: false if no rewards tie"
            )
        if settings["system"] is not None and not settings["chat"]:
            raise ConfigError(
                f"{where}.prompts.system: a system message is not allowed without a chat template; "
                "give chat: true, or null"
            )

    def check_rows(self, where: str) -> None:
        """Refuse rows that give no prompt, and fewer distinct ones than are requested."""
        settings = self.section["prompts"]
        read: dict[str, tuple[str, ...]] = {"source": ("num_train", "num_test")}
        if settings["test_source"] is not None:
            read = {"source": ("num_train",), "test_source": ("num_test",)}
        for key, names in read.items():
            source, needed = settings[key], sum(settings[name] for name in names)
            place = f"{where}.prompts.{key}"
            found = check_rows(source, place, lambda *row: self._checked(*row)[0], needed)
            if found < needed:
                raise ConfigError(
                    f"{place}: {source!r} has {found} distinct prompts, {needed} are requested; "
                    f"give more rows, or lower {where}.prompts.{' or '.join(names)}"
                )

    def texts(self, seed: int) -> pd.DataFrame:
        """Rows of the data set with distinct prompts, each for training or the test."""
        settings = self.section["prompts"]
        rows = distinct(self._read(settings["source"], "source"), "text", None, seed)
        if settings["test_source"] is not None:
            rows = with_test_rows(rows, self._read(settings["test_source"], "test_source"), "text")
            parts = rows.pop("for_test").map({True: "test", False: "train"})
            return _with_parts(rows, parts.tolist())
        share = settings["test_share"]
        if share is None:
            share = settings["num_test"] / (settings["num_test"] + settings["num_train"])
        order = shuffled(rows["text"], seed, "split")
        tested = set(order[: round(share * len(rows))])
        return _with_parts(rows, ["test" if row in tested else "train" for row in range(len(rows))])

    def _read(self, source: str, key: str) -> pd.DataFrame:
        """Checked rows of a source: content, conversation and the row itself as texts."""
        settings = self.section["prompts"]
        read = read_rows(source, f"prompts.{key}", settings["revision"])
        rows = [(name, *self._checked(row, place)) for name, place, row in read]
        if not rows:
            raise DataError(f"prompts.{key} {source!r} has no rows; give at least one")
        return pd.DataFrame(rows, columns=["source_id", "text", "messages", "row"])

    def _checked(self, row: Any, place: str) -> tuple[str, str | None, str]:
        """Content of a row's prompt, its conversation as JSON if it is one, and the row as JSON."""
        settings, record = self.section["prompts"], _as_json(row)
        if not isinstance(row, dict):
            raise DataError(f"{place}: is not a JSON object but {type(row).__name__}")
        messages = self._messages(row, place)
        if not settings["chat"]:
            return messages[0]["content"], None, record
        if str(row.get("tools")).startswith("[{"):  # a list, or its JSON
            raise DataError(
                f"{place}: column 'tools' has functions, which are not given to the chat template; "
                "describe them in a message, or rename the column"
            )
        if settings["system"] is not None and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": settings["system"]}, *messages]
        plain = messages == [{"role": "user", "content": messages[0].get("content")}]
        written = _as_json(messages)
        return messages[0]["content"] if plain else written, written, record

    def _messages(self, row: dict[str, Any], place: str) -> Messages:
        """A row's conversation, or its prompt as the message of a user."""
        settings = self.section["prompts"]
        prompt, column = settings["prompt_column"], settings["messages_column"]
        blank = row.get(column) in (None, "", [])
        if blank and row.get(prompt) and isinstance(row[prompt], list):  # as in TRL's data sets
            blank, column = False, prompt
        if not blank:
            if settings["chat"]:
                return _conversation(row[column], f"{place}: column {column!r}")
            raise DataError(
                f"{place}: column {column!r} is a conversation, which needs the chat template; "
                "give prompts.chat: true"
            )
        if prompt not in row:
            raise DataError(
                f"{place}: no column {prompt!r} (prompts.prompt_column) or {column!r} "
                f"(prompts.messages_column); columns found: {', '.join(map(str, row))}"
            )
        if not isinstance(row[prompt], str) or not row[prompt].strip():
            raise DataError(f"{place}: column {prompt!r} is empty or not text; got {row[prompt]!r}")
        return [{"role": "user", "content": row[prompt]}]

    def prompts(
        self, texts: pd.DataFrame, tokenizer: Any, split: str, seed: int, taken: list[list[int]]
    ) -> pd.DataFrame:
        """Prompts of the part's rows, in an order by their content; too long ones are dropped."""
        settings, count = self.section["prompts"], self.section["prompts"][f"num_{split}"]
        rows = texts[texts["part"] == split].reset_index(drop=True)
        rows = rows.iloc[shuffled(rows["text"], seed, "choice")]
        seen, kept, long = {tuple(map(int, ids)) for ids in taken}, [], 0
        for row in rows.itertuples():
            if settings["chat"]:
                ids = chat_ids(tokenizer, json.loads(row.messages), row.source_id)
            else:
                ids = text_ids(tokenizer, row.text)
            if len(ids) > settings["max_tokens"]:
                long += 1
            elif tuple(ids) not in seen:
                seen.add(tuple(ids))
                kept.append((row, ids))
            if len(kept) == count:
                break
        counts = f"{long} have more than prompts.max_tokens = {settings['max_tokens']} tokens"
        if len(kept) < count:
            raise DataError(
                f"prompts: {len(rows)} rows for {split} give {len(kept)} distinct prompts, {count} "
                f"are requested ({counts}); give more rows, lower prompts.num_{split}, or change "
                "prompts.test_share or max_tokens"
            )
        _LOG.info("%d %s prompts of %d rows (%s)", count, split, len(rows), counts)
        frame = pd.DataFrame(
            [
                (prompt_id(row.source_id, ids), ids, row.source_id, row.messages, row.row)
                for row, ids in kept
            ],
            columns=["prompt_id", "prompt_ids", "source_id", "messages", "row"],
        )
        shown = tokenizer.batch_decode(frame["prompt_ids"].tolist(), skip_special_tokens=True)
        frame.insert(1, "prompt", shown)
        return frame.assign(domain="all").dropna(axis="columns", how="all")

    def train_model(self, role: str, texts: pd.DataFrame, seed: int, folder: Path) -> NoReturn:
        """Refuse: every model of this kind exists."""
        raise ConfigError(f"{role}: tasks of kind {self.kind} build no model; give an id")

    def quantities(self, texts: pd.DataFrame) -> dict[str, float]:
        """Number of rows with distinct prompts, and share of those that are conversations."""
        return {
            "num_texts": float(len(texts)),
            "chat_share": float(texts["messages"].notna().mean()),
        }


def _with_parts(rows: pd.DataFrame, parts: Sequence[str]) -> pd.DataFrame:
    """Rows of schema "texts"; the count of repeated prompts stays."""
    frame = rows.assign(part=list(parts))
    frame.attrs["duplicates"] = rows.attrs.get("duplicates", 0)
    return frame


def _as_json(value: Any) -> str:
    """A value as JSON; what JSON lacks (a date, a decimal number) as text."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _conversation(value: Any, where: str) -> Messages:
    """Turns of a conversation that an answer can follow.

    Raises:
        DataError: If it is no list of roles and contents, or ends with an answer.
    """
    if isinstance(value, str):
        try:
            value = parsed(value)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where} is text that is not JSON; give a list of messages") from error
    turns = list(_turns(value, where))
    if not turns or turns[-1]["role"] == "assistant":
        raise DataError(
            f"{where} {'ends with an answer' if turns else 'is empty'}; the last message must be "
            "one that an answer follows"
        )
    return turns


def _turns(value: Any, where: str) -> Iterator[dict[str, Any]]:
    """Messages as a chat template reads them: without the keys that tables fill with null."""
    for number, turn in enumerate(value if isinstance(value, list) else [value]):
        given = turn if isinstance(turn, dict) else {}
        given = {key: item for key, item in given.items() if item is not None}
        content = given.get("content", "" if given.get("tool_calls") else None)
        if not isinstance(given.get("role"), str) or not isinstance(content, str):
            parts = ", and no parts such as images" if isinstance(content, list) else ""
            raise DataError(
                f"{where}, message {number + 1}: needs the texts 'role' and 'content'{parts}; got "
                f"{str(turn)[:80]!r}"
            )
        yield given
