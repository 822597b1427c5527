"""Reports: read results of grids and show them on a page and as tables and figures for a paper.

No torch. `tables` holds names, colours, means and number formats, `figures` and `page` the common parts of drawings and
pages. `results` reads a grid's folder into experiments and runs; `paper_tables`, `series` and `paper_figures` (with
`significance`) draw the paper's tables and figures from them; `sections` puts these together; `table_files` and
`results_page` lay them out and write them. matplotlib (extra `report`) is imported inside the functions that need it.
"""
