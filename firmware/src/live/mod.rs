//! What happens now: sampling once a second for everybody, ring tiers, fan-out. Knows nothing of HTTP.
