"""Takes the picture of `quick-start.md`: `python docs/figures/report.py [reports/report.html]`.

It is the first screen of the report that the default `make run` ends with, in a headless Chromium.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ASSETS = Path(__file__).parents[1] / "assets"
WIDTH, HEIGHT, COLOURS = 1100, 800, 256


def main(report: Path) -> None:
    """Open the report, take the picture, write it with fewer colours."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None or not report.is_file():
        sys.exit(f"needs chromium on the path ({browser}) and the report of a run ({report})")
    with tempfile.TemporaryDirectory() as folder:
        taken = Path(folder) / "report.png"
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu"]
        options += [f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{HEIGHT}"]
        command = [browser, *options, f"--screenshot={taken}", report.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        path, partial = ASSETS / "report.png", ASSETS / "report.partial"
        Image.open(taken).convert("RGB").quantize(COLOURS).save(partial, "PNG", optimize=True)
    os.replace(partial, path)
    print(path)


if __name__ == "__main__":
    main(Path(*sys.argv[1:]) if sys.argv[1:] else Path("reports/report.html"))
