"""The shipped translations: complete, in step with the schemas, and served by the host."""

import re

import pytest
from adaptivesr.tools import locales

LANGUAGES = sorted(path.parent.name for path in locales.FOLDER.glob("*/nodeDefs.json"))
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def english(server):
    return locales.node_texts(server.client().object_info())


def test_english_is_what_the_schemas_say(english):
    assert locales.read(locales.file_of(locales.ENGLISH)) == english, "run `python dev.py locales`"


def test_english_and_chinese_are_there():
    assert {"en", "zh"} <= set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_missing_and_none_is_left_over(english, language):
    texts = locales.read(locales.file_of(language))
    assert list(locales.missing_keys(texts, english)) == []
    assert list(locales.missing_keys(english, texts)) == []


def test_descriptions_and_tooltips_are_in_chinese():
    for name, node in locales.read(locales.file_of("zh")).items():
        assert CHINESE.search(node["description"]), name
        for entry in (*node["inputs"].values(), *node["outputs"].values()):
            assert "tooltip" not in entry or CHINESE.search(entry["tooltip"]), f"{name}: {entry}"


def test_the_host_serves_them(server, english):
    served = server.client().get("/i18n")
    for language in LANGUAGES:
        assert served[language]["nodeDefs"].keys() >= english.keys()
