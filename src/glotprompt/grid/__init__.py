"""The grid: experiments as data, their steps shared by identity, and their results in one folder.

`experiment` and `scales` read an experiment's file, `plan` makes steps of it, `engine` runs them with `work`, `store`
keeps them. `store` imports no torch: it is all that `report` may know of this room.
"""
