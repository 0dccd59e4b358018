"""ComfyUI-AdaptiveSR: diffusion super-resolution that spends compute where the detail is."""

if __package__:  # empty under pytest, which imports this file on its own
    from .nodes import comfy_entrypoint

    WEB_DIRECTORY = "./web"
    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
