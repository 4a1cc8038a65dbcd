"""Writes commands and parameters into the pages on them: `python docs/hooks/reference.py`.

What stands between `<!-- generated: NAME -->` and `<!-- /generated -->` comes from the code. The
text is committed, and MkDocs writes it again when the site is built.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import commands
import parameters

PAGES = [Path(__file__).parents[1] / name for name in ("command-line.md", "parameters.md")]
WRITERS = {
    "commands": commands.reference,
    "parameters": parameters.parameter_tables,
    "presets": parameters.preset_table,
}
_PART = re.compile(r"<!-- generated: (\w+) -->.*?<!-- /generated -->", re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Write the parts of a page that come from the code (called by MkDocs, too)."""
    return _PART.sub(
        lambda part: (
            f"<!-- generated: {part[1]} -->\n\n{WRITERS[part[1]]()}\n\n<!-- /generated -->"
        ),
        markdown,
    )


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(on_page_markdown(page.read_text(encoding="utf-8")), encoding="utf-8")
