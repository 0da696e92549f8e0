"""All skills with their training shares, and the function that makes every sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from training.skills import small_talk, tool_calls, tool_results
from training.skills.arithmetic import make_arithmetic
from training.skills.compare import make_compare
from training.skills.dice import Dice
from training.skills.documents import Printer
from training.skills.exchange import Exchanges
from training.skills.image_questions import ImageQuestions
from training.skills.lexicon import Lexicon
from training.skills.sample import Sample
from training.skills.split import Split
from training.skills.stories import make_story
from training.skills.surroundings import EARLIER_SHARE, SYSTEM_SHARE, with_earlier, with_system
from training.skills.toolbox import Toolbox

COPY_BATCHES = 400
"""Number of first batches that contain only texts to copy. Nearly every skill copies names from its prompt,
and a model that sees copying mixed with other tasks needs several times as many tokens to learn it.
"""
DRILL_BATCHES = 400
"""Number of following batches, which shift from short drills to all skills with their own shares."""
READ_BATCHES, READ_SHARE = 400, 0.7
"""The first READ_BATCHES batches with pictures contain notes to read aloud, with a share of READ_SHARE."""
DRILLS = {
    "compare": 3.0,
    "copy": 3.0,
    "chatter": 1.0,
    "count": 1.0,
    "json": 1.5,
    "sort": 0.5,
    "arithmetic": 1.0,
}

_EARLIER = ("chatter", "compare", "copy", "count", "sort", "json")

Make = Callable[[Dice, Split, bool], Sample]


@dataclass(frozen=True)
class Skill:
    """`weight` is the share of the samples, `thinking` the probability that a sample is in thinking mode, and
    `pictures` whether the samples have pictures.
    """

    make: Make
    weight: float
    thinking: float = 0.5
    pictures: bool = False


class Curriculum:
    """Samples by number, the same for the same seed, split and number."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.skills = _skills(Lexicon())

    def sample(self, number: int, weights: Mapping[str, float] | None = None) -> Sample:
        """A training sample; `weights` replaces the skills' own shares."""
        dice = Dice(self._seed, "train", number)
        shares = weights or {name: skill.weight for name, skill in self.skills.items()}
        return self._make(dice.weighted(shares), dice, Split.TRAIN)

    def weights(self, batch: int, pictures_from: int = 0) -> dict[str, float]:
        """The share of each skill in the samples of a batch: first copying, then drills that shift to all
        skills.

        Samples with pictures start at batch `pictures_from`; at first, most of them are notes to read aloud.
        """
        if batch < COPY_BATCHES:
            return {"copy": 1.0}
        part = min(1.0, (batch - COPY_BATCHES) / DRILL_BATCHES)
        weights = {
            name: part * skill.weight + (1.0 - part) * DRILLS.get(name, 0.0)
            for name, skill in self.skills.items()
            if batch >= pictures_from or not skill.pictures
        }
        reading = max(pictures_from, COPY_BATCHES + DRILL_BATCHES)
        if reading <= batch < reading + READ_BATCHES:
            weights["read"] = READ_SHARE / (1 - READ_SHARE) * (sum(weights.values()) - weights["read"])
        return weights

    def case(self, name: str, number: int) -> Sample:
        """The held-out case `number` of a skill. KeyError if there is no such skill."""
        return self._make(name, Dice(self._seed, "case", name, number), Split.HELD_OUT)

    def _make(self, name: str, dice: Dice, split: Split) -> Sample:
        skill = self.skills[name]
        sample = skill.make(dice, split, dice.chance(skill.thinking))
        if dice.chance(EARLIER_SHARE):
            before = self.skills[dice.pick(_EARLIER)]
            sample = with_earlier(sample, before.make(dice, split, False))
        return with_system(sample, dice, split) if dice.chance(SYSTEM_SHARE) else sample


def _skills(lexicon: Lexicon) -> dict[str, Skill]:
    toolbox = Toolbox(lexicon)
    exchanges = Exchanges(toolbox, lexicon)
    image_questions = ImageQuestions(Printer(lexicon), toolbox)
    return {
        "compare": Skill(make_compare, 18.0, 0.15),
        "arithmetic": Skill(make_arithmetic, 2.5, 0.9),
        "stories": Skill(partial(make_story, lexicon=lexicon), 2.5, 1.0),
        "tool call": Skill(partial(tool_calls.make_tool_call, exchanges=exchanges), 24.0, 0.25),
        "parallel calls": Skill(partial(tool_calls.make_parallel_calls, exchanges=exchanges), 4.0, 0.25),
        "no call": Skill(partial(tool_calls.make_no_call, exchanges=exchanges), 4.0, 0.25),
        "weather result": Skill(partial(tool_results.make_weather_result, exchanges=exchanges), 0.4),
        "other result": Skill(partial(tool_results.make_other_result, exchanges=exchanges), 0.4),
        "chatter": Skill(partial(small_talk.make_chatter, lexicon=lexicon), 0.4),
        "copy": Skill(partial(small_talk.make_copy, lexicon=lexicon), 1.5),
        "count": Skill(partial(small_talk.make_count, lexicon=lexicon), 3.0),
        "sort": Skill(partial(small_talk.make_sort, lexicon=lexicon), 5.0),
        "json": Skill(partial(small_talk.make_json, lexicon=lexicon), 0.8),
        "read": Skill(image_questions.read, 2.0, pictures=True),
        "describe": Skill(image_questions.describe, 4.0, pictures=True),
        "total": Skill(image_questions.total, 2.0, pictures=True),
        "totals": Skill(image_questions.totals, 0.7, pictures=True),
        "search product": Skill(image_questions.search, 0.6, pictures=True),
    }
