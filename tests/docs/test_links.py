"""Links within the repository lead somewhere; the tree in the READMEs is the repository."""

import importlib.util
import pkgutil
import re
import subprocess

import pytest
from markdown_files import PAGES, READMES, ROOT, fences, name_of, prose, shell_lines

from mno.core.config import read_params
from mno.scenarios.base import scenario_names

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
EXTERNAL = ("https://", "http://", "mailto:")


def links(page):
    found = LINK.findall(prose(page.read_text(encoding="utf-8")))
    return [link for link in found if not link.startswith(EXTERNAL)]


def anchors(page):
    text = prose(page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip() for heading in headings)
    return {re.sub(r"\s", "-", heading.lower()) for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_internal_link_resolves(page):
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_has_a_conflict_left_in_it(page):
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^(?:<{7}|={7}|>{7})(?: .*)?$", text, re.MULTILINE) == []


def test_links_are_found_at_all():
    assert "docs/quick-start.md" in links(ROOT / "README.md")
    assert "predict-from-python" in anchors(ROOT / "docs/quick-start.md")


def test_pages_of_the_site_link_to_nothing_outside_it():
    docs = ROOT / "docs"
    outside = [
        f"{name_of(page)}: {link}"
        for page in PAGES
        if docs in page.parents
        for link in links(page)
        if (path := link.partition("#")[0]) and docs not in (page.parent / path).resolve().parents
    ]
    assert outside == []


def test_every_page_is_in_the_navigation_of_the_site():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert len(pages) > 15
    assert [page for page in pages if page not in navigation] == []


SHOWN = re.compile(r"^::: (\S+)(?:\n    options:\n      members: \[(.*)\])?", re.MULTILINE)


def test_what_the_reference_of_the_library_shows_is_there_and_shown_once():
    pages = sorted((ROOT / "docs/api").glob("*.md"))
    shown = [found for page in pages for found in SHOWN.findall(page.read_text(encoding="utf-8"))]
    names = [name for name, _ in shown]
    scenarios = {f"mno.scenarios.{name}" for name in [*scenario_names(), "external"]}
    assert sorted(scenarios - set(names)) == []
    assert sorted(name for name in set(names) if names.count(name) > 1) == []
    of = {name: pkgutil.resolve_name(name) for name in names}
    members = [(name, member) for name, listed in shown for member in listed.split(", ") if member]
    assert len(members) > 20
    assert [where for where in members if not hasattr(of[where[0]], where[1])] == []


def test_the_site_asks_for_nothing_from_elsewhere():
    configuration = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in configuration
    assert not re.search(r"https?://|mermaid|analytics", configuration)


FILE_NAMES = re.compile(r"[\w.-]+/?")


def tree(readme):
    """The block of the tree's paths, and these: entries at the margin, and those below a folder."""
    blocks = fences(readme.read_text(encoding="utf-8"), "text")
    (block,) = [block for block in blocks if block.startswith("flows/")]
    paths, folder = [], ""
    for line in block.splitlines():
        if not line.startswith(" "):
            folder = line.split()[0]
            paths.append(folder)
        elif "   " in line.strip():
            paths.append(folder + line.split()[0])
        else:  # several of one kind, without a remark
            paths += [folder + name for name in FILE_NAMES.findall(line)]
    return block, paths


def test_the_tree_has_all_folders_and_rooms_of_the_repository_in_both_languages():
    paths, japanese = (tree(readme)[1] for readme in READMES)
    assert paths == japanese and len(paths) > 20
    assert [path for path in paths if not (ROOT / path).is_dir()] == []
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not in a git checkout")
    names = [name.split("/") for name in listed.stdout.split("\0") if not name.startswith(".")]
    there = {f"{parts[0]}/" for parts in names if parts[1:]}
    there |= {f"mno/{parts[1]}/" for parts in names if parts[0] == "mno" and parts[2:]}
    assert sorted(there - set(paths)) == []


@pytest.mark.parametrize("readme", READMES, ids=name_of)
def test_what_runs_are_said_to_make_is_ignored_by_git(readme):
    text = readme.read_text(encoding="utf-8")
    after_the_tree = text.partition(tree(readme)[0])[2].partition("```")[2]
    made = re.findall(r"`([^`]+)`", after_the_tree.strip().partition("\n\n")[0])
    made = [name for name in made if " " not in name]
    assert len(made) > 5
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    patterns = {line.strip("/").rstrip("*") for line in ignored}
    assert [name for name in made if name.strip("/") not in patterns] == []


def test_a_picture_of_a_readme_is_there():
    for readme in READMES:
        found = re.findall(r'<img src="([^"]+)"', readme.read_text(encoding="utf-8"))
        assert found and [name for name in found if not (ROOT / name).is_file()] == []


MNO = re.compile(r"(?:^|[\s;/|])mno ([a-z][a-z-]*)([^;|]*)")
MAKE = re.compile(r"(?:^|[\s;|])make ([a-z]+(?:, [a-z]+)*)")
OPTION = re.compile(r"(?<!\S)(--?[a-z][a-z-]*)")


def hook(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/hooks/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFERENCE = hook("reference")
COMMANDS, PARAMETERS = REFERENCE.commands, REFERENCE.parameters


def make_targets():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


def mno_calls(page):
    text = page.read_text(encoding="utf-8")
    return [_command(*call) for line in shell_lines(text) for call in MNO.findall(line)]


def _command(name, rest):
    """Take the second word to the name where the first is a group of commands."""
    second, _, after = rest.strip().partition(" ")
    return (
        (f"{name} {second}", after) if f"{name} {second}" in COMMANDS.commands() else (name, rest)
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_mno_command_exists_and_takes_its_options(page):
    commands = COMMANDS.commands()
    wrong = [
        f"mno {name} {option}"
        for name, rest in mno_calls(page)
        for option in OPTION.findall(rest) or [""]
        if name not in commands or (option and option not in COMMANDS.options(commands[name]))
    ]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_exists(page):
    lines = shell_lines(page.read_text(encoding="utf-8"))
    named = {t for line in lines for found in MAKE.findall(line) for t in found.split(", ")}
    assert sorted(named - make_targets()) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_preset_and_parameter_that_is_set_exists(page):
    rests = " ".join(rest for _, rest in mno_calls(page))
    presets = set(re.findall(r"--preset ([\w-]+)", rests))
    made = {"tuned-darcy", "rod"}  # by the search that is shipped, and by a page
    assert presets - made <= set(PARAMETERS.preset_names(ROOT))
    keys = set(re.findall(r"--set ([\w.]+)=", rests))
    # The how-to pages set parameters of what they add.
    added = {"model.mixer", "scenarios.screened_poisson.screening"}
    documented = PARAMETERS.parameter_tables()
    assert [key for key in sorted(keys - added) if f"| `{key}` |" not in documented] == []


def test_the_readme_shows_commands_at_all():
    calls = mno_calls(ROOT / "README.md")
    assert {name for name, _ in calls} >= {"run", "status", "predict"}
    assert make_targets() >= {"run", "test", "check", "bench", "ui", "docs"}


def test_the_reference_names_every_parameter_of_the_workspace():
    def keys_of(values: dict, prefix: str = "") -> list[str]:
        below = [keys_of(v, f"{prefix}{k}.") if v and isinstance(v, dict) else [f"{prefix}{k}"]
                 for k, v in values.items()]  # fmt: skip
        return sum(below, [])

    tables = PARAMETERS.parameter_tables()
    keys = [key for key in keys_of(read_params(ROOT)) if not key.startswith("scenarios.")]
    assert len(keys) > 20
    assert [key for key in keys if f"| `{key}` |" not in tables] == []


def test_every_parameter_in_the_reference_has_a_meaning():
    rows = [row for row in PARAMETERS.parameter_tables().splitlines() if row.startswith("| `")]
    assert len(rows) > 30
    assert [row for row in rows if not row.split(" | ")[-1].strip(" |")] == []


@pytest.mark.parametrize("page", REFERENCE.PAGES, ids=name_of)
def test_the_reference_that_is_committed_says_what_the_code_says_now(page):
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "params.yaml"], cwd=ROOT)
    if changed.returncode:
        pytest.skip("params.yaml is not as committed")
    text = page.read_text(encoding="utf-8")
    assert len(text) > 20_000
    assert REFERENCE.on_page_markdown(text) == text, "run: python docs/hooks/reference.py"


def test_the_reference_names_every_command_and_option():
    text = COMMANDS.reference()
    for name, command in COMMANDS.commands().items():
        assert f"## `mno {name}`" in text
        assert [
            o for o in COMMANDS.options(command) - {"--help", "-h"} if f"`{o}`" not in text
        ] == []
