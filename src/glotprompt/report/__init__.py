"""The report room: reads results, shows them on a page, in a terminal, and as tables and figures for a paper.

No torch. `tables` holds names, colours, means and number formats; `figures`, `page` and `terminal` lay out the demo,
`doctor_page` a diagnosis. Of a grid's folder, `results` makes experiments and runs, `paper_tables`, `series` and
`paper_figures` what the paper shows of them (with `significance`), `sections` puts these together, `experiment_page`
and `table_files` lay them out, `report_files` writes them. matplotlib and jinja2 (extra `report`) are imported inside
the functions that need them.
"""
