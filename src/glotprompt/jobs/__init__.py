"""Jobs on a person's own machine: command lines of this program that run one after the other, and the folder that
holds them, what was uploaded for them, and the labels that a person gave."""
