"""What the rows of a function's output depend on, read off its source: an abstract interpretation that doubts early."""
