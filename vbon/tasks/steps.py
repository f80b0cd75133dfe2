"""Steps that make a task: its texts, models and prompts, or a whole language at once."""

import json
import shutil
from pathlib import Path
from typing import Any

from vbon.artifacts import read_table, write_table
from vbon.artifacts.fingerprint import MEASURED, content_hash, digest, provenance
from vbon.artifacts.measured import measured
from vbon.artifacts.snapshots import snapshot, snapshot_file
from vbon.artifacts.steps import Input, Job, Model, Output, step
from vbon.artifacts.storage import atomic_folder
from vbon.artifacts.tables import write_json, write_record
from vbon.pool import steps as pool
from vbon.seeding import derive_seed
from vbon.tasks.base import ROLES
from vbon.tasks.cautions import cautions_of, counted
from vbon.tasks.registry import Section, make_task
from vbon.tasks.special_tokens import beginning


@step
def texts(task: Section, seed: int, output: Output, job: Job) -> None:
    """Load or write the texts of a task and assign each to one purpose."""
    frame = task.texts(seed)
    print(f"{len(frame)} texts, {frame.attrs.get('duplicates', 0)} repeated texts dropped")
    write_table(output, frame, "texts", job.provenance(task=task))


@step(needs_gpu=True)
def build(role: str, task: Section, texts: Input, seed: int, card: Output, job: Job) -> None:
    """Train a model from scratch on its part of the texts, or point to one that exists.

    The card (metrics and provenance) is in the folder only when the model is complete.
    """
    path, settings = Path(card), task.section[role]
    path.unlink(missing_ok=True)  # of another model
    with atomic_folder(path.parent) as folder:
        metrics: dict[str, float] = {}
        record = job.provenance(task=task)
        if (file := _gguf_of(settings)) is not None:
            from vbon.models.gguf import convert

            record |= {"weights": convert(file, folder)}
            record["inputs"]["gguf"], record["paths"]["gguf"] = content_hash(file), str(file)
            record["key"] = digest([record["key"], record["inputs"]])
        elif settings["id"] is not None:
            _point(folder, settings)
            if role != "reference":
                from vbon.rewards import load_reward_model

                load_reward_model(folder)  # an error now, not after the draws
        elif settings.get("callable") is not None:
            _copy_function(folder, *settings["callable"].rsplit(":", 1))
        else:
            import torch

            torch.set_num_threads(1)
            rows = read_table(texts, "texts")
            part = rows[rows["part"] == role]
            metrics = task.train_model(role, part, derive_seed(seed, role), folder)
        write_record(folder / path.name, {"metrics": metrics, **record, MEASURED: measured()})


def _gguf_of(settings: dict[str, Any]) -> Path | None:
    """The GGUF file of a model; None for another kind of model."""
    if settings.get("gguf_file") is not None:
        return snapshot_file(settings["id"], settings["gguf_file"], settings["revision"])
    return Path(settings["gguf"]).expanduser() if settings.get("gguf") is not None else None


def _point(folder: Path, settings: dict[str, Any]) -> None:
    """Name a model by a commit of the hub, or by the content of a folder, with its reading."""
    from vbon.models.adapters import base_of
    from vbon.models.loading import POINTER

    target = _target(settings["id"], settings["revision"])
    unset: dict[str, Any] = {"label": None, "chat": False}
    target |= {
        key: settings[key] for key in unset if settings.get(key, unset[key]) is not unset[key]
    }
    place = Path(settings["id"]).expanduser()
    base = base_of(place if place.is_dir() else snapshot(target["id"], target["revision"]))
    if base is not None and base[2] != place:
        target["base"] = {"id": base[0], "content": content_hash(base[2])}
    write_json(folder / POINTER, target)


def _target(name: str, revision: str | None) -> dict[str, Any]:
    if Path(name).expanduser().is_dir():
        return {"id": name, "content": content_hash(Path(name).expanduser())}
    return {"id": name, "revision": snapshot(name, revision).name, "asked": revision}


def _copy_function(folder: Path, file: str, name: str) -> None:
    """Copy the source of a reward function, and its name."""
    from vbon.rewards.function import NAME, SOURCE, load_function

    load_function(file, name)
    shutil.copyfile(file, folder / SOURCE)
    load_function(folder / SOURCE, name)  # not if it reads data beside the file
    (folder / NAME).write_text(f"{name}\n")


