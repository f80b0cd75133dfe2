"""Movie reviews from a seeded grammar: the texts of the embedded sentiment task.

Every evaluative word has a grade in about [-3, 3], and a review's sentiment is the sum over its
clauses of grade × intensity × importance of the aspect. A review leans one way (its tendency),
but each clause draws its own polarity around it, so a short prefix leaves the sentiment open and
a continuation has a graded, nearly continuous sentiment.
The reviews are synthetic: only results that do not depend on English carry over to real text.
"""

import math
import random
from functools import lru_cache

import pandas as pd

from vbon.errors import ConfigError
from vbon.seeding import derive_seed

# Standard deviations of reviews' tendencies, of clauses within a review, of words around a grade.
TENDENCY_SD, CLAUSE_SD, WORD_SD = 1.1, 1.4, 0.6
# Reviewers disagree: the label is drawn with log-odds LABEL_SLOPE × sentiment.
LABEL_SLOPE = 1.0


def _graded(text: str) -> dict[str, float]:
    pairs = (entry.rsplit(" ", 1) for entry in " ".join(text.split()).split(", "))
    return {word: float(grade) for word, grade in pairs}


def _listed(text: str) -> tuple[str, ...]:
    return tuple(" ".join(text.split()).split(", "))


GRADED = {
    name: _graded(text)
    for name, text in {
        "adjective": """flawless 3, brilliant 2.8, superb 2.6, excellent 2.4, wonderful 2.3,
        gripping 2, moving 1.8, charming 1.6, clever 1.5, funny 1.3, fresh 1.2, good 1,
        pleasant 0.9, solid 0.8, decent 0.5, fine 0.4, average 0, ordinary -0.2, uneven -0.5,
        slow -0.7, thin -0.9, weak -1.1, tired -1.3, flat -1.4, silly -1.5, clumsy -1.6,
        bad -1.8, boring -1.9, painful -2.3, awful -2.5, dreadful -2.6, terrible -2.7,
        hopeless -2.9""",
        "verb": """dazzles 2.6, soars 2.4, delights 2.1, shines 1.8, convinces 1.3, works 0.9,
        improves 0.6, survives 0.2, fades -0.4, wanders -0.6, sags -0.9, drags -1.1,
        disappoints -1.6, fails -2, collapses -2.4""",
        "feeling": """adored 2.7, loved 2.3, admired 1.7, enjoyed 1.4, liked 1, accepted 0.2,
        noticed 0, tolerated -0.5, disliked -1.2, endured -1.5, regretted -1.8, hated -2.4,
        despised -2.8""",
        "noun": """triumph 2.8, gem 2.5, delight 2.2, treat 1.9, surprise 1.1, success 1.4,
        puzzle -0.1, muddle -1, letdown -1.5, bore -1.9, mess -2.2, waste -2.4, disaster -2.8""",
        "score": """zero -2.9, one -2.3, two -1.7, three -1.2, four -0.6, five 0, six 0.6,
        seven 1.1, eight 1.7, nine 2.3, ten 2.9""",
        "advice": """gladly 2.2, happily 1.8, certainly 1.5, probably 0.8, perhaps 0.2,
        barely -0.9, never -2.2""",
        "fate": """an award 2.5, praise 1.8, a sequel 1.3, a second chance 0.3, a shrug -0.4,
        neglect -1.4, contempt -2.3""",
    }.items()
}
ASPECTS = _graded("""plot 1.3, story 1.3, acting 1.2, ending 1.2, script 1.1, direction 1.1,
    cast 1, finale 1, pace 0.9, dialogue 0.9, romance 0.8, action 0.8, humor 0.8, premise 0.8,
    tone 0.8, hero 0.8, villain 0.7, music 0.7, camera work 0.7, soundtrack 0.6, editing 0.6,
    opening 0.6, dancing 0.5, scenery 0.5, lighting 0.4""")
INTENSITY = _graded("""absolutely 1.4, utterly 1.4, remarkably 1.3, truly 1.25, really 1.2,
    very 1.2, simply 1.1, quite 1, rather 0.8, fairly 0.7, somewhat 0.6, slightly 0.5""")
