"""Set up this machine and its clusters: the checks of a first login, the doctor, new entries of clusters.yaml."""
