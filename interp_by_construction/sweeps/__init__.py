"""Many runs with one command: which jobs a sweep has, what became of each, and how Hydra runs them.

`runs/<sweep>/sweep.json` lists the jobs, `runs/<sweep>/<number>/` is the run of one, with
`error.txt` where it failed.
"""
