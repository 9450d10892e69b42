"""Writes the files of `conf/` that hold defaults anew, from the dataclasses."""

from interp_by_construction.config.convert import conf_dir
from interp_by_construction.config.describe import files

for name, text in files().items():
    (conf_dir() / name).write_text(text, encoding="utf-8")