@step
def prompts(
    task: Section, texts: Input, reference: Model, seed: int, train: Output, test: Output, job: Job
) -> None:
    """Make the training and the test prompts, which are disjoint."""
    from vbon.models.language_model import load_tokenizer

    # Of the reference only the tokenizer is read: another model with it has the same prompts.
    record, rows = job.provenance(task=task, reference=None), read_table(texts, "texts")
    tokenizer, taken = load_tokenizer(reference), []
    for split, path in {"train": train, "test": test}.items():
        frame = task.prompts(rows, tokenizer, split, seed, taken)
        taken = frame["prompt_ids"].tolist()
        if any(first := [beginning(tokenizer, ids) for ids in taken]):
            frame["begins_with"] = first
        print(f"{split} prompts begin with {first[0] or 'no special token'}")
        chats = map(json.loads, frame["messages"]) if "messages" in frame else [None] * len(taken)
        cautions = [cautions_of(tokenizer, *each) for each in zip(taken, chats, strict=True)]
        if any(cautions):
            frame["cautions"] = list(map(list, cautions))
        for line in counted(cautions, split):
            print(f"warning: {line}")
        write_table(path, frame, "prompts", record)


@step
def languages(roots: dict[str, Any], seed: int) -> None:
    """Write the language of each root, and its reference pool by the same steps as other tasks.

    All share this process: each step takes less time than loading its libraries.
    """
    for folder, section in roots.items():
        task = make_task(section)
        record = provenance({"seed": seed, **section}, {}, languages.roots(task=task))
        task.write(Path(folder), seed, record)
        for split in ("train", "test"):
            _pool(folder, split, section, seed)
        if section["exact_cdf"]:
            _add_exact_cdf(Path(folder), record)
        print(f"{folder}: {section['policy_class']} policy, {section['reward']} reward", flush=True)


def _pool(folder: str, split: str, section: dict[str, Any], seed: int) -> None:
    """Draw, score and sort the pool of one split."""
    sampling, pools = section["sampling"], f"{folder}/reference"
    test_draws = sampling["test_draws"] + sampling["fresh_draws"]
    shown, samples = f"{folder}/prompts/{split}.parquet", f"{pools}/samples/{split}.parquet"
    rewards = f"{pools}/rewards/{split}.parquet"
    models = {role: f"{folder}/models/{role}" for role in ROLES}
    pool.sample(
        prompts=shown, reference=models["reference"], drawing=sampling, shard=0, seed=seed,
        draws=sampling["train_draws"] if split == "train" else test_draws,
        temperatures=[sampling["temperature"]], samples=[samples],
        seconds=[f"{pools}/seconds/samples-{split}-0.json"],
    )  # fmt: skip
    pool.score(
        prompts=shown, **models, samples=[samples], scoring=section["rewards"], rewards=[rewards],
        seconds=[f"{pools}/seconds/rewards-{split}-0.json"],
    )  # fmt: skip
    used = section["logf"]["m"] if split == "train" else sampling["test_draws"]
    pool.logf(rewards=rewards, draws=used, output=f"{pools}/logf/{split}.parquet")


def _add_exact_cdf(folder: Path, record: dict[str, Any]) -> None:
    """Add the exact reward distribution to the pool's in the log F table."""
    from vbon.objectives.oracle import reward_levels
    from vbon.rewards.base import TRANSFORMS

    transform = TRANSFORMS[record["settings"]["rewards"]["transform"]]
    strings = read_table(folder / "data/strings.parquet", "strings")
    path = folder / "reference/logf/train.parquet"
    table = read_table(path, "logf").set_index("prompt_id")
    exact = {
        name: reward_levels(transform(group["reward"].to_numpy()), group["log_prob"].to_numpy())
        for name, group in strings.groupby("prompt_id", sort=False)
    }
    for column, name in zip(range(3), ("levels", "log_below", "log_level"), strict=True):
        table[name] = [exact[prompt][column] for prompt in table.index]
    write_table(path, table.reset_index(), "logf", record)
