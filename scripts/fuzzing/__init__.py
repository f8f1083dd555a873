"""The readers that `fuzz.py` tries, one file for each format."""

from fuzzing import checkpoints, config, converted, graphs, idx, json_files
from fuzzing.reader import Files, Reader

__all__ = ["READERS", "Files", "Reader"]

READERS: dict[str, Reader] = {
    **idx.READERS,
    **json_files.READERS,
    **config.READERS,
    **checkpoints.READERS,
    **converted.READERS,
    **graphs.READERS,
}
