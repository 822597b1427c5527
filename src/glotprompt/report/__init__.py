"""The report room: reads results of grids, shows them on a page and as tables and figures for a paper.

No torch. `tables` holds names, colours, means and number formats, `figures` and `page` what every drawing and page
shares. Of a grid's folder, `results` makes experiments and runs, `paper_tables`, `series` and `paper_figures` what the
paper shows of them (with `significance`), `sections` puts these together, `table_files` and `results_page` lay them out
and write them. matplotlib and jinja2 (extra `report`) are imported inside the functions that need them.
"""
