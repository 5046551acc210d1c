"""A model's service on loopback: the Messages API and the chat completions API, with every fault.

In a test:

    with MockApi() as api:                      # in a thread; api.url is http://127.0.0.1:PORT
        ... base_url=api.url                    # Messages API;  api.url + "/v1" for OpenAI's
        api.mood = "stall"                      # for every question from now on
        api.requests                            # what was asked, in order: path, headers, body

As a process, for clients that must not share ours:

    python tests/mock_api --port 0              # prints the URL on its first line

whose mood is set by `PUT /mood` with the mood as the body, and whose requests are read at
`GET /requests`.

A mood may also stand in a question, behind an exclamation mark: "How many? !429=7 !delay=100".
moods.py lists them. The answer repeats the question, and cites the first line of the files in the
prompt that holds one of its longer words.
"""

from mock_api.server import MockApi, Raw, running

__all__ = ["MockApi", "Raw", "running"]
