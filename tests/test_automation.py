"""What GitHub and pre-commit read: sound, least permissions, commands that run."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf8"))["repos"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
BIN = Path(sys.executable).parent
each = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def run(*command, cwd=ROOT):
    """What a command answers: its exit status, and all that it printed."""
    home = {key: os.environ[key] for key in ("HOME", "PATH") if key in os.environ}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=home | {"NO_COLOR": "1", "PYTHONPATH": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def audit(folder):
    """zizmor at its default persona, with the network never asked."""
    options = ("--offline", "--strict-collection", "--no-progress", "--color=never")
    return run(BIN / "zizmor", *options, folder, cwd=folder)


def validate(schema, *files):
    """A check against a schema that the package check-jsonschema ships."""
    options = ["--builtin-schema", schema, "--color", "never"]
    done = CliRunner().invoke(check_jsonschema, [*options, *map(str, files)])
    return done.exit_code, done.output


def load(path):
    """A YAML file; `on` stays a word and is not read as true."""
    return yaml.load(path.read_text("utf8"), yaml.BaseLoader)


# The workflows


def test_zizmor_finds_nothing():
    status, said = audit(ROOT)
    assert status == 0, said
    looked_at = {*WORKFLOWS, ROOT / ".github/dependabot.yml"}
    looked_at.add(ROOT / ".pre-commit-config.yaml")
    for file in looked_at:
        assert f"completed ./{file.relative_to(ROOT)}" in said.replace(f"{ROOT}/", "./")


@pytest.mark.parametrize(
    ("right", "wrong", "finding"),
    [
        ("persist-credentials: false", "fetch-depth: 1", "artipacked"),
        ("pull_request:", "pull_request_target:", "dangerous-triggers"),
        ("actions/setup-python@v7", "elsewhere/setup@v7", "unpinned-uses"),
        ("run: make test", "run: echo ${{ github.head_ref }}", "template-injection"),
    ],
)
def test_zizmor_finds_a_fault(tmp_path, right, wrong, finding):
    shutil.copytree(ROOT / ".github", tmp_path / ".github")
    path = tmp_path / ".github" / "workflows" / "test.yml"
    text = path.read_text("utf8")
    assert right in text
    path.write_text(text.replace(right, wrong), "utf8")
    status, said = audit(tmp_path)
    assert status != 0
    assert f"[{finding}]" in said


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("custom.github-workflows-require-timeout", WORKFLOWS),
        ("vendor.dependabot", [ROOT / ".github" / "dependabot.yml"]),
        ("vendor.citation-file-format", [ROOT / "CITATION.cff"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_schema_holds(schema, files):
    assert files
    status, said = validate(schema, *files)
    assert status == 0, said


def test_schema_finds_a_fault(tmp_path):
    text = (ROOT / ".github" / "workflows" / "test.yml").read_text("utf8")
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(text.replace("runs-on:", "run-on:"), "utf8")
    status, said = validate("vendor.github-workflows", wrong)
    assert status == 1, said


def test_triggers():
    triggers = {path.stem: set(load(path)["on"]) for path in WORKFLOWS}
    assert triggers == {
        "test": {"push", "pull_request"},
        "publish": {"push", "workflow_dispatch"},
        "weekly": {"schedule", "workflow_dispatch"},
    }


@each
def test_only_the_deployment_may_write(path):
    workflow = load(path)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        if name == "deploy":
            expected = {"pages": "write", "id-token": "write"}
            assert not [step for step in job["steps"] if "run" in step]
        else:
            expected = {"contents": "read"}
        assert job["permissions"] == expected, name


@each
def test_make_targets_exist_and_no_address_of_a_registry_stands_here(path):
    text = path.read_text("utf8")
    targets = set(
        re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf8"), re.M)
    )
    called = re.findall(r"(?:run: |^ +)make ([a-z]+)$", text, re.M)
    assert called
    assert set(called) <= targets
    for value in re.findall(r"^ +PIP_EXTRA_INDEX_URL: (.*)", text, re.M):
        assert value.startswith("${{ vars.PIP_EXTRA_INDEX_URL }}")
    assert "://" not in text
    assert "HUB" not in text.replace("GITHUB_", "")


def test_the_weekly_run_starts_from_nothing():
    text = (ROOT / ".github" / "workflows" / "weekly.yml").read_text("utf8")
    assert "actions/cache" not in text
    assert not re.search(r"^ +cache:", text, re.M)


# The hooks


@pytest.mark.parametrize(
    "hook", [hook for repo in HOOKS for hook in repo["hooks"]], ids=lambda h: h["id"]
)
def test_hook_is_a_command_that_runs(hook):
    """Status 1 is a finding, which other tests report; others are a broken hook."""
    program, *arguments = shlex.split(hook["entry"])
    assert (ROOT / program).is_file()
    if "format" in arguments:
        arguments.append("--check")
    files = [] if hook.get("pass_filenames") is False else ["tests/test_automation.py"]
    status, said = run(ROOT / program, *arguments, *files)
    assert status in (0, 1), said
    assert "deselected" not in said or re.search(r"\d+ (passed|failed|skipped)", said)


def test_hooks_are_all_local():
    assert [repo["repo"] for repo in HOOKS] == ["local"]


# The citation and the licences


def test_the_citation_agrees_with_the_book_and_the_package():
    citation = load(ROOT / "CITATION.cff")
    book = load(ROOT / "_config.yml")
    assert citation["title"] == book["title"]
    assert citation["authors"] == [{"name": book["author"]}]
    assert citation["repository-code"] == book["repository"]["url"]
    assert citation["url"] == book["html"]["baseurl"]
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_the_licences_are_whole():
    code = (ROOT / "LICENSE").read_text("utf8")
    text = (ROOT / "LICENSE-text").read_text("utf8")
    assert code.startswith("MIT License\n\nCopyright (c) ")
    assert code.rstrip().endswith("DEALINGS IN THE\nSOFTWARE.")
    assert text.startswith(
        "Creative Commons Attribution 4.0 International Public License"
    )
    assert re.findall(r"^Section (\d) --", text, re.M) == list("12345678")


# The launch buttons


def test_every_notebook_installs_from_the_address_of_the_buttons():
    address = load(ROOT / "_config.yml")["repository"]["url"]
    for path in ROOT.glob("notebooks/*/*.ipynb"):
        cells = json.loads(path.read_text("utf8"))["cells"]
        source = next("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        assert f"glass-box @ git+{address}" in source, path