NEGATION = _graded("not -0.7, never -0.8, hardly -0.6")
NEUTRAL = {
    name: _listed(text)
    for name, text in {
        "who": """i, we, my sister, my brother, my husband, my daughter, a friend, our neighbor,
        a colleague, the critics, the children, my wife""",
        "whom": """my sister, my brother, a friend, our neighbor, a colleague, the children,
        a stranger""",
        "watched": "watched, saw, rented, finished, borrowed, caught, streamed, bought",
        "kind": """comedy, drama, thriller, western, mystery, musical, documentary, cartoon,
        sequel, remake, film, movie, picture, production""",
        "when": """last night, yesterday, on sunday, on a plane, after dinner, at home,
        at a festival, this morning, with friends, alone, in a small theater, years ago,
        during the holidays, in the summer""",
        "where": """paris, london, tokyo, rome, berlin, texas, chicago, mexico, india, norway,
        a village, a castle, a prison, a hospital""",
        "era": "twenties, thirties, fifties, sixties, seventies, eighties, nineties",
        "person": """detective, farmer, doctor, soldier, singer, teacher, pilot, widow, thief,
        boxer, painter, sailor, lawyer, robot, ghost, banker, stranger, king""",
        "does": """meets, fights, follows, marries, betrays, protects, hires, robs, rescues,
        teaches, hides from, runs from, searches for, falls for""",
        "trait": "young, shy, rich, poor, lonely, famous, foreign, quiet, retired, blind",
        "length": "one, two, three, four",
        "adverb": """honestly, frankly, overall, in short, to be fair, in my opinion,
        as expected, again""",
    }.items()
}
FACTS = (
    "it takes place in {where} in the {era}.",
    "it runs about {length} hours.",
    "a {trait} {person} {does} the {trait} {person}.",
    "the director made a {kind} about a {person} in the {era}.",
    "{who} {watched} it {when}.",
)

Clause = tuple[str, float]


@lru_cache(maxsize=4096)
def _weights(category: str, tenths: int) -> tuple[float, ...]:
    target = tenths / 10
    return tuple(
        math.exp(-0.5 * ((grade - target) / WORD_SD) ** 2) for grade in GRADED[category].values()
    )


