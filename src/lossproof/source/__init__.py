"""Eye 1: reads code. It never imports torch and never runs the code that it reads."""
