"""The report room: reads result dictionaries, shows them on a page and in a terminal.

No torch and nothing of the package but `glotprompt.errors`; matplotlib and jinja2 (extra `demo`) are imported inside
the functions that need them. `tables` holds names, colours, means and number formats; `figures`, `page` and `terminal`
only lay them out.
"""
