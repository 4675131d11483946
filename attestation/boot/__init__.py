"""What a boot was, told from replayed events, each fact with its proof."""
