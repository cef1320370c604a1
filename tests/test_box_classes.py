import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.box_classes import list_renumbered, match_classes
from napari_sparseseg.box_files import NamedBox
from napari_sparseseg.errors import InputError

KNOWN = {2: "liver", 4: "Spleen"}
ALLOWED = range(2, 10)


def boxes_of(*classes):
    """Return a box for each (name, value)."""
    return [NamedBox((i, 0, 0), (i + 1, 2, 2), name, value) for i, (name, value) in enumerate(classes)]


def match(*classes, known=KNOWN, allowed=ALLOWED, taken=()):
    return match_classes(boxes_of(*classes), known, allowed, taken)


def test_a_name_counts_before_a_value():
    values, names = match(("Spleen", 2), ("liver", 4), ("liver", None))
    assert values == [4, 2, 2]
    assert names == KNOWN


def test_names_are_the_same_in_small_and_large_letters():
    values, names = match(
        ("LIVER", None), ("spleen", 7), ("Nière", 5), ("nIÈRE", None), ("STRASSE", 6), ("straße", 8)
    )
    assert values == [2, 4, 5, 5, 6, 6]
    assert names == {**KNOWN, 5: "Nière", 6: "STRASSE"}


def test_without_a_name_the_value_counts():
    values, names = match(("", 4), ("", 2))
    assert values == [4, 2]
    assert names == KNOWN


def test_values_tell_known_classes_of_one_name_apart():
    known = {2: "lesion", 3: "lesion"}
    assert match(("", 2), ("", 3), ("lesion", None), known=known) == ([2, 3, 2], known)


def test_an_unknown_name_keeps_its_value_where_that_is_free():
    values, names = match(("kidney", 7), ("tumour", 4), ("vein", None), ("cyst", 7))
    assert values == [7, 3, 5, 6]
    assert names == {**KNOWN, 7: "kidney", 3: "tumour", 5: "vein", 6: "cyst"}
    assert list(names)[:2] == list(KNOWN)


def test_values_that_are_not_allowed_become_new_classes():
    values, names = match(("", 1), ("", 300), ("", 0), ("", 300), ("heart", 1000))
    assert values == [3, 5, 6, 5, 7]
    classes = ("", 1), ("", 300), ("", 0), ("", 300), ("heart", 1000)
    renumbered = [(0, 6), (1, 3), (300, 5), (1000, 7)]
    assert list_renumbered(boxes_of(*classes), values) == renumbered
    assert names == {**KNOWN, 3: "class 1", 5: "class 300", 6: "class 0", 7: "heart"}


def test_a_value_that_a_box_asks_for_is_given_to_no_other_class():
    values, names = match(("heart", None), ("", 3), ("", 300), ("", 5))
    assert values == [6, 3, 7, 5]
    assert names == {**KNOWN, 6: "heart", 3: "class 3", 7: "class 300", 5: "class 5"}
    assert match(("heart", None), ("heart", 5), ("", 3))[0] == [5, 5, 3]
    assert match(("heart", None), ("liver", 3), allowed=range(2, 5))[0] == [3, 2]  # no other one is left


def test_a_value_without_a_name_is_the_classs_and_the_box_names_it():
    values, names = match(("anterior", 2), ("ANTERIOR", None), ("", 3), known={}, taken=(2, 3))
    assert values == [2, 2, 3]
    assert names == {2: "anterior", 3: "class 3"}
    values, names = match(("anterior", None), ("posterior", 2), known={}, taken=(2, 3))
    assert values == [4, 2]
    assert list_renumbered(boxes_of(("anterior", None), ("posterior", 2)), values) == []
    assert match(("kidney", 2), known={2: "liver"}, taken=(2, 3))[0] == [4]


def test_boxes_of_one_file_agree_on_what_a_value_means():
    for classes in ([("", 2), ("kidney", 2)], [("kidney", 2), ("", 2)]):
        values, names = match(*classes)
        assert values == [3, 3]
        assert names == {**KNOWN, 3: "kidney"}


def test_a_class_of_an_earlier_reading_is_found_again():
    _, names = match(("", 300))
    assert match(("", 300), known=names) == ([3], names)


def test_more_classes_than_values_are_refused():
    assert match(("a", None), ("b", None), allowed=range(2, 6))[0] == [3, 5]
    with pytest.raises(InputError, match=r"^the boxes are of more than 4 classes; give fewer classes\.$"):
        match(("a", None), ("b", None), ("c", None), allowed=range(2, 6))


def test_what_was_given_stays_as_it_is():
    known = dict(KNOWN)
    match(("kidney", 7), known=known)
    assert known == KNOWN
    assert match(known={}) == ([], {})


NAMES = st.sampled_from(["", "", "liver", "Liver", "LUNG", "lung", "class 3", "class 12", "x"])
VALUES = st.one_of(st.none(), st.integers(-1, 14))


@given(
    st.lists(st.tuples(NAMES, VALUES).filter(lambda pair: pair[0] or pair[1] is not None), max_size=8),
    st.dictionaries(st.integers(2, 12), NAMES.filter(bool), max_size=3),
)
def test_like_boxes_are_of_one_class_and_values_are_allowed_or_known(classes, known):
    allowed = range(2, 30)
    values, names = match(*classes, known=known, allowed=allowed)
    of_pair = {}
    for (name, wanted), value in zip(classes, values, strict=True):
        assert of_pair.setdefault((name.casefold(), wanted), value) == value
        assert value in allowed or value in known
        assert not name or names[value].casefold() == name.casefold()
    assert set(names) == set(known) | set(values)
    assert names.items() >= known.items()
    named = {}
    for (name, _), value in zip(classes, values, strict=True):
        if name:
            assert named.setdefault(name.casefold(), value) == value
    assert len(set(named.values())) == len(named)
