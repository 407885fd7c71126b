"""Hold the primitives: a package for each stage, flows above the stages, run below the stages."""
