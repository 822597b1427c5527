"""Work on several machines: `workers` of Ray run a grid's steps, `replicas` of Ray Serve the
service, on `machines` that are joined and divided; `remote` is a grid's store behind a URL.

Only `cli` imports this room, so that nothing else knows of Ray or URLs. Processes of Ray import this file before their
environment is set: nothing here may import torch or transformers.
"""
