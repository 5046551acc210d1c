"""Where the gateway may listen."""

import pytest

from autopoll.errors import UsageError
from autopoll.home.address import Address


@pytest.mark.parametrize(
    ("text", "shown", "local"),
    [
        ("127.0.0.1:8765", "127.0.0.1:8765", True),
        ("localhost:1", "127.0.0.1:1", True),
        ("[::1]:80", "[::1]:80", True),
        ("0.0.0.0:80", "0.0.0.0:80", False),
        ("[::]:80", "[::]:80", False),
        ("192.168.1.5:65535", "192.168.1.5:65535", False),
        ("unix:var/run/g.sock", "unix:var/run/g.sock", True),
    ],
)
def test_an_address_is_read_and_told_local_from_remote(text, shown, local) -> None:
    address = Address.parse(text)
    assert (str(address), address.is_local) == (shown, local)


@pytest.mark.parametrize(
    "text",
    [
        "", "8765", ":8765", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:x",
        "example.org:80", "999.1.1.1:80", "[::1]", "[zz]:1", "unix:", "unix:a\nb", "127.1:80",
        "127.0.0.1:80 ", "http://127.0.0.1:80",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_examples(text) -> None:
    with pytest.raises(UsageError) as refused:
        Address.parse(text)
    assert "127.0.0.1:8765" in refused.value.mend
