"""The pages that people read, and their fenced blocks."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
README, DATA = ROOT / "README.md", ROOT / "data" / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        place: File and line, for messages.
        kind: What stands behind the opening fence.
        note: The HTML comment on the line before, if any.
        text: What is inside.
    """

    place: str
    kind: str
    note: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that the block shows, if it shows one."""
        return self.note.removeprefix("file:").strip() if self.note.startswith("file:") else None

    def commands(self) -> Iterator[list[str]]:
        """Yields the block's commands as words, `~` replaced; what `&&` joins one by one."""
        for line in self.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            unknown = {"|", ">", ">>", ";", "&", "<", "||"} & set(words)
            assert not unknown, f"{self.place}: the test knows no {unknown} in {line}"
            for joined, group in itertools.groupby(words, lambda word: word == "&&"):
                if not joined:
                    yield [str(Path(word).expanduser()) if word.startswith("~/") else word for word in group]


FENCE = re.compile(r"(?:^<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    fences = len(re.findall(r"^\s*(?:```|~~~)", text, re.M))
    assert fences == 2 * len(found), f"{page.name}: a fence is indented, never closed, or of another kind"
    return [
        Block(
            f"{page.name}:{text.count(chr(10), 0, match.start('text'))}",
            match["kind"].strip(),
            match["note"] or "",
            match["text"],
        )
        for match in found
    ]
