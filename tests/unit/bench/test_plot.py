"""The pictures of the figures: the same figures make the same bytes."""

import xml.etree.ElementTree as xml

import pytest
from reports import figure

from bench.cost import plot
from bench.cost.figures import Point


@pytest.mark.long  # drawing takes seconds
def test_pictures_are_the_same_bytes_whenever_they_are_drawn_and_hold_no_date() -> None:
    figures = [
        figure(ratio=1.3, target=1.5),
        figure("two", ratio=0.4, target=0.5, at_least=True),
        *(
            figure(f"claim with {x}", section="growth", value=y, point=Point("claim", x, "n"))
            for x, y in ((0.0, 5.0), (1e3, 6.0))
        ),
    ]
    drawn = plot.pictures(figures)
    assert set(drawn) == {"ratios.svg", "growth.svg"}
    assert drawn == plot.pictures(figures)
    for content in drawn.values():
        assert xml.fromstring(content).tag.endswith("svg")
        assert b"dc:date" not in content
        assert b"atplotlib v" not in content
    assert plot.MISSED.encode() in drawn["ratios.svg"]
    assert plot.MET.encode() in drawn["ratios.svg"]
    assert b">n<" in drawn["growth.svg"]


def test_what_has_no_ratio_and_no_curve_makes_no_picture() -> None:
    assert plot.pictures([figure()]) == {}
