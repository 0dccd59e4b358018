"""A folder of pictures through a workflow, on one ComfyUI or many: pictures, a table of metrics, a run that can go on where it stopped."""
