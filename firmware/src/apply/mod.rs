//! Applying: check, write, load, verify, and the way back. Knows nothing of HTTP.
