"""What `ibc --help` says of the commands."""

USAGE = """\
ibc: interpretability by construction

  ibc run [SETTINGS]            run the loop, or what is missing of it
      ibc run experiment=demo             a prepared experiment (files in conf/experiment)
      ibc run layer=3                     align layer 3 on top of what the run has frozen
      ibc run -m align.weight=0.1,1,10    a sweep: one job for each value
  ibc status RUN                every planned stage: done, running, missing; seconds; scores
  ibc show RUN [LAYER NODE]     all tables of a finished run; or one neuron: label, scores, text, what it promotes
  ibc verify RUN                recompute hashes and results, check the invariants; exit code 1 if anything differs
  ibc report RUN [nodes=labelled]
                                pages to look at, in runs/RUN/report; of a sweep, all of its jobs
  ibc explain RUN "any text" [top=10] [layer=N]
                                the labelled neurons that a text of yours activates, real beside simulated
  ibc export RUN at=before|after|final layer=N output=DIR
                                a plain transformers checkpoint with tokenizer, nodes.parquet and model card
  ibc gc [delete=true]          what the store holds that no run needs; with delete=true it is removed
  ibc simulate input=IN.jsonl output=OUT.jsonl simulator=exact|head|rules [labeler=...]
                                {"label": str, "tokens": [str, ...]} per line -> the same with "activations"
  ibc bench truth [simulator=exact] [planted=rules] [SETTINGS]
                                planted nodes with a known concept: do labelling, matching and simulation recover it?
  ibc serve [labeler=...] [kind=generate|classify]
                                start a labeler server by hand

RUN is a name below runs/ in paths.root (default: the working directory; set it with paths.root=DIR).
"""
