"""Recipes of what a run reads: corpus, subject, and the encoder's view of the text."""

from __future__ import annotations

from typing import Any

from interp_by_construction.engine.stage import Stage
from interp_by_construction.engine.store import Artifact
from interp_by_construction.schedules.workshop import Workshop, given


class TextRecipes(Workshop):
    """Shared by all layers of a run."""

    def _corpus(self) -> Artifact:
        from interp_by_construction.stages.corpus import Corpus

        return self._make_shared(Corpus.of(self.cfg))

    def _subject(self) -> Artifact:
        from interp_by_construction.stages.subject import Subject

        return self._make_shared(Subject.of(self.cfg, given(self.shared["corpus"])))

    def _encode(self) -> Artifact | None:
        from interp_by_construction.stages.encode import Encode

        return self._encoded("encode", Encode.of_parts(self.cfg, given(self.shared["corpus"])))

    def _encode_split(self, split: str) -> Artifact | None:
        """The text on which labels are compared with nodes; None without an encoder."""
        from interp_by_construction.corpus.parts import Extent
        from interp_by_construction.stages.encode import Encode

        n_tokens = {
            "select": self.cfg.label.head_select_tokens,
            "label": self.cfg.simulate.n_label_tokens,
        }[split]
        corpus, text = given(self.shared["corpus"]), Extent(split, n_tokens)
        return self._encoded(f"encode_{split}", Encode.of_text(self.cfg, corpus, text))

    def _encoded(self, link: str, stage: Stage[Any] | None) -> Artifact | None:
        if stage is not None and link not in self.shared:
            self.shared[link] = self._make_stage(stage)
            self.directory.mark(None, link, self.shared[link].fingerprint)
        return self.shared.get(link)
