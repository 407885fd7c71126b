"""What is carried to the cluster beside the runtime and the kit: job templates, scaffolds, and ``metrics_io``."""
