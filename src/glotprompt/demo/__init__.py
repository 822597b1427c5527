"""The demo: a language that the bundled backbones know little of, classified in every way there is, and what to use.

`run` (the scenarios bible and news, on the texts of `data`) and `verses` (Manx) compute a `result`; `conclusions` finds
its sentences, `summary` its means over seeds, `page` and `terminal` show it, `output` writes it.
"""
