"""Eye 2: reads the autograd graph of one live loss. It gathers facts and knows no rule."""
