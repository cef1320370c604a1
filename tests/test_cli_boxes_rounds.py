import weakref
from pathlib import Path

import numpy as np
import pytest

from napari_sparseseg.cli_boxes import _Rounds
from napari_sparseseg.events import BoxRoundMade


def made_round(number, dice, size=3):
    labels = np.ones((size,) * 3, np.uint8)
    quality = {} if dice is None else {"ball": dice}
    return BoxRoundMade(0, number, ((0, size),) * 3, labels, labels - 1, quality, 0.5)


@pytest.mark.parametrize(
    ("keep", "dices", "chosen", "sentences"),
    [
        ("last", [0.1, 0.9, 0.2], 2, []),
        ("best", [0.1, 0.9, 0.9, 0.2], 1, ["The network in model is that of the last round, 3"]),
        ("best", [None, None], 1, ["No label could be held out"]),
        ("1", [0.1, 0.9, 0.2], 1, ["The network in model is that of the last round, 2; the mask is that"]),
        ("02", [0.1, 0.9, 0.2], 2, []),
        ("4", [0.1, 0.9], 1, ["The rounds ended with round 1, which is kept instead of 4."]),
    ],
)
def test_of_all_rounds_only_what_may_be_kept_is_held(keep, dices, chosen, sentences):
    rounds = _Rounds(keep)
    alive = []
    work = (made_round(number, dice) for number, dice in enumerate(dices))
    for event in rounds.collect(work):
        if isinstance(event, BoxRoundMade):
            alive.append(weakref.ref(event.labels))
        event = None
        assert sum(each() is not None for each in alive) <= 2
    assert rounds.chosen.number == chosen
    assert [row["dice"].get("ball") for row in rounds.figures] == dices
    told = list(rounds.explain(Path("model")))
    assert len(told) == len(sentences)
    assert all(text.startswith(start) for text, start in zip(told, sentences, strict=True))
    assert len(list(rounds.explain(None))) == sum("network" not in text for text in sentences)
