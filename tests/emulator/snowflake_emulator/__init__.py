"""A Snowflake that runs on loopback: the streaming endpoints and the SQL API, over DuckDB, with scripted faults."""
