"""The verb ``prefetch``: fetch the models and datasets of a configuration from the hub."""

from pathlib import Path

from vbon.artifacts.snapshots import check_cache
from vbon.artifacts.steps import json_word
from vbon.artifacts.tables import write_json
from vbon.cli.options import config_parser


def prefetch(arguments: list[str]) -> None:
    """Fetch every model and dataset that a configuration takes from the hub, once.

    Everything else works with the hub switched off.
    """
    from vbon.planning.config import load
    from vbon.planning.hub import fetch, hub_sources

    options = config_parser("prefetch", prefetch.__doc__)
    options.add_argument("--sources", type=json_word, help="{place: [kind, id, revision]} instead")
    options.add_argument("--output", help="output, .json: the commit of each")
    args = options.parse_args(arguments)
    sources = args.sources
    if sources is None:
        sources = hub_sources(load(["config.yaml", *args.config, *args.configfile]))
    if sources:
        from huggingface_hub import constants

        check_cache("hub", constants.HF_HUB_CACHE)
    commits = {}
    for place, (kind, name, revision, *file) in sources.items():
        commit = fetch(place, kind, name, revision, *file)
        commits[place] = {"kind": kind, "id": name, "revision": revision, "commit": commit}
        print(f"{place}: {name} at {commit}", flush=True)
    if not sources:
        print("nothing is taken from the hub")
    if args.output:
        write_json(Path(args.output), commits)
