"""Posts that ask for advice, with summaries of them, from a seeded grammar.

A post states a few facts (who, for how long, what happened to what, how it feels, what to do),
each with words from its own class, among irrelevant sentences. A summary repeats some of the
facts, possibly wrongly, and may ramble; its hidden quality is the sum over these. Unlike for real
posts, the content of an ideal summary is therefore known.
The posts are synthetic: only results that do not depend on English carry over to real text.
"""

import math
import random
from collections.abc import Mapping

import pandas as pd

from vbon.errors import ConfigError
from vbon.seeding import derive_seed


def _listed(text: str) -> tuple[str, ...]:
    return tuple(" ".join(text.split()).split(", "))


def _topic(*words: str) -> dict[str, tuple[str, ...]]:
    """Words of a subreddit, by class."""
    return dict(zip(("who", "did", "what", "plan"), map(_listed, words), strict=True))


_LOVE = _topic(
    "girlfriend, boyfriend, wife, husband, fiance, ex, crush, partner",
    "forgot, cancelled, ruined, hid, faked, read, mocked, missed",
    "birthday, wedding, texts, trip, anniversary, diary, dinner, secret",
    "leave, forgive, confront, marry, trust, apologize",
)
TOPICS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "relationships": _LOVE,
    "relationship_advice": _LOVE,
    "jobs": _topic(
        "boss, manager, coworker, client, recruiter",
        "rejected, stole, delayed, cut, questioned",
        "salary, report, promotion, contract, interview",
        "quit, complain, negotiate, resign",
    ),
    "legaladvice": _topic(
        "landlord, neighbor, tenant, lawyer, roommate",
        "broke, damaged, kept, blocked, sold",
        "lease, fence, deposit, driveway, window",
        "sue, move, settle, pay",
    ),
    "dogs": _topic(
        "puppy, terrier, beagle, poodle, collie",
        "ate, chewed, buried, scratched, dropped",
        "shoes, leash, sofa, carpet, blanket",
        "train, adopt, walk, feed",
    ),
}
"""Subreddits; the first two share a topic."""

OPEN = {
    "span": _listed("two, three, four, five, six, seven, eight, nine"),
    "unit": _listed("days, weeks, months, years"),
    "feeling": _listed("hurt, angry, lost, guilty, scared, jealous, lonely, confused"),
    "food": _listed("pizza, soup, pasta, salad, rice"),
    "weather": _listed("rainy, sunny, cold, windy, foggy"),
    "day": _listed("monday, friday, sunday, tuesday"),
}
"""Words that every subreddit uses; the last three classes occur only in irrelevant sentences."""

_EVENT = "{who} {did} the {what}"
TITLES = ("need help with my {who}", f"my {_EVENT}", "am i wrong to {plan}", "i feel {feeling}")
EVENTS = (f"my {_EVENT}", "my {who} just {did} the {what}", f"so my {_EVENT}")
"""Beginnings of a summary."""

CLAUSES = {
    ("span", "unit"): ("after {span} {unit}", "{span} {unit} in", "{span} {unit} together"),
    ("feeling",): ("feeling {feeling}", "left me {feeling}", "{feeling} since"),
    ("plan",): ("wondering whether to {plan}", "could {plan}", "maybe {plan}"),
}
"""Clauses that may follow in any order, by the facts that they state."""

WORTH = {"who": 1.2, "did": 1.2, "what": 1.2, "span": 0.5, "unit": 0.5, "feeling": 0.7, "plan": 1.0}
"""Quality that each right fact adds to a summary."""
WRONG_COST = 0.5
"""Quality that a wrong fact costs, as a share of the worth of the right one."""
RAMBLE_COST = 1.0
"""Quality that an irrelevant clause costs."""
RATER_SLOPE = 3.0
"""Log-odds of preferring one of two summaries, per unit of difference in quality."""
LAZY_SHARE = 0.1
"""Share of the rated pairs in which one summary is only the beginning of the post."""
LAZY_COST = 2.0
"""Quality that such a beginning costs, whatever facts it has."""
SKILLS = (0.4, 0.6, 0.8, 0.95)
"""Skills of writers, one drawn per summary: a higher one makes right facts more likely."""


