"""The pages for people: their links lead somewhere, and a reader who begins at docs/README.md finds each of them."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOT_OURS = {"build", "node_modules", "var", ".git"}
LINK = re.compile(r"(?<!\\)\]\(([^)\s]+)\)")


def pages():
    """The Markdown files of the source tree."""
    for path in sorted(ROOT.rglob("*.md")):
        if not NOT_OURS & set(path.relative_to(ROOT).parts):
            yield path


def prose(path):
    """Without what is code, where brackets are no links."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", lambda code: re.sub(r"[\[\]()]", "x", code[0]), text)


def links(path):
    """(the file, the anchor or "") of each link into the tree."""
    for target in LINK.findall(prose(path)):
        if not re.match(r"[a-z]+:", target):
            name, _, anchor = target.partition("#")
            yield (path.parent / name).resolve() if name else path, anchor


def anchors(path):
    """Of the headings, as GitHub and GitLab name them."""
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *$", path.read_text(), re.M):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 0
        while (name if not number else f"{name}-{number}") in found:
            number += 1
        found.add(name if not number else f"{name}-{number}")
    return found


def test_links_lead_somewhere(case):
    wrong, count = [], 0
    for page in pages():
        for target, anchor in links(page):
            count += 1
            if not target.exists():
                wrong.append(f"{page.relative_to(ROOT)}: no file {target}")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                wrong.append(f"{page.relative_to(ROOT)}: {target.relative_to(ROOT)} has no heading #{anchor}")
    assert count > 100, count
    assert not wrong, "\n".join(wrong)
    case.say(f"{count} links")


def test_each_page_is_two_clicks_away(case):
    """From docs/README.md, for those who run sluice; the README of a folder of the sources is found in that folder."""
    start = ROOT / "docs/README.md"
    near = {target for target, _ in links(start)}
    reached = near | {start} | {target for page in near if page.suffix == ".md" for target, _ in links(page)}
    lost = [str(page.relative_to(ROOT)) for page in pages() if page not in reached and "docs" in page.relative_to(ROOT).parts]
    assert not lost, f"nothing leads there: {lost}"
    case.say(f"{len(near)} pages one click away, {len(reached)} within two")
