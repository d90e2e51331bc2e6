"""`make mutants`: which files it changes, and which tests each change meets."""

import sys

import mutants
import pytest


def test_tests_are_chosen_by_what_they_import():
    (positions,) = (f for f in mutants.modules() if f.stem == "positions")
    found = mutants.tests_of([positions])
    assert (
        "tests/test_positions.py" in found
        and "tests/test_sentencepiece.py" not in found
    )
    assert not {"__init__", "rope"} & {file.stem for file in mutants.modules()}


def test_every_file_of_lib_has_tests_that_import_it():
    tests = sorted(
        [
            *mutants.ROOT.glob("tests/test_*.py"),
            *mutants.ROOT.glob("tests/browser/test_*.py"),
        ]
    )
    read = [mutants.imported(test.read_text("utf8"), deep=False) for test in tests]
    assert set(mutants.modules()) <= {file for files in read for file in files}


@pytest.mark.parametrize("module", ["lib/nothing.py", "tests/test_mutants.py"])
def test_a_module_is_a_file_of_lib(module, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mutants.py", "--module", module])
    with pytest.raises(SystemExit):
        mutants.main()
    assert f"MODULE: expected a file of lib, got {module}" in capsys.readouterr().err
