"""Who acts: processors turn events into commands; two runners carry the same classes."""
