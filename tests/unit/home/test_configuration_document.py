"""docs/configuration.md against autopoll/home/config.py."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from autopoll.clock import Duration
from autopoll.home.bridge_settings import BridgeSection
from autopoll.home.bridge_url import BridgeUrl
from autopoll.home.byte_size import ByteSize
from autopoll.home.config import (
    OVERRIDE_PREFIX,
    AccessSection,
    DeliverySection,
    GatewaySection,
    LoggingSection,
    ShardSection,
)
from autopoll.home.retention_settings import KeptFor, RetentionSection

DOCUMENT = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
SECTIONS = {
    "bridge": BridgeSection,
    "delivery": DeliverySection,
    "access": AccessSection,
    "gateway": GatewaySection,
    "logging": LoggingSection,
    "retention": RetentionSection,
    "shards.NAME": ShardSection,
}


def documented(section: str) -> dict[str, str]:
    """Return key -> default of the table under a heading, as they are written."""
    [text] = re.findall(rf"^## \[{re.escape(section)}\]$(.*?)(?=^## |\Z)", DOCUMENT, re.M | re.S)
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.M))


def test_the_document_has_a_table_for_every_section() -> None:
    assert set(re.findall(r"^## \[(.*)\]$", DOCUMENT, re.M)) == set(SECTIONS)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_document_names_every_key_with_its_default(section) -> None:
    table = documented(section)
    fields = {field.name: field for field in msgspec.structs.fields(SECTIONS[section])}
    assert list(table) == list(fields)
    for name, field in fields.items():
        if field.required:
            assert table[name] == "required"
            continue
        if field.default is None:
            assert table[name] == "none"
            continue
        written = tomllib.loads(f"value = {table[name].strip('`')}")["value"]
        default = field.default
        if default is msgspec.NODEFAULT:
            default = field.default_factory()
        if field.type in (Duration, ByteSize, KeptFor):
            written = field.type.parse(written)
        if field.type is BridgeUrl:
            written = BridgeUrl(written)
        assert written == default, name


def test_the_document_spells_overrides_as_they_are_read() -> None:
    assert f"`{OVERRIDE_PREFIX}SECTION__KEY`" in DOCUMENT
