"""Text between two markers of a page, so that what is measured is not typed by hand."""

from pathlib import Path


def fill(page: Path, mark: str, text: str) -> None:
    """Replace what stands between the markers of a page; raise ValueError where they are not."""
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    before, found, rest = page.read_text("utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no {begin} … {end}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", "utf-8")
