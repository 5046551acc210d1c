"""Whether each question got its one answer, in order: from the messages that are in the bridge."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from autopoll.bridge.records import Message
from autopoll.message import read_answer, read_query

ASKER, SHARD = "a", "b"  # sessions


class Finding:
    """A promise, whether it was kept, and if not, what shows it."""

    def __init__(self, kept: bool, text: str, *why: object) -> None:
        self.kept = kept
        self.text = text
        self.why = () if kept else why


def verify(
    messages: Sequence[Message], stored: Mapping[str, int], losers: Collection[str]
) -> list[Finding]:
    """Compare what was asked with what was answered, and with what the askers know.

    `stored` is how many questions each asker knows to be stored; `losers` are the askers who may
    have stored one and not know it.
    """
    asked = {each.id: each for each in messages if each.sender == ASKER}
    replies = [each for each in messages if each.sender == SHARD]
    answers = Counter(map(in_reply_to, replies))
    texts = {number: text_of(each) for number, each in asked.items()}
    known = Counter(text.split()[0] for text in texts.values())
    read = [(in_reply_to(each), read_answer(each.text, each.metadata)) for each in replies]
    errors = {answer.text for _, answer in read if answer.error}
    order: dict[str, list[int]] = defaultdict(list)
    for reply in replies:
        order[reply.conversation].append(in_reply_to(reply))
    lanes = {each.conversation for each in asked.values() if not each.metadata}
    return [
        Finding(
            answers == Counter(asked.keys()),
            f"{len(asked)} questions, {len(replies)} answers, none twice",
            f"without an answer: {sorted(asked.keys() - answers.keys())}",
            f"more than once: {sorted(number for number, times in answers.items() if times > 1)}",
        ),
        Finding(not errors, "no answer tells an error", *errors),
        Finding(
            all(answer.error or answer.text == texts.get(number) for number, answer in read),
            "each answers its own question",
        ),
        Finding(
            all(order[lane] == sorted(order[lane]) for lane in lanes),
            f"{len(lanes)} conversations answered in order",
        ),
        Finding(len(set(texts.values())) == len(texts), "nothing stored that had been refused"),
        Finding(
            all(
                known[name] >= count if name in losers else known[name] == count
                for name, count in stored.items()
            ),
            "the askers know what they asked",
            f"they know of {dict(stored)}, there are {dict(known)}",
        ),
    ]


def text_of(message: Message) -> str:
    """Return the question that a message holds."""
    return read_query(message.text, message.metadata).question


def in_reply_to(message: Message) -> int:
    """Return which message a reply answers."""
    number: int = json.loads(message.metadata or "{}")["in_reply_to"]
    return number
