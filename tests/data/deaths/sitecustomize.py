"""A poller that is killed at a named moment, once for each time a test asks for it.

For every poller that has a copy of this folder on its PYTHONPATH. The moment is the name of a file
beside it, which is removed before the death: received (a question, not committed), committed (and
its asker does not know), settled (and the answer is not sent).
"""

import os
import signal
import sys

_FOLDER = os.path.dirname(__file__)


def _die_once(moment: str) -> None:
    try:
        os.unlink(os.path.join(_FOLDER, moment))
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _deadly(moment: str, method):
    def dying(self, *args):
        if moment != "received" and not any(args):
            return method(self, *args)
        if moment != "received" or self._arrived:
            _die_once(moment)
        return method(self, *args)

    return dying


if "poller" in sys.orig_argv:
    from autopoll.poller.asked_questions import AskedQuestions

    AskedQuestions.taken = _deadly("received", AskedQuestions.taken)
    AskedQuestions.committed = _deadly("committed", AskedQuestions.committed)
    AskedQuestions.settled = _deadly("settled", AskedQuestions.settled)