class _Writer:
    """Writer of successive posts from one stream of random numbers."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def pick(self, subreddit: str, name: str) -> str:
        return self.random.choice(OPEN.get(name) or TOPICS[subreddit][name])

    def facts(self, subreddit: str) -> dict[str, str]:
        return {name: self.pick(subreddit, name) for name in WORTH}

    def aside(self) -> str:
        """An irrelevant sentence."""
        food, weather, day = (self.random.choice(OPEN[name]) for name in ("food", "weather", "day"))
        asides = f"we had {food} on {day}.", f"it was {weather} here.", f"i do like {food}."
        return self.random.choice(asides)

    def title(self, facts: Mapping[str, str]) -> str:
        return self.random.choice(TITLES).format(**facts)

    def post(self, facts: Mapping[str, str]) -> str:
        """Two paragraphs with all facts in random order and the question last."""
        choose, event = self.random.choice, "then my {who} {did} the {what}."
        first = choose(("i met my {who} {span} {unit} ago.", "my {who} came {span} {unit} ago."))
        feeling = choose(("now i feel {feeling}.", "it makes me {feeling}."))
        sentences = [first, event, feeling, self.aside()]
        self.random.shuffle(sentences)
        question = choose(("should i {plan}?", "is it time to {plan}?"))
        text = "\n".join((" ".join(sentences[:2]), " ".join((*sentences[2:], question))))
        return text.format(**facts)

    def summary(self, subreddit: str, facts: Mapping[str, str]) -> tuple[str, float]:
        """A summary by a writer of random skill, and its hidden quality."""
        draw, skill = self.random.random, self.random.choice(SKILLS)
        said, value = dict(facts), dict(WORTH)
        for name, worth in WORTH.items():
            if draw() > 0.5 + skill / 2:
                said[name] = self.pick(subreddit, name)
                value[name] = worth if said[name] == facts[name] else -WRONG_COST * worth
        clauses = []
        for names, wordings in CLAUSES.items():
            if draw() < skill:
                clauses.append(self.random.choice(wordings).format(**said))
            else:
                value |= dict.fromkeys(names, 0.0)
        quality = sum(value.values())
        self.random.shuffle(clauses)
        parts = [self.random.choice(EVENTS).format(**said), *clauses]
        if draw() > skill:
            where = self.random.randrange(1, len(parts) + 1)
            parts.insert(where, f"anyway {self.aside()}".removesuffix("."))
            quality -= RAMBLE_COST
        return ", ".join(parts) + ".", quality


def _beginning(post: str, facts: Mapping[str, str], words: int) -> tuple[str, float]:
    """The first words of a post in place of a summary, and their hidden quality."""
    lead = " ".join(post.split()[:words])
    said = set(lead.replace(".", " ").replace("?", " ").split())
    quality = sum(worth for name, worth in WORTH.items() if facts[name] in said)
    asides = said & {*OPEN["food"], *OPEN["weather"]}
    return lead, quality - LAZY_COST - RAMBLE_COST * bool(asides)


def write_posts(num_posts: int, seed: int) -> pd.DataFrame:
    r"""Write distinct posts, each with a reference summary and a pair of rated ones.

    Half of the posts are of the first two subreddits. The rated summaries have hidden qualities
    :math:`q_1, q_2`; the first is preferred with log-odds :math:`\lambda (q_1 - q_2)`.

    Args:
        num_posts: Number of posts, at least 1.
        seed: Equal seeds give equal posts.

    Returns:
        Columns ``subreddit``, ``title``, ``post``, ``summary``, ``chosen``, ``rejected``: text.

    Raises:
        ConfigError: If ``num_posts`` is below one.

    Example:
        >>> posts = write_posts(100, seed=0)
        >>> len(posts), bool(posts["post"].is_unique), bool((posts.chosen != posts.rejected).all())
        (100, True, True)
    """
    if num_posts < 1:
        raise ConfigError(f"posts.num_posts is {num_posts}; set it to at least 1")
    writer = _Writer(derive_seed(seed, "posts"))
    subreddits = list(TOPICS)
    shares = [0.25, 0.25, *[0.5 / (len(subreddits) - 2)] * (len(subreddits) - 2)]
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < num_posts:
        subreddit = writer.random.choices(subreddits, shares)[0]
        facts = writer.facts(subreddit)
        title, post = writer.title(facts), writer.post(facts)
        summary, _ = writer.summary(subreddit, facts)
        rated = _rated(writer, subreddit, facts, post)
        row = {"subreddit": subreddit, "title": title, "post": post, "summary": summary, **rated}
        rows.setdefault(post, row)
    return pd.DataFrame(list(rows.values()))


def _rated(writer: _Writer, subreddit: str, facts: Mapping[str, str], post: str) -> dict[str, str]:
    """Two different summaries, the one that the rater prefers first."""
    first, second = writer.summary(subreddit, facts), writer.summary(subreddit, facts)
    if writer.random.random() < LAZY_SHARE:
        second = _beginning(post, facts, writer.random.randint(8, 20))
    while first[0] == second[0]:
        second = writer.summary(subreddit, facts)
    gap = RATER_SLOPE * (first[1] - second[1])
    if writer.random.random() >= 1 / (1 + math.exp(-gap)):
        first, second = second, first
    return {"chosen": first[0], "rejected": second[0]}
