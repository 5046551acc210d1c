"""A poller with this folder on its PYTHONPATH looks for answers of other homes when it is notified,
and never by itself once a second.
"""

import sys

if "poller" in sys.orig_argv:
    from autopoll.poller.answers_elsewhere import AnswersElsewhere
    from autopoll.poller.poller import Poller

    _expect = AnswersElsewhere.expect

    def _on_foreign_write(poller: Poller) -> None:
        _expect(poller.answers_elsewhere)
        poller.wake()

    AnswersElsewhere.expect = lambda _: None  # type: ignore[method-assign]
    Poller.on_foreign_write = _on_foreign_write  # type: ignore[method-assign]
