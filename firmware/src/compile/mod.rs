//! Pure functions from a configuration to what the machine is given: pf text, service files, settings.
