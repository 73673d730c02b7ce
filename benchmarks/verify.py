"""Measures how long it takes from a key to the next item on the verifying page, in a real headless Chromium.

    python benchmarks/verify.py --decisions 200

The time runs from the key's event to the moment when the next item's picture and words stand on the page and its keys
count again, by the browser's own clock.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.helpers.browser import PAUSE, Page, Server, make_items  # noqa: E402

WATCH = """
window.times = []
addEventListener('keydown', () => { window.pressed = performance.now() }, true)
new MutationObserver(() => {
  if (document.body.dataset.state === 'ready' && window.pressed) {
    window.times.push(performance.now() - window.pressed)
    window.pressed = 0
  }
}).observe(document.body, { attributeFilter: ['data-state'] })
"""


def measure(decisions: int, pictures: int) -> list[float]:
    """Milliseconds from each key to the next item."""
    with tempfile.TemporaryDirectory() as folder:
        make_items(Path(folder), decisions + 1, pictures)
        server = Server(Path(folder), people=1)
        page = Page(server.url, "ann")
        page.driver.execute_script(WATCH)
        for _ in range(decisions):
            time.sleep(PAUSE)
            before = page.item
            page.press("a")
            page.wait(lambda before=before: page.item != before and page.state == "ready")
        times = list(page.driver.execute_script("return window.times"))
        page.close()
        server.kill()
    return times


def main() -> int:
    """Print median and 95th percentile; exit status 1 where the median is 50 ms or more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=100)
    args = parser.parse_args()
    times = sorted(measure(args.decisions, args.pictures))
    median = statistics.median(times)
    print(f"{len(times)} decisions: median {median:.1f} ms, 95th percentile {times[int(0.95 * len(times))]:.1f} ms")
    return 0 if median < 50 else 1


if __name__ == "__main__":
    sys.exit(main())
