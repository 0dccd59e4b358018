"""Translations: what is shown, what is missing, what vue-i18n would take for syntax."""

from adaptivesr.tools.locales import fitted, literal, missing_keys, node_texts

NODE = {
    "display_name": "A node",
    "description": "Left | right",
    "input": {
        "required": {"image": ["IMAGE", {"tooltip": "A picture."}], "mode": [["a", "b"]]},
        "optional": {"steps": ["INT", {"display_name": "Steps", "tooltip": "How many."}]},
    },
    "output_name": ["image", "report"],
    "output_tooltips": [None, "JSON."],
}
TEXTS = node_texts({"AdaptiveSRA": NODE, "KSampler": NODE})


def test_only_our_nodes_are_translated():
    assert list(TEXTS) == ["AdaptiveSRA"]


def test_names_and_tooltips_follow_the_schema():
    node = TEXTS["AdaptiveSRA"]
    assert node["inputs"] == {
        "image": {"name": "image", "tooltip": "A picture."},
        "mode": {"name": "mode"},
        "steps": {"name": "Steps", "tooltip": "How many."},
    }
    assert node["outputs"] == {"0": {"name": "image"}, "1": {"name": "report", "tooltip": "JSON."}}


def test_syntax_of_the_pages_translations_is_made_literal():
    assert TEXTS["AdaptiveSRA"]["description"] == "Left {'|'} right"
    assert literal("a@b {c} $d") == "a{'@'}b {'{'}c{'}'} {'$'}d"


def test_a_translation_loses_what_is_gone_and_lists_what_is_missing():
    translated = {"AdaptiveSRA": {"display_name": "N", "inputs": {"gone": {"name": "x"}, "mode": {"name": "m"}}}}
    kept = fitted(translated, TEXTS)
    assert kept == {"AdaptiveSRA": {"display_name": "N", "inputs": {"mode": {"name": "m"}}}}
    assert list(missing_keys(kept, TEXTS)) == [
        "AdaptiveSRA.description",
        "AdaptiveSRA.inputs.image",
        "AdaptiveSRA.inputs.steps",
        "AdaptiveSRA.outputs",
    ]
    assert list(missing_keys(TEXTS, TEXTS)) == []
