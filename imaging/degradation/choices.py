"""The presets' names, apart from their tables: the host reads all schemas at its start."""

PRESET_NAMES = (
    "real-esrgan",
    "diffbir",
    "stablesr",
    "stablesr_768",
    "adadiffsr",
    "tad_sr",
    "invsr",
    "invsr_test",
    "tasr",
    "mild",
    "bicubic",
    "gfpgan_face",
)
"""In the order of a widget; `presets.PRESETS` has them all."""
