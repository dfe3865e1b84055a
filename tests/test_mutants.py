"""Mutants: every change is one, and what computes nothing is left alone."""

from pathlib import Path

from mutants import TESTS, mutants

ROOT = Path(__file__).parent.parent


def test_each_mutant_changes_one_thing():
    source = "def f(x):\n    return x + 1 if not x < -2 else True\n"
    found = [(line, text.splitlines()[1].strip()) for line, _, text in mutants(source)]
    assert sorted(text for _, text in found) == [
        "return x + 1 if not not x < -2 else True",
        "return x + 1 if not not x < -2 else True",  # of the condition, and of its negation
        "return x + 1 if not x < +2 else True",
        "return x + 1 if not x < -2 else False",
        "return x + 1 if not x < -3 else True",
        "return x + 1 if not x <= -2 else True",
        "return x + 2 if not x < -2 else True",
        "return x - 1 if not x < -2 else True",
    ]
    assert {line for line, _ in found} == {2}


def test_messages_decorators_and_what_is_for_type_checkers_are_left_alone():
    source = "if TYPE_CHECKING:\n    x = 1\n@dataclass(frozen=True)\nclass A:\n    y = f'{1}'\nzip(a, strict=True)\n"
    assert not list(mutants(source))


def test_every_module_and_its_tests_exist():
    for name, words in TESTS.items():
        assert (ROOT / "cifar_report" / name).is_file()
        assert all((ROOT / "tests" / f"test_{word}.py").is_file() for word in words.split())
