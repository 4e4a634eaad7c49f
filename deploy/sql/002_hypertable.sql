-- Makes the points' table a hypertable of one chunk a day. Needs TimescaleDB, any licence: CREATE EXTENSION timescaledb.
-- Moves what is in the table already; for a large one, choose a quiet hour.
\ir names.psql

-- The index on (topic, time) comes with 003; one on time alone costs every insert and serves no query of a series.
SELECT create_hypertable(format('%I.%I', :'schema', :'table')::regclass, :'c_time', chunk_time_interval => INTERVAL :'chunk',
                         create_default_indexes => FALSE, if_not_exists => TRUE, migrate_data => TRUE);
