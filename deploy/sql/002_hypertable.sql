-- Makes metrics a hypertable of one chunk a day. Needs TimescaleDB (any licence): CREATE EXTENSION timescaledb.
-- Tidegate runs this when it makes the table and the extension is there. By hand, for a table that is small or empty:
--   psql [-v schema=plant -v table=readings] -f deploy/sql/002_hypertable.sql
\if :{?schema}
\else
\set schema public
\endif
\if :{?table}
\else
\set table metrics
\endif
\set metrics '"' :schema '"."' :table '"'

-- The index on (topic, time) is there already; one on time alone costs every insert and serves no query of a series.
SELECT create_hypertable(:'metrics'::regclass, 'time', chunk_time_interval => INTERVAL '1 day',
                         create_default_indexes => FALSE, if_not_exists => TRUE, migrate_data => TRUE);
