"""Interpreters as the workers of other libraries: `memchannel.integrations.joblib` and `.dask`."""