class _Writer:
    """Writer of successive reviews from one stream of random numbers."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.tendency = 0.0

    def neutral(self, category: str) -> str:
        return self.random.choice(NEUTRAL[category])

    __getitem__ = neutral  # each field of a format draws a word

    def among(self, table: dict[str, float]) -> Clause:
        return self.random.choice(list(table.items()))

    def polarity(self) -> float:
        return self.random.gauss(self.tendency, CLAUSE_SD)

    def graded(self, category: str, target: float) -> Clause:
        """Draw a word whose grade is near the target."""
        words = list(GRADED[category].items())
        tenths = round(10 * max(-3.0, min(3.0, target)))
        return self.random.choices(words, _weights(category, tenths))[0]

    def quality(self, target: float) -> Clause:
        """An adjective, perhaps intensified or negated."""
        draw = self.random.random()
        if draw < 0.45:
            return self.graded("adjective", target)
        table = INTENSITY if draw < 0.88 else NEGATION
        modifier, factor = self.among(table)
        adjective, grade = self.graded("adjective", target / factor)
        return f"{modifier} {adjective}", factor * grade

    def opinion(self, target: float) -> Clause:
        """A clause about one aspect."""
        aspect, importance = self.among(ASPECTS)
        draw = self.random.random()
        if draw < 0.55:
            verb = self.random.choice(("is", "seems", "was", "felt"))
            words, grade = self.quality(target)
            return f"the {aspect} {verb} {words}", importance * grade
        if draw < 0.8:
            word, grade = self.graded("verb", target)
            return f"the {aspect} {word}", importance * grade
        word, grade = self.graded("feeling", target)
        return f"{self.neutral('who')} {word} the {aspect}", importance * grade

    def compound(self) -> Clause:
        """One or two opinions; after "but" the second one counts more."""
        target = self.polarity()
        first, grade = self.opinion(target)
        draw = self.random.random()
        if draw < 0.5:
            return f"{first}.", grade
        if draw < 0.8:
            second, other = self.opinion(self.polarity())
            return f"{first}, and {second}.", grade + other
        second, other = self.opinion(-target)
        if draw < 0.92:
            return f"{first}, but {second}.", 0.8 * grade + 1.2 * other
        return f"although {first}, {second}.", 0.8 * grade + 1.2 * other

    def fact(self) -> Clause:
        """A sentence without sentiment."""
        return self.random.choice(FACTS).format_map(self), 0.0

    def opening(self) -> Clause:
        """The first sentence: mostly neutral, from many templates."""
        neutral, draw = self.neutral, self.random.random()
        kind = f"this {neutral('kind')}"
        if draw < 0.2:
            return f"{neutral('who')} {neutral('watched')} {kind} {neutral('when')}.", 0.0
        if draw < 0.4:
            hero, rival = neutral("person"), neutral("person")
            return f"{kind} follows a {neutral('trait')} {hero} who {neutral('does')} a {rival}.", 0
        if draw < 0.5:
            return f"set in {neutral('where')} in the {neutral('era')}, {kind} runs long.", 0.0
        if draw < 0.62:
            word, grade = self.graded("noun", self.polarity())
            return f"what a {word} {kind} {self.random.choice(('is', 'was'))}!", grade
        if draw < 0.74:
            words, grade = self.quality(self.polarity())
            return f"for a {neutral('kind')} about a {neutral('person')}, it is {words}.", grade
        if draw < 0.86:
            word, grade = self.graded("feeling", self.polarity())
            return f"{neutral('who')} {word} {kind} {neutral('when')}.", grade
        return self.compound()

    def body(self) -> Clause:
        draw = self.random.random()
        if draw < 0.22:
            return self.fact()
        if draw < 0.34:
            words, grade = self.opinion(self.polarity())
            return f"{self.neutral('adverb')}, {words}.", grade
        return self.compound()

    def verdict(self) -> Clause:
        """A closing judgement of the whole film."""
        target = self.polarity()
        draw = self.random.random()
        if draw < 0.35:
            word, grade = self.graded("score", target)
            return f"i give it {word} out of ten.", 1.2 * grade
        if draw < 0.6:
            word, grade = self.graded("advice", target)
            return f"i would {word} recommend it to {self.neutral('whom')}.", 1.1 * grade
        if draw < 0.8:
            word, grade = self.graded("fate", target)
            return f"it deserves {word}.", grade
        word, grade = self.graded("noun", target)
        return f"{self.neutral('adverb')}, a {word}.", grade

    def review(self) -> Clause:
        """A whole review and its sentiment."""
        self.tendency = self.random.gauss(0.0, TENDENCY_SD)
        sentences = [self.opening(), self.body(), self.body()]
        while self.random.random() < 0.45 and len(sentences) < 6:
            sentences.append(self.body())
        if self.random.random() < 0.5:
            sentences.append(self.verdict())
        return " ".join(text for text, _ in sentences), sum(score for _, score in sentences)


def write_reviews(num_reviews: int, seed: int) -> pd.DataFrame:
    r"""Write distinct lower-case movie reviews with noisy sentiment labels.

    The sentiment :math:`s` of a review is the sum of its clauses' grades. Its label is drawn
    with log-odds :math:`\lambda (s - \operatorname{median} s)`, so that the labels are balanced
    and their best prediction is a graded score rather than a saturating one.

    Args:
        num_reviews: Number of reviews, at least 1.
        seed: Equal seeds give equal reviews.

    Returns:
        Columns ``source_id`` (str), ``text`` (str) and ``label`` (1 positive, 0 negative).

    Raises:
        ConfigError: If ``num_reviews`` is below one.

    Example:
        >>> reviews = write_reviews(200, seed=0)
        >>> reviews.columns.tolist(), len(reviews), bool(reviews["text"].is_unique)
        (['source_id', 'text', 'label'], 200, True)
        >>> bool(0.4 < reviews["label"].mean() < 0.6)
        True
    """
    if num_reviews < 1:
        raise ConfigError(f"reviews.num_reviews is {num_reviews}; set it to at least 1")
    writer = _Writer(derive_seed(seed, "grammar"))
    sentiments: dict[str, float] = {}
    while len(sentiments) < num_reviews:
        text, sentiment = writer.review()
        sentiments.setdefault(text, sentiment)
    frame = pd.DataFrame({"text": list(sentiments), "sentiment": list(sentiments.values())})
    labels = random.Random(derive_seed(seed, "labels"))
    log_odds = LABEL_SLOPE * (frame["sentiment"] - frame["sentiment"].median())
    frame["label"] = [int(labels.random() < 1 / (1 + math.exp(-value))) for value in log_odds]
    frame["source_id"] = [f"review-{number:06d}" for number in range(num_reviews)]
    return frame[["source_id", "text", "label"]]
