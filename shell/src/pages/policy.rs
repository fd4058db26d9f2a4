//! caplet-policy(5) is written by hand: every key is in it, and every line of it that shows a key is read here.
